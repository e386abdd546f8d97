"""Two at once on one database, with committed rows: what is decided, is decided under the lock."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.transaction import atomic
from django.test.utils import CaptureQueriesContext

from lokanetra.errors import ServerBusy
from lokanetra.tests.live import at_once
from transactions.models import Transaction
from users import accounts
from users.exceptions import TokenNotValid
from wallet import exceptions, ledger, payments, refunds, status
from wallet.models import Wallet

pytestmark = pytest.mark.django_db(transaction=True)

TEN = Decimal("10.00")


def in_thread(operation: Callable[[], Any]) -> Callable[[], Any]:
    """The operation's result or its error, on a connection of its own."""

    def run() -> Any:
        try:
            return operation()
        except Exception as error:  # noqa: BLE001
            return error
        finally:
            connection.close()

    return run


def while_locked(wallet: Wallet, change: Callable[[], Any], operation: Callable[[], Any]) -> Any:
    """What the operation says when the change is committed while it waits for the wallet's lock."""
    with ThreadPoolExecutor(1) as pool:
        with atomic():
            Wallet.objects.select_for_update().select_related("user").get(pk=wallet.pk)
            waiting = pool.submit(in_thread(operation))
            wait_until_blocked(waiting)
            change()
        return waiting.result(timeout=20)


def wait_until_blocked(waiting: Future) -> None:
    """On SQLite the other one waits before its first statement, and nothing shows it; the order is sure there."""
    if connection.vendor != "postgresql":
        return
    for _ in range(200):
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if cursor.fetchone()[0]:
                return
        assert not waiting.done()
        time.sleep(0.02)
    raise AssertionError("it never waited")


@pytest.fixture
def transfer(asha, ravi) -> Callable[[], Any]:
    return lambda: payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=TEN)


def update(rows: Any, **values: Any) -> Callable[[], Any]:
    return lambda: rows.update(**values)


def wallets(user: Any) -> Any:
    return Wallet.objects.filter(user=user)


def test_a_payer_frozen_while_his_transfer_waits_pays_nothing(asha, ravi, transfer):
    outcome = while_locked(asha.wallet, update(wallets(asha), status="FROZEN"), transfer)
    assert isinstance(outcome, exceptions.WalletFrozen)


def test_a_receiver_frozen_while_the_transfer_waits_gets_nothing(asha, ravi, transfer):
    outcome = while_locked(ravi.wallet, update(wallets(ravi), status="FROZEN"), transfer)
    assert isinstance(outcome, exceptions.RecipientUnavailable)


def test_a_receiver_deactivated_while_the_transfer_waits_gets_nothing(asha, ravi, transfer):
    outcome = while_locked(ravi.wallet, lambda: accounts.set_active(ravi, False), transfer)
    assert isinstance(outcome, exceptions.RecipientUnavailable)


def test_a_payer_deactivated_while_his_transfer_waits_pays_nothing(asha, ravi, transfer):
    outcome = while_locked(asha.wallet, lambda: accounts.set_active(asha, False), transfer)
    assert isinstance(outcome, TokenNotValid)


def test_a_phone_given_away_while_the_transfer_waits_is_nobodys(asha, ravi, transfer):
    outcome = while_locked(ravi.wallet, lambda: accounts.assign_phone(ravi, "+919444444444"), transfer)
    assert isinstance(outcome, exceptions.RecipientNotFound)


def test_a_freeze_waits_for_the_payment_that_holds_the_wallet(asha, boss):
    frozen = while_locked(
        asha.wallet,
        update(wallets(asha), created_at="2026-01-01T00:00:00Z"),
        lambda: status.freeze(user_id=boss.pk, wallet_id=asha.wallet.pk, reason="stolen"),
    )
    assert frozen.status == "FROZEN"
    assert frozen.created_at.isoformat() == "2026-01-01T00:00:00+00:00"


def test_one_key_on_two_wallets_moves_money_in_one_of_them(asha, ravi, boss):
    for turn in range(10):
        outcomes = at_once(*[in_thread(lambda user=user, turn=turn: keyed(boss, user, turn)) for user in (asha, ravi)])
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["KeyReused", "Receipt"]
        assert Transaction.objects.filter(idempotency_key=f"key {turn}").count() == 1


def keyed(boss: Any, user: Any, turn: int) -> Any:
    return payments.credit(user_id=boss.pk, wallet_id=user.wallet.pk, amount=TEN, key=f"key {turn}")


def test_one_transaction_is_reversed_once(asha, boss):
    original = Transaction.objects.get().pk
    outcomes = at_once(
        *[in_thread(lambda: refunds.reverse(user_id=boss.pk, transaction_id=original, remarks="twice"))] * 5
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyReversed"] * 4 + ["Receipt"]


def test_opposite_transfers_stay_right_under_the_strictest_isolation(asha, ravi):
    """There the database may refuse some of them, as busy; what it lets through is right."""
    payments.credit(user_id=ravi.pk, amount=Decimal("1000.00"))

    def client(payer: Any, receiver: Any) -> Callable[[], Any]:
        def pay() -> list[Any]:
            if connection.vendor == "postgresql":
                with connection.cursor() as cursor:
                    cursor.execute("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE")
            return [pay_once(payer, receiver) for _ in range(20)]

        return in_thread(pay)

    outcomes = sum(at_once(*[client(asha, ravi), client(ravi, asha)] * 3), [])
    done = [outcome for outcome in outcomes if isinstance(outcome, ledger.Receipt)]
    assert {type(outcome) for outcome in outcomes} <= {ledger.Receipt, ServerBusy}
    assert len(done) == Transaction.objects.filter(transaction_type="TRANSFER").count() > 0
    assert sum(Wallet.objects.values_list("balance", flat=True)) == 2000


def test_every_query_that_locks_wallets_locks_them_in_one_order(asha, ravi, boss):
    """The plan may happen to give the order of the keys; what is asked for says it."""
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("2.00"))
    with CaptureQueriesContext(connection) as captured:
        first = payments.transfer(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("1.00"))
        payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
        payments.debit(user_id=boss.pk, wallet_id=asha.wallet.pk, amount=Decimal("1.00"), remarks="counted")
        refunds.reverse(user_id=boss.pk, transaction_id=first.transaction.pk, remarks="wrong")
        status.freeze(user_id=boss.pk, wallet_id=asha.wallet.pk, reason="stolen")
    reads = [query["sql"] for query in captured if query["sql"].startswith("SELECT")]
    locking = [sql for sql in reads if 'FROM "wallet_wallet"' in sql and '"balance"' in sql]
    assert len(locking) == 5
    assert [sql for sql in locking if 'ORDER BY "wallet_wallet"."id" ASC' not in sql] == []
    if connection.vendor == "postgresql":
        assert [sql for sql in locking if 'FOR NO KEY UPDATE OF "wallet_wallet", "users_userprofile"' not in sql] == []


def pay_once(payer: Any, receiver: Any) -> Any:
    try:
        return payments.transfer(user_id=payer.pk, to=receiver.phone_number, amount=TEN)
    except ServerBusy as busy:
        return busy
