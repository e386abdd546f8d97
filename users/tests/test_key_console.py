"""Superusers create keys in the console and revoke them. Nobody else sees any."""

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from rest_framework.test import APIClient

from users.models import ApiKey, UserProfile

LIST, ADD = "/admin/users/apikey/", "/admin/users/apikey/add/"
FORM = {"account": "bank", "name": "nightly", "days": "90", "networks": ""}


@pytest.fixture
def console(boss):
    client = Client()
    client.force_login(boss)
    return client


def key_in(answer):
    return re.search(r"lk_[0-9a-f]{12}_[\w-]{43}", answer.content.decode())


def status_of(text):
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client.get("/wallet/admin/wallets/").status_code


def test_a_key_is_shown_once_works_and_is_revoked(console, boss):
    text = key_in(console.post(ADD, FORM))[0]
    assert status_of(text) == 200
    key = ApiKey.objects.get()
    assert (key.account.username, key.created_by) == ("bank", boss)
    page = f"{LIST}{key.pk}/"
    for path in (LIST, f"{page}change/", "/admin/"):
        assert not key_in(console.get(path))
    assert LogEntry.objects.filter(user=boss).count() == 1
    (revoke,) = set(re.findall(r'href="([^"]*revoke[^"]*)"', console.get(f"{page}change/").content.decode()))
    form = console.get(revoke).context["form"]
    filled = {"reason": "lost", "key": form.initial["key"]}
    console.post(revoke, filled)
    assert status_of(text) == 200  # not yet confirmed
    console.post(revoke, {**filled, "confirmed": ""})
    assert status_of(text) == 401
    assert LogEntry.objects.filter(user=boss).count() == 2


def test_the_secret_is_in_no_table(console):
    secret = key_in(console.post(ADD, FORM))[0].split("_", 2)[2]
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names():
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            assert secret not in repr(cursor.fetchall()), table


@pytest.mark.parametrize(
    "wrong", [{"account": "boss"}, {"networks": "10.0.0.1/8"}, {"days": "0"}, {"name": ""}, {"account": "a b"}]
)
def test_what_is_wrong_is_reported_and_nothing_created(console, wrong):
    answer = console.post(ADD, FORM | wrong)
    assert answer.status_code == 200
    assert not key_in(answer)
    assert not ApiKey.objects.exists()
    assert not UserProfile.objects.filter(is_service=True).exists()


def test_others_see_and_make_none(console, staff):
    console.post(ADD, FORM)
    staff.user_permissions.set(Permission.objects.all())
    client = Client()
    client.force_login(staff)
    page = f"{LIST}{ApiKey.objects.get().pk}/change/"
    assert {client.get(path).status_code for path in (LIST, ADD, page)} == {403}
    assert client.post(ADD, FORM).status_code == 403
    assert ApiKey.objects.count() == 1


def test_its_form_has_one_button(console):
    page = console.get(ADD).content.decode()
    assert [name for name in ("_save", "_continue", "_addanother") if f'name="{name}"' in page] == ["_save"]
