"""Requests for money: created, paid by a transfer, declined, cancelled, expired at their time."""

from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import call_command
from django.utils import timezone

from lokanetra import days
from lokanetra.tests.test_errors import problem
from transactions.models import Outbox, Transaction
from users import accounts
from wallet import requests, status
from wallet.models import Key, PaymentRequest, Tier, Wallet

pytestmark = pytest.mark.django_db

REQUESTS = "/wallet/requests/"


@pytest.fixture
def ask(asha, ravi, as_user):
    """Ravi, who has nothing, asks asha; returns the id of his request."""

    def of(amount: str = "100.00", **more) -> int:
        answer = as_user(ravi).post(REQUESTS, {"from_phone_number": asha.phone, "amount": amount, **more})
        assert answer.status_code == 201, answer.json()
        return answer.json()["id"]

    return of


@pytest.fixture
def frozen(boss):
    """Freezes the wallet of somebody."""
    return lambda user: status.freeze(user_id=boss.pk, wallet_id=user.wallet.pk, reason="stolen")


def balance(user) -> str:
    return f"{Wallet.objects.get(user=user).balance:.2f}"


def path(pk: int, verb: str = "") -> str:
    return f"{REQUESTS}{pk}/{verb}/" if verb else f"{REQUESTS}{pk}/"


# --- Create -------------------------------------------------------------------------------------------


def test_a_request_is_returned_and_sets_nothing_aside(asha, ravi, as_user):
    body = {"from_phone_number": asha.phone, "amount": "75.00", "remarks": "Tickets", "expires_in": 3600}
    answer = as_user(ravi).post(REQUESTS, body)
    asked = answer.json()
    assert answer.status_code == 201
    assert list(asked) == [
        "id", "status", "amount", "requester", "payer", "direction", "remarks", "transaction", "created_at",
        "expires_at", "closed_at",
    ]  # fmt: skip
    assert (asked["status"], asked["amount"], asked["remarks"]) == ("PENDING", "75.00", "Tickets")
    assert (asked["requester"], asked["payer"], asked["direction"]) == (ravi.username, asha.username, "IN")
    assert (asked["transaction"], asked["closed_at"]) == (None, None)
    row = PaymentRequest.objects.get()
    assert row.expires_at - row.created_at == timedelta(hours=1)
    shown = as_user(asha).get(path(asked["id"])).json()
    assert shown == asked | {"direction": "OUT"}
    body = as_user(asha).get("/wallet/balance/").json()
    assert (body["balance"], body["available"]) == ("1000.00", "1000.00")


def test_a_week_is_its_time_where_nothing_else_is_said(ask):
    ask()
    row = PaymentRequest.objects.get()
    assert row.expires_at - row.created_at == timedelta(days=7)


@pytest.mark.parametrize("seconds", [59, 2592001, 0, -1, "600", 60.5, True, None])
def test_a_time_that_is_no_whole_number_of_seconds_within_bounds_is_refused(asha, ravi, as_user, seconds):
    body = {"from_phone_number": asha.phone, "amount": "10.00", "expires_in": seconds}
    answer = as_user(ravi).post(REQUESTS, body)
    assert list(problem(answer, 400, "validation_error")["errors"]) == ["expires_in"]


@pytest.mark.parametrize("amount", ["0", "-1", "1.005", "1e2", "NaN", "", None, True])
def test_an_amount_is_that_of_a_payment(asha, ravi, as_user, amount):
    answer = as_user(ravi).post(REQUESTS, {"from_phone_number": asha.phone, "amount": amount}, format="json")
    assert list(problem(answer, 400, "validation_error")["errors"]) == ["amount"]


@pytest.mark.parametrize("unknown", ["to_phone_number", "payer", "status", "key"])
def test_what_a_request_does_not_know_is_refused(asha, ravi, as_user, unknown):
    body = {"from_phone_number": asha.phone, "amount": "1.00", unknown: "x"}
    assert list(problem(as_user(ravi).post(REQUESTS, body), 400, "validation_error")["errors"]) == [unknown]


