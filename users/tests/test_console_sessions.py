"""A session of the console ends with the account's other logins, and after half a day."""

from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone

from users import accounts, tokens

USERS = "/admin/users/userprofile/"


@pytest.fixture
def console(boss):
    client = Client()
    client.force_login(boss)
    return client


def is_logged_out(client):
    page = client.get(USERS)
    return page.status_code == 302 and page["Location"] == f"/admin/login/?next={USERS}"


@pytest.mark.parametrize(
    "action",
    [
        lambda boss, api: api.post("/auth/logout-all/"),
        lambda boss, api: accounts.assign_phone(boss, "+919111111111"),
        lambda boss, api: accounts.assign_phones({"boss": "+919111111111"}),
        lambda boss, api: accounts.set_active(boss, False),
    ],
    ids=["logout-all", "a new phone", "the script", "deactivation"],
)
def test_what_ends_all_logins_ends_the_sessions_of_the_console(console, boss, as_user, action):
    assert not is_logged_out(console)
    action(boss, as_user(boss))
    assert is_logged_out(console)
    accounts.set_active(boss, True)
    assert is_logged_out(console)


def test_it_ends_at_the_api_too(console, boss):
    assert console.get("/auth/admin/users/").status_code == 200
    tokens.end_all(boss)
    assert console.get("/auth/admin/users/").status_code in (401, 403)


def test_a_log_out_of_one_login_and_of_others_leaves_it(console, boss, asha, as_user):
    pair = tokens.issue(boss)
    tokens.end(pair["refresh"], boss)
    as_user(asha).post("/auth/logout-all/")
    assert not is_logged_out(console)


def test_a_new_phone_of_ones_own_in_the_console_says_to_log_in_again(console, boss):
    form = {"username": "boss", "phone_number": "9111111111", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    assert console.post(f"{USERS}{boss.pk}/change/", form).status_code == 302
    page = console.get(USERS, follow=True)
    assert page.request["PATH_INFO"] == "/admin/login/"
    assert "log in again" in page.content.decode()
    assert console.post("/admin/login/", {"username": "boss", "password": "correct horse"}).status_code == 302
    assert not is_logged_out(console)


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("change/", {"username": "chief", "first_name": "Chief", "phone_number": "9555555555"}),
        ("password/", {"password1": "a long enough one", "password2": "a long enough one", "usable_password": "true"}),
    ],
)
def test_who_changes_his_own_name_or_password_there_stays(console, boss, path, form):
    rights = {"is_active": "on", "is_staff": "on", "is_superuser": "on"}
    assert console.post(f"{USERS}{boss.pk}/{path}", rights | form).status_code == 302
    assert not is_logged_out(console)


@pytest.mark.parametrize(("hours", "out"), [(11, False), (13, True)])
def test_it_ends_after_half_a_day(console, monkeypatch, hours, out):
    later = timezone.now() + timedelta(hours=hours)
    monkeypatch.setattr(timezone, "now", lambda: later)
    assert is_logged_out(console) is out
