"""Reads that may be seconds old use a replica that is available and not late, and everything else the primary."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

import pytest

from lokanetra.tests.live import Live, Postgres, live_server, own_postgres, wait_for

pytestmark = pytest.mark.slow

STAFF = """
from users import accounts, tokens
from users.models import UserProfile
user = UserProfile.objects.create_superuser("boss", password="correct horse", phone_number="+919844000001")
print(tokens.issue(user)["access"])
"""
# Seconds. A replica with more lag is late.
MAX_LAG = 2
READ = """
SELECT coalesce(sum(seq_scan + idx_scan), 0) FROM pg_stat_user_tables WHERE relname = 'transactions_transaction'
"""


@pytest.fixture(scope="module")
def pair() -> Iterator[tuple[Postgres, Postgres]]:
    with ExitStack() as stack:
        primary = stack.enter_context(own_postgres())
        yield primary, stack.enter_context(own_postgres(primary.url))


@pytest.fixture(scope="module")
def server(pair: tuple[Postgres, Postgres]) -> Iterator[Live]:
    primary, standby = pair
    replica = {"DATABASE_REPLICA_URL": standby.url, "REPLICA_MAX_LAG": str(MAX_LAG)}
    with live_server(primary.url, workers=1, **replica) as server:
        yield server


@pytest.fixture(scope="module")
def staff(server: Live) -> str:
    return server.shell(STAFF).strip()


@pytest.fixture(scope="module")
def user(server: Live) -> str:
    """The token of a user who has a transaction, so that each test runs alone too."""
    token = server.log_in("9833000001")
    pay(server, token)
    return token


def pay(server: Live, user: str) -> int:
    answer = server.post("/wallet/credit/", {"amount": "1.00"}, user)
    assert answer.status == 200
    return answer.body["transaction_id"]


def newest(server: Live, staff: str) -> int:
    answer = server.call("GET", "/transactions/admin-list/?page_size=1", token=staff)
    assert answer.status == 200
    return next((row["id"] for row in answer.body["results"]), 0)


def lines(server: Live, path: str, token: str) -> list[str]:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    text = response.read().decode("utf-8-sig")
    connection.close()
    assert response.status == 200, text
    return text.splitlines()


def warnings(server: Live) -> list[str]:
    logged = [json.loads(line) for line in server.output.read_text().splitlines() if '"lokanetra.replica"' in line]
    return [line["message"] for line in logged if line["level"] == "WARNING"]


def pause(standby: Postgres) -> None:
    standby.ask("SELECT pg_wal_replay_pause()")
    wait_for(lambda: standby.ask("SELECT pg_get_wal_replay_pause_state()") == "paused")


def test_reads_that_may_be_stale_use_it_and_others_the_primary(server, pair, staff, user):
    _, standby = pair
    last = pay(server, user)
    wait_for(lambda: newest(server, staff) == last)
    pause(standby)
    try:
        after = pay(server, user)
        assert newest(server, staff) == last
        assert lines(server, "/transactions/admin-export/", staff)[1].split(",")[0] == str(last)
        statement = server.call("GET", "/transactions/statement/", token=user).body
        assert [row["id"] for row in statement["results"]][-1] == last
        assert statement["closing_balance"] == statement["total_in"]

        assert server.call("GET", "/transactions/", token=user).body["results"][0]["id"] == after
        assert server.balance(user) == server.call("GET", "/transactions/", token=user).body["results"][0]["balance"]
        assert pay(server, user) == after + 1
    finally:
        standby.ask("SELECT pg_wal_replay_resume()")


def test_a_late_replica_is_not_used_and_logged_once_a_minute(server, pair, staff, user):
    _, standby = pair
    pause(standby)
    try:
        last = pay(server, user)
        wait_for(lambda: newest(server, staff) == last)
        time.sleep(2.5)
        assert newest(server, staff) == last
        wait_for(lambda: warnings(server) == [f"the replica is not used: it is more than {MAX_LAG} s late"])
    finally:
        standby.ask("SELECT pg_wal_replay_resume()")
    read = standby.ask(READ)
    wait_for(lambda: bool(newest(server, staff)) and standby.ask(READ) > read)


@pytest.fixture
def soon(server: Live, staff: str) -> Callable[[], Any]:
    def ask() -> float:
        before = time.monotonic()
        newest(server, staff)
        return time.monotonic() - before

    return ask


def test_a_replica_that_hangs_or_dies_fails_no_request(server, pair, staff, user, soon):
    """A caller that reads from it when it stops waits some seconds, and later ones do not."""
    _, standby = pair
    with standby.hanging():
        assert soon() < 8
        time.sleep(4)  # by then it has been checked
        assert max(soon() for _ in range(5)) < 1.5
        assert server.balance(user)
    read = standby.ask(READ)
    wait_for(lambda: bool(newest(server, staff)) and standby.ask(READ) > read)
    standby.stop()
    try:
        assert max(soon() for _ in range(5)) < 1.5
        assert lines(server, "/transactions/admin-export/", staff)[1].split(",")[0] == str(newest(server, staff))
        assert server.check_ledger()["ok"]
    finally:
        standby.start()
    wait_for(lambda: bool(newest(server, staff)) and standby.ask(READ) > 0)


def test_a_promoted_replica_is_not_used(server, pair, staff, user):
    _, standby = pair
    before = pay(server, user)
    wait_for(lambda: newest(server, staff) == before)
    wait_for(lambda: standby.ask("SELECT max(id) FROM transactions_transaction") == before)
    standby.ask("SELECT pg_promote()")
    last = pay(server, user)
    wait_for(lambda: newest(server, staff) == last)
    assert standby.ask("SELECT max(id) FROM transactions_transaction") == before
