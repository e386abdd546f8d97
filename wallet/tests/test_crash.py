"""Workers and the database are killed under load: what was acknowledged is stored, and nothing happened twice."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from lokanetra.tests.live import Answer, Live, Postgres, Unanswered, live_server, own_postgres, wait_for

pytestmark = pytest.mark.slow

CLIENTS = 6
WORKER_KILLS, DATABASE_KILLS = 6, 2
SECONDS_BETWEEN_KILLS = 2.0
FUNDS = Decimal("5000.00")
# Allowed refusals: another request took all of the hold or the payment before, or the funds are too low.
REFUSALS = {"insufficient_funds", "hold_closed", "capture_exceeds_hold", "already_reversed", "refund_exceeds_remaining"}


@dataclass
class Done:
    """A request with its final answer."""

    key: str
    path: str
    body: dict[str, Any]
    answer: Answer


@dataclass
class Client:
    """Pays others and holds money for them, each time with a new key, and captures or gives back what it received. A
    request is repeated with its key until its final answer."""

    phone: str
    token: str
    others: list["Client"]
    choice: random.Random
    done: list[Done] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    answers: list[int] = field(default_factory=list)
    to_close: list[int] = field(default_factory=list)
    to_give_back: list[int] = field(default_factory=list)
    repeats: int = 0

    def run(self, live: Live, stop: threading.Event) -> None:
        while not stop.is_set():
            self.choice.choice([self.pay, self.hold, self.close, self.refund])(live)

    def pay(self, live: Live) -> None:
        other = self.choice.choice(self.others)
        paid = self.request(live, "/wallet/transfer/", {"to_phone_number": other.phone, "amount": self.amount(2000)})
        if paid:
            other.to_give_back.append(paid["transaction_id"])

    def hold(self, live: Live) -> None:
        other = self.choice.choice(self.others)
        hold = self.request(live, "/wallet/holds/", {"to_phone_number": other.phone, "amount": self.amount(2000)})
        if hold:
            other.to_close += [hold["id"]] * 3

    def close(self, live: Live) -> None:
        """A hold, in parts; one part is a void, or too much."""
        if self.to_close:
            path = f"/wallet/holds/{self.to_close.pop(0)}/"
            if self.choice.random() < 0.25:
                self.request(live, f"{path}void/", {})
            else:
                self.request(live, f"{path}capture/", {"amount": self.amount(900), "final": False})

    def refund(self, live: Live) -> None:
        """Two parts of a payment, which may be too much."""
        if self.to_give_back:
            path = f"/transactions/{self.to_give_back.pop(0)}/refund/"
            for _ in range(2):
                self.request(live, path, {"amount": self.amount(900)})

    def amount(self, paise: int) -> str:
        return f"{self.choice.randint(1, paise) / 100:.2f}"

    def request(self, live: Live, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The body of the answer; None if it was refused."""
        key = uuid4().hex
        while True:
            answer = self.attempt(live, path, body, key)
            if answer and answer.status in (200, 201):
                self.done.append(Done(key, path, body, answer))
                return answer.body
            if answer and answer.status in (400, 409):
                assert answer.code in REFUSALS, answer
                self.refused.add(key)
                return None
            self.repeats += 1
            time.sleep(0.05)

    def attempt(self, live: Live, path: str, body: dict[str, Any], key: str) -> Answer | None:
        try:
            answer = live.post(path, body, self.token, key)
        except Unanswered:
            return None
        self.answers.append(answer.status)
        assert answer.status in (200, 201, 400, 409, 503), answer
        return answer


def test_nothing_acknowledged_is_lost_and_nothing_happens_twice() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    with own_postgres() as postgres, live_server(postgres.url, workers=3) as live:
        phones = [f"97000000{number:02}" for number in range(CLIENTS)]
        clients = [Client(phone, live.log_in(phone), [], random.Random(f"{seed}{phone}")) for phone in phones]
        for client in clients:
            client.others = [other for other in clients if other is not client]
            assert live.post("/wallet/credit/", {"amount": str(FUNDS)}, client.token).status == 200
        _under_load(live, clients, lambda: _kill(live, postgres))
        _report(clients)
        _reconcile(live, postgres, clients)


def _under_load(live: Live, clients: list[Client], disturb: Callable[[], None]) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=client.run, args=(live, stop)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        disturb()
        assert all(thread.is_alive() for thread in threads)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def _kill(live: Live, postgres: Postgres) -> None:
    """Kill workers one after the other, each old enough, and the database twice in between."""
    for turn in range(WORKER_KILLS):
        time.sleep(SECONDS_BETWEEN_KILLS)
        victim = live.workers()[0]
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda victim=victim: victim not in live.workers() and len(live.workers()) == 3)
        if turn in (1, 4):
            postgres.kill()
            time.sleep(0.5)
            with pytest.raises(psycopg.Error):
                psycopg.connect(postgres.url)
            assert live.call("GET", "/readyz").status == 503
            postgres.start()
    wait_for(lambda: live.call("GET", "/readyz").status == 200)


