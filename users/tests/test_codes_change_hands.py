"""A code belongs to the account that had its number when it was requested: it does not follow the number to another."""

import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from lokanetra.tests.live import Live, at_once
from users import accounts, otp, tokens
from users.models import OTP, Login, UserProfile

PHONE, OTHER, FREE = "9999999999", "9888888888", "9222222222"
INVALID = (400, "otp_invalid")


def code_for(phone: str) -> str:
    return APIClient().post("/auth/send-otp/", {"phone_number": phone}).json()["otp"]


def verify(phone: str, code: str) -> Any:
    return APIClient().post("/auth/verify-otp/", {"phone_number": phone, "otp": code})


def refused(response: Any) -> bool:
    return (response.status_code, response.json().get("code")) == INVALID


class Api:
    """Staff at the API. All of these do the same."""

    def __init__(self, boss: UserProfile, folder: Any) -> None:
        self.client = APIClient(HTTP_AUTHORIZATION=f"Bearer {tokens.issue(boss)['access']}")

    def assign(self, user: UserProfile, phone: str) -> None:
        self._patch(user, phone_number=phone)

    def activate(self, user: UserProfile, active: bool) -> None:
        self._patch(user, is_active=active)

    def create(self, phone: str) -> None:
        made = self.client.post("/auth/admin/users/", {"phone_number": phone, "username": "new"})
        assert made.status_code == 201

    def _patch(self, user: UserProfile, **changes: Any) -> None:
        assert self.client.patch(f"/auth/admin/users/{user.pk}/", changes).status_code == 200


class Console:
    def __init__(self, boss: UserProfile, folder: Any) -> None:
        self.client = Client()
        self.client.force_login(boss)

    def assign(self, user: UserProfile, phone: str | None) -> None:
        self._change(user, phone_number=phone or "")

    def activate(self, user: UserProfile, active: bool) -> None:
        self._change(user, is_active="on" if active else "")

    def create(self, phone: str) -> None:
        form = {"username": "new", "phone_number": phone, "usable_password": "false"}
        assert self.client.post("/admin/users/userprofile/add/", form).status_code == 302

    def _change(self, user: UserProfile, **changes: str) -> None:
        user.refresh_from_db()
        form = {"username": user.username, "phone_number": user.phone_number or "", "is_active": "on", **changes}
        form = {name: value for name, value in form.items() if value or name != "is_active"}
        assert self.client.post(f"/admin/users/userprofile/{user.pk}/change/", form).status_code == 302


class Script:
    def __init__(self, boss: UserProfile, folder: Any) -> None:
        self.folder = folder

    def assign(self, user: UserProfile, phone: str) -> None:
        call_command("assign_phone", user.username, phone)

    def swap(self, first: UserProfile, second: UserProfile) -> None:
        first.refresh_from_db(), second.refresh_from_db()
        path = self.folder / "phones.csv"
        path.write_text(
            f"username,phone_number\n{first.username},{second.phone_number}\n{second.username},{first.phone_number}\n"
        )
        call_command("assign_phone", "--file", str(path))


@pytest.fixture(params=[Api, Console, Script])
def by(request, boss, tmp_path):
    return request.param(boss, tmp_path)


@pytest.fixture
def handed_over(by, asha, ravi) -> Callable[[], None]:
    """Asha's number becomes Ravi's."""

    def hand_over() -> None:
        by.assign(asha, FREE)
        by.assign(ravi, PHONE)

    return hand_over


def at_the_statement(beginning: str, action: Callable[[], Any]) -> Any:
    """Calls the action once, just before the first statement that begins like this."""
    done: list[bool] = []

    def wrapper(execute: Any, sql: str, *rest: Any) -> Any:
        if sql.startswith(beginning) and not done:
            done.append(True)
            action()
        return execute(sql, *rest)

    return connection.execute_wrapper(wrapper)


# --- In order ------------------------------------------------------------------------------------------


def test_an_old_code_does_not_open_the_account_of_the_new_owner(handed_over, ravi):
    code = code_for(PHONE)
    handed_over()
    assert refused(verify(PHONE, code))
    assert not Login.objects.filter(user=ravi).exists()
    assert verify(PHONE, code_for(PHONE)).json()["user"]["id"] == ravi.pk


