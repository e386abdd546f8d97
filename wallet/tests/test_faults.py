"""Whatever fails at any moment, an operation has happened completely or not at all, and its answer says which."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.contrib.admin.models import LogEntry
from django.db import IntegrityError, InternalError, NotSupportedError, OperationalError, ProgrammingError, connection
from django.db.transaction import atomic

from lokanetra.errors import ServerBusy
from transactions.models import Outbox, Transaction
from wallet import exceptions, holds, payments, refunds, requests, status
from wallet.models import Hold, Key, PaymentRequest, Tier, Wallet

pytestmark = pytest.mark.django_db(transaction=True)

TEN = Decimal("10.00")
LONG_AGO = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def operations(asha, ravi, boss) -> dict[str, Callable[[], Any]]:
    """Each service, ready to be called once."""
    wallet = asha.wallet.pk
    tier = Tier.objects.create(name="Small", max_balance=TEN)
    held = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("50.00"))
    due = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("5.00"))
    Hold.objects.filter(pk=due.pk).update(created_at=LONG_AGO, expires_at=LONG_AGO + timedelta(days=1))
    payments.credit(user_id=ravi.pk, amount=Decimal("50.00"))
    lent = payments.transfer(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("20.00")).transaction
    asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN)
    late = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN)
    PaymentRequest.objects.filter(pk=late.pk).update(created_at=LONG_AGO, expires_at=LONG_AGO + timedelta(days=1))
    return {
        "credit": lambda: payments.credit(user_id=asha.pk, amount=TEN, key="key"),
        "debit": lambda: payments.debit(user_id=asha.pk, amount=TEN, key="key"),
        "transfer": lambda: payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=TEN, key="key"),
        "reverse": lambda: refunds.reverse(user_id=boss.pk, transaction_id=lent.pk, remarks="wrong", key="key"),
        "staff credit": lambda: payments.credit(user_id=boss.pk, wallet_id=wallet, amount=TEN, key="key"),
        "freeze": lambda: status.freeze(user_id=boss.pk, wallet_id=wallet, reason="stolen"),
        "unfreeze": lambda: status.unfreeze(user_id=boss.pk, wallet_id=wallet, reason="found"),
        "set tier": lambda: status.set_tier(user_id=boss.pk, wallet_id=wallet, tier=tier, reason="he asked"),
        "expire": lambda: expire(due),
        "refund": lambda: refunds.refund(user=asha, transaction_id=lent.pk, amount=TEN, key="key"),
        "capture": lambda: holds.capture(user_id=ravi.pk, hold_id=held.pk, amount=TEN, final=False, key="key"),
        "last capture": lambda: holds.capture(user_id=ravi.pk, hold_id=held.pk, amount=TEN, key="key"),
        "staff capture": lambda: holds.capture(user_id=boss.pk, as_staff=True, hold_id=held.pk, key="key"),
        "hold": lambda: holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=TEN, key="key"),
        "void": lambda: holds.void(user_id=ravi.pk, hold_id=held.pk, key="key"),
        "staff void": lambda: holds.void(user_id=boss.pk, as_staff=True, hold_id=held.pk, key="key"),
        "ask": lambda: requests.ask(user_id=asha.pk, to=ravi.phone_number, amount=TEN, key="key"),
        "pay": lambda: requests.pay(user_id=asha.pk, request_id=asked.pk, key="key"),
        "decline": lambda: requests.decline(user_id=asha.pk, request_id=asked.pk, key="key"),
        "cancel": lambda: requests.cancel(user_id=ravi.pk, request_id=asked.pk, key="key"),
        "expire requests": requests.expire,
    }


def expire(hold: Hold) -> None:
    """Expired holds are closed with the next payment, and here alone."""
    holds.expire(wallet_id=hold.payer_id)


MOVING = ["credit", "debit", "transfer", "reverse", "staff credit"]
MOVING += ["refund", "capture", "last capture", "staff capture", "pay"]
KEYED = [*MOVING, "hold", "void", "staff void", "ask", "decline", "cancel"]
OPERATIONS = [*KEYED, "freeze", "unfreeze", "set tier", "expire", "expire requests"]


def state() -> tuple[list, ...]:
    """All that an operation writes."""
    wallets = Wallet.objects.order_by("pk").values_list("balance", "status", "held", "tier", "out_day", "in_month")
    opened = Hold.objects.order_by("pk").values_list("captured", "status", "closed_at")
    asked = PaymentRequest.objects.order_by("pk").values_list("status", "closed_at", "transaction")
    rows = [table.objects.count() for table in (Transaction, Key, LogEntry, Outbox)]
    return list(wallets), list(opened), list(asked), rows


def done() -> int:
    """How often the operation with the key was done."""
    return Key.objects.filter(key="key").count()


@contextmanager
def fault_at(statement: int, fault: Exception) -> Iterator[list[str]]:
    """Raises the fault in place of the k-th statement; yields the statements so far."""
    seen: list[str] = []

    def wrapper(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append(sql)
        if len(seen) == statement:
            raise fault
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper):
        yield seen


@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize(
    "fault, answer",
    [(OperationalError("the connection is lost"), ServerBusy), (ZeroDivisionError("a bug"), ZeroDivisionError)],
)
def test_a_fault_at_any_statement_changes_nothing(operations, name, fault, answer):
    before = state()
    for statement in range(1, 50):
        with fault_at(statement, fault) as seen:
            try:
                operations[name]()
            except answer:
                assert len(seen) == statement
            else:
                break  # it has fewer statements than this
        assert state() == before
    assert 2 < statement < 25


@pytest.mark.parametrize("name", KEYED)
@pytest.mark.parametrize("commits", [False, True], ids=["before the commit", "after the commit"])
def test_a_break_while_committing_is_reported_and_a_repeat_with_the_key_moves_money_once(
    operations, name, commits, monkeypatch
):
    commit = connection._commit

    def broken() -> None:
        if commits:
            commit()
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", broken)
        with pytest.raises(exceptions.OutcomeUnknown):
            operations[name]()
    assert done() == int(commits)
    assert operations[name]().replayed is commits
    assert done() == 1


def conflict(kind: type[psycopg.Error]) -> OperationalError:
    """An error as Django raises it, with the driver's own as its cause."""
    fault = OperationalError("in conflict with another transaction")
    fault.__cause__ = kind()
    return fault


