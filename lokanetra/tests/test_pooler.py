"""With a pooler that gives each transaction another session, nothing is lost, mixed up or waits too long."""

import re
import sys
import time
from urllib.request import Request, urlopen

import psycopg
import pytest

from lokanetra.tests.live import POOLED, Live, at_once

pytestmark = pytest.mark.once

LOGIN = """
from django.test import Client
from users.models import UserProfile
boss = UserProfile.objects.create_superuser("pooler", password="correct horse", phone_number="+919844000099")
client = Client()
client.force_login(boss)
print(client.session.session_key)
"""


@pytest.fixture
def payers(live: Live) -> list[str]:
    tokens = [live.log_in(f"98440000{number:02}") for number in range(12)]
    for token in tokens:
        assert live.post("/wallet/credit/", {"amount": "100.00"}, token).status == 200
    return tokens


def sessions(live: Live) -> int:
    query = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'serving'"
    with psycopg.connect(live.owner_url) as owner:
        return owner.execute(query).fetchone()[0]  # type: ignore[index]


def test_more_requests_than_sessions_are_each_answered_with_their_own(live, payers):
    """Prepared statements are known to whichever session gets them."""
    for _ in range(5):
        answers = at_once(*[lambda me=me: live.post("/wallet/debit/", {"amount": "1.00"}, me) for me in payers])
        assert [answer.status for answer in answers] == [200] * len(payers)
        histories = at_once(
            *[lambda me=me: live.call("GET", "/transactions/?page_size=100", token=me) for me in payers]
        )
        assert len({row["id"] for found in histories for row in found.body["results"]}) == sum(
            len(found.body["results"]) for found in histories
        )
    assert sessions(live) <= POOLED
    assert live.check_ledger()["ok"]


def test_a_payment_waits_no_longer_for_a_lock_than_without_a_pooler(live, payers):
    with psycopg.connect(live.owner_url) as other:
        other.execute("SELECT * FROM wallet_wallet FOR UPDATE")
        before = time.monotonic()
        answer = live.post("/wallet/debit/", {"amount": "1.00"}, payers[0])
        seconds = time.monotonic() - before
    assert (answer.status, answer.code) == (503, "server_busy")
    assert 8 < seconds < 12  # three seconds, three times


def test_a_worker_runs_its_jobs(live, payers):
    done = live.run(sys.executable, "manage.py", "work", "--once")
    assert done.returncode == 0, done.stderr
    with psycopg.connect(live.owner_url) as owner:
        assert owner.execute("SELECT count(*) FROM transactions_outbox").fetchone() == (0,)


def test_the_console_shows_every_choice_of_a_form_on_any_session(live):
    """Its cursors are read by one statement: none stays open in a session that others get."""
    cookie = f"sessionid={live.shell(LOGIN).strip()}"
    page = f"http://127.0.0.1:{live.port}/admin/auth/group/add/"
    opened = at_once(*[lambda: urlopen(Request(page, headers={"Cookie": cookie})).read().decode()] * 12)
    every = live.shell("from django.contrib.auth.models import Permission; print(Permission.objects.count())")
    assert {len(re.findall("<option", html)) for html in opened} == {int(every)}