def test_nor_does_one_that_is_sent_repeatedly(handed_over):
    codes = [code_for(PHONE) for _ in range(3)]
    handed_over()
    assert all(refused(verify(PHONE, code)) for code in codes)


def test_codes_of_swapped_numbers_are_invalid(asha, ravi, boss, tmp_path):
    codes = {phone: code_for(phone) for phone in (PHONE, OTHER)}
    Script(boss, tmp_path).swap(asha, ravi)
    assert all(refused(verify(phone, code)) for phone, code in codes.items())
    assert verify(PHONE, code_for(PHONE)).json()["user"]["id"] == ravi.pk


def test_a_number_that_comes_back_makes_no_code_valid_again(by, asha):
    code = code_for(PHONE)
    by.assign(asha, FREE)
    by.assign(asha, PHONE)
    assert refused(verify(PHONE, code))


def test_a_code_of_the_new_number_from_before_it_was_assigned_is_invalid(by, asha):
    code = code_for(FREE)
    by.assign(asha, FREE)
    assert refused(verify(FREE, code))
    assert verify(FREE, code_for(FREE)).json()["user"]["id"] == asha.pk


@pytest.mark.parametrize("kind", [Api, Console])
def test_a_code_from_before_staff_created_the_account_is_invalid(kind, boss, tmp_path):
    code = code_for(FREE)
    kind(boss, tmp_path).create(FREE)
    assert refused(verify(FREE, code))
    assert verify(FREE, code_for(FREE)).json()["user"]["username"] == "new"


@pytest.mark.parametrize("kind", [Api, Console])
def test_a_number_taken_away_invalidates_its_codes(kind, boss, asha, tmp_path):
    code = code_for(PHONE)
    Console(boss, tmp_path).assign(asha, None)
    before = UserProfile.objects.count()
    assert refused(verify(PHONE, code))
    assert UserProfile.objects.count() == before
    kind(boss, tmp_path).create(PHONE)
    assert refused(verify(PHONE, code))


@pytest.mark.parametrize("kind", [Api, Console])
def test_reactivation_makes_no_code_valid_again(kind, boss, asha, tmp_path):
    code, staff = code_for(PHONE), kind(boss, tmp_path)
    staff.activate(asha, False)
    staff.activate(asha, True)
    assert refused(verify(PHONE, code))
    assert verify(PHONE, code_for(PHONE)).status_code == 200


def test_codes_of_others_and_of_accounts_that_were_merely_edited_stay_valid(boss, asha, ravi, as_user, tmp_path):
    hers, his = code_for(PHONE), code_for(OTHER)
    Script(boss, tmp_path).assign(asha, FREE)
    assert as_user(boss).patch(f"/auth/admin/users/{ravi.pk}/", {"first_name": "Ravi"}).status_code == 200
    assert refused(verify(PHONE, hers))
    assert verify(OTHER, his).json()["user"]["id"] == ravi.pk


# --- In the middle of another call ---------------------------------------------------------------------


def test_a_code_that_is_being_delivered_is_invalid(handed_over):
    with at_the_statement(otp.DELIVERED, handed_over):
        code = code_for(PHONE)
    assert OTP.objects.get().sent_at
    assert refused(verify(PHONE, code))


@pytest.mark.parametrize("step", [otp.TRY, otp.USE])
def test_a_code_that_is_being_verified_is_invalid(handed_over, ravi, step):
    code = code_for(PHONE)
    with at_the_statement(step, handed_over):
        assert refused(verify(PHONE, code))
    assert not Login.objects.filter(user=ravi).exists()


def test_a_number_taken_away_in_between_gets_no_new_account(boss, asha, tmp_path):
    code, before = code_for(PHONE), UserProfile.objects.count()
    with at_the_statement(otp.USE, lambda: Console(boss, tmp_path).assign(asha, None)):
        assert refused(verify(PHONE, code))
    assert UserProfile.objects.count() == before


@pytest.mark.parametrize("kind", [Api, Console])
def test_an_account_that_staff_create_in_between_is_not_logged_in_to(kind, boss, tmp_path):
    code = code_for(FREE)
    with at_the_statement(otp.USE, lambda: kind(boss, tmp_path).create(FREE)):
        assert refused(verify(FREE, code))


# --- At once -------------------------------------------------------------------------------------------