CONFLICTS = [psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure]


@pytest.mark.parametrize("kind", CONFLICTS)
def test_a_conflict_is_retried_as_a_whole(operations, kind):
    with fault_at(4, conflict(kind)):
        assert not operations["transfer"]().replayed
    assert Key.objects.filter(key="key").count() == 1


@pytest.mark.parametrize("kind", CONFLICTS)
def test_a_conflict_that_stays_is_busy_after_three_tries(operations, kind):
    tries = []

    def wrapper(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT" in sql:
            tries.append(sql)
            raise conflict(kind)
        return execute(sql, params, many, context)

    before = state()
    with connection.execute_wrapper(wrapper), pytest.raises(ServerBusy) as busy:
        operations["transfer"]()
    assert len(tries) == 3
    assert isinstance(busy.value.__cause__, OperationalError)
    assert state() == before


WHY = {
    "deadlock": conflict(CONFLICTS[0]),
    "lock_timeout": conflict(CONFLICTS[1]),
    "serialization": conflict(CONFLICTS[2]),
}
WHY |= {
    "key": IntegrityError("wallet_key_pkey"),
    "in_the_way": IntegrityError("NOT NULL constraint failed: transactions_transaction.timestamp"),
}


@pytest.fixture
def retries(monkeypatch) -> list[str | float]:
    """Why operations are repeated, and the longest pause (seconds) before each try."""
    retries: list[str | float] = []
    monkeypatch.setattr("wallet.faults.metrics.count_retry", retries.append)
    monkeypatch.setattr("wallet.faults.random.uniform", lambda least, most: most)
    monkeypatch.setattr("wallet.faults.time.sleep", retries.append)
    return retries


@pytest.mark.parametrize("why", WHY)
def test_before_each_further_try_is_a_longer_pause_and_its_reason_is_counted(operations, retries, why):
    def wrapper(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT" in sql:
            raise WHY[why]
        return execute(sql, params, many, context)

    with connection.execute_wrapper(wrapper), pytest.raises(ServerBusy):
        operations["transfer"]()
    assert retries == [why, 0.05, why, 0.1]


def test_another_connection_is_tried_without_a_pause_and_counted(operations, retries, closed):
    with fault_at(3, lost()):
        operations["transfer"]()
    assert retries == ["connection"]


def test_no_operation_is_part_of_a_transaction_that_may_yet_be_rolled_back(operations):
    before = state()
    for operation in operations.values():
        with atomic(), pytest.raises(RuntimeError, match="durable"):
            operation()
    assert state() == before


def lost(kind: type[psycopg.Error] = psycopg.OperationalError, wrapped: type[Exception] = OperationalError) -> Any:
    fault = wrapped("cached plan must not change result type")
    fault.__cause__ = kind()
    return fault


def silent() -> OperationalError:
    fault = lost()
    fault.__cause__.is_final = True  # type: ignore[union-attr]
    return fault


AT_FAULT = {
    "lost": lost(),
    "shut down": lost(psycopg.errors.AdminShutdown),
    "after a crash": lost(psycopg.errors.CrashShutdown),
    "only reads": lost(psycopg.errors.ReadOnlySqlTransaction, InternalError),
    "statement gone": lost(psycopg.errors.InvalidSqlStatementName, ProgrammingError),
    "plan stale": lost(psycopg.errors.FeatureNotSupported, NotSupportedError),
}


@pytest.fixture
def closed(monkeypatch) -> list[int]:
    """Grows with each connection that is closed; on SQLite the connection is kept."""
    times: list[int] = []
    close = connection.close
    monkeypatch.setattr(connection, "close", lambda: (times.append(1), close())[1])
    return times


@pytest.mark.parametrize("kind", AT_FAULT)
@pytest.mark.parametrize("name", KEYED)
def test_what_broke_before_the_commit_is_tried_once_more_on_another_connection(operations, name, kind, closed):
    with fault_at(3, AT_FAULT[kind]):
        assert not operations[name]().replayed
    assert closed
    assert done() == 1


@pytest.mark.parametrize("fault", [*AT_FAULT.values(), silent(), lost(psycopg.errors.QueryCanceled)])
def test_what_breaks_again_is_busy_after_the_second_try_and_changes_nothing(operations, fault, closed):
    tries = []

    def wrapper(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        if "INSERT" in sql:
            tries.append(sql)
            raise fault
        return execute(sql, params, many, context)

    before = state()
    with connection.execute_wrapper(wrapper), pytest.raises(ServerBusy):
        operations["transfer"]()
    assert len(tries) == (2 if fault in AT_FAULT.values() else 1)
    assert state() == before


@pytest.mark.parametrize("name", KEYED)
def test_a_connection_that_breaks_while_committing_is_never_tried_again(operations, name, monkeypatch):
    commits = []

    def broken() -> None:
        commits.append(1)
        raise lost(psycopg.errors.AdminShutdown)

    monkeypatch.setattr(connection, "_commit", broken)
    with pytest.raises(exceptions.OutcomeUnknown):
        operations[name]()
    assert len(commits) == 1


@pytest.fixture
def refused_at_the_commit(monkeypatch) -> Callable[[Exception], None]:
    """The next commit fails with this error, and is rolled back. The last statement is sent with it."""

    def refuse(fault: Exception) -> None:
        commit, faults = connection._commit, [fault]

        def once() -> None:
            if faults:
                raise faults.pop()
            commit()

        monkeypatch.setattr(connection, "_commit", once)

    return refuse


@pytest.mark.parametrize("kind", CONFLICTS)
def test_a_conflict_at_the_commit_is_retried(operations, refused_at_the_commit, kind):
    refused_at_the_commit(conflict(kind))
    assert not operations["transfer"]().replayed
    assert done() == 1


@pytest.mark.parametrize("kind", ["only reads", "statement gone", "plan stale"])
def test_a_session_that_refuses_at_the_commit_is_replaced(operations, refused_at_the_commit, closed, kind):
    refused_at_the_commit(AT_FAULT[kind])
    assert not operations["transfer"]().replayed
    assert closed
    assert done() == 1


def test_a_statement_that_is_too_slow_at_the_commit_has_changed_nothing(operations, refused_at_the_commit):
    before = state()
    refused_at_the_commit(lost(psycopg.errors.QueryCanceled))
    with pytest.raises(ServerBusy):
        operations["transfer"]()
    assert state() == before


def test_a_lost_database_is_busy_while_logging_in_and_paying(asha, ravi, as_user, caplog):
    client = as_user(asha)
    for statement in range(1, 3):
        with fault_at(statement, OperationalError("the connection is lost")):
            answer = client.post("/wallet/transfer/", {"to_phone_number": "9888888888", "amount": "1.00"})
        assert (answer.status_code, answer.json()["code"]) == (503, "server_busy")
        assert answer["Retry-After"] == "1"
    assert caplog.text.count("server_busy: the connection is lost") == 2
    assert client.get("/wallet/balance/").json()["balance"] == "1000.00"