def test_nobody_asks_himself_or_nobody(asha, as_user):
    for number, status_code, code in [
        ("+91 99999 99999", 400, "self_transfer"),
        ("9444444444", 404, "recipient_not_found"),
    ]:
        answer = as_user(asha).post(REQUESTS, {"from_phone_number": number, "amount": "1.00"})
        problem(answer, status_code, code)
    assert not PaymentRequest.objects.exists()


def test_more_than_the_own_limit_at_once_is_not_asked_for(asha, ravi, as_user, ask):
    tier = Tier.objects.create(name="Small", max_amount=Decimal("50.00"))
    Wallet.objects.filter(user=ravi).update(tier=tier)
    ask("50.00")
    refusal = as_user(ravi).post(REQUESTS, {"from_phone_number": asha.phone, "amount": "50.01"})
    assert problem(refusal, 400, "limit_exceeded")["limit"]["name"] == "max_amount"


def test_who_is_frozen_asks_nobody_and_who_cannot_pay_is_not_asked(asha, ravi, stranger, as_user, frozen):
    body = {"from_phone_number": asha.phone, "amount": "1.00"}
    frozen(ravi)
    problem(as_user(ravi).post(REQUESTS, body), 403, "wallet_frozen")
    frozen(asha)
    problems = [problem(as_user(stranger).post(REQUESTS, body), 409, "payer_unavailable")]
    Wallet.objects.filter(user=asha).update(status="ACTIVE")
    accounts.set_active(asha, False)
    problems.append(problem(as_user(stranger).post(REQUESTS, body), 409, "payer_unavailable"))
    assert problems[0] == problems[1]
    assert not PaymentRequest.objects.exists()


def test_at_most_twenty_to_one_payer_are_open(asha, ravi, boss, as_user, ask, clock_at):
    now = timezone.now()
    clock_at(now)
    first = ask(expires_in=90)
    for _ in range(19):
        ask()
    more = {"from_phone_number": asha.phone, "amount": "1.00"}
    answer = as_user(ravi).post(REQUESTS, more)
    assert "20 requests to this payer are open" in problem(answer, 429, "throttled")["detail"]
    assert answer["Retry-After"] == "90"
    assert as_user(ravi).post(REQUESTS, more | {"from_phone_number": boss.phone}).status_code == 201
    assert as_user(asha).post(REQUESTS, {"from_phone_number": ravi.phone, "amount": "1.00"}).status_code == 201
    as_user(asha).post(path(first, "decline"))
    assert as_user(ravi).post(REQUESTS, more).status_code == 201
    assert as_user(ravi).post(REQUESTS, more).status_code == 429
    clock_at(now + timedelta(days=7))
    assert as_user(ravi).post(REQUESTS, more).status_code == 201


def test_a_day_has_its_number_of_requests_and_the_next_begins_in_the_time_zone(
    asha, ravi, as_user, ask, clock_at, settings
):
    settings.REQUESTS_PER_DAY = 3
    midnight = days.start_of(days.next_day(days.today()))
    clock_at(midnight - timedelta(seconds=30))
    for _ in range(3):
        as_user(asha).post(path(ask(), "decline"))
    more = {"from_phone_number": asha.phone, "amount": "1.00"}
    answer = as_user(ravi).post(REQUESTS, more)
    assert "3 requests for money today" in problem(answer, 429, "throttled")["detail"]
    assert answer["Retry-After"] == "30"
    assert as_user(asha).post(REQUESTS, more | {"from_phone_number": ravi.phone}).status_code == 201
    clock_at(midnight)
    assert [as_user(ravi).post(REQUESTS, more).status_code for _ in range(4)] == [201, 201, 201, 429]


def test_without_a_cap_a_day_has_no_number(ask, settings):
    settings.REQUESTS_PER_DAY = 0
    assert [ask("1.00") for _ in range(3)]


