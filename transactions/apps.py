from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class TransactionsConfig(AppConfig):
    name = "transactions"

    def ready(self) -> None:
        from lokanetra import metrics
        from users import accounts, groups

        # This app is migrated last, so all permissions of the groups exist by then.
        post_migrate.connect(groups.create, sender=self, dispatch_uid="groups")
        accounts.deactivated.connect(record_deactivation, dispatch_uid="events")
        metrics.figures.query = figures


def record_deactivation(user: Any, **kwargs: Any) -> None:
    """A receiver, because `users` must not import events."""
    from transactions import events

    events.record(events.Event.Type.USER_DEACTIVATED, user)


def figures() -> dict[str, float]:
    """A function, because `lokanetra` must not import transactions."""
    from transactions import figures

    return figures.figures()
