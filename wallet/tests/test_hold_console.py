"""Holds in the console: found and shown, captured and voided by staff who adjust wallets."""

import re
from datetime import timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from transactions.models import Transaction
from users import accounts, audit
from wallet import holds, status
from wallet.models import Hold, Wallet

HOLDS = "/admin/wallet/hold/"


@pytest.fixture
def console():
    """A client of the console, logged in as the user, optionally in a group."""

    def client_of(user, group=None):
        user.groups.set(Group.objects.filter(name=group))
        client = Client()
        client.force_login(user)
        return client

    return client_of


@pytest.fixture
def finance(console, staff):
    return console(staff, "Finance")


@pytest.fixture
def held(asha, ravi):
    """Asha sets so much aside for ravi."""

    def hold(amount="100.00", **more):
        return holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(amount), remarks="A room", **more)

    return hold


@pytest.fixture
def over(held, at):
    """An expired hold that is not closed yet."""
    with at(timezone.now() - timedelta(days=2)):
        return held("7.00", expires_in=60)


def form(**fields):
    return {"key": "0" * 32, "confirmed": "", "reason": "x", "rest": "free", **fields}


def errors(page):
    assert page.status_code == 200
    return str(page.context["form"].non_field_errors() or page.context["form"].errors)


def found(page):
    assert page.status_code == 200
    return [hold.pk for hold in page.context["cl"].result_list]


def actions(page):
    return [action["title"] for action in page.context["actions_detail"]]


# --- Lists and pages ----------------------------------------------------------------------------------


def test_the_list_shows_the_present_status_of_a_hold(console, boss, held, over):
    hold = held()
    holds.capture(user_id=hold.payee.user_id, hold_id=hold.pk, amount=Decimal("30.00"), final=False)
    text = re.sub(r"\s+", " ", console(boss).get(HOLDS).content.decode())
    for shown in ("₹ 100.00", "₹ 70.00", "OPEN", "EXPIRED", "user_9999999999", "user_9888888888"):
        assert shown in text


@pytest.mark.parametrize(
    ("asked", "which"),
    [
        ({"status": "OPEN"}, {"open"}),
        ({"status": "EXPIRED"}, {"over"}),
        ({"status": "VOIDED"}, {"void"}),
        ({"status": "CAPTURED"}, set()),
        ({"amount_from": "7.01"}, {"open", "void"}),
        ({"amount_to": "7"}, {"over"}),
        ({"created_at_from": "2020-01-01"}, {"open", "over", "void"}),
        ({"created_at_to": "2020-01-01"}, set()),
        ({"q": "98888"}, {"open", "over", "void"}),
        ({"q": "user_9999"}, {"open", "over", "void"}),
        ({"q": "97777"}, set()),
    ],
)
def test_filters_and_search_narrow_the_list(console, boss, ravi, held, over, asked, which):
    rows = {"open": held().pk, "over": over.pk, "void": held("20").pk}
    holds.void(user_id=ravi.pk, hold_id=rows["void"])
    assert set(found(console(boss).get(HOLDS, asked))) == {rows[name] for name in which}


def test_a_hold_that_nobody_closed_is_found_as_expired(console, boss, over):
    assert Hold.objects.get().status == "OPEN"
    assert found(console(boss).get(HOLDS, {"status": "EXPIRED"})) == [over.pk]
    assert found(console(boss).get(HOLDS, {"status": "OPEN"})) == []
    page = console(boss).get(f"{HOLDS}{over.pk}/change/")
    assert "EXPIRED" in page.content.decode() and actions(page) == []


@pytest.mark.parametrize(
    "asked", [{"status": "x"}, {"status": "open"}, {"amount_from": "1e2"}, {"created_at_to": "yesterday"}]
)
def test_a_filter_that_cannot_be_read_leads_back_to_the_list(console, boss, held, asked):
    assert console(boss).get(HOLDS, asked)["Location"] == f"{HOLDS}?e=1"


