"""Figures from the database for monitoring: few, each by an index, and none about a single person."""

from typing import Any

from django.db.models import Count

from lokanetra.replica import Reader
from transactions.models import Delivery, Outbox, Webhook
from wallet.models import REMAINING, Hold, LedgerCheck

# Counts stop here.
MAX_COUNT = 10_000


def figures() -> dict[str, float]:
    """Keyed by the names in `lokanetra/metrics.py`. Amounts are rupees."""
    return Reader()(lambda: _queue() | _webhooks() | _books() | _held())


def _queue() -> dict[str, float]:
    return {"lokanetra_events_waiting": _counted(Outbox.objects.all())}


def _webhooks() -> dict[str, float]:
    """Counted for each webhook, because the indexes begin with it: there are few."""
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
    """Empty where the ledger was never checked."""
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
    return rows.order_by().values("pk")[:MAX_COUNT].count()
