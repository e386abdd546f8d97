"""What the database tells whoever watches the product: a few figures, each by an index, and none of one person's."""

from typing import Any

from django.db.models import Count

from lokanetra.replica import Reader
from transactions.models import Delivery, Outbox, Webhook
from wallet.models import REMAINING, Hold, LedgerCheck

# Above it nobody asks how many.
MOST = 10_000


def figures() -> dict[str, float]:
    """By the names that they have in `lokanetra/metrics.py`. Amounts are rupees."""
    return Reader()(lambda: _queue() | _webhooks() | _books() | _held())


def _queue() -> dict[str, float]:
    return {"lokanetra_events_waiting": _counted(Outbox.objects.all())}


def _webhooks() -> dict[str, float]:
    """Of each webhook, for that is how the indexes begin: there are few."""
    webhooks = list(Webhook.objects.values_list("pk", "switched_off_at"))
    counts = {
        status: sum(_counted(Delivery.objects.filter(webhook=webhook, status=status)) for webhook, _ in webhooks)
        for status in (Delivery.Status.PENDING, Delivery.Status.FAILED)
    }
    return {
        "lokanetra_deliveries_waiting": counts[Delivery.Status.PENDING],
        "lokanetra_deliveries_failed": counts[Delivery.Status.FAILED],
        "lokanetra_webhooks_switched_off": sum(switched_off_at is not None for _, switched_off_at in webhooks),
    }


def _books() -> dict[str, float]:
    """Nothing where they were never proved."""
    last = LedgerCheck.objects.order_by("-pk").first()
    if last is None:
        return {}
    return {
        "lokanetra_ledger_check_timestamp_seconds": last.ended_at.timestamp(),
        "lokanetra_ledger_check_complaints": last.complaints,
    }


def _held() -> dict[str, float]:
    found = Hold.objects.with_status(Hold.Status.OPEN).aggregate(count=Count("pk"), left=REMAINING)
    return {"lokanetra_open_holds": found["count"], "lokanetra_money_held_rupees": float(found["left"] or 0)}


def _counted(rows: Any) -> int:
    return rows.order_by().values("pk")[:MOST].count()
