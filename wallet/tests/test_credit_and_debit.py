"""Money enters and leaves a wallet, by its owner or by staff with the right to it."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Permission
from django.utils.dateparse import parse_datetime

from transactions.models import Transaction
from users import accounts
from wallet import status
from wallet.models import Wallet

RECEIPT = ["transaction_id", "transaction_type", "amount", "balance", "sender", "receiver", "remarks", "timestamp"]
RECEIPT += ["hold", "reverses"]


@pytest.fixture
def teller(staff):
    """Staff who may adjust wallets."""
    staff.user_permissions.add(Permission.objects.get(codename="adjust_wallet"))
    return staff


def freeze(user):
    status.freeze(user_id=user.pk, wallet_id=user.wallet.pk, reason="Reported stolen")


def balance(user):
    return Wallet.objects.get(user=user).balance


def admin_path(user, verb):
    return f"/wallet/admin/wallets/{user.wallet.pk}/{verb}/"


@pytest.mark.parametrize(
    ("verb", "expected"),
    [
        ("credit", {"transaction_type": "CREDIT", "balance": "1010.50", "sender": None, "receiver": "user_9999999999"}),
        ("debit", {"transaction_type": "DEBIT", "balance": "989.50", "sender": "user_9999999999", "receiver": None}),
    ],
)
def test_the_receipt_says_what_happened(asha, as_user, verb, expected):
    answer = as_user(asha).post(f"/wallet/{verb}/", {"amount": "10.5", "remarks": "tea"})
    receipt = answer.json()
    row = Transaction.objects.latest("pk")
    assert answer.status_code == 200
    assert list(receipt) == RECEIPT
    assert receipt | expected | {"amount": "10.50", "remarks": "tea", "transaction_id": row.pk} == receipt
    assert receipt["timestamp"].endswith("Z")
    assert parse_datetime(receipt["timestamp"]) == row.timestamp
    assert f"{balance(asha):.2f}" == expected["balance"]


def test_the_balance_is_shown_with_its_currency_and_status(asha, as_user):
    shown = {"user": "user_9999999999", "balance": "1000.00", "currency": "INR", "status": "ACTIVE"}
    shown |= {"held": "0.00", "available": "1000.00", "tier": None}
    assert as_user(asha).get("/wallet/balance/").json() == shown
    freeze(asha)
    assert as_user(asha).get("/wallet/balance/").json() == shown | {"status": "FROZEN"}


def test_a_new_wallet_is_empty(ravi, as_user):
    assert as_user(ravi).get("/wallet/balance/").json()["balance"] == "0.00"


def test_it_refuses_more_than_the_balance(asha, as_user, ledger):
    refusal = as_user(asha).post("/wallet/debit/", {"amount": "1000.01"})
    assert refusal.status_code == 400
    assert refusal["Content-Type"] == "application/problem+json"
    assert refusal.json() == {
        "type": "about:blank",
        "title": "Bad Request",
        "status": 400,
        "detail": "The wallet holds 1000.00, 1000.01 was asked for.",
        "code": "insufficient_funds",
    }
    assert ledger() == [("CREDIT", Decimal("1000.00"))]


def test_the_last_paisa_can_be_taken(asha, as_user):
    assert as_user(asha).post("/wallet/debit/", {"amount": "1000.00"}).json()["balance"] == "0.00"


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_a_frozen_wallet_neither_receives_nor_pays(asha, as_user, ledger, verb):
    freeze(asha)
    refusal = as_user(asha).post(f"/wallet/{verb}/", {"amount": "1"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "wallet_frozen")
    assert len(ledger()) == 1


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_one_operation_moves_no_more_than_its_limit(asha, as_user, ledger, settings, verb):
    settings.WALLET_MAX_AMOUNT = Decimal("100.00")
    refusal = as_user(asha).post(f"/wallet/{verb}/", {"amount": "100.01"})
    assert (refusal.status_code, refusal.json()["code"]) == (400, "limit_exceeded")
    assert len(ledger()) == 1
    assert as_user(asha).post(f"/wallet/{verb}/", {"amount": "100.00"}).status_code == 200


def test_one_wallet_holds_no_more_than_its_limit(asha, as_user, ledger, settings):
    settings.WALLET_MAX_BALANCE = Decimal("1500.00")
    refusal = as_user(asha).post("/wallet/credit/", {"amount": "500.01"})
    assert (refusal.status_code, refusal.json()["code"]) == (400, "limit_exceeded")
    assert len(ledger()) == 1
    assert as_user(asha).post("/wallet/credit/", {"amount": "500.00"}).json()["balance"] == "1500.00"


@pytest.mark.parametrize("verb", ["credit", "debit"])
@pytest.mark.parametrize(
    "remarks", ["x" * 256, "nul \0", 5, None, True, ["x"], {"x": 1}], ids=lambda remarks: repr(remarks)[:12]
)
def test_remarks_that_are_no_short_text_are_refused(asha, as_user, ledger, verb, remarks):
    refusal = as_user(asha).post(f"/wallet/{verb}/", {"amount": "1", "remarks": remarks})
    assert (refusal.status_code, refusal.json()["code"]) == (400, "validation_error")
    assert list(refusal.json()["errors"]) == ["remarks"]
    assert len(ledger()) == 1


def test_half_a_character_is_refused(asha, as_user, ledger):
    body = rb'{"amount": "1", "remarks": "\ud800"}'
    refusal = as_user(asha).generic("POST", "/wallet/debit/", body, "application/json")
    assert (refusal.status_code, refusal.json()["code"]) == (400, "parse_error")
    assert len(ledger()) == 1


@pytest.mark.parametrize("remarks", ["", "x" * 255, "चाय ☕ 𝄞", "=1+1", "<b>", "'; --"])
def test_other_remarks_are_kept_as_they_are(asha, as_user, remarks):
    assert as_user(asha).post("/wallet/debit/", {"amount": "1", "remarks": remarks}).json()["remarks"] == remarks
    assert Transaction.objects.latest("pk").remarks == remarks


def test_remarks_can_be_left_out(asha, as_user):
    assert as_user(asha).post("/wallet/debit/", {"amount": "1"}).json()["remarks"] == ""


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_what_else_is_in_the_body_is_refused_by_name(asha, ravi, as_user, verb):
    stolen = {
        "user": ravi.pk, "user_id": ravi.pk, "wallet": ravi.wallet.pk, "wallet_id": ravi.wallet.pk,
        "sender": ravi.wallet.pk, "receiver": ravi.wallet.pk, "to": "+919888888888", "balance": "9999.00",
        "status": "FROZEN", "transaction_type": "TRANSFER", "key": "mine", "reverses": 1,
        "idempotency_key": "mine", "remark": "Rent", "Amount": "2", "token_version": 0,
    }  # fmt: skip
    client, before = as_user(asha), Transaction.objects.count()
    for name, value in stolen.items():
        refused = client.post(f"/wallet/{verb}/", {"amount": "1", name: value})
        assert (refused.status_code, refused.json()["code"]) == (400, "validation_error")
        assert list(refused.json()["errors"]) == [name]
    assert (balance(asha), balance(ravi), Transaction.objects.count()) == (1000, 0, before)
    assert Wallet.objects.get(user=asha).status == "ACTIVE"


def test_nobody_credits_himself_where_that_prints_money(asha, as_user, ledger, settings):
    settings.WALLET_SELF_CREDIT = False
    refusal = as_user(asha).post("/wallet/credit/", {"amount": "1"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "self_credit_disabled")
    assert len(ledger()) == 1
    assert as_user(asha).post("/wallet/debit/", {"amount": "1"}).status_code == 200


@pytest.mark.parametrize("verb", ["credit", "debit", "transfer"])
def test_nobody_moves_money_without_a_login(nobody, asha, verb):
    body = {"amount": "1", "to_phone_number": "9999999999"}
    assert nobody.post(f"/wallet/{verb}/", body).status_code == 401


@pytest.mark.parametrize(("verb", "after"), [("credit", "1010.00"), ("debit", "990.00")])
def test_a_teller_adjusts_anothers_wallet(asha, teller, as_user, settings, verb, after):
    settings.WALLET_SELF_CREDIT = False
    answer = as_user(teller).post(admin_path(asha, verb), {"amount": "10", "remarks": "at the counter"})
    receipt = answer.json()
    assert answer.status_code == 200
    assert list(receipt) == RECEIPT
    assert (receipt["balance"], receipt["remarks"]) == (after, "at the counter")
    assert "user_9999999999" in (receipt["sender"], receipt["receiver"])
    assert Transaction.objects.latest("pk").initiated_by == teller
    assert (f"{balance(asha):.2f}", balance(teller)) == (after, 0)


@pytest.mark.parametrize("verb", ["credit", "debit"])
@pytest.mark.parametrize("body", [{}, {"remarks": ""}, {"remarks": "  "}, {"remarks": None}, {"remarks": 5}])
def test_a_teller_must_say_why(asha, teller, as_user, ledger, verb, body):
    refusal = as_user(teller).post(admin_path(asha, verb), {"amount": "10", **body})
    assert (refusal.status_code, list(refusal.json()["errors"])) == (400, ["remarks"])
    assert len(ledger()) == 1


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_a_teller_neither_fills_nor_empties_a_frozen_wallet(asha, teller, as_user, ledger, verb):
    freeze(asha)
    refusal = as_user(teller).post(admin_path(asha, verb), {"amount": "10", "remarks": "why"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "wallet_frozen")
    assert len(ledger()) == 1


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_a_tellers_own_frozen_wallet_does_not_matter(asha, teller, as_user, verb):
    freeze(teller)
    answer = as_user(teller).post(admin_path(asha, verb), {"amount": "10", "remarks": "why"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("verb", "amount", "code"),
    [
        ("debit", "1000.01", "insufficient_funds"),
        ("credit", "100.00", "limit_exceeded"),
        ("debit", "3000", "limit_exceeded"),
    ],
)
def test_a_teller_is_held_to_funds_and_limits(asha, teller, as_user, ledger, settings, verb, amount, code):
    settings.WALLET_MAX_AMOUNT, settings.WALLET_MAX_BALANCE = Decimal("2000.00"), Decimal("1099.99")
    refusal = as_user(teller).post(admin_path(asha, verb), {"amount": amount, "remarks": "why"})
    assert (refusal.status_code, refusal.json()["code"]) == (400, code)
    assert len(ledger()) == 1


@pytest.mark.parametrize("verb", ["credit", "debit"])
@pytest.mark.parametrize("pk", ["0", "999999", "9" * 18, "9" * 19, "9" * 40, "-1", "abc", "1.0"])
def test_a_wallet_that_is_not_there_is_not_found(teller, as_user, verb, pk):
    refusal = as_user(teller).post(f"/wallet/admin/wallets/{pk}/{verb}/", {"amount": "10", "remarks": "why"})
    assert (refusal.status_code, refusal.json()["code"]) == (404, "not_found")


@pytest.mark.parametrize("verb", ["credit", "debit"])
@pytest.mark.parametrize("who", ["asha", "ravi", "staff"])
def test_without_the_right_nobody_adjusts_a_wallet(request, asha, as_user, ledger, verb, who):
    caller = request.getfixturevalue(who)
    refusal = as_user(caller).post(admin_path(asha, verb), {"amount": "10", "remarks": "why"})
    assert (refusal.status_code, refusal.json()["code"]) == (403, "permission_denied")
    assert len(ledger()) == 1


def test_the_right_without_being_staff_is_none(asha, ravi, as_user, ledger):
    ravi.user_permissions.add(Permission.objects.get(codename="adjust_wallet"))
    assert as_user(ravi).post(admin_path(asha, "credit"), {"amount": "1", "remarks": "x"}).status_code == 403
    assert len(ledger()) == 1


def test_a_deactivated_owner_is_refused(asha, as_user, ledger):
    client = as_user(asha)
    accounts.set_active(asha, False)
    assert client.post("/wallet/debit/", {"amount": "1"}).status_code == 401
    assert len(ledger()) == 1
