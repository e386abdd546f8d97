"""All times are from one clock, and whatever it does, a wallet's rows are in the order of their times."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.db import connection
from django.utils import timezone

from lokanetra import days
from transactions.models import Transaction
from wallet import payments, refunds
from wallet.clock import Clock

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
ONE = Decimal("1.00")


@pytest.fixture
def opening():
    return NOON


def hours(count):
    return NOON + timedelta(hours=count)


def credit(user):
    return payments.credit(user_id=user.pk, amount=ONE).transaction.timestamp


def pay(user, other):
    return payments.transfer(user_id=user.pk, to=other.phone_number, amount=ONE).transaction.timestamp


def test_no_row_is_before_the_last_of_either_wallet_when_the_clock_is_set_back(asha, ravi, stranger, at):
    with at(hours(-1)):
        assert credit(asha) == NOON
        assert pay(asha, ravi) == NOON
    with at(hours(-2)):
        assert payments.debit(user_id=ravi.pk, amount=ONE).transaction.timestamp == NOON
        assert credit(stranger) == hours(-2)
        assert pay(stranger, ravi) == NOON
    with at(hours(1)):
        assert pay(asha, stranger) == hours(1)


def test_who_receives_waits_for_no_time_but_his_own(asha, ravi, stranger, at):
    with at(hours(2)):
        credit(ravi)
    with at(hours(1)):
        assert pay(asha, stranger) == hours(1)
        assert pay(asha, ravi) == hours(2)
    with at(hours(3)):
        assert pay(asha, stranger) == hours(3)


def test_a_reversal_is_not_before_what_it_undoes(asha, ravi, boss, at):
    with at(hours(1)):
        paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=ONE).transaction
    with at(hours(-1)):
        undone = refunds.reverse(user_id=boss.pk, transaction_id=paid.pk, remarks="wrong").transaction
    assert undone.timestamp == hours(1)


def test_the_clock_is_the_databases_where_it_has_one(asha, monkeypatch):
    before = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: hours(1))
    shown = credit(asha)
    if connection.vendor == "postgresql":
        assert before < shown < before + timedelta(minutes=1)
    else:
        assert shown == hours(1)


@pytest.mark.parametrize("moment", [NOON, NOON + timedelta(microseconds=1), NOON + timedelta(microseconds=123_450)])
def test_a_receipt_has_exactly_the_time_of_the_history(asha, ravi, as_user, settings, at, moment):
    client = as_user(asha)
    payment = {"to_phone_number": ravi.phone, "amount": "1.00"}
    with at(moment):
        receipts = [client.post("/wallet/transfer/", payment, headers={"Idempotency-Key": "k"}) for _ in range(2)]
    shown = [receipt.json()["timestamp"] for receipt in receipts]
    shown += [as_user(user).get("/transactions/").json()["results"][0]["timestamp"] for user in (asha, ravi)]
    assert shown == [moment.isoformat().replace("+00:00", "Z")] * 4
    assert Transaction.objects.latest("pk").timestamp == moment


def test_a_receipt_by_a_running_clock_has_the_time_of_the_row(asha):
    assert credit(asha) == Transaction.objects.latest("pk").timestamp


def test_a_new_process_estimates_the_day_without_an_offset(asha):
    before = days.today()
    assert Clock().today() in (before, days.today())
