"""The worker's jobs: each is done when it is due, and once."""

import logging
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event

import psycopg
import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.utils import timezone

from lokanetra import postgresql
from lokanetra.env import BASE_DIR
from lokanetra.tests.live import Live, at_once, live_server, own_postgres, wait_for
from transactions import events, models
from transactions.management.commands import work
from transactions.models import DayVolume
from users import tokens
from users.models import Login
from wallet import holds, requests
from wallet.models import Hold, LedgerCheck, PaymentRequest

pytestmark = pytest.mark.django_db(transaction=True)

# In Kolkata 23:30 of the day before, and 02:29 and 02:30 of the next.
EVENING, BEFORE, NIGHT = (datetime(2026, 5, 4, *at, tzinfo=UTC) for at in ((18, 0), (20, 59), (21, 0)))


@pytest.fixture(autouse=True)
def usual_limits(monkeypatch):
    """The command sets the worker's limits for the whole process."""
    monkeypatch.setattr(postgresql, "serving", postgresql.serving)


def work_once() -> None:
    call_command("work", "--once")


def checks() -> int:
    return LedgerCheck.objects.count()


def test_expired_holds_are_closed(asha, ravi, clock_at, caplog):
    caplog.set_level(logging.INFO)
    for seconds in (60, 90, 3600):
        holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00"), expires_in=seconds)
    clock_at(timezone.now() + timedelta(seconds=120))
    work_once()
    assert list(Hold.objects.order_by("pk").values_list("status", flat=True)) == ["EXPIRED", "EXPIRED", "OPEN"]
    assert "expire_holds: 2 holds closed in " in caplog.text


def test_expired_requests_for_money_are_closed_and_leave_events(asha, ravi, clock_at, caplog):
    caplog.set_level(logging.INFO)
    for seconds in (60, 90, 3600):
        requests.ask(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00"), expires_in=seconds)
    clock_at(timezone.now() + timedelta(seconds=120))
    work_once()
    assert list(PaymentRequest.objects.order_by("pk").values_list("status", flat=True)) == 2 * ["EXPIRED"] + ["PENDING"]
    assert "expire_requests: 2 requests closed in " in caplog.text
    work_once()
    events.number()
    assert models.Event.objects.filter(type="request.expired").count() == 2


def test_where_nothing_is_due_nothing_is_logged(asha, caplog):
    work_once()
    caplog.clear()
    caplog.set_level(logging.INFO)
    work_once()
    assert caplog.text == ""


@pytest.mark.parametrize(("chore", "index"), [(0, "wallet_hold_due"), (1, "wallet_request_due")])
def test_expiry_takes_one_indexed_query_when_nothing_is_due(asha, django_assert_num_queries, chore, index):
    with django_assert_num_queries(1) as queries:
        assert not work.lanes()["expiry"].jobs[chore].is_due()
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET enable_seqscan = off")
        cursor.execute(f"EXPLAIN {'' if connection.vendor == 'postgresql' else 'QUERY PLAN '}{queries[0]['sql']}")
        assert index in str(cursor.fetchall())
        if connection.vendor == "postgresql":
            cursor.execute("RESET enable_seqscan")


def test_the_books_are_checked_once_a_night(asha, clock_at):
    counts = []
    for moment in (EVENING, BEFORE, NIGHT, NIGHT + timedelta(hours=20), NIGHT + timedelta(days=1)):
        clock_at(moment)
        work_once()
        counts.append(checks())
    assert counts == [1, 1, 2, 2, 3]


def test_two_workers_check_them_once(asha, clock_at):
    clock_at(NIGHT)

    def run() -> None:
        try:
            work.lanes()["upkeep"](Event(), True)
        finally:
            connections.close_all()

    at_once(run, run, run)
    assert checks() == 1


@pytest.mark.breaks_books
def test_findings_of_the_check_are_logged_as_errors_once_a_night(asha, clock_at, caplog):
    with connection.cursor() as cursor:
        cursor.execute("UPDATE wallet_wallet SET balance = balance + 100 WHERE user_id = %s", [asha.pk])
    clock_at(NIGHT)
    work_once()
    found = [record for record in caplog.records if "the books do not agree" in record.message]
    assert found
    assert {record.levelno for record in found} == {logging.ERROR}
    assert LedgerCheck.objects.get().complaints == len(found)
    work_once()
    assert checks() == 1


def test_a_day_that_is_over_is_summed(asha, clock_at):
    assert DayVolume.objects.count() == 0
    clock_at(timezone.now() + timedelta(days=1, minutes=10))
    work_once()
    assert DayVolume.objects.filter(count=1).count() == 1


def test_stale_rows_are_removed(asha, clock_at):
    tokens.issue(asha)
    clock_at(timezone.now() + timedelta(days=30))
    work_once()
    assert Login.objects.count() == 0


# --- As a process ----------------------------------------------------------------------------------------


def test_once_exits_with_1_and_one_line_for_each_job_without_a_database():
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    environment |= {"PYTHON_DOTENV_DISABLED": "1", "DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"}
    command = [BASE_DIR / "scripts" / "worker.sh", "--once"]
    environment["VIRTUAL_ENV"] = sys.prefix
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 6
    assert ended.stderr.count("the database is away: ") == 6


HOLDS = """
from decimal import Decimal
from users import accounts
from wallet import holds, payments
for number in range(3):
    user = accounts.create(phone_number=f"+91980000000{number}")
    payments.credit(user_id=user.pk, amount=Decimal("1000.00"))
    if number:
        print(holds.open_(user_id=user.pk, to="+919800000000", amount=Decimal("10.00")).payer_id)
"""
OVER = "UPDATE wallet_hold SET expires_at = now() + interval '2 s' RETURNING expires_at"


@pytest.mark.slow
def test_a_worker_closes_holds_soon_after_expiry_and_waits_for_no_locked_wallet():
    with own_postgres() as database, live_server(database.url, workers=1) as server:
        busy, free = server.shell(HOLDS).split()
        process = worker_of(server)
        with psycopg.connect(database.url) as other, psycopg.connect(database.url, autocommit=True) as session:
            session.execute(OVER)
            other.execute("SELECT * FROM wallet_wallet WHERE id = %s FOR UPDATE", [busy])

            def closed() -> set[int]:
                return {row[0] for row in session.execute("SELECT payer_id FROM wallet_hold WHERE status = 'EXPIRED'")}

            wait_for(lambda: closed() == {int(free)})
            other.rollback()
            wait_for(lambda: closed() == {int(free), int(busy)})
            late = session.execute("SELECT max(now() - expires_at) FROM wallet_hold").fetchone()[0]
        process.terminate()
        assert process.wait(timeout=20) == 0
    assert late < timedelta(seconds=30)


def worker_of(server: Live) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "manage.py", "work"], cwd=BASE_DIR, env=server.environment)
