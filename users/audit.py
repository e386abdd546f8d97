"""What staff did: rows of Django's own log, from the console and from the API alike."""

import json
import logging
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

logger = logging.getLogger(__name__)


def record(*, user_id: int, on: Model | type[Model], what: str, flag: int = CHANGE, **details: Any) -> None:
    """Log that the user did `what` to an object, or to many of a model, in the transaction of the change; `details`
    must be JSON."""
    name, pk = (str(on), str(on.pk)) if isinstance(on, Model) else (str(on._meta.verbose_name_plural), None)
    logger.info("user %s: %s of %s %s", user_id, what, on._meta.model_name, pk or "rows")
    LogEntry.objects.create(
        user_id=user_id,
        content_type=ContentType.objects.get_for_model(on),
        object_id=pk,
        object_repr=name[:200],
        action_flag=flag,
        change_message=json.dumps({"what": what, **details}),
    )


def details(entry: LogEntry) -> dict[str, Any]:
    """What `record` logged in the entry; empty for an entry of Django's own pages."""
    try:
        found = json.loads(entry.change_message)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
