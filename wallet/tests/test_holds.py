"""Holds: opened, captured whole or in parts, voided, expired at their time."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.http import Http404
from django.utils import timezone

from users import accounts, audit
from users.exceptions import TokenNotValid
from wallet import holds
from wallet.models import Hold, Wallet

pytestmark = pytest.mark.django_db

HOLDS = "/wallet/holds/"


@pytest.fixture
def hold(asha, ravi, as_user):
    """Asha sets money aside for ravi; returns the hold's id."""

    def of(amount: str = "100.00", **more) -> int:
        answer = as_user(asha).post(HOLDS, {"to_phone_number": ravi.phone, "amount": amount, **more})
        assert answer.status_code == 201, answer.json()
        return answer.json()["id"]

    return of


def money(user) -> tuple[str, str]:
    """The balance of the wallet, and how much of it is available."""
    wallet = Wallet.objects.get(user=user)
    return f"{wallet.balance:.2f}", f"{wallet.available:.2f}"


def test_a_hold_sets_money_aside_and_is_returned(asha, ravi, as_user):
    body = {"to_phone_number": ravi.phone, "amount": "400.00", "remarks": "A room", "expires_in": 3600}
    answer = as_user(asha).post(HOLDS, body)
    hold = answer.json()
    assert answer.status_code == 201
    assert (hold["amount"], hold["captured"], hold["remaining"]) == ("400.00", "0.00", "400.00")
    assert (hold["payer"], hold["payee"], hold["direction"]) == (asha.username, ravi.username, "OUT")
    assert (hold["status"], hold["remarks"], hold["closed_at"]) == ("OPEN", "A room", None)
    balance = as_user(asha).get("/wallet/balance/").json()
    assert (balance["balance"], balance["held"], balance["available"]) == ("1000.00", "400.00", "600.00")
    refusal = as_user(asha).post("/wallet/debit/", {"amount": "600.01"})
    assert (refusal.status_code, refusal.json()["code"]) == (400, "insufficient_funds")
    assert as_user(asha).post("/wallet/debit/", {"amount": "600.00"}).status_code == 200


def test_the_payee_captures_all_that_remains(asha, ravi, as_user, hold):
    pk = hold("400.00")
    receipt = as_user(ravi).post(f"{HOLDS}{pk}/capture/", {})
    assert receipt.status_code == 200, receipt.json()
    body = receipt.json()
    assert (body["transaction_type"], body["amount"], body["balance"]) == ("TRANSFER", "400.00", "400.00")
    assert body["hold"] == pk
    assert (money(asha), money(ravi)) == (("600.00", "600.00"), ("400.00", "400.00"))
    assert as_user(ravi).get(f"{HOLDS}{pk}/").json()["status"] == "CAPTURED"
    again = as_user(ravi).post(f"{HOLDS}{pk}/capture/", {})
    assert (again.status_code, again.json()["code"]) == (409, "hold_closed")


def test_it_is_captured_in_parts_and_the_last_releases_the_rest(asha, ravi, as_user, hold):
    pk = hold("100.00")
    capture = lambda **body: as_user(ravi).post(f"{HOLDS}{pk}/capture/", body)  # noqa: E731
    assert capture(amount="30.00", final=False).status_code == 200
    assert money(asha) == ("970.00", "900.00")
    assert capture(amount="70.01").json()["code"] == "capture_exceeds_hold"
    assert capture(amount="20.00").status_code == 200
    assert money(asha) == ("950.00", "950.00")
    shown = as_user(asha).get(f"{HOLDS}{pk}/").json()
    assert (shown["status"], shown["captured"], shown["remaining"]) == ("CAPTURED", "50.00", "0.00")


def test_a_capture_without_an_amount_takes_all_that_others_left(asha, ravi, as_user, hold):
    pk = hold("100.00")
    capture = lambda **body: as_user(ravi).post(f"{HOLDS}{pk}/capture/", body)  # noqa: E731
    assert capture(amount="30.00", final=False).status_code == 200
    assert capture().json()["amount"] == "70.00"
    assert (money(asha), money(ravi)) == (("900.00", "900.00"), ("100.00", "100.00"))


def test_a_voided_hold_is_released_and_cannot_be_captured(asha, ravi, as_user, hold):
    pk = hold("100.00")
    assert as_user(asha).post(f"{HOLDS}{pk}/void/").json()["code"] == "permission_denied"
    voided = as_user(ravi).post(f"{HOLDS}{pk}/void/", {})
    assert (voided.status_code, voided.json()["status"]) == (200, "VOIDED")
    assert money(asha) == ("1000.00", "1000.00")
    for verb in ("capture", "void"):
        assert as_user(ravi).post(f"{HOLDS}{pk}/{verb}/", {}).json()["code"] == "hold_closed"


def test_it_expires_to_the_second_by_itself(asha, ravi, as_user, hold, clock_at):
    pk = hold("1000.00", expires_in=60)
    created = Hold.objects.get().created_at
    clock_at(created + timedelta(seconds=59))
    assert as_user(asha).post("/wallet/debit/", {"amount": "1.00"}).json()["code"] == "insufficient_funds"
    clock_at(created + timedelta(seconds=60))
    assert as_user(ravi).post(f"{HOLDS}{pk}/capture/", {}).json()["code"] == "hold_closed"
    shown = as_user(asha).get(f"{HOLDS}{pk}/").json()
    assert (shown["status"], shown["remaining"]) == ("EXPIRED", "0.00")
    assert [row["id"] for row in as_user(asha).get(HOLDS, {"status": "expired"}).json()["results"]] == [pk]
    assert as_user(asha).get(HOLDS, {"status": "open"}).json()["results"] == []
    assert as_user(asha).get("/wallet/balance/").json()["available"] == "1000.00"
    assert Hold.objects.get().status == "OPEN"
    assert as_user(asha).post("/wallet/debit/", {"amount": "1000.00"}).status_code == 200
    assert Hold.objects.get().status == "EXPIRED"


