"""Events: what changed, in an order that readers can rely on.

A change is put into the outbox by the commit that makes it. Ids of the outbox are not in the order of commits: a reader
that continues after the last id it saw would miss what was committed late. So readers, and workers that deliver, first
number what has been committed, under a lock; these numbers are the ids of events.
"""

from datetime import datetime, timedelta
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import Exists, Max, OuterRef
from django.db.transaction import atomic
from django.utils import timezone

from lokanetra.database import is_postgresql
from transactions.models import Delivery, Event, EventQuerySet, Outbox
from users.serializers import UserSerializer
from wallet.serializers import StaffHoldSerializer, StaffPaymentRequestSerializer, WalletSerializer

# Changes numbered at a time.
BATCH = 1000
SERIALIZERS = {
    "hold": StaffHoldSerializer(),
    "request": StaffPaymentRequestSerializer(),
    "wallet": WalletSerializer(),
    "user": UserSerializer(),
}


def record(kind: Event.Type, thing: Any, *, at: datetime | None = None) -> None:
    """Record that a hold, request for money, wallet or account has changed in this transaction. The events of payments
    are written with their rows.

    The event keeps the thing as staff see it now.
    """
    data = SERIALIZERS[kind.partition(".")[0]].to_representation(thing)
    Outbox.objects.create(type=kind, timestamp=at or timezone.now(), data=data)


def number() -> None:
    """Turn what was committed until now into events, up to `BATCH`; the next call does the rest."""
    if not Outbox.objects.exists():
        return
    if is_postgresql():
        _run(f"SELECT pg_advisory_xact_lock({NUMBERING_LOCK}); {ON_POSTGRESQL}")
    else:
        with atomic():
            _run(*ON_SQLITE)


def prune() -> int:
    """Remove the events older than `EVENTS_KEPT_DAYS`, with their deliveries, and return how many. An event stays while
    a webhook that is on waits for it, and so does the last event, because the next is numbered after it."""
    limit = timezone.now() - timedelta(days=settings.EVENTS_KEPT_DAYS)
    awaited = Delivery.objects.filter(event=OuterRef("pk"), status=Delivery.Status.PENDING, webhook__is_active=True)
    count, last = 0, 0
    newest = Event.objects.aggregate(id=Max("id"))["id"]
    while batch := list(Event.objects.filter(pk__gt=last).order_by("pk").values_list("pk", "timestamp")[:BATCH]):
        last = batch[-1][0]
        old = [pk for pk, timestamp in batch if timestamp < limit and pk != newest]
        if not old:
            break
        count += _remove(Event.objects.filter(~Exists(awaited), pk__in=old))
    Delivery.objects.filter(event=None, created_at__lt=limit).exclude(status=Delivery.Status.PENDING).delete()
    return count


@atomic
def _remove(events: EventQuerySet) -> int:
    found = list(events.values_list("pk", flat=True))
    Delivery.objects.filter(event__in=found).delete()
    return Event.objects.filter(pk__in=found).delete()[0]


def _run(*statements: str) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


# --- SQL ---------------------------------------------------------------------------------------------

# The key of the advisory lock for numbering.
NUMBERING_LOCK = 0x6576656E7473
COLUMNS = "type, timestamp, data, transaction_id"
OLDEST = f"SELECT id FROM transactions_outbox ORDER BY id LIMIT {BATCH}"  # noqa: S608
LAST = "(SELECT COALESCE(MAX(id), 0) FROM transactions_event)"
NUMBERED = f"""
    INSERT INTO transactions_event (id, {COLUMNS}) SELECT {LAST} + row_number() OVER (ORDER BY id), {COLUMNS}
"""  # noqa: S608
# One for each webhook that subscribes to the type.
DELIVERIES = """
    INSERT INTO transactions_delivery (webhook_id, event_id, status, created_at, attempts, next_at, answer)
    SELECT webhook.id, new.id, 'PENDING', {now}, 0, {now}, '' FROM transactions_webhook AS webhook, {new} AS new
    WHERE webhook.is_active AND {wanted}
"""
# Lock and numbering are two statements in one message: the second sees what was committed while the first waited for
# the lock, and the lock is never held during a round trip.
ON_POSTGRESQL = f"""
    WITH taken AS (DELETE FROM transactions_outbox WHERE id IN ({OLDEST}) RETURNING *),
         new AS ({NUMBERED} FROM taken RETURNING id, type)
    {DELIVERIES.format(now="clock_timestamp()", new="new", wanted="jsonb_exists(webhook.types, new.type)")}
"""  # noqa: S608
IN_LIST = "EXISTS (SELECT 1 FROM json_each(webhook.types) WHERE value = new.type)"
NEWEST = f"(SELECT id, type FROM transactions_event ORDER BY id DESC LIMIT (SELECT COUNT(*) FROM ({OLDEST})))"  # noqa: S608
ON_SQLITE = [
    f"{NUMBERED} FROM transactions_outbox WHERE id IN ({OLDEST})",
    DELIVERIES.format(now="STRFTIME('%Y-%m-%d %H:%M:%f', 'now')", new=NEWEST, wanted=IN_LIST),
    f"DELETE FROM transactions_outbox WHERE id IN ({OLDEST})",  # noqa: S608
]
