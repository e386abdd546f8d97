"""Whatever fails at whatever moment, an operation has happened whole or not at all, and its answer says which."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from django.db import InternalError, NotSupportedError, OperationalError, ProgrammingError, connection

from lokanetra.errors import ServerBusy
from transactions.models import Transaction
from wallet import exceptions, payments, refunds, status
from wallet.models import Wallet

pytestmark = pytest.mark.django_db(transaction=True)

TEN = Decimal("10.00")


@pytest.fixture
def operations(asha, ravi, boss) -> dict[str, Callable[[], Any]]:
    """Each service, ready to be called once."""
    credited = Transaction.objects.get()
    wallet = asha.wallet.pk
    return {
        "credit": lambda: payments.credit(user_id=asha.pk, amount=TEN, key="key"),
        "debit": lambda: payments.debit(user_id=asha.pk, amount=TEN, key="key"),
        "transfer": lambda: payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=TEN, key="key"),
        "reverse": lambda: refunds.reverse(user_id=boss.pk, transaction_id=credited.pk, remarks="wrong", key="key"),
        "staff credit": lambda: payments.credit(user_id=boss.pk, wallet_id=wallet, amount=TEN, key="key"),
        "freeze": lambda: status.freeze(user_id=boss.pk, wallet_id=wallet, reason="stolen"),
        "unfreeze": lambda: status.unfreeze(user_id=boss.pk, wallet_id=wallet, reason="found"),
    }


OPERATIONS = ["credit", "debit", "transfer", "reverse", "staff credit", "freeze", "unfreeze"]
MOVING = OPERATIONS[:5]


def state() -> tuple[list, int]:
    return list(Wallet.objects.order_by("pk").values_list("balance", "status")), Transaction.objects.count()


@contextmanager
def fault_at(statement: int, fault: Exception) -> Iterator[list[str]]:
    """Raises the fault in place of the k-th statement; yields the statements that came."""
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
    assert 3 < statement < 20


@pytest.mark.parametrize("name", MOVING)
@pytest.mark.parametrize("commits", [False, True], ids=["before the commit", "after the commit"])
def test_a_break_while_committing_is_told_and_a_repeat_with_the_key_moves_money_once(
    operations, name, commits, monkeypatch
):
    before = Transaction.objects.count()
    commit = connection._commit

    def broken() -> None:
        if commits:
            commit()
        raise OperationalError("the connection is lost")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "_commit", broken)
        with pytest.raises(exceptions.OutcomeUnknown):
            operations[name]()
    assert Transaction.objects.count() - before == int(commits)
    assert operations[name]().replayed is commits
    assert Transaction.objects.count() - before == 1


def conflict(kind: type[psycopg.Error]) -> OperationalError:
    """As Django raises it: the driver's own error is its cause."""
    fault = OperationalError("in conflict with another transaction")
    fault.__cause__ = kind()
    return fault


CONFLICTS = [psycopg.errors.DeadlockDetected, psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure]


@pytest.mark.parametrize("kind", CONFLICTS)
def test_a_conflict_is_retried_as_a_whole(operations, kind):
    with fault_at(4, conflict(kind)):
        assert not operations["transfer"]().replayed
    assert Transaction.objects.filter(idempotency_key="key").count() == 1


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
    """Grows with each connection that is given up; on a database of files it goes on all the same."""
    times: list[int] = []
    close = connection.close
    monkeypatch.setattr(connection, "close", lambda: (times.append(1), close())[1])
    return times


@pytest.mark.parametrize("kind", AT_FAULT)
@pytest.mark.parametrize("name", MOVING)
def test_what_broke_before_the_commit_is_tried_once_more_on_another_connection(operations, name, kind, closed):
    before = Transaction.objects.count()
    with fault_at(3, AT_FAULT[kind]):
        assert not operations[name]().replayed
    assert closed
    assert Transaction.objects.count() - before == 1


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


@pytest.mark.parametrize("name", MOVING)
def test_a_connection_that_breaks_while_committing_is_never_tried_again(operations, name, monkeypatch):
    commits = []

    def broken() -> None:
        commits.append(1)
        raise lost(psycopg.errors.AdminShutdown)

    monkeypatch.setattr(connection, "_commit", broken)
    with pytest.raises(exceptions.OutcomeUnknown):
        operations[name]()
    assert len(commits) == 1


def test_a_serialization_failure_at_the_commit_is_retried(operations, monkeypatch):
    commit, failures = connection._commit, [conflict(psycopg.errors.SerializationFailure)]

    def once() -> None:
        if failures:
            raise failures.pop()
        commit()

    monkeypatch.setattr(connection, "_commit", once)
    assert not operations["transfer"]().replayed
    assert Transaction.objects.filter(idempotency_key="key").count() == 1


def test_a_lost_database_is_busy_while_logging_in_and_paying(asha, ravi, as_user, caplog):
    client = as_user(asha)
    for statement in range(1, 3):
        with fault_at(statement, OperationalError("the connection is lost")):
            answer = client.post("/wallet/transfer/", {"to_phone_number": "9888888888", "amount": "1.00"})
        assert (answer.status_code, answer.json()["code"]) == (503, "server_busy")
        assert answer["Retry-After"] == "1"
    assert caplog.text.count("server_busy: the connection is lost") == 2
    assert client.get("/wallet/balance/").json()["balance"] == "1000.00"
