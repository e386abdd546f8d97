"""Workers and the database are killed under load: what was acknowledged is there, and nothing happened twice."""

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import uuid4

import psycopg
import pytest

from lokanetra.tests.live import Answer, Live, Postgres, Unanswered, live_server, own_postgres, wait_for

pytestmark = pytest.mark.once

CLIENTS = 6
WORKER_KILLS, DATABASE_KILLS = 6, 2
SECONDS_BETWEEN_KILLS = 2.0
FUNDS = Decimal("5000.00")


@dataclass
class Client:
    """Pays others under a new key each time, and repeats a key until it is answered for good."""

    phone: str
    token: str
    others: list[str]
    choice: random.Random
    receipts: dict[str, dict] = field(default_factory=dict)
    refused: set[str] = field(default_factory=set)
    answers: list[int] = field(default_factory=list)
    repeats: int = 0

    def run(self, live: Live, stop: threading.Event) -> None:
        while not stop.is_set():
            self.pay(live, uuid4().hex)

    def pay(self, live: Live, key: str) -> None:
        payment = {
            "to_phone_number": self.choice.choice(self.others),
            "amount": f"{self.choice.randint(1, 2000) / 100:.2f}",
        }
        while True:
            answer = self.attempt(live, payment, key)
            if answer and answer.status == 200:
                self.receipts[key] = answer.body
                return
            if answer and answer.status == 400:
                self.refused.add(key)
                return
            self.repeats += 1
            time.sleep(0.05)

    def attempt(self, live: Live, payment: dict[str, str], key: str) -> Answer | None:
        try:
            answer = live.post("/wallet/transfer/", payment, self.token, key)
        except Unanswered:
            return None
        self.answers.append(answer.status)
        assert answer.status in (200, 400, 503), answer
        return answer


def test_nothing_acknowledged_is_lost_and_nothing_happens_twice() -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    with own_postgres() as postgres, live_server(postgres.url, workers=3) as live:
        phones = [f"97000000{number:02}" for number in range(CLIENTS)]
        clients = [
            Client(
                phone,
                live.log_in(phone),
                [other for other in phones if other != phone],
                random.Random(f"{seed}{phone}"),
            )
            for phone in phones
        ]
        for client in clients:
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
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)


def _kill(live: Live, postgres: Postgres) -> None:
    """Workers one after the other, each old enough; the database twice in between."""
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
    receipts = {key: receipt for client in clients for key, receipt in client.receipts.items()}
    with psycopg.connect(postgres.url) as connection:
        rows = connection.execute(
            "SELECT idempotency_key, id, amount FROM transactions_transaction WHERE idempotency_key IS NOT NULL"
        ).fetchall()
    recorded = {key: (pk, Decimal(amount).scaleb(-2)) for key, pk, amount in rows}
    assert len(recorded) == len(rows)
    assert recorded == {key: (told["transaction_id"], Decimal(told["amount"])) for key, told in receipts.items()}
    assert not set(recorded) & set().union(*(client.refused for client in clients))
    for client in clients:
        key, receipt = next(iter(client.receipts.items()))
        payment = {"to_phone_number": receipt["receiver"].removeprefix("user_"), "amount": receipt["amount"]}
        assert live.post("/wallet/transfer/", payment, client.token, key).body == receipt
    assert sum(Decimal(live.balance(client.token)) for client in clients) == CLIENTS * FUNDS
    assert live.check_ledger()["ok"]
    assert "deadlock" not in postgres.log()


def _report(clients: list[Client]) -> None:
    answers = [status for client in clients for status in client.answers]
    done, refused = sum(len(client.receipts) for client in clients), sum(len(client.refused) for client in clients)
    print(  # noqa: T201
        f"{WORKER_KILLS} workers and {DATABASE_KILLS} databases killed; {done} payments acknowledged, "
        f"{refused} refused, {sum(client.repeats for client in clients)} repeats, {answers.count(503)} answers 503"
    )
    assert done > 100
    assert answers.count(503) > 0
