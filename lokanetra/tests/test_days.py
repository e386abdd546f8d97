"""Days begin and end as in `TIME_ZONE`; times that leave the product are in UTC."""

import re
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from importlib import import_module

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client
from rest_framework import serializers

from lokanetra import days, filters
from lokanetra.parsers import UTCDateTimeField
from users import audit, otp, tokens
from users.models import UserProfile
from wallet import payments
from wallet.models import Wallet

TICK = datetime.resolution
EVENING = datetime(2026, 1, 31, 21, 59, 7, tzinfo=UTC)


def utc(*parts):
    return datetime(*parts, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "day", "start", "hours"),
    [
        ("UTC", date(2026, 1, 31), utc(2026, 1, 31), 24),
        ("Asia/Kolkata", date(2026, 1, 31), utc(2026, 1, 30, 18, 30), 24),
        # Clocks go forward at midnight: the day begins at one.
        ("America/Santiago", date(2026, 9, 6), utc(2026, 9, 6, 4), 23),
        ("Asia/Beirut", date(2026, 3, 29), utc(2026, 3, 28, 22), 23),
        # Clocks go back at midnight: the last hour occurs twice.
        ("America/Santiago", date(2026, 4, 4), utc(2026, 4, 4, 3), 25),
        ("Asia/Beirut", date(2026, 10, 24), utc(2026, 10, 23, 21), 25),
        # Clocks go back at one: the first hour occurs twice.
        ("America/Havana", date(2026, 11, 1), utc(2026, 11, 1, 4), 25),
    ],
)
def test_a_day_lasts_from_its_first_instant_to_its_last(settings, zone, day, start, hours):
    settings.TIME_ZONE = zone
    end = start + timedelta(hours=hours)
    assert (days.start_of(day), days.end_of(day)) == (start, end - TICK)
    assert days.start_of(days.next_day(day)) == end
    moments = (start - TICK, start, end - TICK, end)
    assert [(days.day_of(moment) - day).days for moment in moments] == [-1, 0, 0, 1]


@pytest.mark.parametrize("zone", ["UTC", "Asia/Kolkata", "America/Santiago", "Pacific/Kiritimati", "Pacific/Niue"])
def test_the_first_and_the_last_day_that_can_be_written_have_ends(settings, zone):
    settings.TIME_ZONE = zone
    assert utc(1, 1, 1) == days.start_of(date.min) < days.end_of(date.min) < days.start_of(date(1, 1, 2))
    assert days.end_of(date(9999, 12, 30)) < days.start_of(date.max) < days.end_of(date.max)
    assert days.end_of(date.max) == datetime.max.replace(tzinfo=UTC)


def test_today_depends_on_the_time_zone(settings, clock_at):
    clock_at(utc(2026, 1, 31, 18, 30))
    assert days.today() == date(2026, 2, 1)
    settings.TIME_ZONE = "UTC"
    assert days.today() == date(2026, 1, 31)


@pytest.mark.parametrize(
    ("day", "first", "following"),
    [
        (date(2026, 1, 1), date(2026, 1, 1), date(2026, 2, 1)),
        (date(2026, 1, 31), date(2026, 1, 1), date(2026, 2, 1)),
        (date(2028, 2, 29), date(2028, 2, 1), date(2028, 3, 1)),
        (date(2026, 12, 31), date(2026, 12, 1), date(2027, 1, 1)),
    ],
)
def test_a_month_begins_with_its_first_day(day, first, following):
    assert (days.month_of(day), days.next_month(day)) == (first, following)


@pytest.mark.parametrize(
    ("text", "first", "last"),
    [
        ("2026-01-31", utc(2026, 1, 30, 18, 30), utc(2026, 1, 31, 18, 30) - TICK),
        ("2026-01-31T09:30", utc(2026, 1, 31, 4), utc(2026, 1, 31, 4)),
        ("2026-01-31T09:30:00Z", utc(2026, 1, 31, 9, 30), utc(2026, 1, 31, 9, 30)),
        ("2026-01-31T09:30:00-05:00", utc(2026, 1, 31, 14, 30), utc(2026, 1, 31, 14, 30)),
    ],
)
def test_a_date_and_a_time_without_a_zone_are_read_in_the_time_zone(text, first, last):
    assert days.parse_span(text) == filters.Moment().to_python(text) == (first, last)


