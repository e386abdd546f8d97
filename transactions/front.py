"""The front page of the console: what moved, logins, whether the books agree. Each part needs its own right."""

import json
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from typing import Any

from django.conf import settings
from django.db.models import Count, Q, Sum
from django.db.models.functions import ExtractHour
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone

from lokanetra import days
from lokanetra.admin import TIME
from lokanetra.plurals import how_many, verb
from lokanetra.replica import Reader
from transactions import volumes
from transactions.filters import SEARCHED_ROWS
from transactions.models import DayVolume, Outbox, Transaction, Webhook
from users import otp
from users.models import Counter, Login
from wallet.console import owner_link
from wallet.models import REMAINING, Hold, LedgerCheck, Wallet
from wallet.money import MoneyField, rupees

DAYS = 30
LARGEST = 10
# A worker polls every half second.
WORKER_IS_LATE = timedelta(minutes=10)
# It runs nightly, and one night may be missed.
CHECK_IS_OLD = timedelta(days=2)
COLOURS = {"CREDIT": "#16a34a", "DEBIT": "#d97706", "TRANSFER": "#9333ea"}
# Read as well on light ground as on dark.
WORDS = "#747c8a"
CHART = {
    "locale": "en-IN",  # groups digits as `rupees` does
    "responsive": True,
    "maintainAspectRatio": False,
    "animation": False,
    "plugins": {"legend": {"position": "bottom", "labels": {"color": WORDS, "boxWidth": 12}}},
    "scales": {
        "x": {"stacked": True, "grid": {"display": False}, "ticks": {"color": WORDS, "maxRotation": 0}},
        "y": {"stacked": True, "grid": {"color": "rgba(156,163,175,.2)"}, "ticks": {"color": WORDS}},
    },
}


def page(request: HttpRequest, context: dict[str, Any]) -> dict[str, Any]:
    """The template's context, with the parts that the caller may see. Figures may be seconds old."""
    may, read = request.user.has_perm, Reader()
    cards: list[dict[str, Any]] = []
    if may("transactions.view_transaction"):
        today = read(_today)
        cards += _moved(today)
        charts = [_chart_of_today(today), read(lambda: _chart_of_days(today))]
        context |= {"charts": charts, "largest": read(_largest)}
    if may("wallet.view_wallet"):
        cards += read(_held)
    if may("wallet.view_hold"):
        cards += read(_set_aside)
    if may("users.view_login"):
        cards += read(_logins)
    if may("wallet.view_ledgercheck"):
        context["health"] = _health()
    return context | {"title": "Overview", "cards": cards, "notices": list(_notices()) if "charts" in context else []}


# --- What moved ---------------------------------------------------------------------------------------


def _today() -> list[dict[str, Any]]:
    """Count and sum of today's transactions by hour and type."""
    rows = volumes.of_day(days.today()).annotate(hour=ExtractHour("timestamp"))
    return list(volumes.by_type(rows, "hour"))


def _moved(today: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        _card(f"{kind.capitalize()}s today", rupees(_total(today, kind)), f"{_count(today, kind)} transactions")
        for kind in Transaction.Type.values
    ]


def _chart_of_today(today: list[dict[str, Any]]) -> dict[str, Any]:
    sums = {(row["hour"], row["transaction_type"]): row["total"] for row in today}
    hours = range(24)
    series = {kind: [sums.get((hour, kind), Decimal(0)) for hour in hours] for kind in Transaction.Type.values}
    return _chart(f"Moved today by hour (rupees, {settings.TIME_ZONE})", [f"{hour:02}" for hour in hours], series)


def _chart_of_days(today: list[dict[str, Any]]) -> dict[str, Any]:
    end = days.today()
    shown = [end - timedelta(days=n) for n in reversed(range(DAYS))]
    rows = DayVolume.objects.filter(day__gte=shown[0], day__lt=end)
    sums = {(row.day, row.transaction_type): row.amount for row in rows}
    sums |= {(end, kind): _total(today, kind) for kind in Transaction.Type.values}
    series = {kind: [sums.get((day, kind), Decimal(0)) for day in shown] for kind in Transaction.Type.values}
    return _chart(f"Moved in the last {DAYS} days (rupees)", [f"{day:%d %b}" for day in shown], series)


def _chart(title: str, labels: list[str], series: dict[str, list[Decimal]]) -> dict[str, Any]:
    datasets = [
        {"label": kind.capitalize(), "data": [float(total) for total in totals], "backgroundColor": COLOURS[kind]}
        for kind, totals in series.items()
    ]
    return {
        "title": title,
        "data": json.dumps({"labels": labels, "datasets": datasets}),
        "options": json.dumps(CHART),
    }


