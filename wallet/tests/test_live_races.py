"""Many clients at once against the production server: whatever they do, money is neither made nor lost."""

import random
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from decimal import Decimal

import psycopg
import pytest
from django.db import connection

from lokanetra.tests.live import Answer, Live, at_once

CLIENTS, TRANSFERS = 8, 200
FUNDS = "10000.00"


@pytest.fixture(scope="module")
def people(live: Live) -> dict[str, str]:
    """Phone numbers and tokens of eight who hold 10,000.00 each."""
    tokens = {f"98000000{number:02}": "" for number in range(CLIENTS)}
    for phone in tokens:
        tokens[phone] = live.log_in(phone)
        assert live.post("/wallet/credit/", {"amount": FUNDS}, tokens[phone]).status == 200
    return tokens


def test_fifty_debits_at_once_take_what_is_there_and_no_more(live: Live) -> None:
    token = live.log_in("9811111111")
    live.post("/wallet/credit/", {"amount": "100.00"}, token)
    answers = at_once(*[lambda: live.post("/wallet/debit/", {"amount": "10.00"}, token)] * 50)
    assert sorted(answer.status for answer in answers) == [200] * 10 + [400] * 40
    assert {answer.code for answer in answers if answer.status == 400} == {"insufficient_funds"}
    assert live.balance(token) == "0.00"


def test_twenty_requests_with_one_key_move_money_once(live: Live) -> None:
    token = live.log_in("9822222222")
    live.post("/wallet/credit/", {"amount": "100.00"}, token)
    answers = at_once(*[lambda: live.post("/wallet/debit/", {"amount": "10.00"}, token, key="once")] * 20)
    assert {answer.status for answer in answers} == {200}
    assert len({str(answer.body) for answer in answers}) == 1
    assert sum("idempotent-replayed" not in names(answer) for answer in answers) == 1
    assert live.balance(token) == "90.00"


def test_opposite_and_random_transfers_neither_deadlock_nor_change_the_sum(live: Live, people: dict[str, str]) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201
    phones = list(people)

    def client(me: str) -> list[Answer]:
        mine = random.Random(f"{seed} {me}")
        return [live.post("/wallet/transfer/", payment(mine, me, turn), people[me]) for turn in range(TRANSFERS)]

    def payment(mine: random.Random, me: str, turn: int) -> dict[str, str]:
        others = [phone for phone in phones if phone != me]
        opposite = phones[phones.index(me) ^ 1]
        to = opposite if turn % 2 else mine.choice(others)
        return {"to_phone_number": to, "amount": f"{mine.randint(1, 5000) / 100:.2f}"}

    answers = sum(at_once(*[lambda me=me: client(me) for me in phones]), [])
    assert {answer.status for answer in answers} <= {200, 400}
    assert {answer.code for answer in answers if answer.status == 400} <= {"insufficient_funds"}
    balances = [Decimal(live.balance(token)) for token in people.values()]
    assert sum(balances) == CLIENTS * Decimal(FUNDS)


def test_a_lock_that_is_held_too_long_is_busy_and_nothing_moved(live: Live) -> None:
    """Held by somebody who is not the server: an administrator at the database's own prompt, say."""
    token = live.log_in("9855555555")
    live.post("/wallet/credit/", {"amount": "100.00"}, token)
    with held_lock(live.environment["DATABASE_URL"]):
        refused = live.post("/wallet/debit/", {"amount": "10.00"}, token, key="later")
        assert (refused.status, refused.code) == (503, "server_busy")
        assert live.balance(token) == "100.00"
    assert live.post("/wallet/debit/", {"amount": "10.00"}, token, key="later").body["balance"] == "90.00"


def test_the_books_agree_after_all_this(live: Live, request: pytest.FixtureRequest) -> None:
    report = live.check_ledger()
    assert report["ok"], report
    if connection.vendor == "postgresql":
        assert "deadlock" not in request.getfixturevalue("postgres").log()


@contextmanager
def held_lock(url: str) -> Iterator[None]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield
    else:
        with psycopg.connect(url) as holder:
            holder.execute("SELECT id FROM wallet_wallet FOR UPDATE")
            yield


def names(answer: Answer) -> set[str]:
    return {name.lower() for name in answer.headers}
