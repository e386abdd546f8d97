"""The front page of the console, and the sums of closed days for its chart."""

import json
from datetime import date, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from io import StringIO
from zoneinfo import ZoneInfo

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from transactions import events, volumes
from transactions.models import DayVolume, Outbox, Webhook
from users import otp
from users.exceptions import OTPInvalid
from wallet import payments, status
from wallet.models import LedgerCheck

INDIA = ZoneInfo("Asia/Kolkata")
NOON = datetime(2026, 3, 31, 12, 30, tzinfo=INDIA)
# Where April begins in India; in UTC it is still the evening before.
MIDNIGHT = datetime(2026, 4, 1, tzinfo=INDIA)
MINUTE = timedelta(minutes=1)

volumes_anew = import_module("transactions.migrations.0003_day_volumes_anew")


@pytest.fixture
def clock(clock_at):
    """Sets the time."""
    clock_at(NOON)
    return clock_at


@pytest.fixture
def console():
    def client_of(user):
        client = Client()
        client.force_login(user)
        return client

    return client_of


def cards(page):
    return {card["title"]: (card["value"], card["note"]) for card in page.context["cards"]}


def series(chart):
    data = json.loads(chart["data"])
    return {
        series["label"]: {label: value for label, value in zip(data["labels"], series["data"], strict=True) if value}
        for series in data["datasets"]
    }


def pay(asha, ravi, amount):
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(amount))


def test_it_shows_what_moved_what_is_held_and_logins(console, boss, clock, asha, ravi):
    pay(asha, ravi, "150.50")
    status.freeze(user_id=boss.pk, wallet_id=ravi.wallet.pk, reason="x")
    sent = otp.send(phone_number=asha.phone_number, address="192.0.2.1")
    with pytest.raises(OTPInvalid):
        otp.verify(phone_number=asha.phone_number, code="000000" if sent.code != "000000" else "1", address="192.0.2.1")
    otp.verify(phone_number=asha.phone_number, code=sent.code, address="192.0.2.1")
    page = console(boss).get("/admin/")
    assert cards(page) == {
        "Credits today": ("₹ 1,000.00", "1 transactions"),
        "Debits today": ("₹ 0.00", "0 transactions"),
        "Transfers today": ("₹ 150.50", "1 transactions"),
        "Money in wallets": ("₹ 1,000.00", "in all of them"),
        "Wallets": ("3", "1 frozen"),
        "Set aside in holds": ("₹ 0.00", "0 open holds"),
        "Logins today": ("1", "1 wrong code"),
    }
    today, month = page.context["charts"]
    assert series(today) == {"Credit": {"12": 1000.0}, "Debit": {}, "Transfer": {"12": 150.5}}
    assert series(month) == {"Credit": {"31 Mar": 1000.0}, "Debit": {}, "Transfer": {"31 Mar": 150.5}}
    assert [row[-1] for row in page.context["largest"]["rows"]] == ["₹ 1,000.00", "₹ 150.50"]


def test_closed_days_come_from_their_sums_and_today_from_the_ledger(console, boss, clock, asha, ravi):
    clock(NOON + timedelta(days=1))
    pay(asha, ravi, "1")
    clock(NOON + timedelta(days=2))
    pay(asha, ravi, "2")
    call_command("close_days")
    assert list(
        DayVolume.objects.filter(transaction_type="TRANSFER").order_by("day").values_list("day", "count", "amount")
    ) == [
        (date(2026, 3, 31), 0, Decimal(0)),
        (date(2026, 4, 1), 1, Decimal(1)),
    ]
    _, month = console(boss).get("/admin/").context["charts"]
    assert series(month)["Transfer"] == {"01 Apr": 1.0, "02 Apr": 2.0}
    assert series(month)["Credit"] == {"31 Mar": 1000.0}


def sums(kind="TRANSFER"):
    return dict(DayVolume.objects.filter(transaction_type=kind, count__gt=0).values_list("day", "amount"))


