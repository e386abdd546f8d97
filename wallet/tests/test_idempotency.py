"""A request that is repeated with its key gets its first receipt, and moves nothing."""

import json
from decimal import Decimal
from http.client import HTTPConnection

import pytest
from django.contrib.auth.models import Permission

from transactions.models import Transaction
from users import accounts
from wallet import payments, refunds, status
from wallet.models import Key, Wallet

TRANSFER = {"to_phone_number": "9888888888", "amount": "250.50", "remarks": "rent"}
PAYMENT = {"amount": "250.50", "remarks": "rent"}
BODIES = {"transfer": TRANSFER, "debit": PAYMENT, "credit": PAYMENT}


@pytest.fixture
def send(asha, ravi, as_user):
    """Posts asha's money call with a key."""
    client = as_user(asha)

    def post(verb="transfer", body=None, key="k-1", **changes):
        return client.post(f"/wallet/{verb}/", (body or BODIES[verb]) | changes, HTTP_IDEMPOTENCY_KEY=key)

    return post


@pytest.fixture
def moves(asha, ravi):
    """The balances and the number of rows, which a replay must not change."""
    return lambda: (
        list(Wallet.objects.order_by("pk").values_list("user", "balance")),
        Transaction.objects.count(),
    )


def freeze(user):
    status.freeze(user_id=user.pk, wallet_id=user.wallet.pk, reason="Reported stolen")


@pytest.mark.parametrize("verb", BODIES)
def test_a_replay_is_the_first_receipt_and_says_so(send, moves, verb):
    first, after = send(verb), moves()
    again = send(verb)
    assert (first.status_code, again.status_code) == (200, 200)
    assert again.content == first.content
    assert "Idempotent-Replayed" not in first
    assert again["Idempotent-Replayed"] == "true"
    assert moves() == after


def test_without_a_key_each_call_is_a_new_one(asha, ravi, as_user):
    client = as_user(asha)
    for _ in range(2):
        assert "Idempotent-Replayed" not in client.post("/wallet/transfer/", TRANSFER)
    assert Transaction.objects.filter(transaction_type="TRANSFER").count() == 2


@pytest.mark.parametrize("key", ["k", "K", " ", "a b", "~!@#$%^&*()", "x" * 255, "5", "null", '"', "é".encode().hex()])
def test_a_quoted_and_a_bare_key_are_one(send, moves, key):
    first, after = send(key=f'"{key}"'), moves()
    if key.strip():  # a bare blank is not left of a header by the servers in between
        assert send(key=key).content == first.content
    assert send(key=f'"{key}"')["Idempotent-Replayed"] == "true"
    assert moves() == after
    assert Key.objects.get().key == key


def test_keys_are_case_sensitive(send):
    assert "Idempotent-Replayed" not in send(key="abc")
    assert "Idempotent-Replayed" not in send(key="ABC")


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("transfer", TRANSFER | {"amount": "250.51"}),
        ("transfer", TRANSFER | {"to_phone_number": "9777777777"}),
        ("transfer", TRANSFER | {"to_phone_number": "9444444444"}),
        ("transfer", TRANSFER | {"to_phone_number": "9999999999"}),
        ("transfer", TRANSFER | {"remarks": "Rent"}),
        ("transfer", TRANSFER | {"remarks": ""}),
        ("transfer", TRANSFER | {"amount": "999999999999"}),
        ("debit", PAYMENT),
        ("credit", PAYMENT),
    ],
)
def test_the_key_of_another_request_is_refused(send, moves, stranger, verb, body):
    send()
    after = moves()
    refusal = send(verb, body)
    assert (refusal.status_code, refusal.json()["code"]) == (422, "idempotency_key_reused")
    assert moves() == after


@pytest.mark.parametrize("same", [{"to_phone_number": "+91 98888-88888"}, {"amount": "250.5"}, {"amount": 250.5}])
def test_another_spelling_of_the_request_is_the_same_request(send, moves, same):
    first, after = send(), moves()
    assert send(**same).content == first.content
    assert moves() == after


def test_remarks_left_out_and_empty_are_the_same(send):
    first = send("debit", {"amount": "1"})
    assert send("debit", {"amount": "1", "remarks": ""}).content == first.content


