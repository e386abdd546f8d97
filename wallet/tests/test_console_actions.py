"""Freeze, credit, debit and reverse from the console: with a reason, confirmed, once, and logged."""

import re
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client

from transactions.models import Transaction
from users import audit
from wallet import payments, status
from wallet.models import Wallet


@pytest.fixture
def console():
    """A client of the console, logged in as the user, optionally in a group."""

    def client_of(user, group=None):
        if group:
            user.groups.set([Group.objects.get(name=group)])
        client = Client()
        client.force_login(user)
        return client

    return client_of


@pytest.fixture
def finance(console, staff):
    return console(staff, "Finance")


@pytest.fixture
def operations(console, staff):
    return console(staff, "Operations")


def page_of(wallet, action):
    return f"/admin/wallet/wallet/{wallet.pk}/{action}/"


def key_in(page):
    return re.search(r'name="key" value="([0-9a-f]{32})"', page.content.decode())[1]


def fill_in(client, path, **fields):
    """As people do it: open the page, fill it in, check it on the second page, confirm."""
    data = {"key": key_in(client.get(path)), **fields}
    assert client.post(path, data).context["confirm"] is True
    return client.post(path, {**data, "confirmed": ""})


def errors(page):
    return page.context["form"].non_field_errors() or page.context["form"].errors


def test_a_credit_moves_money_and_is_logged(finance, staff, asha, ledger):
    page = fill_in(finance, page_of(asha.wallet, "credit"), amount="50.10", reason="Found on the floor")
    assert (page.status_code, page["Location"]) == (302, f"/admin/wallet/wallet/{asha.wallet.pk}/change/")
    row = Transaction.objects.latest("pk")
    assert (row.transaction_type, str(row.amount), row.remarks, row.initiated_by) == (
        "CREDIT",
        "50.10",
        "Found on the floor",
        staff,
    )
    entry = LogEntry.objects.get()
    assert (entry.user, entry.content_type.model, entry.object_id) == (staff, "wallet", str(asha.wallet.pk))
    assert audit.details(entry) == {
        "what": "credit",
        "before": {"receiver": "1000.00"},
        "after": {"receiver": "1050.10"},
        "amount": "50.10",
        "transaction": row.pk,
        "reason": "Found on the floor",
    }
    assert "₹\N{NO-BREAK SPACE}1,050.10" in finance.get(page["Location"]).content.decode()


def test_a_debit_takes_money(finance, asha):
    fill_in(finance, page_of(asha.wallet, "debit"), amount="1000", reason="Paid out")
    assert Wallet.objects.get(user=asha).balance == 0


def test_nothing_moves_before_it_is_confirmed(finance, asha, ledger):
    path, before = page_of(asha.wallet, "credit"), ledger()
    data = {"key": key_in(finance.get(path)), "amount": "5", "reason": "x"}
    asked = finance.post(path, data).content.decode()
    assert "Yes, do it" in asked and "₹ 5.00" in asked
    page = finance.post(path, {**data, "edit": ""})
    assert (page.context["confirm"], page.context["form"]["amount"].value()) == (False, "5")
    assert ledger() == before and not LogEntry.objects.exists()


def test_the_same_page_sent_twice_moves_money_once(finance, asha):
    path = page_of(asha.wallet, "credit")
    data = {"key": key_in(finance.get(path)), "amount": "5", "reason": "x", "confirmed": ""}
    assert [finance.post(path, data).status_code for _ in range(2)] == [302, 302]
    assert Wallet.objects.get(user=asha).balance == 1005
    assert LogEntry.objects.count() == 1
    assert "used for another request" in str(errors(finance.post(path, {**data, "amount": "6"})))


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"amount": "5"}, "reason"),
        ({"amount": "5", "reason": "  "}, "reason"),
        ({"amount": "5", "reason": "x" * 256}, "reason"),
        ({"amount": "5", "reason": "a\0b"}, "reason"),
        ({"reason": "x"}, "amount"),
        ({"amount": "0", "reason": "x"}, "amount"),
        ({"amount": "-5", "reason": "x"}, "amount"),
        ({"amount": "1e2", "reason": "x"}, "amount"),
        ({"amount": "1.005", "reason": "x"}, "amount"),
        ({"amount": "५", "reason": "x"}, "amount"),
        ({"amount": "5", "reason": "x", "key": "mine"}, "key"),
        ({"amount": "5", "reason": "x", "key": ""}, "key"),
    ],
)
def test_what_is_filled_in_wrong_is_shown_and_nothing_moves(finance, asha, ledger, fields, wrong):
    before = ledger()
    page = finance.post(page_of(asha.wallet, "credit"), {"key": "0" * 32, "confirmed": "", **fields})
    assert (page.status_code, list(page.context["form"].errors)) == (200, [wrong])
    assert ledger() == before


@pytest.mark.parametrize(
    ("action", "amount", "says"),
    [("debit", "1000.01", "holds 1000.00"), ("credit", "1000000.01", "At most"), ("credit", "999000", None)],
)
def test_a_broken_rule_is_shown_above_the_form(finance, asha, settings, action, amount, says):
    settings.WALLET_MAX_BALANCE = 999000
    page = finance.post(
        page_of(asha.wallet, action), {"key": "0" * 32, "confirmed": "", "amount": amount, "reason": "x"}
    )
    assert page.status_code == 200
    assert (says or "holds at most") in str(errors(page))
    assert not LogEntry.objects.exists()