def test_six_holds_of_a_thousand_do_not_fit_five_thousand(asha, ravi, as_user):
    as_user(asha).post("/wallet/credit/", {"amount": "4000.00"})
    body = {"to_phone_number": ravi.phone, "amount": "1000.00"}
    answers = [as_user(asha).post(HOLDS, body).status_code for _ in range(6)]
    assert answers == [201] * 5 + [400]


def test_a_repeated_key_shows_the_hold_as_it_is_now(asha, ravi, as_user):
    body = {"to_phone_number": ravi.phone, "amount": "10.00"}
    send = lambda **more: as_user(asha).post(HOLDS, body | more, headers={"Idempotency-Key": "k"})  # noqa: E731
    first = send()
    as_user(ravi).post(f"{HOLDS}{first.json()['id']}/void/", {})
    again = send()
    assert (again.status_code, again["Idempotent-Replayed"]) == (201, "true")
    assert (again.json()["id"], again.json()["status"]) == (first.json()["id"], "VOIDED")
    assert Hold.objects.count() == 1
    for change in ({"amount": "11.00"}, {"expires_in": 3600}, {"remarks": "Another"}):
        assert send(**change).json()["code"] == "idempotency_key_reused", change
    other = {"to_phone_number": ravi.phone, "amount": "10.00"}
    reused = as_user(asha).post("/wallet/transfer/", other, headers={"Idempotency-Key": "k"})
    assert reused.json()["code"] == "idempotency_key_reused"


@pytest.mark.parametrize("verb", ["capture", "void"])
def test_a_hold_of_others_and_one_that_does_not_exist_are_not_found(ravi, stranger, as_user, hold, verb):
    pk = hold("10.00")
    for user, which in ((stranger, pk), (ravi, pk + 1)):
        answer = as_user(user).post(f"{HOLDS}{which}/{verb}/", {})
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert as_user(ravi).get(f"{HOLDS}{pk}/").json()["status"] == "OPEN"


@pytest.mark.parametrize("verb", ["capture", "void"])
def test_a_key_is_for_one_hold_and_all_that_was_asked_of_it(ravi, as_user, hold, verb):
    first, second = hold("10.00"), hold("10.00")
    send = lambda pk, **body: as_user(ravi).post(f"{HOLDS}{pk}/{verb}/", body, headers={"Idempotency-Key": "k"})  # noqa: E731
    done = send(first)
    assert done.status_code == 200
    assert send(first).json() == done.json()
    assert send(second).json()["code"] == "idempotency_key_reused"
    for change in ({"amount": "10.00"}, {"final": False}) if verb == "capture" else ():
        assert send(first, **change).json()["code"] == "idempotency_key_reused", change
    assert as_user(ravi).get(f"{HOLDS}{second}/").json()["status"] == "OPEN"


@pytest.mark.parametrize("seconds", [59, 2592001, 0, -1, "600", 60.5, True, None])
def test_a_time_that_is_no_whole_number_of_seconds_within_bounds_is_refused(asha, ravi, as_user, seconds):
    body = {"to_phone_number": ravi.phone, "amount": "10.00", "expires_in": seconds}
    answer = as_user(asha).post(HOLDS, body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["expires_in"])


def test_staff_capture_and_void_for_others(asha, ravi, boss, as_user, hold):
    first, second = hold("10.00"), hold("20.00")
    assert as_user(boss).post(f"{HOLDS}{first}/capture/", {"amount": "4.00"}).json()["balance"] == "4.00"
    assert as_user(boss).post(f"{HOLDS}{second}/void/", {}).json()["status"] == "VOIDED"
    assert timezone.now() > Hold.objects.get(pk=second).closed_at
    assert money(asha) == ("996.00", "996.00")
    assert money(ravi)[0] == "4.00"


def test_staff_capture_for_a_payee_who_was_deactivated_and_the_payee_does_not(ravi, boss, hold):
    pk = hold("10.00")
    accounts.set_active(ravi, False)
    with pytest.raises(TokenNotValid):
        holds.capture(user_id=ravi.pk, hold_id=pk)
    holds.capture(user_id=boss.pk, hold_id=pk, as_staff=True)
    assert money(ravi)[0] == "10.00"


def test_the_log_says_how_much_of_a_hold_was_void(ravi, boss, as_user, hold):
    pk = hold("10.00")
    as_user(ravi).post(f"{HOLDS}{pk}/capture/", {"amount": "4.00", "final": False})
    as_user(boss).post(f"{HOLDS}{pk}/void/", {})
    assert audit.details(LogEntry.objects.get())["amount"] == "6.00"


@pytest.mark.parametrize("close", [holds.capture, holds.void])
def test_who_is_staff_closes_holds_of_others_only_as_staff(boss, hold, close):
    with pytest.raises(Http404):
        close(user_id=boss.pk, hold_id=hold("10.00"))


def test_a_refusal_says_how_much_is_set_aside(asha, as_user, hold):
    hold("400.00")
    detail = as_user(asha).post("/wallet/debit/", {"amount": "600.01"}).json()["detail"]
    assert detail == "The wallet holds 1000.00 (400.00 of it set aside), 600.01 was asked for."