def closing(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call on a database connection of its own."""

    def run() -> Any:
        try:
            return call()
        finally:
            connection.close()

    return run


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("lead", [-0.02, -0.01, 0, 0.01, 0.02])
def test_in_either_order_the_login_is_of_the_old_owner_and_ended(asha, ravi, lead):
    for _ in range(4):
        accounts.assign_phone(asha, f"+91{FREE}")
        accounts.assign_phone(ravi, f"+91{OTHER}")
        accounts.assign_phone(asha, f"+91{PHONE}")
        code = code_for(PHONE)

        def late_verify(code: str = code) -> Any:
            time.sleep(max(0, lead))
            return verify(PHONE, code)

        def late_swap() -> None:
            time.sleep(max(0, -lead))
            accounts.assign_phones({asha.username: f"+91{OTHER}", ravi.username: f"+91{PHONE}"})

        answer, _ = at_once(closing(late_verify), closing(late_swap))
        assert refused(answer) or answer.json()["user"]["id"] == asha.pk
        assert not Login.objects.filter(ended_at=None).exists()
        assert answer.status_code == 400 or not alive(answer.json())


def alive(pair: dict[str, Any]) -> bool:
    me = APIClient(HTTP_AUTHORIZATION=f"Bearer {pair['access']}").get("/auth/me/")
    refreshed = APIClient().post("/auth/token/refresh/", {"refresh": pair["refresh"]})
    return 200 in (me.status_code, refreshed.status_code)


@pytest.fixture(scope="module")
def boss_token(live: Live) -> str:
    live.run(
        "env", "DJANGO_SUPERUSER_PASSWORD=correct horse", sys.executable, "manage.py", "createsuperuser",
        "--no-input", "--username", "registrar", "--email", "r@example.com",
    )  # fmt: skip
    live.run("scripts/assign_phone.sh", "registrar", "9000000077")
    return live.log_in("9000000077")


def sent(live: Live, phone: str) -> str:
    assert live.post("/auth/send-otp/", {"phone_number": phone}).status == 201
    return live.codes[phone]


def test_a_number_handed_on_while_its_code_is_used_lets_nobody_into_the_new_account(live: Live, boss_token: str):
    def account(phone: str) -> int:
        made = live.post("/auth/admin/users/", {"phone_number": phone}, boss_token)
        assert made.status == 201, made
        return made.body["id"]

    def assign(user: int, phone: str) -> None:
        changed = live.call("PATCH", f"/auth/admin/users/{user}/", {"phone_number": phone}, boss_token)
        assert changed.status == 200, changed

    for n in range(12):
        phone, spare = f"98111000{n:02}", f"98111001{n:02}"
        old, new = account(phone), account(f"98111002{n:02}")
        code = sent(live, phone)

        def hand_over(old: int = old, new: int = new, phone: str = phone, spare: str = spare) -> None:
            assign(old, spare)
            assign(new, phone)

        def use(phone: str = phone, code: str = code, n: int = n) -> Any:
            time.sleep(n * 0.004)
            return live.post("/auth/verify-otp/", {"phone_number": phone, "otp": code})

        answer, _ = at_once(use, hand_over)
        assert answer.code == "otp_invalid" or answer.body["user"]["id"] == old, answer
        if answer.status == 200:
            assert live.call("GET", "/auth/me/", token=answer.body["access"]).status == 401
            assert live.post("/auth/token/refresh/", {"refresh": answer.body["refresh"]}).status == 401


def test_an_account_that_staff_create_while_a_code_is_used_is_not_logged_in_to(live: Live, boss_token: str):
    for n in range(12):
        phone = f"98112000{n:02}"
        code = sent(live, phone)

        def make(phone: str = phone) -> Any:
            return live.post("/auth/admin/users/", {"phone_number": phone, "username": f"made{phone}"}, boss_token)

        def use(phone: str = phone, code: str = code, n: int = n) -> Any:
            time.sleep(n * 0.002)
            return live.post("/auth/verify-otp/", {"phone_number": phone, "otp": code})

        made, answer = at_once(make, use)
        assert (made.status, answer.status) in [(201, 400), (400, 200)], (made, answer)
        assert answer.code == "otp_invalid" or answer.body["user"]["username"] == f"user_{phone}"
