"""How much moved on each day, for charts: closed days are summed once, today is read from the ledger."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db.models import Count, Max, Min, QuerySet, Sum
from django.utils import timezone

from transactions.models import DayVolume, Transaction
from wallet.money import MoneyField

DAY = timedelta(days=1)
# A payment that took its time just before midnight is committed by then.
GRACE = timedelta(minutes=5)


def today() -> date:
    return timezone.now().astimezone(UTC).date()


def first_unsummed() -> date | None:
    """The day at which summing goes on; None for an empty ledger."""
    last = DayVolume.objects.aggregate(last=Max("day"))["last"]
    if last:
        return last + DAY
    first = Transaction.objects.aggregate(first=Min("timestamp"))["first"]
    return first and first.astimezone(UTC).date()


def open_days(since: date | None = None) -> list[date]:
    """The closed days from `since` on, by default those that were not summed yet."""
    start = since or first_unsummed()
    end = (timezone.now() - GRACE).astimezone(UTC).date()
    return [start + n * DAY for n in range((end - start).days)] if start else []


def close(day: date) -> None:
    """Sum a day that is over. Repeating it changes nothing."""
    sums = {row["transaction_type"]: row for row in by_type(of_day(day))}
    DayVolume.objects.bulk_create(
        [_volume(day, kind, sums.get(kind)) for kind in Transaction.Type.values],
        update_conflicts=True,
        unique_fields=["day", "transaction_type"],
        update_fields=["count", "amount"],
    )


def of_day(day: date) -> QuerySet[Transaction]:
    start = datetime.combine(day, time(), UTC)
    return Transaction.objects.filter(timestamp__gte=start, timestamp__lt=start + DAY)


def by_type(rows: QuerySet[Transaction], *also: str) -> Any:
    """Count and sum (rupees) of the rows by their type, and by other columns where some are named."""
    sums = {"count": Count("pk"), "total": Sum("amount", output_field=MoneyField())}
    return rows.order_by().values("transaction_type", *also).annotate(**sums)


def _volume(day: date, kind: str, row: Any) -> DayVolume:
    count, amount = (row["count"], row["total"]) if row else (0, 0)
    return DayVolume(day=day, transaction_type=kind, count=count, amount=amount)
