from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TransactionsConfig(AppConfig):
    name = "transactions"

    def ready(self) -> None:
        from lokanetra import metrics
        from users import accounts, groups

        # The last of the apps whose permissions the groups have.
        post_migrate.connect(groups.create, sender=self, dispatch_uid="groups")
        accounts.deactivated.connect(record_deactivation, dispatch_uid="events")
        metrics.figures.query = figures


def record_deactivation(user: Any, **kwargs: Any) -> None:
    """Accounts must not know about events."""
    from transactions import events

    events.record(events.Event.Type.USER_DEACTIVATED, user)


def figures() -> dict[str, float]:
    """Whoever watches must not know where they are from."""
    from transactions import figures

    return figures.figures()
