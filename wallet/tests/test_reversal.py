"""A transaction is reversed by another one, once, or not at all."""

from decimal import Decimal

import pytest
from django.http import Http404

from transactions.models import Transaction
from wallet import exceptions, payments, refunds, status
from wallet.models import Wallet


@pytest.fixture
def undo(boss):
    """Reverses a receipt's transaction."""
    return lambda receipt, remarks="wrong", **more: refunds.reverse(
        user_id=boss.pk, transaction_id=receipt.transaction.pk, remarks=remarks, **more
    )


@pytest.fixture
def paid(asha, ravi):
    """asha's transfer of 250.50 to ravi."""
    return payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("250.50"), remarks="rent")


def balance(user):
    return Wallet.objects.get(user=user).balance


def refuses(rule, undo, receipt, **more):
    before = list(Wallet.objects.order_by("pk").values_list("balance")), Transaction.objects.count()
    with pytest.raises(rule):
        undo(receipt, **more)
    assert before == (list(Wallet.objects.order_by("pk").values_list("balance")), Transaction.objects.count())


def test_a_transfer_goes_back(asha, ravi, boss, paid, undo):
    receipt = undo(paid)
    row = Transaction.objects.get(pk=receipt.transaction.pk)
    assert (row.transaction_type, row.sender, row.receiver) == ("TRANSFER", ravi.wallet, asha.wallet)
    assert (row.amount, row.remarks, row.initiated_by) == (Decimal("250.50"), "wrong", boss)
    assert (row.sender_balance, row.receiver_balance, receipt.balance) == (0, 1000, 1000)
    assert row.reverses == paid.transaction
    assert (balance(asha), balance(ravi)) == (1000, 0)


def test_a_credit_is_taken_back(asha, undo):
    receipt = undo(payments.credit(user_id=asha.pk, amount=Decimal("10.00")))
    row = receipt.transaction
    assert (row.transaction_type, row.sender_id, row.receiver_id) == ("DEBIT", asha.wallet.pk, None)
    assert (row.sender_balance, row.receiver_balance, receipt.balance) == (1000, None, 1000)
    assert balance(asha) == 1000


def test_a_debit_is_given_back(asha, undo):
    receipt = undo(payments.debit(user_id=asha.pk, amount=Decimal("10.00")))
    row = receipt.transaction
    assert (row.transaction_type, row.sender_id, row.receiver_id) == ("CREDIT", None, asha.wallet.pk)
    assert (row.sender_balance, row.receiver_balance, receipt.balance) == (None, 1000, 1000)
    assert balance(asha) == 1000


def test_the_reversed_row_stays_as_it_was(paid, undo):
    before = Transaction.objects.filter(pk=paid.transaction.pk).values().get()
    undo(paid)
    assert Transaction.objects.filter(pk=paid.transaction.pk).values().get() == before


def test_a_transaction_is_reversed_once(paid, undo):
    undo(paid)
    refuses(exceptions.AlreadyReversed, undo, paid)


def test_a_reversal_is_not_reversed(paid, undo):
    refuses(exceptions.NotReversible, undo, undo(paid))


def test_what_is_not_there_is_not_reversed(boss):
    with pytest.raises(Http404):
        refunds.reverse(user_id=boss.pk, transaction_id=999999, remarks="wrong")


def test_what_the_receiver_has_spent_is_not_taken_back(ravi, paid, undo):
    payments.debit(user_id=ravi.pk, amount=Decimal("0.01"))
    refuses(exceptions.InsufficientFunds, undo, paid)


def test_a_spent_credit_is_not_taken_back(ravi, undo):
    credit = payments.credit(user_id=ravi.pk, amount=Decimal("10.00"))
    payments.debit(user_id=ravi.pk, amount=Decimal("5.00"))
    refuses(exceptions.InsufficientFunds, undo, credit)


@pytest.mark.parametrize("frozen", ["asha", "ravi"])
def test_nothing_is_reversed_while_a_side_is_frozen(request, boss, paid, undo, frozen):
    user = request.getfixturevalue(frozen)
    status.freeze(user_id=boss.pk, wallet_id=user.wallet.pk, reason="Reported stolen")
    refuses(exceptions.WalletFrozen, undo, paid)
    status.unfreeze(user_id=boss.pk, wallet_id=user.wallet.pk, reason="Found again")
    assert undo(paid).balance == 1000


def test_the_one_who_gets_it_back_must_have_room(paid, undo, settings):
    settings.WALLET_MAX_BALANCE = Decimal("999.99")
    refuses(exceptions.LimitExceeded, undo, paid)


def test_a_lower_limit_per_operation_does_not_keep_a_mistake(paid, undo, settings):
    settings.WALLET_MAX_AMOUNT = Decimal("1.00")
    assert undo(paid).balance == 1000


def test_a_key_gets_its_first_receipt(asha, ravi, paid, undo):
    first = undo(paid, key="k-1")
    status.freeze(user_id=asha.pk, wallet_id=asha.wallet.pk, reason="Reported stolen")
    again = undo(paid, key="k-1")
    assert (again.transaction, again.balance, again.replayed) == (first.transaction, first.balance, True)
    assert not first.replayed
    assert (balance(asha), balance(ravi)) == (1000, 0)


def test_a_key_of_another_reversal_is_refused(asha, paid, undo):
    undo(paid, key="k-1")
    credit = payments.credit(user_id=asha.pk, amount=Decimal("1.00"))
    refuses(exceptions.KeyReused, undo, credit, key="k-1")
    refuses(exceptions.KeyReused, undo, paid, key="k-1", remarks="another reason")


def test_a_refused_reversal_leaves_its_key_free(ravi, paid, undo):
    payments.debit(user_id=ravi.pk, amount=Decimal("0.01"))
    refuses(exceptions.InsufficientFunds, undo, paid, key="k-1")
    payments.credit(user_id=ravi.pk, amount=Decimal("0.01"))
    assert not undo(paid, key="k-1").replayed
