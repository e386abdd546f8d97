"""The primary is lost, a standby takes its place, and the server finds it without a restart."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import count

import psycopg
import pytest

from lokanetra.tests.live import Answer, Live, Postgres, Unanswered, live_server, own_postgres, wait_for

pytestmark = pytest.mark.slow

# Seconds, far above what a payment takes and below any time-out.
SOON = 1.5
PAID = "SELECT array_agg(id || ' ' || key) FROM transactions_transaction JOIN wallet_key ON transaction_id = id"


@contextmanager
def pair() -> Iterator[tuple[Postgres, Postgres, Live]]:
    """A primary that commits synchronously to its standby, the standby, and a server that knows both."""
    with ExitStack() as stack:
        primary = stack.enter_context(own_postgres())
        standby = stack.enter_context(own_postgres(primary.url))
        with psycopg.connect(primary.url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
            session.execute("SELECT pg_reload_conf()")
        yield primary, standby, stack.enter_context(live_server(f"{primary.url},{standby.folder}", workers=2))


class Clients:
    """Each pays with one key after the other, and retries a key until it is acknowledged."""

    def __init__(self, server: Live) -> None:
        self.server, self.token = server, server.log_in("9822000001")
        self.acknowledged: list[str] = []
        self.over = threading.Event()
        server.post("/wallet/credit/", {"amount": "1000.00"}, self.token)

    def pay(self, key: str) -> Answer:
        return self.server.post("/wallet/debit/", {"amount": "0.01"}, self.token, key)

    def run(self, name: int) -> None:
        for number in count():
            key = f"{name}-{number}"
            while not self.over.is_set():
                if transaction := self.tried(key):
                    self.acknowledged.append(f"{transaction} {key}")
                    break
            if self.over.is_set():
                return

    def tried(self, key: str) -> int | None:
        try:
            answer = self.pay(key)
        except Unanswered:
            return None
        assert answer.status == 200 or answer.status == 503, answer
        return answer.body["transaction_id"] if answer.status == 200 else None

    def acknowledged_since(self, before: int) -> bool:
        return len(self.acknowledged) >= before + 20


def test_a_primary_that_is_killed_is_replaced_and_nothing_acknowledged_is_lost_or_done_twice():
    with pair() as (primary, standby, server), ThreadPoolExecutor(4) as pool:
        clients = Clients(server)
        running = [pool.submit(clients.run, name) for name in range(4)]
        try:
            wait_for(lambda: clients.acknowledged_since(0))
            primary.kill()
            wait_for(lambda: server.call("GET", "/readyz").status == 503)
            assert server.call("GET", "/healthz").status == 200
            standby.ask("SELECT pg_promote()")
            before = len(clients.acknowledged)
            wait_for(lambda: clients.acknowledged_since(before))
        finally:
            clients.over.set()
        assert [client.result() for client in running] == [None] * 4
        done = standby.ask(PAID)
        assert set(clients.acknowledged) <= set(done)
        assert len({row.split()[1] for row in done}) == len(done)
        assert server.check_ledger()["ok"]


def test_a_hanging_primary_is_left_for_the_promoted_one_and_delays_no_later_connection():
    with pair() as (primary, standby, server):
        clients = Clients(server)
        assert clients.tried("first")
        time.sleep(1.1)  # connections are idle for long enough to be checked first
        with primary.hanging():
            standby.ask("SELECT pg_promote()")
            wait_for(lambda: bool(clients.tried("second")))
            for number in range(20):  # each of the slots has found it by then
                clients.tried(f"again-{number}")
            standby.ask(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'postgres' "
                "AND pid <> pg_backend_pid()"
            )
            for number in range(20):
                before = time.monotonic()
                assert clients.tried(f"then-{number}")
                assert time.monotonic() - before < SOON
            primary.kill()  # otherwise there would be two primaries
        assert server.check_ledger()["ok"]
