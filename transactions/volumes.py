"""How much moved on each day, for charts: closed days are summed once, today is read from the ledger."""

from datetime import date, timedelta
from typing import Any

from django.db.models import Count, Max, Min, QuerySet, Sum
from django.utils import timezone

from lokanetra import days
from transactions.models import DayVolume, Transaction
from wallet.money import MoneyField

# A slow payment from just before midnight is committed by then.
GRACE = timedelta(minutes=5)


def first_unsummed_day() -> date | None:
    """The day at which summing continues; None for an empty ledger."""
    last = DayVolume.objects.aggregate(last=Max("day"))["last"]
    if last:
        return days.next_day(last)
    first = Transaction.objects.aggregate(first=Min("timestamp"))["first"]
    return first and days.day_of(first)


def unsummed_days() -> list[date]:
    """The days that are over and not summed yet."""
    start = first_unsummed_day()
    end = days.day_of(timezone.now() - GRACE)
    return [start + timedelta(days=n) for n in range((end - start).days)] if start else []


def delete_since(since: date) -> None:
    """Delete the sums from this day on, so that those days are summed again."""
    DayVolume.objects.filter(day__gte=since).delete()


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
    return Transaction.objects.filter(timestamp__gte=days.start_of(day), timestamp__lte=days.end_of(day))


def by_type(rows: QuerySet[Transaction], *columns: str) -> Any:
    """Count and sum (rupees) of the rows by type and by the given columns."""
    sums = {"count": Count("pk"), "total": Sum("amount", output_field=MoneyField())}
    return rows.order_by().values("transaction_type", *columns).annotate(**sums)


def _volume(day: date, kind: str, row: Any) -> DayVolume:
    count, amount = (row["count"], row["total"]) if row else (0, 0)
    return DayVolume(day=day, transaction_type=kind, count=count, amount=amount)
