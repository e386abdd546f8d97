"""Past balances of a wallet, and statements of a period: balances, totals and rows.

A wallet's rows have the same order by id and by time, and none is ever inserted between two others. So a moment
corresponds to the last row before it, a period to a range of ids, and a statement stays correct while payments go on.
"""

import re
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from heapq import merge
from itertools import islice
from typing import Any, NamedTuple

from django.core.cache.backends.locmem import LocMemCache
from django.db.models import Count, F, Model, Sum
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.utils.urls import replace_query_param

from lokanetra import days
from lokanetra.pagination import FeedPages, whole_number
from lokanetra.parsers import JSONResponse
from lokanetra.replica import Reader
from transactions.models import Transaction, TransactionQuerySet
from transactions.serializers import StatementSerializer
from users.models import UserProfile
from wallet.models import Wallet

MAX_LENGTH = timedelta(days=366)
CURSOR = re.compile(r"([0-9]{1,18})-([0-9]{1,18})", re.ASCII)
# Sums of rows, which never change: a long period is summed once and not for each page.
totals_cache = LocMemCache("totals of statements", {"TIMEOUT": 3600})


class Point(NamedTuple):
    """A wallet's balance after one of its rows."""

    id: int
    balance: Decimal


EMPTY = Point(0, Decimal("0.00"))


@dataclass(frozen=True, kw_only=True)
class PastBalance:
    """A wallet's balance at a moment. Its holds, status and tier of that time are not recorded."""

    user: UserProfile
    balance: Decimal
    at: datetime
    status: None = None
    held_now: None = None
    available: None = None
    tier: None = None


@dataclass(frozen=True, kw_only=True)
class Statement:
    """The rows of a wallet between two points: `opening_balance` + `total_in` - `total_out` = `closing_balance`."""

    wallet: Wallet
    start_date: date
    end_date: date
    opening: Point
    closing: Point
    # Rows are read from the database that the balances came from, or from the primary.
    read: Reader = field(default_factory=Reader, compare=False)

    @property
    def opening_balance(self) -> Decimal:
        return self.opening.balance

    @property
    def closing_balance(self) -> Decimal:
        return self.closing.balance

    @property
    def total_in(self) -> Decimal:
        return self._totals["IN"][1]

    @property
    def total_out(self) -> Decimal:
        return self._totals["OUT"][1]

    @property
    def count(self) -> int:
        return sum(count for count, _ in self._totals.values())

    def rows(self, after: int = 0) -> list[TransactionQuerySet]:
        """Outgoing and incoming rows after an id, as `touching` returns them."""
        between = Transaction.objects.filter(pk__gt=max(after, self.opening.id), pk__lte=self.closing.id)
        return between.touching(self.wallet)

    def up_to(self, pk: int) -> "Statement":
        """The same without the rows after an id."""
        sides = [side.filter(pk__lte=pk) for side in _sides(self.wallet)]
        ending = max(self.read(lambda: _newest(sides)), self.opening)
        return replace(self, closing=min(ending, self.closing))

    @cached_property
    def _totals(self) -> dict[str, tuple[int, Decimal]]:
        key = f"{self.wallet.pk} {self.opening} {self.closing}".replace(" ", "_")
        return totals_cache.get_or_set(key, lambda: self.read(self._sum)) or {}

    def _sum(self) -> dict[str, tuple[int, Decimal]]:
        sums = [side.aggregate(count=Count("pk"), total=Sum("amount")) for side in self.rows()]
        totals = [(row["count"], row["total"] or Decimal("0.00")) for row in sums]
        return dict(zip(("OUT", "IN"), totals, strict=True))


def balance(wallet: Wallet, at: datetime | None = None) -> Wallet | PastBalance:
    """The wallet now, or its balance at a moment, which is zero before its first row."""
    if at is None:
        return wallet
    return PastBalance(user=wallet.user, balance=point_at(wallet, at).balance, at=at)


def statement(
    wallet: Wallet, *, month: date | None = None, start_date: date | None = None, end_date: date | None = None
) -> Statement:
    """The statement of a month, given by its first day, or from one day to another; by default of the current month.

    Raises ValidationError, by field, for a period that is incomplete, longer than a year, or in the future.
    """
    first, last = _days(start_date, end_date, month) if start_date or end_date else _month(month)
    read, moments = Reader(), (days.instant_before(first), days.end_of(last))
    opening, closing = read(lambda: [point_at(wallet, moment) for moment in moments])
    return Statement(wallet=wallet, start_date=first, end_date=last, opening=opening, closing=closing, read=read)


