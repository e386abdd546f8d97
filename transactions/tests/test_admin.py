"""The ledger in the console can be searched and read, and never changed."""

from datetime import UTC, datetime
from decimal import Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from transactions.models import Transaction
from users import accounts
from wallet import payments
from wallet.models import Key

LEDGER = "/admin/transactions/transaction/"


@pytest.fixture
def console(boss):
    client = Client()
    client.force_login(boss)
    return client


@pytest.fixture
def opening():
    return datetime(2025, 12, 31, tzinfo=UTC)


@pytest.fixture
def dinner(asha, ravi, at):
    """What asha paid ravi on the last second of a January."""
    with at(datetime(2026, 1, 31, 23, 59, 59, tzinfo=ZoneInfo("Asia/Kolkata"))):
        payments.transfer(
            user_id=asha.pk, to=ravi.phone_number, amount=Decimal("250.50"), remarks="Dinner", key="dinner-1"
        )
    return Transaction.objects.get(transaction_type="TRANSFER")


def found(page):
    assert page.status_code == 200
    return list(page.context["cl"].result_list)


def test_a_superuser_neither_adds_nor_changes_nor_deletes_a_row(console, dinner):
    before = list(Transaction.objects.values())
    data = {"amount": "1.00", "remarks": "Lunch", "transaction_type": "CREDIT", "post": "yes"}
    for path in ("add/", f"{dinner.pk}/change/", f"{dinner.pk}/delete/"):
        assert console.post(LEDGER + path, data).status_code == 403
    console.post(LEDGER, {"action": "delete_selected", "_selected_action": [dinner.pk], "post": "yes"})
    assert list(Transaction.objects.values()) == before


def test_the_page_of_a_transaction_shows_all_of_it_but_the_key(console, dinner):
    page = console.get(f"{LEDGER}{dinner.pk}/change/")
    text = page.content.decode()
    when = ("Time (Asia/Kolkata)", "31\N{NO-BREAK SPACE}Jan\N{NO-BREAK SPACE}2026 23:59:59")
    for shown in (
        "₹\N{NO-BREAK SPACE}250.50",
        "₹\N{NO-BREAK SPACE}749.50",
        "Dinner",
        "9999999999",
        "9888888888",
        *when,
    ):
        assert shown in text
    for hidden in ("dinner-1", Key.objects.get().request_hash):
        assert hidden not in text
        assert hidden not in console.get(LEDGER).content.decode()
    assert not page.context["adminform"].form.fields


@pytest.mark.parametrize(
    ("term", "count"),
    [("99999 99999", 2), ("+91 98888", 1), ("98888", 1), ("user_9999", 2), ("user_9888", 1), ("97777", 0), ("", 2)],
)
def test_search_finds_either_side_by_phone_and_username(console, dinner, term, count):
    assert len(found(console.get(LEDGER, {"q": term}))) == count


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"amount_from": "250.50", "amount_to": "250.50"}, 1),
        ({"amount_from": "250.51"}, 1),
        ({"amount_to": "250.49"}, 0),
        ({"transaction_type__exact": "TRANSFER"}, 1),
        ({"timestamp_from": "2026-01-31", "timestamp_to": "2026-01-31"}, 1),
        ({"timestamp_to": "2026-01-30"}, 1),
        ({"timestamp_to": "2025-12-30"}, 0),
        ({"timestamp_from": "2026-02-01", "timestamp_to": "2026-02-02"}, 0),
        ({"timestamp_from": "2026-01-31T18:29:59Z", "timestamp_to": "2026-01-31T18:29:59Z"}, 1),
        ({"timestamp_from": "2026-01-31T23:59:59", "timestamp_to": "2026-01-31T23:59:59"}, 1),
        ({"timestamp_from": "", "timestamp_to": ""}, 2),
    ],
)
def test_filters_narrow_the_list(console, dinner, limits, count):
    assert len(found(console.get(LEDGER, limits))) == count


@pytest.mark.parametrize("limit", ["abc", "NaN", "sNaN", "-Infinity", "1e400", "1e999999999", "1e-999999999", "0.001"])
def test_an_invalid_amount_leads_back_to_the_list(console, dinner, limit):
    for name in ("amount_from", "amount_to"):
        assert console.get(LEDGER, {name: limit})["Location"] == f"{LEDGER}?e=1"


@pytest.mark.parametrize(
    "moment", ["soon", "2026-02-30", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00", "1e9", "\u0663"]
)
def test_an_invalid_time_leads_back_to_the_list(console, dinner, moment):
    for name in ("timestamp_from", "timestamp_to"):
        page = console.get(LEDGER, {name: moment})
        assert (page.status_code, page["Location"]) == (302, f"{LEDGER}?e=1")


@pytest.mark.parametrize(
    "lookup", ["timestamp__year", "timestamp__exact", "amount__gte", "transaction_type__regex", "timestamp"]
)
@pytest.mark.parametrize("value", ["1", "-1", "9" * 20, "(", "9999-12-31T23:59:59-14:00"])
def test_only_the_filters_of_the_list_are_accepted(console, dinner, lookup, value):
    assert console.get(LEDGER, {lookup: value}).status_code == 400


def test_pages_take_as_many_queries_for_thirty_rows_as_for_two(console, dinner, asha):
    def queries(path):
        with CaptureQueriesContext(connection) as captured:
            assert console.get(path).status_code == 200
        return len(captured)

    paths = (LEDGER, f"{LEDGER}{dinner.pk}/change/")
    for path in paths:  # fills the caches of the process
        console.get(path)
    few = [queries(path) for path in paths]
    for number in range(28):
        payee = accounts.create(phone_number=f"+9197000000{number:02}")
        payments.transfer(user_id=asha.pk, to=payee.phone_number, amount=Decimal("1.00"))
    assert len(found(console.get(LEDGER))) == 30
    assert [queries(path) for path in paths] == few


def test_the_list_is_sorted_by_what_has_an_index(console, dinner):
    page = console.get(LEDGER)
    assert page.context["cl"].get_ordering_field_columns().keys() == {0}
    assert set(page.context["cl"].sortable_by) == {"id", "shown_amount", "time"}