@pytest.mark.parametrize(
    "text", ["", "soon", "2026-02-30", "12:00", "\u0663", "0001-01-01T00:00", "9999-12-31T23:59-14:00"]
)
def test_an_unreadable_moment_is_a_value_error(text):
    with pytest.raises(ValueError):  # noqa: PT011
        days.parse_span(text)


# --- What leaves the product -----------------------------------------------------------------------


def serializers_of(app):
    module = import_module(f"{app}.serializers")
    classes = [found for found in vars(module).values() if isinstance(found, type)]
    return [found for found in classes if issubclass(found, serializers.BaseSerializer)]


@pytest.mark.parametrize("app", ["users", "wallet", "transactions"])
def test_every_time_of_every_serializer_is_in_utc(app):
    fields = {
        f"{serializer.__name__}.{name}": type(field)
        for serializer in serializers_of(app)
        for name, field in serializer().fields.items()
        if isinstance(field, serializers.DateTimeField)
    }
    assert fields
    assert {name for name, kind in fields.items() if not issubclass(kind, UTCDateTimeField)} == set()


@pytest.fixture
def opening():
    return EVENING


@pytest.fixture
def evening(boss, asha, clock_at):
    """One of each object with a time: a January evening in UTC, which is a February night in India."""
    clock_at(EVENING)
    credit = payments.credit(user_id=asha.pk, amount=Decimal("5.00"))
    otp.send(phone_number=asha.phone_number, address="192.0.2.1")
    tokens.issue(asha)
    audit.record(user_id=boss.pk, on=asha, what="account")
    call_command("check_ledger")
    UserProfile.objects.update(date_joined=EVENING)
    Wallet.objects.update(created_at=EVENING)
    LogEntry.objects.update(action_time=EVENING)
    return credit.transaction.pk


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "UTC", "America/Santiago"])
def test_json_and_files_have_times_in_utc(settings, evening, asha, boss, as_user, zone):
    settings.TIME_ZONE = zone
    staff, client = as_user(boss), as_user(asha)
    credited = client.post("/wallet/credit/", {"amount": "1.00"}).json()
    times = {credited["timestamp"], client.get(f"/transactions/{evening}/").json()["timestamp"]}
    times |= {row["date_joined"] for row in staff.get("/auth/admin/users/").json()["results"]}
    times |= {row["created_at"] for row in staff.get("/wallet/admin/wallets/").json()["results"]}
    assert times == {"2026-01-31T21:59:07Z"}
    for file in (client.get("/transactions/export/"), staff.get("/transactions/admin-export/")):
        assert b"2026-01-31T21:59:07Z" in b"".join(file.streaming_content)


@pytest.mark.parametrize(
    "page",
    ["", "users/userprofile/{asha}/change/", "users/login/", "users/otp/", "admin/logentry/", "wallet/wallet/",
     "wallet/wallet/{wallet}/change/", "wallet/ledgercheck/", "transactions/transaction/"],
)  # fmt: skip
def test_every_page_of_the_console_shows_times_in_the_time_zone(evening, asha, boss, page):
    client = Client()
    client.force_login(boss)
    shown = client.get(f"/admin/{page.format(asha=asha.pk, wallet=asha.wallet.pk)}").content.decode()
    assert re.search("0?3:29", shown)
    assert not re.search("21:59|9:59", shown)
    assert "UTC" not in shown


@pytest.mark.parametrize(
    "now, last",
    [
        ("2026-05-04T20:59:59+00:00", "2026-05-03T21:00:00+00:00"),
        ("2026-05-04T21:00:00+00:00", "2026-05-04T21:00:00+00:00"),
        ("2026-05-05T20:59:59+00:00", "2026-05-04T21:00:00+00:00"),
    ],
)
def test_the_last_time_that_it_was_this_time_of_the_day(clock_at, now, last):
    clock_at(datetime.fromisoformat(now))
    assert days.last_time_at(time(2, 30)) == datetime.fromisoformat(last)
