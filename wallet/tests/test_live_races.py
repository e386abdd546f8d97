"""Many clients at once against the production server: whatever they do, no money appears or disappears."""

import random
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from typing import Any

import psycopg
import pytest
from django.db import connection

from lokanetra.tests.live import Answer, Live, at_once, wait_for

CLIENTS, TRANSFERS = 8, 200
FUNDS = "10000.00"
NEW_PHONES = map(str, count(9830000000))
STAFF = """
from decimal import Decimal
from users.models import UserProfile
from wallet.models import Tier
UserProfile.objects.create_superuser("races", password="correct horse", phone_number="+919899999999")
Tier.objects.create(name="By amount", daily_out=Decimal(100))
Tier.objects.create(name="By number", daily_count=2)
"""


@pytest.fixture(scope="module")
def people(live: Live) -> dict[str, str]:
    """Phone numbers and tokens of eight people with 10,000.00 each."""
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
    """Held by another session of the database, such as an administrator's."""
    token = live.log_in("9855555555")
    live.post("/wallet/credit/", {"amount": "100.00"}, token)
    with held_lock(live.environment["DATABASE_URL"]):
        refused = live.post("/wallet/debit/", {"amount": "10.00"}, token, key="later")
        assert (refused.status, refused.code) == (503, "server_busy")
        assert live.balance(token) == "100.00"
    assert live.post("/wallet/debit/", {"amount": "10.00"}, token, key="later").body["balance"] == "90.00"


# --- Holds, refunds and limits ---------------------------------------------------------------------------


class Person:
    """A person with a phone, a login and so much money."""

    def __init__(self, live: Live, money: str = "") -> None:
        self.live, self.phone = live, next(NEW_PHONES)
        self.token = live.log_in(self.phone)
        if money:
            assert self.post("/wallet/credit/", {"amount": money}).status == 200

    def post(self, path: str, body: dict[str, Any], key: str | None = None) -> Answer:
        """Repeated when the server is busy and has changed nothing, because the machine may be slow."""
        while (answer := self.live.post(path, body, self.token, key)).code == "server_busy":
            time.sleep(0.1)
        return answer

    def money(self) -> tuple[str, str]:
        """The balance, and how much of it is available."""
        body = self.live.call("GET", "/wallet/balance/", token=self.token).body
        return body["balance"], body["available"]

    def hold(self, to: "Person", amount: str) -> int:
        answer = self.post("/wallet/holds/", {"to_phone_number": to.phone, "amount": amount})
        assert answer.status == 201, answer
        return answer.body["id"]

    def ask(self, payer: "Person", amount: str, **more: Any) -> int:
        answer = self.post("/wallet/requests/", {"from_phone_number": payer.phone, "amount": amount, **more})
        assert answer.status == 201, answer
        return answer.body["id"]

    def set_tier(self, live: Live, boss: str, tier: str) -> Answer:
        """Staff give the person a tier."""
        search = live.call("GET", f"/wallet/admin/wallets/?search={self.phone}", token=boss).body
        path = f"/wallet/admin/wallets/{search['results'][0]['id']}/"
        return live.call("PATCH", path, {"tier": tier, "reason": "to see"}, boss)


@pytest.fixture
def asha(live: Live) -> Person:
    """She holds 1000.00."""
    return Person(live, "1000.00")


@pytest.fixture
def ravi(live: Live) -> Person:
    """Her payee, who has nothing."""
    return Person(live)


@pytest.fixture(scope="module")
def boss(live: Live) -> str:
    """The superuser's token. Creates tiers too."""
    live.shell(STAFF)
    return live.log_in("9899999999")


def tally(race: str, answers: list[Answer]) -> dict[str, int]:
    """How often each answer came, by status and error code."""
    found = Counter(f"{answer.status} {answer.code or ''}".strip() for answer in answers)
    print(f"{race}: {dict(found)}")  # noqa: T201
    return found


