"""Refunds and reversals in parts: together they never exceed what was moved."""

from decimal import Decimal

import pytest

from transactions.models import Transaction
from users import accounts
from users.exceptions import TokenNotValid
from wallet import holds, payments, refunds, status
from wallet.models import Wallet

pytestmark = pytest.mark.django_db


@pytest.fixture
def paid(asha, ravi):
    """Asha paid ravi 100.00; returns the transaction's id."""
    return payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(100)).transaction.pk


def test_the_receiver_gives_back_in_parts(asha, ravi, as_user, paid):
    refund = lambda **body: as_user(ravi).post(f"/transactions/{paid}/refund/", body)  # noqa: E731
    receipt = refund(amount="30.00", remarks="one shirt").json()
    assert (receipt["transaction_type"], receipt["amount"], receipt["balance"]) == ("TRANSFER", "30.00", "70.00")
    assert (receipt["reverses"], receipt["sender"], receipt["remarks"]) == (paid, ravi.username, "one shirt")
    assert as_user(asha).get(f"/transactions/{paid}/").json()["refunded"] == "30.00"
    assert refund(amount="70.01").json()["code"] == "refund_exceeds_remaining"
    assert refund().json()["amount"] == "70.00"
    assert (refund().status_code, refund().json()["code"]) == (409, "already_reversed")
    assert refund(amount="0.01").json()["code"] == "already_reversed"
    assert as_user(asha).get(f"/transactions/{paid}/").json()["refunded"] == "100.00"


def test_staff_and_the_receiver_together_never_exceed_it(ravi, boss, as_user, paid):
    path = f"/transactions/{paid}/reverse/"
    assert as_user(boss).post(path, {"amount": "60.00", "remarks": "a complaint"}).json()["balance"] == "960.00"
    assert as_user(ravi).post(f"/transactions/{paid}/refund/", {"amount": "50.00"}).status_code == 400
    assert as_user(boss).post(path, {"remarks": "all of it"}).json()["amount"] == "40.00"
    assert as_user(boss).post(path, {"remarks": "again"}).json()["code"] == "already_reversed"


def test_a_wallet_that_would_hold_too_much_takes_no_refund(asha, ravi, as_user, paid, settings):
    settings.WALLET_MAX_BALANCE = Decimal("999.99")
    refund = lambda **body: as_user(ravi).post(f"/transactions/{paid}/refund/", body).json()  # noqa: E731
    assert refund()["code"] == "recipient_unavailable"
    assert refund(amount="99.99")["amount"] == "99.99"


def test_who_has_spent_it_or_set_it_aside_cannot_give_it_back(asha, ravi, as_user, paid):
    balance = Wallet.objects.get(user=ravi).balance
    refund = lambda: as_user(ravi).post(f"/transactions/{paid}/refund/", {}).json()["code"]  # noqa: E731
    hold = holds.open_(user_id=ravi.pk, to=asha.phone_number, amount=balance)
    assert refund() == "insufficient_funds"
    holds.void(user_id=asha.pk, hold_id=hold.pk)
    payments.debit(user_id=ravi.pk, amount=balance)
    assert refund() == "insufficient_funds"


def test_a_frozen_wallet_and_a_deactivated_account_give_nothing_back(ravi, boss, as_user, paid):
    status.freeze(user_id=boss.pk, wallet_id=ravi.wallet.pk, reason="stolen")
    refused = as_user(ravi).post(f"/transactions/{paid}/refund/", {})
    assert (refused.status_code, refused.json()["code"]) == (403, "wallet_frozen")
    status.unfreeze(user_id=boss.pk, wallet_id=ravi.wallet.pk, reason="found")
    accounts.set_active(ravi, False)
    with pytest.raises(TokenNotValid):
        refunds.refund(user=ravi, transaction_id=paid)


def test_a_repeated_key_gives_back_once(ravi, as_user, paid):
    path, key = f"/transactions/{paid}/refund/", {"Idempotency-Key": "k"}
    first = as_user(ravi).post(path, {"amount": "30.00"}, headers=key)
    again = as_user(ravi).post(path, {"amount": "30.00"}, headers=key)
    assert again["Idempotent-Replayed"] == "true"
    assert again.json() == first.json()
    assert as_user(ravi).post(path, {}, headers=key).json()["code"] == "idempotency_key_reused"
    assert Transaction.objects.filter(reverses=paid).count() == 1


def test_only_the_receiver_of_a_transfer_gives_it_back(asha, ravi, stranger, as_user, paid):
    path = f"/transactions/{paid}/refund/"
    assert as_user(asha).post(path, {}).json()["code"] == "permission_denied"
    assert as_user(stranger).post(path, {}).status_code == 404
    credit = Transaction.objects.get(transaction_type="CREDIT")
    assert as_user(asha).post(f"/transactions/{credit.pk}/refund/", {}).json()["code"] == "not_reversible"
    given_back = as_user(ravi).post(path, {"amount": "10"}).json()["transaction_id"]
    assert as_user(asha).post(f"/transactions/{given_back}/refund/", {}).json()["code"] == "not_reversible"
