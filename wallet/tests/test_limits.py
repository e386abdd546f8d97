"""Tiers: what a wallet may pay and take in a day and a month."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.http import Http404

from lokanetra import days
from wallet import books, holds, payments, status
from wallet.clock import clock
from wallet.models import Tier, Wallet

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 1, 31, 6, 30, tzinfo=UTC)  # in India
BEFORE_MIDNIGHT, MIDNIGHT = datetime(2026, 1, 31, 18, 29, 59, tzinfo=UTC), datetime(2026, 1, 31, 18, 30, tzinfo=UTC)


@pytest.fixture
def opening():
    return datetime(2025, 12, 1, tzinfo=UTC)


@pytest.fixture
def tier(asha, boss):
    """Puts a user, by default asha, into a tier of these limits."""

    def of(user=asha, **limits) -> Tier:
        made = Tier.objects.create(name=f"tier {Tier.objects.count()}", **limits)
        status.set_tier(user_id=boss.pk, wallet_id=user.wallet.pk, tier=made, reason="to see")
        return made

    return of


def refused(answer, name: str, remaining: str | int) -> dict:
    body = answer.json()
    assert (answer.status_code, body["code"]) == (400, "limit_exceeded"), body
    assert (body["limit"]["name"], body["limit"]["remaining"]) == (name, remaining)
    return body["limit"]


def test_what_leaves_in_a_day_is_limited_and_tomorrow_is_another_day(asha, ravi, as_user, tier, clock_at):
    tier(daily_out=Decimal(100))
    pay = lambda amount: as_user(asha).post("/wallet/debit/", {"amount": amount})  # noqa: E731
    clock_at(NOON)
    assert pay("60.00").status_code == 200
    limit = refused(pay("40.01"), "daily_out", "40.00")
    assert limit == {
        "name": "daily_out", "limit": "100.00", "remaining": "40.00", "resets_at": "2026-01-31T18:30:00Z"
    }  # fmt: skip
    clock_at(BEFORE_MIDNIGHT)
    refused(pay("40.01"), "daily_out", "40.00")
    clock_at(MIDNIGHT)
    assert pay("100.00").status_code == 200


@pytest.mark.parametrize("name", ["daily_out", "monthly_out"])
def test_what_is_held_counts_and_its_capture_is_not_asked_again(asha, ravi, as_user, tier, name):
    tier(**{name: Decimal(100)})
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(70))
    refused(as_user(asha).post("/wallet/debit/", {"amount": "30.01"}), name, "30.00")
    body = {"to_phone_number": ravi.phone, "amount": "30.01"}
    refused(as_user(asha).post("/wallet/holds/", body), name, "30.00")
    assert as_user(ravi).post(f"/wallet/holds/{hold.pk}/capture/", {}).status_code == 200
    refused(as_user(asha).post("/wallet/debit/", {"amount": "30.01"}), name, "30.00")
    assert as_user(asha).post("/wallet/debit/", {"amount": "30.00"}).status_code == 200


def test_a_number_of_payments_is_limited(asha, ravi, as_user, tier):
    tier(daily_count=2)
    payments.debit(user_id=asha.pk, amount=Decimal(1))
    holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(1))
    limit = refused(as_user(asha).post("/wallet/debit/", {"amount": "1.00"}), "daily_count", 0)
    assert limit["limit"] == 2


def test_holds_of_others_are_no_payments_of_ones_own(asha, ravi, as_user, tier):
    tier(daily_count=2)
    payments.credit(user_id=ravi.pk, amount=Decimal(2))
    for payer, payee in ((asha, ravi), (ravi, asha), (ravi, asha)):
        holds.open_(user_id=payer.pk, to=payee.phone_number, amount=Decimal(1))
    assert as_user(asha).post("/wallet/debit/", {"amount": "1.00"}).status_code == 200
    refused(as_user(asha).post("/wallet/debit/", {"amount": "1.00"}), "daily_count", 0)


def test_what_comes_in_is_limited_and_the_payer_does_not_learn_it(asha, ravi, as_user, tier):
    tier(ravi, monthly_in=Decimal(50))
    payments.credit(user_id=ravi.pk, amount=Decimal(20))
    answer = as_user(asha).post("/wallet/transfer/", {"to_phone_number": ravi.phone, "amount": "30.01"})
    assert (answer.status_code, answer.json()["code"]) == (409, "recipient_unavailable")
    refused(as_user(ravi).post("/wallet/credit/", {"amount": "30.01"}), "monthly_in", "30.00")
    assert as_user(ravi).post("/wallet/credit/", {"amount": "30.00"}).status_code == 200


def test_refunds_count_nowhere_and_no_tier_refuses_them(asha, ravi, as_user, tier):
    tier(daily_out=Decimal(100), monthly_in=Decimal(0), max_balance=Decimal(10))
    tier(ravi, daily_out=Decimal(0), daily_count=0)
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(100)).transaction
    assert as_user(ravi).post(f"/transactions/{paid.pk}/refund/", {}).status_code == 200
    assert Wallet.objects.get(user=ravi).out_day == 0
    refused(as_user(asha).post("/wallet/debit/", {"amount": "0.01"}), "daily_out", "0.00")


def test_a_payment_counts_on_the_day_of_its_row_whatever_a_clock_says(asha, at):
    """After a clock was set back no row is before the last one, and none is counted on another day."""
    for moment in (BEFORE_MIDNIGHT, MIDNIGHT, BEFORE_MIDNIGHT, MIDNIGHT):
        with at(moment):
            row = payments.debit(user_id=asha.pk, amount=Decimal(1)).transaction
            wallet = Wallet.objects.get(user=asha)
            assert wallet.day == days.day_of(row.timestamp)
    assert (wallet.out_day, wallet.count_day, wallet.out_month) == (3, 3, 3)


def test_two_clocks_that_disagree_about_the_day_cost_a_try_and_no_payment(asha, at, monkeypatch):
    """The server's is a minute slow: its estimate is corrected, and later payments need no retry."""
    tries = []
    write = books.write
    monkeypatch.setattr(books, "write", lambda *arguments: (tries.append(1), write(*arguments)))
    with at(MIDNIGHT):
        monkeypatch.setattr(clock, "offset", -timedelta(minutes=1))
        payments.debit(user_id=asha.pk, amount=Decimal(1))
        assert len(tries) == 2
        payments.debit(user_id=asha.pk, amount=Decimal(1))
        assert len(tries) == 3
    assert Wallet.objects.get(user=asha).out_day == 2


