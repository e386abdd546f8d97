"""Staff, superusers too, adjust wallets of others only."""

from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.test import Client

from transactions.models import Transaction
from wallet import exceptions, payments, refunds, status
from wallet.models import Wallet

TEN = Decimal(10)


@pytest.fixture(params=["Finance", "superuser"])
def teller(request, staff, boss):
    """Staff who may adjust wallets, by a group or as a superuser, with 100.00 of their own."""
    found = boss if request.param == "superuser" else staff
    if found is staff:
        staff.groups.set([Group.objects.get(name="Finance")])
    payments.credit(user_id=found.pk, amount=Decimal(100))
    return found


@pytest.fixture
def nothing_moves():
    """The balances, the ledger and the log, which a refusal must not change."""
    return lambda: (
        list(Wallet.objects.order_by("pk").values_list("balance", "status")),
        Transaction.objects.count(),
        LogEntry.objects.count(),
    )


def payments_of(user, other):
    """One of each kind with the user as a side of it."""
    return [
        payments.credit(user_id=user.pk, amount=TEN),
        payments.debit(user_id=user.pk, amount=TEN),
        payments.transfer(user_id=user.pk, to=other.phone_number, amount=TEN),
        payments.transfer(user_id=other.pk, to=user.phone_number, amount=TEN),
    ]


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_staff_do_not_adjust_their_own_wallet(teller, as_user, nothing_moves, verb):
    before = nothing_moves()
    path = f"/wallet/admin/wallets/{teller.wallet.pk}/{verb}/"
    refusal = as_user(teller).post(path, {"amount": "10", "remarks": "a bonus"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "permission_denied")
    assert "another member of staff must do it" in refusal.json()["detail"]
    assert nothing_moves() == before


def test_staff_do_not_reverse_what_they_paid_or_got(teller, asha, as_user, nothing_moves):
    receipts = payments_of(teller, asha)
    before, client = nothing_moves(), as_user(teller)
    for receipt in receipts:
        refusal = client.post(f"/transactions/{receipt.transaction.pk}/reverse/", {"remarks": "mine again"})
        assert (refusal.status_code, refusal.json()["code"]) == (403, "permission_denied")
    assert nothing_moves() == before


def test_they_freeze_their_own_wallet_and_do_not_unfreeze_it(boss, as_user, staff, nothing_moves):
    client, path = as_user(boss), f"/wallet/admin/wallets/{boss.wallet.pk}/"
    assert client.post(f"{path}freeze/", {"reason": "stolen phone"}).json()["status"] == "FROZEN"
    before = nothing_moves()
    refusal = client.post(f"{path}unfreeze/", {"reason": "found again"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "permission_denied")
    assert nothing_moves() == before
    assert status.unfreeze(user_id=staff.pk, wallet_id=boss.wallet.pk, reason="found again").status == "ACTIVE"


@pytest.mark.parametrize("action", ["credit", "debit", "unfreeze"])
def test_the_console_refuses_it_too(boss, nothing_moves, action):
    client, before = Client(), nothing_moves()
    client.force_login(boss)
    form = {"key": "0" * 32, "confirmed": "", "amount": "5", "reason": "x"}
    page = client.post(f"/admin/wallet/wallet/{boss.wallet.pk}/{action}/", form)
    assert "another member of staff" in str(page.context["form"].non_field_errors())
    assert nothing_moves() == before


def test_the_console_refuses_to_reverse_one_s_own_payment_too(teller, asha, nothing_moves):
    receipt = payments_of(teller, asha)[2]
    client, before = Client(), nothing_moves()
    client.force_login(teller)
    form = {"key": "0" * 32, "confirmed": "", "reason": "x"}
    page = client.post(f"/admin/transactions/transaction/{receipt.transaction.pk}/reverse/", form)
    assert "another member of staff" in str(page.context["form"].non_field_errors())
    assert nothing_moves() == before


def test_an_exact_repeat_gets_its_first_receipt_before_it_is_refused(boss, staff, asha, nothing_moves):
    """The present owner of the number does not matter for a payment of the past."""
    paid = payments.transfer(user_id=asha.pk, to=staff.phone_number, amount=TEN).transaction
    wallet = staff.wallet
    calls = [
        lambda: payments.credit(user_id=boss.pk, wallet_id=wallet.pk, amount=TEN, remarks="x", key="k-1"),
        lambda: refunds.reverse(user_id=boss.pk, transaction_id=paid.pk, remarks="x", key="k-2"),
    ]
    first = [call() for call in calls]
    boss.wallet.delete()
    Wallet.objects.filter(pk=wallet.pk).update(user=boss)
    after = nothing_moves()
    again = [call() for call in calls]
    assert [(receipt.transaction, receipt.replayed) for receipt in again] == [(one.transaction, True) for one in first]
    assert nothing_moves() == after
    with pytest.raises(exceptions.OwnWallet):
        payments.credit(user_id=boss.pk, wallet_id=wallet.pk, amount=TEN, remarks="x", key="k-3")
    Wallet.objects.create(user=staff)


def test_a_teller_s_own_calls_and_those_for_others_stay_as_they_were(teller, asha, ravi):
    payments.debit(user_id=teller.pk, amount=TEN)
    assert payments.credit(user_id=teller.pk, wallet_id=asha.wallet.pk, amount=TEN).balance == 1010
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=TEN).transaction
    assert refunds.reverse(user_id=teller.pk, transaction_id=paid.pk, remarks="x").balance == 1010