def test_days_and_hours_are_those_of_the_time_zone(console, boss, clock, asha, ravi):
    for moment, amount in ((MIDNIGHT - MINUTE, "1"), (MIDNIGHT, "2"), (MIDNIGHT + timedelta(hours=23.99), "4")):
        clock(moment)
        pay(asha, ravi, amount)
    page = console(boss).get("/admin/")
    today, month = page.context["charts"]
    assert today["title"] == "Moved today by hour (rupees, Asia/Kolkata)"
    assert series(today)["Transfer"] == {"00": 2.0, "23": 4.0}
    assert cards(page)["Transfers today"] == ("₹ 6.00", "2 transactions")
    assert page.context["largest"]["headers"][0] == "time (Asia/Kolkata)"
    assert [row[0] for row in page.context["largest"]["rows"]] == [
        "31 Mar 12:30", "01 Apr 23:59", "01 Apr 00:00", "31 Mar 23:59",
    ]  # fmt: skip
    clock(MIDNIGHT + timedelta(days=1) + volumes.GRACE)
    call_command("close_days")
    assert sums() == {date(2026, 3, 31): 1, date(2026, 4, 1): 6}


def test_logins_and_wrong_codes_are_counted_from_midnight_on(console, boss, clock, asha):
    def log_in():
        sent = otp.send(phone_number=asha.phone_number, address="192.0.2.1")
        with pytest.raises(OTPInvalid):
            otp.verify(phone_number=asha.phone_number, code="1", address="192.0.2.1")
        otp.verify(phone_number=asha.phone_number, code=sent.code, address="192.0.2.1")

    clock(MIDNIGHT - MINUTE)
    log_in()
    clock(MIDNIGHT + MINUTE)
    assert cards(console(boss).get("/admin/"))["Logins today"] == ("0", "0 wrong codes")
    log_in()
    assert cards(console(boss).get("/admin/"))["Logins today"] == ("1", "1 wrong code")


def test_another_time_zone_takes_effect_by_summing_again(clock, asha, ravi, settings):
    clock(MIDNIGHT - MINUTE)
    pay(asha, ravi, "1")
    clock(MIDNIGHT + timedelta(hours=2))
    pay(asha, ravi, "2")
    clock(MIDNIGHT + timedelta(days=1, minutes=6))
    call_command("close_days")
    assert sums() == {date(2026, 3, 31): 1, date(2026, 4, 1): 2}
    settings.TIME_ZONE = "America/Los_Angeles"  # where it is still noon of April 1
    call_command("close_days")
    assert sums() == {date(2026, 3, 31): 1, date(2026, 4, 1): 2}
    call_command("close_days", again=True)
    assert sums() == {date(2026, 3, 31): 3}
    assert volumes.unsummed_days() == []
    clock(MIDNIGHT + timedelta(days=2))
    assert volumes.unsummed_days() == [date(2026, 4, 1)]


def test_sums_of_utc_days_are_deleted_and_summed_again(clock, asha, ravi):
    (operation,) = volumes_anew.Migration.operations
    for run in (operation.code, operation.reverse_code):
        DayVolume.objects.create(day=date(2026, 3, 31), transaction_type="TRANSFER", count=1, amount=7)
        run(apps, None)
        assert not DayVolume.objects.exists()
    clock(MIDNIGHT - MINUTE)
    pay(asha, ravi, "1")
    clock(MIDNIGHT + timedelta(days=1, minutes=6))
    assert volumes.unsummed_days() == [date(2026, 3, 31), date(2026, 4, 1)]
    call_command("close_days")
    assert sums() == {date(2026, 3, 31): 1}
    assert sums("CREDIT") == {date(2026, 3, 31): 1000}


def test_days_are_summed_once_and_again_only_on_request(clock, asha, ravi):
    clock(NOON + timedelta(days=3))
    assert volumes.unsummed_days() == [date(2026, 3, 31), date(2026, 4, 1), date(2026, 4, 2)]
    call_command("close_days")
    assert volumes.unsummed_days() == []
    DayVolume.objects.update(amount=7)
    call_command("close_days")
    call_command("close_days", since="2026-04-01")
    found = dict(DayVolume.objects.filter(transaction_type="CREDIT").values_list("day", "amount"))
    assert found == {date(2026, 3, 31): 7, date(2026, 4, 1): 0, date(2026, 4, 2): 0}


def test_all_days_or_those_since_one_are_summed_again(clock, asha):
    clock(NOON + timedelta(days=3))
    call_command("close_days")
    DayVolume.objects.update(amount=7)
    DayVolume.objects.create(day=date(2026, 3, 1), transaction_type="CREDIT", count=1, amount=7)
    output = StringIO()
    call_command("close_days", "--again", stdout=output)
    assert "3 days summed." in output.getvalue()
    found = dict(DayVolume.objects.filter(transaction_type="CREDIT").values_list("day", "amount"))
    assert found == {date(2026, 3, 31): 1000, date(2026, 4, 1): 0, date(2026, 4, 2): 0}
    with pytest.raises(CommandError, match="not allowed with"):
        call_command("close_days", "--again", "--since", "2026-04-01")