def test_ten_captures_of_one_hold_take_what_it_holds_and_no_more(live: Live, asha: Person, ravi: Person) -> None:
    path = f"/wallet/holds/{asha.hold(ravi, '100.00')}/capture/"
    part = {"amount": "15.00", "final": False}
    found = tally("parts of a hold", at_once(*[lambda: ravi.post(path, part)] * 10))
    assert found == {"200": 6, "400 capture_exceeds_hold": 4}
    assert (asha.money(), ravi.money()) == (("910.00", "900.00"), ("90.00", "90.00"))
    found = tally("the rest of a hold", at_once(*[lambda: ravi.post(path, {})] * 10))
    assert found == {"200": 1, "409 hold_closed": 9}
    assert (asha.money(), ravi.money()) == (("900.00", "900.00"), ("100.00", "100.00"))


def test_capture_void_and_the_end_of_a_hold_at_once_leave_one_of_them(live: Live, asha: Person, ravi: Person) -> None:
    mine, ends = random.Random(1), Counter[str]()
    for _ in range(12):
        pk, before = asha.hold(ravi, "30.00"), Decimal(ravi.money()[0])
        end = end_in(live, "wallet_hold", pk, mine.uniform(0, 0.1))
        capture = lambda pk=pk: ravi.post(f"/wallet/holds/{pk}/capture/", {"amount": "10.00", "final": False})  # noqa: E731
        void = lambda pk=pk: ravi.post(f"/wallet/holds/{pk}/void/", {})  # noqa: E731
        calls = [capture] * 3 + [later(void, mine.choice([0, 0.05]))] * 2
        answers = at_once(*mine.sample(calls, len(calls)))
        found = tally("capture, void and expiry", answers)
        assert found.keys() <= {"200", "409 hold_closed"}
        wait_for(lambda end=end: datetime.now(UTC) > end)
        hold = live.call("GET", f"/wallet/holds/{pk}/", token=ravi.token).body
        captures = [answer for answer in answers if answer.status == 200 and "balance" in answer.body]
        voids = [answer for answer in answers if answer.status == 200 and "balance" not in answer.body]
        assert Decimal(hold["captured"]) == 10 * len(captures) == Decimal(ravi.money()[0]) - before
        ended_as = "CAPTURED" if len(captures) == 3 else "VOIDED" if voids else "EXPIRED"
        assert (hold["status"], len(voids)) == (ended_as, int(ended_as == "VOIDED"))
        assert len(set(asha.money())) == 1
        ends[ended_as] += 1
    print(f"holds ended: {dict(ends)}")  # noqa: T201


def test_refunds_and_reversals_at_once_give_back_what_was_paid_and_no_more(
    live: Live, asha: Person, ravi: Person, boss: str
) -> None:
    paid = asha.post("/wallet/transfer/", {"to_phone_number": ravi.phone, "amount": "100.00"}).body["transaction_id"]
    refund = lambda **body: ravi.post(f"/transactions/{paid}/refund/", body)  # noqa: E731
    reverse = lambda **body: live.post(f"/transactions/{paid}/reverse/", body | {"remarks": "wrong"}, boss)  # noqa: E731
    parts = [lambda: refund(amount="15.00"), lambda: reverse(amount="15.00")] * 10
    assert tally("parts of a payment", at_once(*parts)) == {"200": 6, "400 refund_exceeds_remaining": 14}
    assert (asha.money()[0], ravi.money()[0]) == ("990.00", "10.00")
    assert tally("the rest of a payment", at_once(*[refund, reverse] * 5)) == {"200": 1, "409 already_reversed": 9}
    assert (asha.money()[0], ravi.money()[0]) == ("1000.00", "0.00")


def test_the_last_rupee_is_held_or_paid_once(live: Live, ravi: Person) -> None:
    for _ in range(5):
        poor = Person(live, "1.00")
        to = {"to_phone_number": ravi.phone, "amount": "1.00"}
        ways = [("/wallet/holds/", to), ("/wallet/transfer/", to), ("/wallet/debit/", {"amount": "1.00"})]
        answers = at_once(*[lambda way=way, poor=poor: poor.post(*way) for way in ways * 4])
        found = tally("the last rupee", answers)
        assert found in ({"200": 1, "400 insufficient_funds": 11}, {"201": 1, "400 insufficient_funds": 11})
        assert poor.money() == (("1.00", "0.00") if found["201"] else ("0.00", "0.00"))