def test_a_repeated_key_is_not_counted_and_shows_the_request_as_it_is_now(asha, ravi, as_user, settings):
    settings.REQUESTS_PER_DAY = 1
    body = {"from_phone_number": asha.phone, "amount": "10.00"}
    send = lambda **more: as_user(ravi).post(REQUESTS, body | more, headers={"Idempotency-Key": "k"})  # noqa: E731
    first = send()
    as_user(asha).post(path(first.json()["id"], "decline"))
    again = send()
    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    shown = again.json()
    assert (shown["id"], shown["status"], shown["direction"]) == (first.json()["id"], "DECLINED", "IN")
    assert PaymentRequest.objects.count() == 1
    for change in ({"amount": "11.00"}, {"expires_in": 3600}, {"remarks": "Another"}):
        problem(send(**change), 422, "idempotency_key_reused")


# --- Pay ----------------------------------------------------------------------------------------------


def test_the_payer_pays_by_a_transfer_once(asha, ravi, as_user, ask):
    pk = ask("100.00", remarks="Tickets")
    receipt = as_user(asha).post(path(pk, "pay"), {})
    body = receipt.json()
    assert receipt.status_code == 200, body
    assert (body["transaction_type"], body["amount"], body["remarks"]) == ("TRANSFER", "100.00", "Tickets")
    assert (body["sender"], body["receiver"], body["balance"]) == (asha.username, ravi.username, "900.00")
    assert (balance(asha), balance(ravi)) == ("900.00", "100.00")
    shown = as_user(ravi).get(path(pk)).json()
    assert (shown["status"], shown["transaction"]) == ("PAID", body["transaction_id"])
    assert shown["closed_at"] == body["timestamp"]
    for verb, user in [("pay", asha), ("decline", asha), ("cancel", ravi)]:
        problem(as_user(user).post(path(pk, verb), {}), 409, "request_closed")
    assert balance(asha) == "900.00"


def test_what_paid_a_request_counts_towards_limits_and_can_be_given_back(asha, ravi, as_user, ask):
    paid = as_user(asha).post(path(ask("100.00"), "pay")).json()["transaction_id"]
    assert Wallet.objects.get(user=asha).out_day == Wallet.objects.get(user=ravi).in_month == 100
    assert as_user(ravi).post(f"/transactions/{paid}/refund/", {}).status_code == 200
    assert balance(asha) == "1000.00"
    assert PaymentRequest.objects.get().status == "PAID"


def test_paying_obeys_every_rule_of_a_transfer_and_a_refusal_leaves_the_request_open(
    asha, ravi, as_user, ask, frozen, settings
):
    pk, rich = ask("100.00"), ask("1000.01")
    pay = lambda which=pk: as_user(asha).post(path(which, "pay"), {}, headers={"Idempotency-Key": "k"})  # noqa: E731
    problem(pay(rich), 400, "insufficient_funds")
    settings.WALLET_MAX_AMOUNT = Decimal("99.99")
    assert problem(pay(), 400, "limit_exceeded")["limit"]["name"] == "max_amount"
    settings.WALLET_MAX_AMOUNT, settings.WALLET_MAX_BALANCE = Decimal("1000000.00"), Decimal("99.99")
    problem(pay(), 409, "recipient_unavailable")
    settings.WALLET_MAX_BALANCE = Decimal("100000000.00")
    frozen(ravi)
    problem(pay(), 409, "recipient_unavailable")
    Wallet.objects.filter(user=ravi).update(status="ACTIVE")
    accounts.set_active(ravi, False)
    problem(pay(), 409, "recipient_unavailable")
    accounts.set_active(ravi, True)
    frozen(asha)
    problem(pay(), 403, "wallet_frozen")
    Wallet.objects.filter(user=asha).update(status="ACTIVE")
    assert list(PaymentRequest.objects.values_list("status", flat=True)) == ["PENDING", "PENDING"]
    assert pay().status_code == 200


def test_what_is_held_pays_no_request(asha, ravi, as_user, ask):
    pk = ask("100.00")
    as_user(asha).post("/wallet/holds/", {"to_phone_number": ravi.phone, "amount": "900.01"})
    problem(as_user(asha).post(path(pk, "pay")), 400, "insufficient_funds")


