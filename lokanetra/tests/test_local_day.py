"""A day in `TIME_ZONE` is the same everywhere: a payment that is in it in one place is in it in all places."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.test import Client
from rest_framework.test import APIClient

from transactions.models import DayVolume, Transaction
from wallet import payments, status
from wallet.models import Tier

# Each amount is twice the previous one, so that a sum shows which of them are in it. The times are India's.
BEFORE = {"2026-01-30T23:59:59.999999+05:30": 1}
INSIDE = {
    "2026-01-31T00:00+05:30": 2,
    "2026-01-31T00:01+05:30": 4,
    "2026-01-31T23:59+05:30": 8,
    "2026-01-31T23:59:59.999999+05:30": 16,
}
AFTER = {"2026-02-01T00:00+05:30": 32}
DAY = "2026-01-31"
LATER = datetime(2026, 2, 1, 12, tzinfo=UTC)


@dataclass
class World:
    """Asha's debits around the ends of a day, and those who read them."""

    asha: APIClient
    staff: APIClient
    console: Client
    # What her limits showed as used after the last debit of each day.
    used: dict[str, Decimal]


def of_list(answer) -> Decimal:
    return sum(Decimal(row["amount"]) for row in answer.json()["results"])


def of_file(answer) -> Decimal:
    text = b"".join(answer.streaming_content).decode("utf-8-sig")
    return sum(Decimal(row["amount"]) for row in csv.DictReader(text.splitlines(keepends=True)))


def of_statement(answer) -> Decimal:
    """The rows of a file, between its opening and its closing line."""
    _, *lines, _ = csv.DictReader(b"".join(answer.streaming_content).decode("utf-8-sig").splitlines(keepends=True))
    return sum(Decimal(line["amount_out"]) for line in lines)


def of_console(page) -> Decimal:
    return sum(row.amount for row in page.context["cl"].result_list)


def of_chart(page) -> Decimal:
    """The bar of the day in the chart of the last thirty."""
    _, month = page.context["charts"]
    data = json.loads(month["data"])
    (debits,) = [series["data"] for series in data["datasets"] if series["label"] == "Debit"]
    return debits[data["labels"].index("31 Jan")]


IN_LISTS = {"start_date": DAY, "end_date": DAY, "type": "debit"}
IN_CONSOLE = {"timestamp_from": DAY, "timestamp_to": DAY, "transaction_type__exact": "DEBIT"}
OF_DAY = {"start_date": DAY, "end_date": DAY}
STATEMENT = "/transactions/statement/"
LEDGER = "/admin/transactions/transaction/"

# Where a day can be queried, and the amount shown there.
PLACES: dict[str, Callable[[World], Decimal]] = {
    "own history": lambda world: of_list(world.asha.get("/transactions/", IN_LISTS)),
    "own export": lambda world: of_file(world.asha.get("/transactions/export/", IN_LISTS)),
    "own limits": lambda world: world.used[DAY],
    "staff list": lambda world: of_list(world.staff.get("/transactions/admin-list/", IN_LISTS)),
    "staff export": lambda world: of_file(world.staff.get("/transactions/admin-export/", IN_LISTS)),
    "console list": lambda world: of_console(world.console.get(LEDGER, IN_CONSOLE)),
    "console export": lambda world: of_file(world.console.get(f"{LEDGER}export/", IN_CONSOLE)),
    "console chart": lambda world: of_chart(world.console.get("/admin/")),
    "own statement": lambda world: Decimal(world.asha.get(STATEMENT, OF_DAY).json()["total_out"]),
    "own statement's rows": lambda world: of_list(world.asha.get(STATEMENT, OF_DAY)),
    "own statement's file": lambda world: of_statement(world.asha.get(STATEMENT, OF_DAY | {"format": "csv"})),
    "closed days": lambda world: DayVolume.objects.get(day=DAY, transaction_type="DEBIT").amount,
}


@pytest.fixture
def opening():
    return datetime(2026, 1, 15, tzinfo=UTC)


@pytest.fixture
def world(asha, boss, as_user, clock_at):
    tier = Tier.objects.create(name="Gold", daily_out=Decimal(500))
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=tier, reason="to see")
    used = {}
    for moment, amount in (BEFORE | INSIDE | AFTER).items():
        clock_at(datetime.fromisoformat(moment))
        payments.debit(user_id=asha.pk, amount=Decimal(amount))
        used[moment[:10]] = used_today(as_user(asha))
    clock_at(LATER)
    call_command("close_days")
    console = Client()
    console.force_login(boss)
    return World(as_user(asha), as_user(boss), console, used)


def used_today(client: APIClient) -> Decimal:
    limits = client.get("/wallet/limits/").json()["limits"]
    (used,) = [limit["used"] for limit in limits if limit["name"] == "daily_out"]
    return Decimal(used)


@pytest.mark.parametrize("place", PLACES)
def test_payments_of_a_day_in_india_are_in_that_day_and_in_no_other(world, place):
    assert PLACES[place](world) == sum(INSIDE.values())


def test_by_utc_other_rows_would_be_in_it(world):
    moments = Transaction.objects.filter(transaction_type="DEBIT").values_list("timestamp", "amount")
    assert sum(amount for moment, amount in moments if f"{moment.astimezone(UTC):%Y-%m-%d}" == DAY) == 8 + 16 + 32