def test_the_limits_are_shown(asha, as_user, tier, clock_at):
    clock_at(NOON)
    assert as_user(asha).get("/wallet/limits/").json() == {
        "tier": None,
        "limits": [
            {"name": "max_amount", "limit": "1000000.00", "used": "0.00", "remaining": "1000000.00", "resets_at": None},
            {"name": "max_balance", "limit": "100000000.00", "used": "1000.00", "remaining": "99999000.00",
             "resets_at": None},
        ],
    }  # fmt: skip
    made = tier(daily_out=Decimal(100), daily_count=3, monthly_in=Decimal(5000))
    payments.debit(user_id=asha.pk, amount=Decimal(60))
    payments.credit(user_id=asha.pk, amount=Decimal(10))
    assert as_user(asha).get("/wallet/limits/").json() == {
        "tier": made.name,
        "limits": [
            {"name": "daily_out", "limit": "100.00", "used": "60.00", "remaining": "40.00",
             "resets_at": "2026-01-31T18:30:00Z"},
            {"name": "monthly_in", "limit": "5000.00", "used": "10.00", "remaining": "4990.00",
             "resets_at": "2026-01-31T18:30:00Z"},
            {"name": "daily_count", "limit": 3, "used": 1, "remaining": 2, "resets_at": "2026-01-31T18:30:00Z"},
        ],
    }  # fmt: skip


@pytest.mark.parametrize("how", ["name", "id", "none"])
def test_staff_set_a_tier_by_name_or_id(asha, boss, staff, as_user, how):
    made = Tier.objects.create(name="Small", daily_out=Decimal(100))
    value = {"name": "Small", "id": made.pk, "none": None}[how]
    path = f"/wallet/admin/wallets/{asha.wallet.pk}/"
    answer = as_user(boss).patch(path, {"tier": value, "reason": "he asked"})
    assert (answer.status_code, answer.json()["tier"]) == (200, None if how == "none" else "Small")
    assert as_user(staff).patch(path, {"tier": value, "reason": "x"}).status_code == 403
    for wrong in ({"tier": value}, {"reason": "x"}, {"tier": "Tiny", "reason": "x"}, {"tier": True, "reason": "x"},
                  {"tier": 999, "reason": "x"}, {"tier": ["Small"], "reason": "x"}, {}):  # fmt: skip
        assert as_user(boss).patch(path, wrong).status_code == 400, wrong
    own = as_user(boss).patch(f"/wallet/admin/wallets/{boss.wallet.pk}/", {"tier": None, "reason": "x"})
    assert (own.status_code, own.json()["code"]) == (403, "permission_denied")
    tiers = as_user(staff).get("/wallet/admin/tiers/").json()["results"]
    assert tiers == [{"id": made.pk, "name": "Small", "max_amount": None, "max_balance": None, "daily_out": "100.00",
                      "monthly_out": None, "monthly_in": None, "daily_count": None}]  # fmt: skip


def test_a_tier_that_is_deleted_just_now_is_not_found(asha, boss):
    gone = Tier.objects.create(name="Small")
    Tier.objects.all().delete()
    gone.pk = 999
    with pytest.raises(Http404):
        status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=gone, reason="x")
    assert Wallet.objects.get(user=asha).tier is None