def _month(month: date | None) -> tuple[date, date]:
    first = month or days.month_of(days.today())
    _has_begun("month", first)
    return first, days.next_month(first) - timedelta(days=1)


def _days(first: date | None, last: date | None, month: date | None) -> tuple[date, date]:
    if month:
        raise ValidationError({"month": ["Name a month, or a first and a last day, and not both."]})
    if first is None or last is None:
        given, other = ("start_date", "end_date") if first else ("end_date", "start_date")
        raise ValidationError({given: [f"It needs {other} too."]})
    _has_begun("start_date", first)
    if not timedelta(0) <= last - first < MAX_LENGTH:
        raise ValidationError({"end_date": [f"Name a day from start_date on, at most {MAX_LENGTH.days} days in all."]})
    return first, last


def _has_begun(name: str, first: date) -> None:
    if first > days.today():
        raise ValidationError({name: ["This is in the future."]})


# --- The last row before a moment --------------------------------------------------------------------


def point_at(wallet: Wallet, moment: datetime) -> Point:
    """The wallet's last row at a moment, and its balance."""
    earlier = Transaction.objects.filter(timestamp__lte=moment).order_by("-timestamp", "-pk")
    near = earlier.values_list("pk", flat=True).first() or 0
    return _newest([_until(side, moment, near) for side in _sides(wallet)])


def _until(side: Any, moment: datetime, near: int) -> Any:
    """A range of ids whose newest row is the last one until a moment.

    There is no index of a wallet's times. But `near`, the newest row of the whole ledger until then, has a close id,
    and from there both the last row and the first one after it are a few steps away in the index of ids. Clocks that
    differ make it slower, not wrong.
    """
    known = side.filter(pk__lte=near, timestamp__lte=moment).order_by("-pk").values_list("pk", flat=True).first() or 0
    later = side.filter(pk__gt=known, timestamp__gt=moment).order_by("pk").values_list("pk", flat=True).first()
    until = side.filter(pk__gte=known, timestamp__lte=moment)
    return until if later is None else until.filter(pk__lt=later)


def _sides(wallet: Wallet) -> list[Any]:
    """What the wallet paid and what it received, without the names that `touching` joins."""
    rows = Transaction.objects.all()
    sides = [rows.filter(sender=wallet), rows.filter(receiver=wallet)]
    columns = ("sender_balance", "receiver_balance")
    return [side.annotate(balance=F(column)) for side, column in zip(sides, columns, strict=True)]


def _newest(sides: list[Any]) -> Point:
    """The newest of the rows, and the balance after it."""
    found = [side.order_by("-pk").values_list("pk", "balance").first() for side in sides]
    return max((Point(*row) for row in found if row), default=EMPTY)


# --- Pages -------------------------------------------------------------------------------------------


class StatementPages(FeedPages):
    """Pages of a statement, oldest rows first, each with all balances and totals. Later pages include no rows that were
    added after the first page."""

    parameters = {
        "cursor": ("string", "Where the page begins: taken from `next`."),
        "page_size": FeedPages.parameters["page_size"],
    }

    def paginate_queryset(self, found: Any, request: Request) -> list[Model]:
        self.request = request
        size = whole_number(request, "page_size", self.default_size, self.max_size)
        after, self.statement = _continued(found, request.query_params.get("cursor"))
        page = self.statement.read(lambda: self._rows(after, size + 1))
        self.has_next, self.page = len(page) > size, page[:size]
        return self.page

    def _rows(self, after: int, count: int) -> list[Model]:
        sides = [side.order_by("pk")[:count] for side in self.statement.rows(after)]
        return list(islice(merge(*sides, key=lambda row: row.pk), count))

    def get_paginated_response(self, data: list) -> JSONResponse:
        shown = StatementSerializer().to_representation(self.statement)
        return JSONResponse({**shown, "next": self._next(), "results": data})

    def _next(self) -> str | None:
        cursor = f"{self.page[-1].pk}-{self.statement.closing.id}" if self.has_next else None
        return cursor and replace_query_param(self.request.build_absolute_uri(), "cursor", cursor)

    @staticmethod
    def serializer(row: type[serializers.BaseSerializer]) -> dict[str, serializers.Field]:
        """The fields of a page, for the documentation."""
        return {**StatementSerializer._declared_fields, **FeedPages.serializer(row)}


def _continued(found: Statement, cursor: str | None) -> tuple[int, Statement]:
    """The id after which a page begins, and the statement without rows added since the first page."""
    if not cursor:
        return 0, found
    numbers = CURSOR.fullmatch(cursor)
    if numbers is None:
        raise ValidationError({"cursor": ["This is not one of our cursors."]})
    return int(numbers[1]), found.up_to(int(numbers[2]))