@pytest.mark.parametrize("tier", ["By amount", "By number"])
def test_the_last_of_a_days_limit_is_spent_once(live: Live, asha: Person, ravi: Person, boss: str, tier: str) -> None:
    assert asha.set_tier(live, boss, tier).status == 200
    to = {"to_phone_number": ravi.phone, "amount": "40.00"}
    ways = [("/wallet/holds/", to), ("/wallet/transfer/", to), ("/wallet/debit/", {"amount": "40.00"})]
    answers = at_once(*[lambda way=way: asha.post(*way) for way in ways * 4])
    found = tally(f"the last of a limit {tier.lower()}", answers)
    assert (found["200"] + found["201"], found["400 limit_exceeded"], len(answers)) == (2, 10, 12)
    assert asha.money()[1] == "920.00"


def test_a_tier_set_while_a_payment_waits_is_the_one_that_counts(
    live: Live, asha: Person, boss: str, request: pytest.FixtureRequest
) -> None:
    """On PostgreSQL the test sees who waits for the row, so the order is known; elsewhere both orders are right."""
    is_sure = connection.vendor == "postgresql"
    change, pay = lambda: asha.set_tier(live, boss, "By amount"), lambda: asha.post("/wallet/debit/", {"amount": "101"})
    if is_sure:
        with ThreadPoolExecutor(2) as pool, held_lock(live.environment["DATABASE_URL"]) as holder:
            waiting = []
            for operation in (change, pay):
                waiting.append(pool.submit(operation))
                wait_for(lambda: waiters(request.getfixturevalue("postgres").url) == len(waiting))
            holder.rollback()
            answers = [done.result() for done in waiting]
    else:
        answers = at_once(change, pay)
    found = tally("a tier set while a payment waits", answers)
    assert found == {"200": 1, "400 limit_exceeded": 1} or (found == {"200": 2} and not is_sure)
    assert pay().code == "limit_exceeded"


def test_one_key_for_a_hold_and_a_transfer_does_one_of_them(live: Live, asha: Person, ravi: Person) -> None:
    """By one user, so both wait for one wallet; the loser is refused, because its key stands for the other."""
    for turn in range(6):
        to = {"to_phone_number": ravi.phone, "amount": "10.00"}
        hold = lambda to=to, turn=turn: asha.post("/wallet/holds/", to, f"key {turn}")  # noqa: E731
        pay = lambda to=to, turn=turn: asha.post("/wallet/transfer/", to, f"key {turn}")  # noqa: E731
        answers = at_once(*[hold, pay] * 5)
        found = tally("one key for two operations", answers)
        assert found in ({"200": 5, "422 idempotency_key_reused": 5}, {"201": 5, "422 idempotency_key_reused": 5})
        assert sum(answer.status < 300 and "idempotent-replayed" not in names(answer) for answer in answers) == 1
        assert asha.money()[1] == f"{1000 - 10 * (turn + 1)}.00"


def test_crossing_holds_and_refunds_with_freezes_between_neither_deadlock_nor_change_the_sum(
    live: Live, boss: str
) -> None:
    """Captures and refunds lock two wallets each, in both directions."""
    asha, ravi = Person(live, "500.00"), Person(live, "500.00")

    def client(me: Person, other: Person) -> list[Answer]:
        to, answers = {"to_phone_number": other.phone, "amount": "5.00"}, []
        for _ in range(15):
            answers += [
                me.post("/wallet/holds/", to),
                paid := other.post("/wallet/transfer/", to | {"to_phone_number": me.phone}),
            ]
            if answers[-2].status == 201:
                answers.append(other.post(f"/wallet/holds/{answers[-2].body['id']}/capture/", {"amount": "2.00"}))
            if paid.status == 200:
                answers.append(me.post(f"/transactions/{paid.body['transaction_id']}/refund/", {"amount": "1.00"}))
        return answers

    def freezer() -> list[Answer]:
        found = live.call("GET", f"/wallet/admin/wallets/?search={ravi.phone}", token=boss).body["results"][0]["id"]
        paths = [f"/wallet/admin/wallets/{found}/{verb}/" for verb in ("freeze", "unfreeze")]
        return [live.post(path, {"reason": "to see"}, boss) for path in paths * 8]

    calls = [lambda: client(asha, ravi), lambda: client(ravi, asha)] * 2 + [freezer]
    found = tally("crossing", sum(at_once(*calls), []))
    assert found.keys() <= {
        "200", "201", "403 wallet_frozen", "409 recipient_unavailable", "409 payer_unavailable"
    }  # fmt: skip
    assert sum(Decimal(person.money()[0]) for person in (asha, ravi)) == 1000


