"""Two operations at once on one database, with committed rows: every decision is made under the lock."""

import re
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.db.transaction import atomic
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lokanetra.errors import ServerBusy
from lokanetra.tests.live import at_once
from transactions.models import Outbox, Transaction
from users import accounts
from users.exceptions import TokenNotValid
from wallet import exceptions, holds, ledger, payments, refunds, requests, status
from wallet.models import Hold, Key, PaymentRequest, Tier, Wallet

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
    """The result of the operation when the change is committed while it waits for the wallet's lock."""
    with ThreadPoolExecutor(1) as pool:
        with atomic():
            Wallet.objects.select_for_update().select_related("user").get(pk=wallet.pk)
            waiting = pool.submit(in_thread(operation))
            wait_until_blocked(waiting)
            change()
        return waiting.result(timeout=20)


def wait_until_blocked(waiting: Future) -> None:
    """On SQLite the other one waits before its first statement, which nothing shows; the order is known there."""
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


@pytest.mark.parametrize("service", [payments.credit, payments.debit])
def test_a_number_that_changes_hands_while_staff_wait_is_nobodys(asha, boss, service):
    before = Transaction.objects.count()

    def by_phone() -> Any:
        return service(user_id=boss.pk, to="+919999999999", amount=TEN, remarks="by hand")

    outcome = while_locked(asha.wallet, lambda: accounts.assign_phone(asha, "+919444444444"), by_phone)
    assert isinstance(outcome, exceptions.RecipientNotFound)
    assert Transaction.objects.count() == before


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
        assert Key.objects.get(key=f"key {turn}").transaction_id == Transaction.objects.latest("pk").pk
    assert Transaction.objects.filter(initiated_by=boss).count() == 10


def keyed(boss: Any, user: Any, turn: int) -> Any:
    return payments.credit(user_id=boss.pk, wallet_id=user.wallet.pk, amount=TEN, key=f"key {turn}")


def test_a_tier_set_while_a_transfer_waits_is_the_one_that_counts(asha, transfer):
    small = Tier.objects.create(name="Small", daily_out=Decimal("9.99"))
    outcome = while_locked(asha.wallet, update(wallets(asha), tier=small), transfer)
    assert isinstance(outcome, exceptions.LimitExceeded)


def test_a_payer_frozen_while_the_capture_waits_pays_nothing(asha, ravi):
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=TEN)
    capture = lambda: holds.capture(user_id=ravi.pk, hold_id=hold.pk)  # noqa: E731
    outcome = while_locked(asha.wallet, update(wallets(asha), status="FROZEN"), capture)
    assert isinstance(outcome, exceptions.PayerUnavailable)
    assert Hold.objects.get().state == "OPEN"


def test_a_hold_that_expires_while_its_capture_waits_is_closed(asha, ravi):
    """It is read under the locks, not when the request came."""
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=TEN)
    began = hold.created_at - timedelta(hours=1)
    ended = update(Hold.objects.filter(pk=hold.pk), created_at=began, expires_at=hold.created_at)
    for close in (holds.capture, holds.void):
        outcome = while_locked(asha.wallet, ended, lambda close=close: close(user_id=ravi.pk, hold_id=hold.pk))
        assert isinstance(outcome, exceptions.HoldClosed)
    assert Wallet.objects.get(user=asha).available == 1000


def test_a_key_used_with_two_wallets_at_once_opens_one_hold_or_moves_money_once(asha, ravi, boss):
    """Staff credit one wallet and hold money of their own: they share no lock, so the table of keys must decide."""
    payments.credit(user_id=boss.pk, amount=Decimal(100))
    for turn in range(10):
        outcomes = at_once(
            in_thread(lambda turn=turn: keyed(boss, asha, turn)),
            in_thread(
                lambda turn=turn: holds.open_(user_id=boss.pk, to=ravi.phone_number, amount=TEN, key=f"key {turn}")
            ),
        )
        kinds = sorted(type(outcome).__name__ for outcome in outcomes)
        assert kinds in (["Hold", "KeyReused"], ["KeyReused", "Receipt"])
    assert (
        Key.objects.count() == 10 == Hold.objects.count() + Transaction.objects.filter(receiver=asha.wallet).count() - 1
    )


def test_a_payer_frozen_while_the_payment_of_a_request_waits_pays_nothing(asha, ravi):
    asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN)
    pay = lambda: requests.pay(user_id=asha.pk, request_id=asked.pk)  # noqa: E731
    outcome = while_locked(asha.wallet, update(wallets(asha), status="FROZEN"), pay)
    assert isinstance(outcome, exceptions.WalletFrozen)
    assert PaymentRequest.objects.get().state == "PENDING"


def test_a_request_that_expires_while_its_payment_waits_is_closed(asha, ravi):
    """It is checked under the locks, not when the call came."""
    asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN)
    began = asked.created_at - timedelta(hours=1)
    ended = update(PaymentRequest.objects.filter(pk=asked.pk), created_at=began, expires_at=asked.created_at)
    pay = lambda: requests.pay(user_id=asha.pk, request_id=asked.pk)  # noqa: E731
    assert isinstance(while_locked(asha.wallet, ended, pay), exceptions.RequestClosed)


def test_a_payer_deactivated_while_a_request_waits_is_not_asked(asha, ravi):
    ask = lambda: requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN)  # noqa: E731
    outcome = while_locked(asha.wallet, lambda: accounts.set_active(asha, False), ask)
    assert isinstance(outcome, exceptions.PayerUnavailable)
    assert not PaymentRequest.objects.exists()