def test_a_repeated_key_pays_once_and_gives_the_first_receipt(asha, ravi, as_user, ask, frozen):
    pk, other = ask("100.00"), ask("100.00")
    send = lambda which: as_user(asha).post(path(which, "pay"), {}, headers={"Idempotency-Key": "k"})  # noqa: E731
    first = send(pk)
    frozen(asha)
    again = send(pk)
    assert (again.status_code, again.json(), again["Idempotent-Replayed"]) == (200, first.json(), "true")
    problem(send(other), 422, "idempotency_key_reused")
    assert Transaction.objects.filter(transaction_type="TRANSFER").count() == 1


def test_one_key_is_one_request_over_all_calls(asha, ravi, as_user, ask):
    mine, yours = ask("10.00"), ask("10.00")
    keyed = {"headers": {"Idempotency-Key": "k"}}
    client, to = as_user(asha), {"to_phone_number": ravi.phone, "amount": "10.00"}
    assert client.post(path(mine, "pay"), {}, **keyed).status_code == 200
    for where, body in [
        ("/wallet/transfer/", to),
        ("/wallet/holds/", to),
        (REQUESTS, {"from_phone_number": ravi.phone, "amount": "10.00"}),
        (path(yours, "pay"), {}),
        (path(mine, "decline"), {}),
        (path(yours, "decline"), {}),
    ]:
        problem(client.post(where, body, **keyed), 422, "idempotency_key_reused")
    assert Key.objects.filter(user=asha, key="k").count() == 1


# --- Decline and cancel ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("verb", "who", "ended"), [("decline", "asha", "DECLINED"), ("cancel", "ravi", "CANCELLED")])
def test_a_request_is_declined_by_its_payer_and_cancelled_by_its_requester(
    asha, ravi, as_user, ask, frozen, verb, who, ended
):
    pk, user = ask(), {"asha": asha, "ravi": ravi}[who]
    frozen(user)  # which does not prevent this
    send = lambda: as_user(user).post(path(pk, verb), {}, headers={"Idempotency-Key": "k"})  # noqa: E731
    answer, again = send(), send()
    body = answer.json()
    assert answer.status_code == 200, body
    assert (body["status"], body["direction"]) == (ended, "OUT" if who == "asha" else "IN")
    assert body["closed_at"] is not None
    assert (again.json(), again["Idempotent-Replayed"]) == (body, "true")
    problem(as_user(asha).post(path(pk, "pay")), 409, "request_closed")
    problem(as_user(user).post(path(pk, verb)), 409, "request_closed")
    assert (balance(asha), balance(ravi)) == ("1000.00", "0.00")


def test_each_side_has_its_actions_and_for_others_it_is_not_found(asha, ravi, stranger, boss, as_user, ask):
    pk = ask()
    for user, verb in [(ravi, "pay"), (ravi, "decline"), (asha, "cancel")]:
        problem(as_user(user).post(path(pk, verb)), 403, "permission_denied")
    for user in (stranger, boss):
        problem(as_user(user).get(path(pk)), 404, "not_found")
        for verb in ("pay", "decline", "cancel"):
            problem(as_user(user).post(path(pk, verb)), 404, "not_found")
    assert PaymentRequest.objects.get().status == "PENDING"


def test_a_body_is_empty(asha, as_user, ask):
    pk = ask()
    for verb in ("pay", "decline"):
        answer = as_user(asha).post(path(pk, verb), {"amount": "1.00"})
        assert list(problem(answer, 400, "validation_error")["errors"]) == ["amount"]


# --- Expiry ---------------------------------------------------------------------------------------------