# --- Requests for money ----------------------------------------------------------------------------------


def test_ten_payments_of_one_request_are_one_transfer(live: Live, asha: Person, ravi: Person) -> None:
    for keys in ([None] * 10, [f"pay {turn}" for turn in range(10)]):
        before = Decimal(ravi.money()[0])
        path = f"/wallet/requests/{ravi.ask(asha, '25.00')}/pay/"
        answers = at_once(*[lambda key=key, path=path: asha.post(path, {}, key) for key in keys])
        assert tally("payments of a request", answers) == {"200": 1, "409 request_closed": 9}
        assert Decimal(ravi.money()[0]) - before == 25
    path = f"/wallet/requests/{ravi.ask(asha, '25.00')}/pay/"
    answers = at_once(*[lambda: asha.post(path, {}, "one key")] * 10)
    assert tally("repeats of a payment", answers) == {"200": 10}
    assert sum("idempotent-replayed" not in names(answer) for answer in answers) == 1
    assert (asha.money()[0], ravi.money()[0]) == ("925.00", "75.00")


def test_pay_decline_cancel_and_the_end_of_a_request_at_once_leave_one_of_them(
    live: Live, asha: Person, ravi: Person
) -> None:
    mine, ends = random.Random(2), Counter[str]()
    for _ in range(15):
        pk, before = ravi.ask(asha, "10.00"), Decimal(ravi.money()[0])
        end = end_in(live, "wallet_paymentrequest", pk, mine.uniform(0, 0.1))
        path = f"/wallet/requests/{pk}/"
        calls = [
            later(lambda who=who, path=path, verb=verb: who.post(f"{path}{verb}/", {}), mine.choice([0, 0.03]))
            for who, verb in [(asha, "pay"), (asha, "decline"), (ravi, "cancel")] * 2
        ]
        answers = at_once(*mine.sample(calls, len(calls)))
        found = tally("pay, decline, cancel and expiry", answers)
        assert found.keys() <= {"200", "409 request_closed"}
        assert found["200"] <= 1
        wait_for(lambda end=end: datetime.now(UTC) > end)
        shown = live.call("GET", path, token=ravi.token).body
        done = next((answer.body for answer in answers if answer.status == 200), {"status": "EXPIRED"})
        assert shown["status"] == done.get("status", "PAID")
        assert shown["transaction"] == done.get("transaction_id")
        assert Decimal(ravi.money()[0]) - before == (10 if shown["status"] == "PAID" else 0)
        ends[shown["status"]] += 1
    print(f"requests ended: {dict(ends)}")  # noqa: T201


def test_thirty_requests_at_once_leave_the_twenty_that_may_be_open(live: Live, asha: Person, ravi: Person) -> None:
    body = {"from_phone_number": asha.phone, "amount": "1.00"}
    answers = at_once(*[lambda: ravi.post("/wallet/requests/", body)] * 30)
    assert tally("requests", answers) == {"201": 20, "429 throttled": 10}
    assert all("retry-after" in names(answer) for answer in answers if answer.status == 429)


def test_requests_to_many_at_once_are_no_more_than_a_day_has(live: Live, people: dict[str, str], ravi: Person) -> None:
    """To eight others; fewer than may be open to each."""
    bodies = [{"from_phone_number": phone, "amount": "1.00"} for phone in list(people)[:6]]
    ask = lambda body: [ravi.post("/wallet/requests/", body) for _ in range(20)]  # noqa: E731
    found = tally("requests of a day", sum(at_once(*[lambda body=body: ask(body) for body in bodies]), []))
    assert found == {"201": 100, "429 throttled": 20}