def test_the_page_shows_all_of_it_and_leads_to_people_and_captures(console, boss, asha, ravi, held):
    hold = held()
    row = holds.capture(user_id=ravi.pk, hold_id=hold.pk, amount=Decimal("30.00"), final=False).transaction
    client = console(boss)
    page = client.get(f"{HOLDS}{hold.pk}/change/")
    text = page.content.decode()
    for user in (asha, ravi):
        assert f"/admin/users/userprofile/{user.pk}/change/" in text
    assert f"/admin/transactions/transaction/{row.pk}/change/" in text
    assert "A room" in text and not page.context["adminform"].form.fields
    assert actions(page) == ["Capture", "Void"]
    assert (
        f"{HOLDS}{hold.pk}/change/" in client.get(f"/admin/transactions/transaction/{row.pk}/change/").content.decode()
    )


def test_pages_take_as_many_queries_for_thirty_holds_as_for_one(console, boss, asha, held):
    hold, client = held("1"), console(boss)
    paths = (HOLDS, f"{HOLDS}{hold.pk}/change/", f"/admin/wallet/wallet/{asha.wallet.pk}/change/")

    def queries(path):
        with CaptureQueriesContext(connection) as captured:
            assert client.get(path).status_code == 200
        return len(captured)

    for path in paths:
        client.get(path)
    few = [queries(path) for path in paths]
    for number in range(29):
        payee = accounts.create(phone_number=f"+9197000000{number:02}")
        holds.open_(user_id=asha.pk, to=payee.phone_number, amount=Decimal(1))
        holds.capture(user_id=hold.payee.user_id, hold_id=hold.pk, amount=Decimal("0.01"), final=False)
    assert len(found(client.get(HOLDS))) == 30
    assert [queries(path) for path in paths] == few


def test_nobody_adds_edits_or_deletes_a_hold(console, boss, held):
    hold = held()
    before = Hold.objects.values().get()
    for path in ("add/", f"{hold.pk}/change/", f"{hold.pk}/delete/"):
        assert console(boss).post(HOLDS + path, {"amount": "1.00", "post": "yes"}).status_code == 403
    assert Hold.objects.values().get() == before


def test_the_page_of_a_wallet_shows_its_open_holds_of_both_sides(console, boss, asha, ravi, held, over):
    hold = held()
    for user, amount, other in ((asha, "−₹ 100.00", "user_9888888888"), (ravi, "+₹ 100.00", "user_9999999999")):  # noqa: RUF001
        page = console(boss).get(f"/admin/wallet/wallet/{user.wallet.pk}/change/")
        ((pk, _, side, remaining, _),) = page.context["tables"][0]["rows"]
        assert f"{HOLDS}{hold.pk}/change/" in pk and other in side and remaining == amount


# --- Capture and void ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("group", "may"), [("Support", False), ("Operations", False), ("Finance", True), (None, None)])
def test_each_group_sees_holds_and_one_closes_them(console, staff, held, group, may):
    hold, client = held(), console(staff, group)
    page = client.get(f"{HOLDS}{hold.pk}/change/")
    assert page.status_code == (403 if may is None else 200)
    if may is not None:
        assert actions(page) == (["Capture", "Void"] if may else [])
    for action in ("capture", "void"):
        answer = client.post(
            f"{HOLDS}{hold.pk}/{action}/", form(key=action[0].encode().hex() * 16, amount="1", rest="held")
        )
        assert answer.status_code == (302 if may else 403)
    assert Hold.objects.get().status == ("VOIDED" if may else "OPEN")


def test_a_capture_is_looked_at_once_more_done_and_logged_with_its_reason(finance, staff, held):
    hold = held()
    path = f"{HOLDS}{hold.pk}/capture/"
    key = re.search(r'name="key" value="([0-9a-f]{32})"', finance.get(path).content.decode())[1]
    data = {"key": key, "amount": "", "rest": "free", "reason": "The payee asked"}
    page = finance.post(path, data)
    assert page.context["form"].answers() == {
        "Amount (rupees)": "all that is left",
        "What remains then": "is free again",
        "Reason": "The payee asked",
    }
    assert Hold.objects.get().status == "OPEN"
    page = finance.post(path, {**data, "confirmed": ""})
    assert (page.status_code, page["Location"]) == (302, f"{HOLDS}{hold.pk}/change/")
    row = Transaction.objects.latest("pk")
    assert (str(row.amount), row.hold_id, row.remarks, row.initiated_by) == ("100.00", hold.pk, "A room", staff)
    entry = LogEntry.objects.get()
    assert (entry.content_type.model, entry.object_id) == ("hold", str(hold.pk))
    assert audit.details(entry) == {
        "what": "capture",
        "before": {"sender": "1000.00", "receiver": "0.00"},
        "after": {"sender": "900.00", "receiver": "100.00"},
        "amount": "100.00",
        "transaction": row.pk,
        "reason": "The payee asked",
    }
    assert actions(finance.get(page["Location"])) == []