def test_a_wallet_is_frozen_with_a_reason_and_unfrozen_again(operations, asha):
    fill_in(operations, page_of(asha.wallet, "freeze"), reason="Stolen phone")
    assert Wallet.objects.get(user=asha).is_frozen
    wallet = operations.get(f"/admin/wallet/wallet/{asha.wallet.pk}/change/")
    assert [action["title"] for action in wallet.context["actions_detail"]] == ["Unfreeze", "Set tier"]
    fill_in(operations, page_of(asha.wallet, "unfreeze"), reason="Found again")
    assert not Wallet.objects.get(user=asha).is_frozen
    entries = [audit.details(entry) for entry in LogEntry.objects.order_by("pk")]
    assert [(entry["before"], entry["after"], entry["reason"]) for entry in entries] == [
        ("ACTIVE", "FROZEN", "Stolen phone"),
        ("FROZEN", "ACTIVE", "Found again"),
    ]


def test_a_frozen_wallet_is_not_adjusted(finance, boss, asha):
    status.freeze(user_id=boss.pk, wallet_id=asha.wallet.pk, reason="x")
    data = {"key": "0" * 32, "confirmed": "", "amount": "5", "reason": "x"}
    assert "frozen" in str(errors(finance.post(page_of(asha.wallet, "credit"), data)))


def test_a_transaction_is_reversed_once(finance, asha, ravi):
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(100)).transaction
    page = f"/admin/transactions/transaction/{paid.pk}/"
    assert [action["title"] for action in finance.get(f"{page}change/").context["actions_detail"]] == ["Reverse"]
    assert fill_in(finance, f"{page}reverse/", reason="Wrong number").status_code == 302
    assert Wallet.objects.get(user=asha).balance == 1000
    assert audit.details(LogEntry.objects.get()) == {
        "what": "reversal",
        "before": {"sender": "100.00", "receiver": "900.00"},
        "after": {"sender": "0.00", "receiver": "1000.00"},
        "amount": "100.00",
        "transaction": Transaction.objects.latest("pk").pk,
        "reason": "Wrong number",
    }
    assert finance.get(f"{page}change/").context["actions_detail"] == []
    again = finance.post(f"{page}reverse/", {"key": "0" * 32, "confirmed": "", "reason": "x"})
    assert "given back already" in str(errors(again))


def test_a_transaction_is_reversed_in_parts_until_all_is_given_back(finance, asha, ravi):
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(100)).transaction
    page = f"/admin/transactions/transaction/{paid.pk}/"
    fill_in(finance, f"{page}reverse/", amount="30.00", reason="One shirt")
    shown = finance.get(f"{page}change/")
    assert [action["title"] for action in shown.context["actions_detail"]] == ["Reverse"]
    assert "30.00" in shown.content.decode()
    data = {"key": "0" * 32, "confirmed": "", "reason": "x"}
    assert "70.00 remains" in str(errors(finance.post(f"{page}reverse/", {**data, "amount": "70.01"})))
    for wrong in ("0", "-5", "1e2", "1.005"):
        assert list(errors(finance.post(f"{page}reverse/", {**data, "amount": wrong}))) == ["amount"]
    twice = [finance.post(f"{page}reverse/", {**data, "amount": "20"}).status_code for _ in range(2)]
    assert twice == [302, 302] and Wallet.objects.get(user=asha).balance == 950
    fill_in(finance, f"{page}reverse/", amount="", reason="The rest")
    assert Wallet.objects.get(user=asha).balance == 1000
    assert finance.get(f"{page}change/").context["actions_detail"] == []
    back = Transaction.objects.latest("pk")
    assert f"{page}change/" in finance.get(f"/admin/transactions/transaction/{back.pk}/change/").content.decode()


@pytest.mark.parametrize("wallet", ["0", "x", "99999999999999999999", "%00"])
@pytest.mark.parametrize("action", ["credit", "freeze", "nothing"])
def test_there_is_no_page_for_a_missing_wallet(console, boss, wallet, action):
    client = console(boss)
    client.raise_request_exception = False
    for method in (client.get, client.post):
        assert method(f"/admin/wallet/wallet/{wallet}/{action}/").status_code in (302, 404)


def test_a_form_from_elsewhere_is_refused(console, boss, asha, ledger):
    client = Client(enforce_csrf_checks=True)
    client.force_login(boss)
    before = ledger()
    data = {"key": "0" * 32, "confirmed": "", "amount": "5", "reason": "x"}
    assert client.post(page_of(asha.wallet, "credit"), data).status_code == 403
    assert ledger() == before


def test_the_page_of_a_wallet_shows_its_newest_rows_and_the_way_to_all(console, boss, asha, ravi):
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("7.50"))
    client = console(boss)
    page = client.get(f"/admin/wallet/wallet/{asha.wallet.pk}/change/")
    newest = next(table for table in page.context["tables"] if table["title"] == "Last transactions")
    assert [row[2:] for row in newest["rows"]] == [
        ["user_9888888888", "−₹ 7.50", "₹ 992.50"],  # noqa: RUF001
        ["outside", "+₹ 1,000.00", "₹ 1,000.00"],
    ]
    every = re.search(r'href="([^"]+)"', newest["every"])[1]
    history = client.get(every).context["cl"].result_list
    assert [row.pk for row in history] == list(Transaction.objects.order_by("-pk").values_list("pk", flat=True))
    assert f"/admin/users/userprofile/{ravi.pk}/change/" in client.get(every).content.decode()


@pytest.mark.parametrize(("wallet", "count"), [("{}", 1), ("0", 0), ("99999999999999999999", None), ("x", None)])
def test_transactions_are_filtered_by_wallet(console, boss, asha, ravi, wallet, count):
    page = console(boss).get(f"/admin/transactions/transaction/?wallet={wallet.format(asha.wallet.pk)}")
    if count is None:
        assert page["Location"].endswith("?e=1")
    else:
        assert len(page.context["cl"].result_list) == count
