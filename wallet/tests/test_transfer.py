"""Money moves from one wallet to another, or nothing changes."""

from decimal import Decimal

import pytest

from transactions.models import Transaction
from users import accounts
from wallet import payments, status
from wallet.models import Wallet

RECEIPT = ["transaction_id", "transaction_type", "amount", "balance", "sender", "receiver", "remarks", "timestamp"]
RECEIPT += ["hold", "reverses"]


@pytest.fixture
def pay(asha, as_user):
    """Sends asha's transfer to ravi, or with other fields."""
    client = as_user(asha)
    return lambda **body: client.post("/wallet/transfer/", {"to_phone_number": "9888888888", "amount": "250.50"} | body)


def freeze(user):
    status.freeze(user_id=user.pk, wallet_id=user.wallet.pk, reason="Reported stolen")


def balances():
    return {wallet.user.username: wallet.balance for wallet in Wallet.objects.select_related("user")}


@pytest.fixture
def nothing_moved(asha, ravi):
    """A check to call after a refusal."""

    def look():
        assert balances() == {"user_9999999999": 1000, "user_9888888888": 0}
        assert Transaction.objects.count() == 1

    return look


@pytest.mark.parametrize(
    "spelling",
    [
        "9888888888",
        "098888 88888",
        "+919888888888",
        "+91 98888-88888",
        "00919888888888",
        "(98888) 888.88",
        "919888888888",
    ],
)
def test_it_moves_money_to_the_phone_number_in_any_spelling(pay, asha, ravi, as_user, spelling):
    receipt = pay(to_phone_number=spelling)
    assert receipt.status_code == 200
    assert receipt.json()["balance"] == "749.50"
    assert as_user(ravi).get("/wallet/balance/").json()["balance"] == "250.50"


def test_the_receipt_has_only_the_payers_balance(pay, ravi):
    payments.credit(user_id=ravi.pk, amount=Decimal("77.77"))
    receipt = pay(remarks="rent").json()
    row = Transaction.objects.latest("pk")
    assert list(receipt) == RECEIPT
    assert receipt | {"timestamp": None} == {
        "transaction_id": row.pk,
        "transaction_type": "TRANSFER",
        "amount": "250.50",
        "balance": "749.50",
        "sender": "user_9999999999",
        "receiver": "user_9888888888",
        "remarks": "rent",
        "timestamp": None,
        "hold": None,
        "reverses": None,
    }
    assert (row.sender_balance, row.receiver_balance) == (Decimal("749.50"), Decimal("328.27"))
    assert row.reverses is None


def test_it_refuses_more_than_the_balance(pay, nothing_moved):
    refusal = pay(amount="1000.01")
    assert (refusal.status_code, refusal.json()["code"]) == (400, "insufficient_funds")
    nothing_moved()


@pytest.mark.parametrize(
    "spelling", ["9999999999", "09999999999", "+91 99999 99999", "0091 9999999999", "(99999)-99999"]
)
def test_nobody_pays_himself_however_the_number_is_spelled(pay, nothing_moved, spelling):
    refusal = pay(to_phone_number=spelling, amount="1")
    assert (refusal.status_code, refusal.json()["code"]) == (400, "self_transfer")
    nothing_moved()


def test_a_number_that_nobody_has_is_not_found(pay, nothing_moved):
    refusal = pay(to_phone_number="9777777777")
    assert (refusal.status_code, refusal.json()["code"]) == (404, "recipient_not_found")
    nothing_moved()


@pytest.mark.parametrize(
    "number",
    ["", "98888", "98765ABCDE", "9888888888 ext 5", "९८८८८८८८८८", "9888888888;x", "++919888888888", "1234567890",
     "9888888888\0", "9888888888\n", "\xa09888888888", "９８８８８８８８８８", "9888888888/", 9888888888,
     9888888888.0, None, True, ["9888888888"], {}],
    ids=lambda number: repr(number)[:14],
)  # fmt: skip
def test_what_is_no_phone_number_is_refused(pay, nothing_moved, number):
    refusal = pay(to_phone_number=number)
    assert (refusal.status_code, refusal.json()["code"]) == (400, "validation_error")
    assert list(refusal.json()["errors"]) == ["to_phone_number"]
    nothing_moved()