def test_one_key_for_a_request_and_a_transfer_does_one_of_them(live: Live, asha: Person, ravi: Person) -> None:
    asked = {"from_phone_number": ravi.phone, "amount": "10.00"}
    for turn in range(6):
        pk, before = ravi.ask(asha, "10.00"), Decimal(asha.money()[0])
        ways = [
            ("/wallet/requests/", asked),
            ("/wallet/transfer/", {"to_phone_number": ravi.phone, "amount": "10.00"}),
            (f"/wallet/requests/{pk}/decline/", {}),
            (f"/wallet/requests/{pk}/pay/", {}),
        ]
        answers = at_once(*[lambda way=way, turn=turn: asha.post(*way, f"either {turn}") for way in ways * 3])
        found = tally("one key for four operations", answers)
        assert (found["200"] + found["201"], found["422 idempotency_key_reused"]) == (3, 9)
        assert sum(answer.status < 300 and "idempotent-replayed" not in names(answer) for answer in answers) == 1
        moved = any("transaction_id" in answer.body for answer in answers)
        assert before - Decimal(asha.money()[0]) == (10 if moved else 0)


def test_crossing_requests_and_transfers_neither_deadlock_nor_change_the_sum(live: Live) -> None:
    """Payments of requests lock both wallets in either direction, and then the request; expiry skips locked ones."""
    asha, ravi = Person(live, "500.00"), Person(live, "500.00")

    def client(me: Person, other: Person) -> list[Answer]:
        answers = []
        for turn in range(12):
            asked = me.post("/wallet/requests/", {"from_phone_number": other.phone, "amount": "5.00"})
            to = {"to_phone_number": other.phone, "amount": "3.00"}
            answers += [asked, me.post("/wallet/transfer/", to)]
            if asked.status == 201:
                path = f"/wallet/requests/{asked.body['id']}/"
                last = me.post(f"{path}cancel/", {}) if turn % 3 == 2 else other.post(f"{path}pay/", {})
                answers += [last, other.post(f"{path}decline/", {})]
        return answers

    def sweeper() -> list[Answer]:
        for _ in range(2):
            live.run(sys.executable, "manage.py", "expire_requests")
        return []

    calls = [lambda: client(asha, ravi), lambda: client(ravi, asha)] * 2 + [sweeper]
    found = tally("crossing requests", sum(at_once(*calls), []))
    assert found.keys() <= {"200", "201", "409 request_closed", "429 throttled"}
    assert sum(Decimal(person.money()[0]) for person in (asha, ravi)) == 1000


def later(call: Callable[[], Answer], seconds: float) -> Callable[[], Answer]:
    def run() -> Answer:
        time.sleep(seconds)
        return call()

    return run


def end_in(live: Live, table: str, pk: int, seconds: float) -> datetime:
    """Let a hold or a request expire after so many seconds. Returns when that is."""
    end = datetime.now(UTC) + timedelta(seconds=seconds)
    statement = f"UPDATE {table} SET created_at = {{0}}, expires_at = {{0}} WHERE id = {{0}}"
    url, moments = live.environment["DATABASE_URL"], (end - timedelta(hours=1), end)
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=20)) as there, there:
            as_text = [moment.strftime("%Y-%m-%d %H:%M:%S.%f") for moment in moments]
            there.execute(statement.format("?"), (*as_text, pk))
    else:
        with psycopg.connect(url) as there:
            there.execute(statement.format("%s"), (*moments, pk))
    return end


def waiters(url: str) -> int:
    """How many sessions wait for a lock."""
    with psycopg.connect(url) as there:
        found = there.execute("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted").fetchone()
    assert found
    return found[0]


def test_the_books_agree_after_all_this(live: Live, request: pytest.FixtureRequest) -> None:
    report = live.check_ledger()
    assert report["ok"], report
    if connection.vendor == "postgresql":
        assert "deadlock" not in request.getfixturevalue("postgres").log()


@contextmanager
def held_lock(url: str) -> Iterator[Any]:
    if url.startswith("sqlite"):
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)) as holder:
            holder.execute("BEGIN IMMEDIATE")
            yield holder
    else:
        with psycopg.connect(url) as holder:
            holder.execute("SELECT id FROM wallet_wallet FOR UPDATE")
            yield holder


def names(answer: Answer) -> set[str]:
    return {name.lower() for name in answer.headers}