def _reconcile(live: Live, postgres: Postgres, clients: list[Client]) -> None:
    with psycopg.connect(postgres.url) as connection:
        _compare_with_rows(connection, [done for client in clients for done in client.done])
        _compare_sums(connection)
        keys = {key for (key,) in connection.execute("SELECT key FROM wallet_key")}
    assert not keys & set().union(*(client.refused for client in clients))
    for client in clients:
        _repeat_one_of_each(live, client)
    assert sum(Decimal(live.balance(client.token)) for client in clients) == CLIENTS * FUNDS
    assert live.check_ledger()["ok"]
    assert "deadlock" not in postgres.log()


def _compare_with_rows(connection: psycopg.Connection, acknowledged: list[Done]) -> None:
    """Each key stands for what was answered, and there is nothing else."""
    found = connection.execute("SELECT key, transaction_id, hold_id FROM wallet_key").fetchall()
    assert len({key for key, _, _ in found}) == len(found)
    answered = {done.key: (done.answer.body.get("transaction_id"), done.answer.body.get("id")) for done in acknowledged}
    assert {key: ids for key, *ids in found} == {key: list(ids) for key, ids in answered.items()}
    rows = connection.execute(
        "SELECT id, amount, hold_id, reverses_id FROM transactions_transaction WHERE transaction_type <> 'CREDIT'"
    )
    receipts = [done.answer.body for done in acknowledged if "transaction_id" in done.answer.body]
    assert sorted((pk, Decimal(amount).scaleb(-2), hold, reverses) for pk, amount, hold, reverses in rows) == sorted(
        (answered["transaction_id"], Decimal(answered["amount"]), answered["hold"], answered["reverses"])
        for answered in receipts
    )
    opened = [done.answer.body["id"] for done in acknowledged if done.path == "/wallet/holds/"]
    assert sorted(opened) == [pk for (pk,) in connection.execute("SELECT id FROM wallet_hold ORDER BY id")]
    voided = [done.answer.body["id"] for done in acknowledged if done.path.endswith("/void/")]
    statement = "SELECT id FROM wallet_hold WHERE status = 'VOIDED' ORDER BY id"
    assert sorted(voided) == [pk for (pk,) in connection.execute(statement)]


def _compare_sums(connection: psycopg.Connection) -> None:
    """Captures and refunds do not exceed their holds and transactions, and `held` is what remains of open holds."""
    for question in (
        """
        SELECT hold.id FROM wallet_hold AS hold LEFT JOIN transactions_transaction AS part ON part.hold_id = hold.id
        GROUP BY hold.id HAVING coalesce(sum(part.amount), 0) <> hold.captured OR hold.captured > hold.amount
        """,
        """
        SELECT paid.id FROM transactions_transaction AS paid
        JOIN transactions_transaction AS back ON back.reverses_id = paid.id
        GROUP BY paid.id HAVING sum(back.amount) > paid.amount
        """,
        """
        SELECT wallet.id FROM wallet_wallet AS wallet
        LEFT JOIN wallet_hold AS hold ON hold.payer_id = wallet.id AND hold.status = 'OPEN'
        GROUP BY wallet.id HAVING coalesce(sum(hold.amount - hold.captured), 0) <> wallet.held
        """,
    ):
        assert connection.execute(question).fetchall() == []


def _repeat_one_of_each(live: Live, client: Client) -> None:
    """With its old key it gets the same answer, but a hold as it is now."""
    for done in {_kind(done): done for done in client.done}.values():
        again = live.post(done.path, done.body, client.token, done.key)
        if "transaction_id" in done.answer.body:
            assert again.body == done.answer.body
        else:
            assert (again.status, again.body["id"]) == (done.answer.status, done.answer.body["id"])
        assert "idempotent-replayed" in {name.lower() for name in again.headers}


def _kind(done: Done) -> str:
    """transfer, holds, capture, void or refund."""
    return done.path.split("/")[-2]


def _report(clients: list[Client]) -> None:
    answers = [status for client in clients for status in client.answers]
    kinds = Counter(_kind(done) for client in clients for done in client.done)
    done, refused = sum(kinds.values()), sum(len(client.refused) for client in clients)
    print(  # noqa: T201
        f"{WORKER_KILLS} workers and {DATABASE_KILLS} databases killed; {done} requests acknowledged {dict(kinds)}, "
        f"{refused} refused, {sum(client.repeats for client in clients)} repeats, {answers.count(503)} answers 503"
    )
    assert done > 100
    assert {"transfer", "holds", "capture", "void", "refund"} <= kinds.keys()
    assert answers.count(503) > 0