@pytest.mark.parametrize(
    ("rest", "status_after", "held_after"), [("free", "CAPTURED", "0.00"), ("held", "OPEN", "70.00")]
)
def test_the_rest_is_released_or_stays_held(finance, asha, held, rest, status_after, held_after):
    hold = held()
    finance.post(f"{HOLDS}{hold.pk}/capture/", form(amount="30", rest=rest))
    assert Hold.objects.get().status == status_after
    assert f"{Wallet.objects.get(user=asha).held:.2f}" == held_after


@pytest.mark.parametrize("action", ["capture", "void"])
def test_the_same_page_sent_twice_does_it_once(finance, held, ledger, action):
    hold = held()
    path, data = f"{HOLDS}{hold.pk}/{action}/", form(amount="30.00", rest="held")
    assert [finance.post(path, data).status_code for _ in range(2)] == [302, 302]
    assert len(ledger()) == (2 if action == "capture" else 1)
    assert LogEntry.objects.count() == 1


def test_a_void_releases_the_money_and_is_logged(finance, asha, held):
    hold = held()
    finance.post(f"{HOLDS}{hold.pk}/void/", form(reason="Both agreed"))
    assert (Hold.objects.get().status, Wallet.objects.get(user=asha).available) == ("VOIDED", 1000)
    entry = audit.details(LogEntry.objects.get())
    assert (entry["what"], entry["amount"], entry["reason"]) == ("void", "100.00", "Both agreed")


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"amount": "0"}, "amount"),
        ({"amount": "-5"}, "amount"),
        ({"amount": "1e2"}, "amount"),
        ({"amount": "1.005"}, "amount"),
        ({"amount": "५"}, "amount"),
        ({"rest": "lost"}, "rest"),
        ({"rest": ""}, "rest"),
        ({"reason": " "}, "reason"),
        ({"reason": "a\0b"}, "reason"),
        ({"key": "mine"}, "key"),
    ],
)
def test_what_is_filled_in_wrong_is_shown_and_nothing_moves(finance, held, ledger, fields, wrong):
    hold, before = held(), ledger()
    page = finance.post(f"{HOLDS}{hold.pk}/capture/", form(**fields))
    assert (page.status_code, list(page.context["form"].errors)) == (200, [wrong])
    assert ledger() == before and Hold.objects.get().status == "OPEN"


@pytest.mark.parametrize(("action", "who"), [("capture", "asha"), ("void", "asha"), ("capture", "ravi")])
def test_a_frozen_side_is_shown_above_the_form(finance, boss, asha, ravi, held, action, who):
    hold = held()
    status.freeze(user_id=boss.pk, wallet_id={"asha": asha, "ravi": ravi}[who].wallet.pk, reason="x")
    page = finance.post(f"{HOLDS}{hold.pk}/{action}/", form())
    if action == "void":
        assert page.status_code == 302  # a frozen side does not prevent a void
    else:
        assert {"asha": "payer cannot make this payment", "ravi": "wallet is frozen"}[who] in errors(page)


def test_more_than_remains_and_what_expired_are_shown_above_the_form(finance, held, over):
    hold = held()
    assert "100.00 remains" in errors(finance.post(f"{HOLDS}{hold.pk}/capture/", form(amount="100.01")))
    assert "has expired" in errors(finance.post(f"{HOLDS}{over.pk}/capture/", form()))
    assert "has expired" in errors(finance.post(f"{HOLDS}{over.pk}/void/", form()))
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["capture", "void"])
def test_staff_do_not_close_what_they_pay_themselves(console, asha, held, action):
    hold = held()
    asha.is_staff = True
    asha.save()
    page = console(asha, "Finance").post(f"{HOLDS}{hold.pk}/{action}/", form())
    assert "another member of staff" in errors(page)
    assert Hold.objects.get().status == "OPEN"