def _largest() -> dict[str, Any]:
    newest = Transaction.objects.order_by("-pk").values_list("pk", flat=True).first() or 0
    recent = Transaction.objects.filter(pk__gt=newest - SEARCHED_ROWS).order_by("-amount", "-pk")
    largest = list(recent.values_list("pk", flat=True)[:LARGEST])
    rows = Transaction.objects.with_accounts().filter(pk__in=largest).order_by("-amount", "-pk")
    return {
        "headers": [TIME, "type", "from", "to", "amount"],
        "rows": [
            [
                f"{timezone.localtime(row.timestamp):%d %b %H:%M}",
                row.transaction_type,
                owner_link(row.sender),
                owner_link(row.receiver),
                rupees(row.amount),
            ]
            for row in rows
        ],
    }


# --- Wallets, holds, logins and the ledger check ---------------------------------------------------------


def _held() -> list[dict[str, Any]]:
    frozen = Count("pk", filter=Q(status=Wallet.Status.FROZEN))
    found = Wallet.objects.aggregate(wallets=Count("pk"), frozen=frozen, held=Sum("balance", output_field=MoneyField()))
    wallets = reverse("admin:wallet_wallet_changelist")
    return [
        _card("Money in wallets", rupees(found["held"] or Decimal(0)), "in all of them", wallets),
        _card("Wallets", f"{found['wallets']:,}", f"{found['frozen']:,} frozen", f"{wallets}?status__exact=FROZEN"),
    ]


def _set_aside() -> list[dict[str, Any]]:
    """Read from the open holds alone, which have an index of their own."""
    found = Hold.objects.with_status(Hold.Status.OPEN).aggregate(count=Count("pk"), left=REMAINING)
    page = f"{reverse('admin:wallet_hold_changelist')}?status=OPEN"
    return [
        _card("Set aside in holds", rupees(found["left"] or Decimal(0)), how_many(found["count"], "open hold"), page)
    ]


def _logins() -> list[dict[str, Any]]:
    midnight = days.start_of(days.today())
    failed = Counter.objects.filter(name=otp.FAILURES_PER_ADDRESS.name, window_start__gte=midnight)
    wrong = failed.aggregate(total=Sum("count"))["total"] or 0
    logins = Login.objects.filter(created_at__gte=midnight).count()
    return [
        _card("Logins today", f"{logins:,}", how_many(wrong, "wrong code"), reverse("admin:users_login_changelist"))
    ]


def _health() -> dict[str, Any]:
    last = LedgerCheck.objects.order_by("-pk").first()
    if last is None:
        return {"ok": False, "text": "The books were never checked: is a worker running? (manage.py work)"}
    when = f"{timezone.localtime(last.ended_at):%d %b %Y %H:%M %Z}"
    if last.complaints:
        return {
            "ok": False,
            "text": f"The books do not agree: {how_many(last.complaints, 'complaint')} of check_ledger, {when}.",
        }
    if timezone.now() - last.ended_at > CHECK_IS_OLD:
        return {"ok": False, "text": f"The books agreed, but were last checked on {when}."}
    return {"ok": True, "text": f"The books agree: {how_many(last.wallets, 'wallet')} checked, {when}."}


def _notices() -> Iterator[str]:
    missing = len(volumes.unsummed_days())
    if missing:
        subject = f"{how_many(missing, 'day')} {verb(missing, 'is', 'are')}"
        yield f"{subject} not in the chart yet: is a worker running? (manage.py work)"
    if Outbox.objects.filter(timestamp__lt=timezone.now() - WORKER_IS_LATE).exists():
        yield "Nobody sends events to webhooks: is a worker running? (manage.py work)"
    given_up = Webhook.objects.exclude(switched_off_at=None).count()
    if given_up:
        are = verb(given_up, "is", "are")
        yield f"{how_many(given_up, 'webhook')} accepted nothing for days and {are} switched off."


# --- Formatting ----------------------------------------------------------------------------------------


def _card(title: str, value: str, note: str, href: str = "") -> dict[str, Any]:
    return {"title": title, "value": value, "note": note, "href": href}


def _total(rows: list[dict[str, Any]], kind: str) -> Decimal:
    return sum((row["total"] for row in rows if row["transaction_type"] == kind), Decimal(0))


def _count(rows: list[dict[str, Any]], kind: str) -> str:
    return f"{sum(row['count'] for row in rows if row['transaction_type'] == kind):,}"