def test_the_sweeper_passes_by_what_somebody_is_at(asha, ravi):
    """And it waits for no wallet."""
    begun = timezone.now() - timedelta(hours=2)
    for _ in range(2):
        requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN)
    PaymentRequest.objects.update(created_at=begun, expires_at=begun + timedelta(hours=1))
    busy = PaymentRequest.objects.earliest("pk")
    before = 0
    if connection.vendor == "postgresql":  # elsewhere nobody writes while somebody else does
        with ThreadPoolExecutor(1) as pool, atomic():
            Wallet.objects.select_for_update().get(pk=asha.wallet.pk)
            ledger.lock_request(busy.pk)
            before = pool.submit(in_thread(requests.expire)).result(timeout=20)
        assert before == 1
        assert [row.status for row in PaymentRequest.objects.order_by("pk")] == ["PENDING", "EXPIRED"]
    assert before + sum(at_once(*[in_thread(requests.expire)] * 4)) == 2
    assert Outbox.objects.filter(type="request.expired").count() == 2


@pytest.mark.breaks_books
def test_two_connections_cannot_give_back_more_than_was_moved(asha, ravi):
    """With plain SQL, past the product: the second waits for the first, and counts it."""
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=TEN).transaction
    outcomes = at_once(*[in_thread(lambda: insert(paid, "reverses", ravi, asha))] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["IntegrityError"] * 3 + ["NoneType"]
    assert Transaction.objects.get(pk=paid.pk).given_back == 6


@pytest.mark.breaks_books
def test_two_connections_cannot_capture_more_than_is_held(asha, ravi):
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=TEN)
    outcomes = at_once(*[in_thread(lambda: insert(hold, "hold", asha, ravi))] * 4)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["IntegrityError"] * 3 + ["NoneType"]
    assert Transaction.objects.filter(hold=hold).count() == 1


def insert(original: Any, what: str, payer: Any, receiver: Any) -> None:
    """A row of 6.00 of the ten, in a slow transaction."""
    with atomic():
        Transaction.objects.create(
            transaction_type="TRANSFER", sender=payer.wallet, receiver=receiver.wallet, initiated_by=payer,
            amount=6, sender_balance=1000, receiver_balance=1000, timestamp=timezone.now(), **{what: original},
        )  # fmt: skip
        time.sleep(0.1)


def test_one_transaction_is_reversed_once(asha, boss):
    original = Transaction.objects.get().pk
    outcomes = at_once(
        *[in_thread(lambda: refunds.reverse(user_id=boss.pk, transaction_id=original, remarks="twice"))] * 5
    )
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["AlreadyReversed"] * 4 + ["Receipt"]


def test_opposite_transfers_stay_right_under_the_strictest_isolation(asha, ravi):
    """The database may refuse some of them as busy; what it accepts is right."""
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
    """The plan may return the order of the keys by chance, so the SQL is checked."""
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("2.00"))
    with CaptureQueriesContext(connection) as captured:
        first = payments.transfer(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("1.00"))
        payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
        payments.debit(user_id=boss.pk, wallet_id=asha.wallet.pk, amount=Decimal("1.00"), remarks="counted")
        refunds.reverse(user_id=boss.pk, transaction_id=first.transaction.pk, remarks="wrong")
        hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("3.00"))
        paid = holds.capture(user_id=ravi.pk, hold_id=hold.pk, amount=Decimal("1.00"), final=False)
        holds.void(user_id=ravi.pk, hold_id=hold.pk)
        refunds.refund(user=ravi, transaction_id=paid.transaction.pk)
        holds.expire(wallet_id=asha.wallet.pk)
        asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("1.00"))
        requests.pay(user_id=asha.pk, request_id=asked.pk)
        asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("1.00"))
        requests.cancel(user_id=ravi.pk, request_id=asked.pk)
        status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=None, reason="to see")
        status.freeze(user_id=boss.pk, wallet_id=asha.wallet.pk, reason="stolen")
    reads = [query["sql"] for query in captured if query["sql"].startswith("SELECT")]
    locking = [sql for sql in reads if 'FROM "wallet_wallet"' in sql and '"balance"' in sql]
    assert len(locking) == 15
    assert [sql for sql in locking if 'ORDER BY "wallet_wallet"."id" ASC' not in sql] == []
    if connection.vendor == "postgresql":
        assert [sql for sql in locking if 'FOR NO KEY UPDATE OF "wallet_wallet", "users_userprofile"' not in sql] == []
        asked_for = [sql for sql in reads if 'FROM "wallet_paymentrequest"' in sql and "FOR " in sql]
        assert [sql for sql in asked_for if 'FOR NO KEY UPDATE OF "wallet_paymentrequest"' not in sql] == []
    # Only what changes is written.
    written = [query["sql"] for query in captured if query["sql"].startswith("UPDATE")]
    assert [sql for sql in written if '"remarks" =' in sql or '"user_id" =' in sql] == []


def test_what_staff_set_on_a_wallet_is_all_that_is_written(asha, boss):
    with CaptureQueriesContext(connection) as captured:
        status.freeze(user_id=boss.pk, wallet_id=asha.wallet.pk, reason="stolen")
        status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=None, reason="to see")
    written = [query["sql"] for query in captured if query["sql"].startswith('UPDATE "wallet_wallet"')]
    assert [re.findall(r'"(\w+)" =', sql.split(" WHERE ")[0]) for sql in written] == [["status"], ["tier_id"]]


def pay_once(payer: Any, receiver: Any) -> Any:
    try:
        return payments.transfer(user_id=payer.pk, to=receiver.phone_number, amount=TEN)
    except ServerBusy as busy:
        return busy