@pytest.mark.parametrize("missing", ["to_phone_number", "amount"])
def test_receiver_and_amount_are_required(asha, ravi, as_user, nothing_moved, missing):
    body = {"to_phone_number": "9888888888", "amount": "1"}
    del body[missing]
    refusal = as_user(asha).post("/wallet/transfer/", body)
    assert (refusal.status_code, list(refusal.json()["errors"])) == (400, [missing])
    nothing_moved()


@pytest.mark.parametrize("to", ["9888888888", "9777777777", "9999999999"])
def test_a_frozen_payer_is_the_error_for_any_receiver(pay, asha, nothing_moved, to):
    freeze(asha)
    refusal = pay(to_phone_number=to)
    assert (refusal.status_code, refusal.json()["code"]) == (403, "wallet_frozen")
    nothing_moved()


def too_full(ravi, settings):
    settings.WALLET_MAX_BALANCE = Decimal("250.49")


@pytest.mark.parametrize(
    "spoil",
    [lambda ravi, settings: freeze(ravi), lambda ravi, settings: accounts.set_active(ravi, False), too_full],
    ids=["frozen", "deactivated", "full"],
)
def test_a_receiver_who_cannot_take_it_costs_the_payer_nothing(pay, ravi, settings, nothing_moved, spoil):
    spoil(ravi, settings)
    refusal = pay()
    assert refusal.status_code == 409
    assert refusal.json() == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "The receiver cannot take this payment.",
        "code": "recipient_unavailable",
    }
    nothing_moved()


def test_a_receiver_may_be_filled_to_the_brim(pay, ravi, settings):
    settings.WALLET_MAX_BALANCE = Decimal("250.50")
    assert pay().status_code == 200


def test_one_transfer_moves_no_more_than_its_limit(pay, settings, nothing_moved):
    settings.WALLET_MAX_AMOUNT = Decimal("250.49")
    refusal = pay()
    assert (refusal.status_code, refusal.json()["code"]) == (400, "limit_exceeded")
    nothing_moved()


def test_what_else_is_in_the_body_is_refused_by_name(pay, ravi, stranger):
    stolen = {"sender": stranger.wallet.pk, "user": stranger.pk, "user_id": stranger.pk, "to": "+919777777777",
              "wallet": stranger.wallet.pk, "balance": "1.00", "status": "FROZEN", "key": "k"}  # fmt: skip
    refused = pay(**stolen)
    assert (refused.status_code, set(refused.json()["errors"])) == (400, set(stolen))
    assert set(balances().values()) == {1000, 0}
    assert Transaction.objects.count() == 1
    assert not Wallet.objects.filter(status="FROZEN").exists()


def test_money_goes_to_the_one_who_has_the_number_now(pay, ravi, stranger):
    accounts.assign_phone(ravi, "+919444444444")
    accounts.assign_phone(stranger, "+919888888888")
    assert pay().json()["receiver"] == "user_9777777777"
    assert balances()["user_9888888888"] == 0


@pytest.mark.django_db(transaction=True)
def test_it_is_committed_as_one(pay, ravi):
    """On committed data, as in production; the ledger is emptied after such tests, in spite of its triggers."""
    assert pay().status_code == 200
    assert balances() == {"user_9999999999": Decimal("749.50"), "user_9888888888": Decimal("250.50")}
    assert Transaction.objects.count() == 2


def test_a_receipt_knows_both_sides_without_reading_them_again(asha, ravi, django_assert_num_queries):
    row = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("1.00")).transaction
    with django_assert_num_queries(0):
        assert (row.sender.user, row.receiver.user) == (asha, ravi)
