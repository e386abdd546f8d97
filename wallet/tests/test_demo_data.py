"""Made-up people and payments obey every rule, and change nothing that was there before."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Max, Min
from django.utils import timezone

from transactions import volumes
from transactions.models import DayVolume, Transaction
from users.models import UserProfile
from wallet import payments
from wallet.models import Wallet

PEOPLE, PAYMENTS = 20, 600


@pytest.fixture(autouse=True)
def development(settings):
    settings.DEBUG = True


def make(**options):
    call_command("demo_data", **{"users": PEOPLE, "transactions": PAYMENTS, "seed": 7} | options)


def test_people_pay_each_other_and_the_books_agree(db, capsys):
    make()
    assert f"Made {PEOPLE} people and {PAYMENTS} transactions (seed 7)" in capsys.readouterr().out
    assert (Wallet.objects.count(), Transaction.objects.count()) == (PEOPLE, PAYMENTS)
    assert set(Transaction.objects.values_list("transaction_type", flat=True)) == {"CREDIT", "DEBIT", "TRANSFER"}
    call_command("check_ledger")


def test_times_go_with_ids_up_to_now_and_all_days_are_summed(db):
    make(days=10)
    times = list(Transaction.objects.order_by("pk").values_list("timestamp", flat=True))
    assert times == sorted(times)
    ends = Transaction.objects.aggregate(first=Min("timestamp"), last=Max("timestamp"))
    assert timezone.now() - timedelta(days=10, minutes=1) < ends["first"] < ends["last"] <= timezone.now()
    assert volumes.unsummed_days() == []
    assert sum(DayVolume.objects.values_list("count", flat=True)) > PAYMENTS / 2


def test_people_look_like_people_and_can_be_paid(db):
    make()
    user = UserProfile.objects.order_by("pk").first()
    assert user.username.startswith(f"{user.first_name}.{user.last_name}".lower())
    assert (user.email, user.has_usable_password(), len(user.phone)) == (f"{user.username}@example.com", False, 10)
    payments.credit(user_id=user.pk, amount=Decimal("1.00"))
    assert user.logins.count() == 0


def test_a_repeat_creates_other_people_and_changes_nobody(asha, ravi):
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("150.50"))
    before = list(Wallet.objects.order_by("pk").values())
    make()
    make()
    assert Wallet.objects.count() == 2 + 2 * PEOPLE
    assert list(Wallet.objects.order_by("pk").values()[:2]) == before
    assert Transaction.objects.filter(sender__user__in=[asha, ravi]).count() == 1


def test_small_limits_hold(db, settings):
    settings.WALLET_MAX_AMOUNT, settings.WALLET_MAX_BALANCE = Decimal("50.00"), Decimal("90.00")
    make()
    most = Wallet.objects.aggregate(most=Max("balance"))["most"]
    assert most <= 90
    assert Transaction.objects.filter(receiver_balance__gt=90).count() == 0
    assert Transaction.objects.aggregate(most=Max("amount"))["most"] <= 50


def test_it_is_refused_in_production_and_nothing_forces_it(db, settings):
    settings.DEBUG = False
    for arguments in ([], ["--force"]):
        with pytest.raises(CommandError, match="not a server for development"):
            call_command("demo_data", *arguments)
    assert not UserProfile.objects.exists()


@pytest.mark.parametrize("wrong", [{"users": 1}, {"users": -1}, {"transactions": -1}, {"days": 0}])
def test_what_cannot_be_made_is_refused(db, wrong):
    with pytest.raises(CommandError, match="at least two people"):
        make(**wrong)


def test_no_payments_are_fine(db):
    make(transactions=0)
    assert (Wallet.objects.count(), Transaction.objects.count()) == (PEOPLE, 0)