def test_a_day_is_summed_when_its_last_payments_are_certainly_committed(clock, asha):
    clock(MIDNIGHT + volumes.GRACE - timedelta(seconds=1))
    assert volumes.unsummed_days() == []
    clock(MIDNIGHT + volumes.GRACE)
    assert volumes.unsummed_days() == [date(2026, 3, 31)]


@pytest.mark.parametrize("day", ["yesterday", "2026-02-30", "31.3.2026", ""])
def test_an_invalid_day_is_refused(db, day):
    if day:
        with pytest.raises(CommandError, match="is not a day"):
            call_command("close_days", since=day)
    else:
        call_command("close_days", since=day)
        assert not DayVolume.objects.exists()


def test_it_warns_when_days_are_not_summed(console, boss, clock, asha):
    clock(NOON + timedelta(days=2))
    assert "2 days are not in the chart yet" in console(boss).get("/admin/").content.decode()
    call_command("close_days")
    assert "not in the chart yet" not in console(boss).get("/admin/").content.decode()


def test_it_warns_when_no_worker_sends_events_and_when_a_webhook_is_switched_off(asha, boss, console):
    client, warning = console(boss), "Nobody sends events"
    assert warning not in client.get("/admin/").content.decode()
    Outbox.objects.update(timestamp=timezone.now() - timedelta(minutes=11))
    assert warning in client.get("/admin/").content.decode()
    events.number()
    Webhook.objects.create(url="https://shop.example/", types=[], secret="whsec_", switched_off_at=timezone.now())
    page = client.get("/admin/").content.decode()
    assert warning not in page
    assert "1 webhook accepted nothing for days and is switched off." in page


def test_it_shows_whether_the_books_agree(console, boss, clock, asha):
    client = console(boss)
    assert "never checked" in client.get("/admin/").content.decode()
    call_command("check_ledger")
    assert "The books agree: 2 wallets checked, 31 Mar 2026 12:30 IST." in client.get("/admin/").content.decode()
    clock(NOON + timedelta(days=2, seconds=1))
    client = console(boss)  # the earlier session has ended
    assert "last checked on 31 Mar 2026" in client.get("/admin/").content.decode()
    LedgerCheck.objects.create(ended_at=timezone.now(), wallets=2, complaints=3)
    assert "The books do not agree: 3 complaints" in client.get("/admin/").content.decode()


@pytest.mark.parametrize("scope", ["--wallet={wallet}", "--since=2026-01-01"])
def test_a_partial_check_does_not_count_as_a_full_one(asha, scope):
    call_command("check_ledger", scope.format(wallet=asha.wallet.pk))
    assert not LedgerCheck.objects.exists()


@pytest.mark.breaks_books
def test_a_check_with_findings_is_recorded_too(asha):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE wallet_wallet SET balance = 1 WHERE user_id = %s", [asha.pk])
    with pytest.raises(CommandError):
        call_command("check_ledger")
    assert LedgerCheck.objects.get().complaints == 2


@pytest.mark.parametrize(
    ("right", "shown"),
    [
        ("view_transaction", {"Credits today", "Debits today", "Transfers today"}),
        ("view_wallet", {"Money in wallets", "Wallets"}),
        ("view_hold", {"Set aside in holds"}),
        ("view_login", {"Logins today"}),
        ("view_ledgercheck", set()),
        ("view_otp", set()),
    ],
)
def test_users_see_what_their_rights_allow(console, staff, asha, right, shown):
    staff.user_permissions.add(Permission.objects.get(codename=right))
    page = console(staff).get("/admin/")
    assert set(cards(page)) == shown
    assert ("charts" in page.context) == (right == "view_transaction")
    assert ("health" in page.context) == (right == "view_ledgercheck")


def test_it_takes_as_many_queries_for_many_rows_as_for_few(console, boss, asha, ravi):
    client = console(boss)
    client.get("/admin/")
    with CaptureQueriesContext(connection) as few:
        client.get("/admin/")
    for _ in range(30):
        pay(asha, ravi, "1")
    with CaptureQueriesContext(connection) as many:
        client.get("/admin/")
    assert len(many) == len(few)


def test_an_empty_product_has_a_front_page(console, boss):
    assert console(boss).get("/admin/").status_code == 200