def test_it_expires_to_the_second_closed_or_not(asha, ravi, as_user, ask, clock_at):
    pk = ask(expires_in=60)
    created = PaymentRequest.objects.get().created_at
    clock_at(created + timedelta(seconds=59))
    assert as_user(asha).get(path(pk)).json()["status"] == "PENDING"
    assert [row["id"] for row in as_user(asha).get(REQUESTS, {"status": "pending"}).json()["results"]] == [pk]
    clock_at(created + timedelta(seconds=60))
    for verb, user in [("pay", asha), ("decline", asha), ("cancel", ravi)]:
        problem(as_user(user).post(path(pk, verb)), 409, "request_closed")
    shown = as_user(asha).get(path(pk)).json()
    assert (shown["status"], shown["closed_at"]) == ("EXPIRED", shown["expires_at"])
    assert [row["id"] for row in as_user(asha).get(REQUESTS, {"status": "expired"}).json()["results"]] == [pk]
    assert as_user(asha).get(REQUESTS, {"status": "pending"}).json()["results"] == []
    assert PaymentRequest.objects.get().status == "PENDING"
    requests.expire()
    assert as_user(asha).get(path(pk)).json() == shown
    assert PaymentRequest.objects.get().status == "EXPIRED"


def test_its_last_second_is_enough_to_pay_it(asha, ravi, as_user, ask, clock_at):
    pk = ask(expires_in=60)
    clock_at(PaymentRequest.objects.get().expires_at - timedelta(microseconds=1))
    assert as_user(asha).post(path(pk, "pay")).status_code == 200


def command():
    out = StringIO()
    call_command("expire_requests", stdout=out)
    return out.getvalue().strip()


def test_the_command_closes_what_expired_and_records_each_once(asha, ravi, ask, clock_at, monkeypatch):
    monkeypatch.setattr(requests, "BATCH", 2)
    for seconds in (60, 70, 80, 90, 100, 3600):
        ask("10.00", expires_in=seconds)
    clock_at(timezone.now() + timedelta(seconds=120))
    assert command() == "5 requests closed."
    assert list(PaymentRequest.objects.order_by("pk").values_list("status", flat=True)) == 5 * ["EXPIRED"] + ["PENDING"]
    assert command() == "0 requests closed."
    ended = Outbox.objects.filter(type="request.expired").order_by("pk")
    assert [event.data["status"] for event in ended] == 5 * ["EXPIRED"]
    assert list(ended.values_list("timestamp", flat=True)) == list(
        PaymentRequest.objects.filter(status="EXPIRED").order_by("expires_at").values_list("expires_at", flat=True)
    )


# --- Lists ----------------------------------------------------------------------------------------------


def test_each_side_finds_its_own_newest_first_by_direction_and_status(asha, ravi, stranger, as_user, ask):
    first, second = ask("1.00"), ask("2.00")
    mine = as_user(asha).post(REQUESTS, {"from_phone_number": ravi.phone, "amount": "3.00"}).json()["id"]
    as_user(asha).post(path(first, "pay"))

    def found(user, **filters):
        return [row["id"] for row in as_user(user).get(REQUESTS, filters).json()["results"]]

    assert found(asha) == found(ravi) == [mine, second, first]
    assert found(stranger) == []
    assert found(asha, direction="OUT") == found(ravi, direction="in") == [second, first]
    assert found(asha, direction="in") == [mine]
    assert found(asha, status="paid") == [first]
    assert found(asha, status="Pending", direction="OUT") == [second]
    page = as_user(asha).get(REQUESTS, {"page_size": 2}).json()
    assert [row["id"] for row in page["results"]] == [mine, second]
    assert [row["id"] for row in as_user(asha).get(page["next"]).json()["results"]] == [first]


def test_staff_find_those_of_a_phone_by_status(asha, ravi, staff, as_user, ask):
    first, second = ask("1.00"), ask("2.00")
    as_user(asha).post(path(first, "decline"))

    def found(**filters):
        return [row["id"] for row in as_user(staff).get("/wallet/admin/requests/", filters).json()["results"]]

    assert found() == found(search=asha.phone) == found(search=ravi.phone) == [second, first]
    assert found(search="9777777777") == []
    assert found(status="declined") == [first]
    row = as_user(staff).get("/wallet/admin/requests/").json()["results"][0]
    assert (row["payer_phone_number"], row["requester_phone_number"]) == (asha.phone, ravi.phone)
    assert "direction" not in row