def test_the_same_key_of_another_user_is_another_key(send, ravi, as_user):
    send()
    receipt = as_user(ravi).post("/wallet/debit/", {"amount": "0.50"}, HTTP_IDEMPOTENCY_KEY="k-1")
    assert receipt.json()["balance"] == "250.00"
    assert "Idempotent-Replayed" not in receipt


def test_a_refused_operation_leaves_its_key_free(send, asha):
    assert send(amount="1000.01").json()["code"] == "insufficient_funds"
    payments.credit(user_id=asha.pk, amount=Decimal("0.01"))
    paid = send(amount="1000.01")
    assert (paid.status_code, paid.json()["balance"]) == (200, "0.00")
    assert "Idempotent-Replayed" not in paid
    assert send(amount="1000.01").content == paid.content


def test_a_refused_key_may_serve_another_request(send):
    send(amount="1000.01")
    assert send(amount="1").status_code == 200


def spend_all(asha, ravi):
    payments.debit(user_id=asha.pk, amount=Wallet.objects.get(user=asha).balance)


def new_payer_phone(asha, ravi):
    asha.phone_number = "+919444444444"
    asha.save(update_fields=["phone_number"])


@pytest.mark.parametrize(
    "happening",
    [
        spend_all,
        new_payer_phone,
        lambda asha, ravi: freeze(asha),
        lambda asha, ravi: freeze(ravi),
        lambda asha, ravi: accounts.set_active(ravi, False),
        lambda asha, ravi: accounts.assign_phone(ravi, "+919333333333"),
        lambda asha, ravi: accounts.assign_phone(ravi, None),
    ],
    ids=["spent", "payer's phone", "payer frozen", "receiver frozen", "deactivated", "receiver's phone", "no phone"],
)
def test_a_replay_outlives_whatever_becomes_of_the_wallets(send, moves, asha, ravi, happening):
    first = send()
    happening(asha, ravi)
    after = moves()
    again = send()
    assert (again.status_code, again.content) == (200, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert moves() == after


def test_a_replay_outlives_another_owner_of_the_receivers_number(send, moves, ravi, stranger):
    first = send()
    accounts.assign_phone(ravi, "+919333333333")
    accounts.assign_phone(stranger, "+919888888888")
    after = moves()
    assert send().content == first.content
    assert moves() == after


def test_a_replay_outlives_the_payers_taking_the_receivers_number(send, moves, asha, ravi):
    first = send()
    accounts.assign_phone(ravi, "+919333333333")
    asha.phone_number = "+919888888888"
    asha.save(update_fields=["phone_number"])
    after = moves()
    assert send().content == first.content
    assert moves() == after


def test_a_replay_outlives_lower_limits(send, settings):
    first = send()
    settings.WALLET_MAX_AMOUNT = settings.WALLET_MAX_BALANCE = Decimal("1.00")
    assert send().content == first.content


def test_a_replay_outlives_a_reversal(send, moves, asha, boss):
    first = send()
    refunds.reverse(user_id=boss.pk, transaction_id=first.json()["transaction_id"], remarks="wrong")
    after = moves()
    assert send().content == first.content
    assert moves() == after


@pytest.mark.parametrize(
    "key",
    [
        "",
        '""',
        "x" * 256,
        f'"{"x" * 256}"',
        "schlüssel",
        "चाबी",
        "tab\there",
        "bell\x07",
        "del\x7f",
        "nul\0",
        "line\nbreak",
    ],
    ids=lambda key: repr(key)[:12],
)
@pytest.mark.parametrize("verb", BODIES)
def test_an_unreadable_key_is_never_taken_as_absent(send, moves, verb, key):
    before = moves()
    refusal = send(verb, key=key)
    assert (refusal.status_code, refusal.json()["code"]) == (400, "idempotency_key_invalid")
    assert moves() == before


MISPLACED = [
    {"HTTP_X_IDEMPOTENCY_KEY": "k-1"},
    {"HTTP_IDEMPOTENCE_KEY": "k-1"},
    {"HTTP_IDEMPOTENCY_TOKEN": "k-1"},
    {"HTTP_IDEMPOTENCYKEY": "k-1"},
    {"HTTP_IDEMPOTENCY__KEY": "k-1"},  # with an underscore, as the production server passes it on
    {"HTTP_IDEMPOTENCY_KEY": "k-1", "HTTP_X_IDEMPOTENCY_KEY": "k-2"},
    {"QUERY_STRING": "idempotency_key=k-1"},
    {"QUERY_STRING": "Idempotency-Key=k-1"},
]


@pytest.mark.parametrize("elsewhere", MISPLACED, ids=str)
@pytest.mark.parametrize("verb", BODIES)
def test_a_key_that_is_elsewhere_is_never_taken_as_absent(asha, ravi, as_user, moves, verb, elsewhere):
    before = moves()
    refusal = as_user(asha).post(f"/wallet/{verb}/", BODIES[verb], **elsewhere)
    assert (refusal.status_code, refusal.json()["code"]) == (400, "idempotency_key_invalid")
    assert "Idempotency-Key" in refusal.json()["detail"]
    assert moves() == before


@pytest.mark.parametrize("verb", BODIES)
def test_a_key_in_the_body_is_refused(asha, ravi, as_user, moves, verb):
    before = moves()
    refusal = as_user(asha).post(f"/wallet/{verb}/", BODIES[verb] | {"idempotency_key": "k-1"})
    assert (refusal.status_code, list(refusal.json()["errors"])) == (400, ["idempotency_key"])
    assert moves() == before


def test_the_production_server_takes_no_other_header_for_the_key(live):
    token = live.log_in("9855555501")
    live.post("/wallet/credit/", {"amount": "10.00"}, token)
    for name in ("Idempotency_Key", "X-Idempotency-Key", "idempotency_key", "IDEMPOTENCY_KEY"):
        connection = HTTPConnection("127.0.0.1", live.port, timeout=30)
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", name: "k-1"}
        connection.request("POST", "/wallet/debit/", body='{"amount": "1.00"}', headers=headers)
        response = connection.getresponse()
        assert (response.status, json.loads(response.read())["code"]) == (400, "idempotency_key_invalid")
        connection.close()
    assert live.balance(token) == "10.00"


def test_a_key_stands_for_one_operation(send, moves):
    send("debit")
    after = moves()
    assert send("credit").json()["code"] == "idempotency_key_reused"
    assert moves() == after


def test_a_tellers_key_stands_for_one_operation(asha, staff, as_user, moves):
    staff.user_permissions.add(Permission.objects.get(codename="adjust_wallet"))
    path, client = f"/wallet/admin/wallets/{asha.wallet.pk}", as_user(staff)
    assert client.post(f"{path}/debit/", PAYMENT, HTTP_IDEMPOTENCY_KEY="k-1").status_code == 200
    after = moves()
    assert client.post(f"{path}/credit/", PAYMENT, HTTP_IDEMPOTENCY_KEY="k-1").status_code == 422
    assert moves() == after


@pytest.mark.parametrize("verb", BODIES)
def test_a_key_can_be_required(send, asha, as_user, moves, settings, verb):
    settings.IDEMPOTENCY_REQUIRED = True
    before = moves()
    refusal = as_user(asha).post(f"/wallet/{verb}/", BODIES[verb])
    assert (refusal.status_code, refusal.json()["code"]) == (400, "idempotency_key_missing")
    assert moves() == before
    assert send(verb).status_code == 200


@pytest.mark.parametrize("verb", ["credit", "debit"])
def test_a_tellers_key_stands_for_one_wallet(asha, ravi, staff, as_user, moves, verb):
    staff.user_permissions.add(Permission.objects.get(codename="adjust_wallet"))
    client = as_user(staff)

    def adjust(user):
        path = f"/wallet/admin/wallets/{user.wallet.pk}/{verb}/"
        return client.post(path, PAYMENT, HTTP_IDEMPOTENCY_KEY="k-1")

    first, after = adjust(asha), moves()
    freeze(asha)
    assert adjust(asha).content == first.content
    assert adjust(asha)["Idempotent-Replayed"] == "true"
    assert adjust(ravi).json()["code"] == "idempotency_key_reused"
    assert client.post(f"/wallet/{verb}/", PAYMENT, HTTP_IDEMPOTENCY_KEY="k-1").status_code == 422
    assert moves() == after
