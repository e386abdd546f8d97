"""Staff change accounts, and nobody gains rights by it."""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client

from lokanetra.tests.live import at_once
from users import accounts, admin
from users.exceptions import LastSuperuser
from users.models import UserProfile

URL = "/auth/admin/users/{}/"


@pytest.fixture
def support(staff):
    staff.user_permissions.add(Permission.objects.get(codename="change_userprofile"))
    return staff


def test_support_deactivates_an_account_with_immediate_effect(support, asha, as_user):
    hers = as_user(asha)
    answer = as_user(support).patch(URL.format(asha.pk), {"is_active": False})
    assert (answer.status_code, answer.json()["is_active"]) == (200, False)
    assert hers.get("/wallet/balance/").json()["code"] == "token_not_valid"


def test_a_new_phone_ends_the_logins_and_is_logged(support, asha, as_user):
    hers = as_user(asha)
    answer = as_user(support).patch(URL.format(asha.pk), {"phone_number": "09444444444"})
    assert answer.json()["phone_number"] == "9444444444"
    assert hers.get("/wallet/balance/").status_code == 401
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (support, str(asha.pk))
    assert json.loads(entry.change_message) == {
        "what": "account",
        "before": {"phone_number": "+919999999999"},
        "after": {"phone_number": "+919444444444"},
    }


def test_a_taken_phone_changes_nothing(boss, asha, ravi, as_user):
    answer = as_user(boss).patch(URL.format(asha.pk), {"phone_number": "9888888888", "first_name": "Asha"})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["phone_number"]
    asha.refresh_from_db()
    assert (asha.phone_number, asha.first_name) == ("+919999999999", "")


@pytest.mark.parametrize("changes", [{"is_staff": True}, {"is_staff": True, "first_name": "Asha"}])
def test_only_a_superuser_makes_staff(support, boss, asha, as_user, changes):
    assert as_user(support).patch(URL.format(asha.pk), changes).status_code == 403
    asha.refresh_from_db()
    assert (asha.is_staff, asha.first_name) == (False, "")
    assert as_user(boss).patch(URL.format(asha.pk), changes).json()["is_staff"] is True


def test_support_changes_no_account_with_rights_not_even_its_own(support, boss, as_user):
    merely_superuser = accounts.create(phone_number="+919444444444", is_superuser=True)
    for other in (support, boss, merely_superuser):
        assert as_user(support).patch(URL.format(other.pk), {"first_name": "X"}).status_code == 403


def test_rights_cannot_be_taken_from_the_body(boss, asha, as_user):
    answer = as_user(boss).patch(URL.format(asha.pk), {"is_superuser": True, "username": "root", "password": "x"})
    assert answer.status_code == 400
    assert set(answer.json()["errors"]) == {"is_superuser", "username", "password"}
    asha.refresh_from_db()
    assert (asha.is_superuser, asha.username) == (False, "user_9999999999")


def test_a_change_of_nothing_is_none_and_leaves_no_entry(boss, asha, as_user):
    assert as_user(boss).patch(URL.format(asha.pk), {}).status_code == 200
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("value", ["true", 1, None, [], {}])
def test_a_flag_is_a_json_boolean(boss, asha, as_user, value):
    answer = as_user(boss).patch(URL.format(asha.pk), {"is_active": value})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["is_active"]


def test_an_account_that_is_not_there_is_404(boss, as_user):
    assert as_user(boss).patch(URL.format(10**17), {"first_name": "X"}).status_code == 404


# --- One active superuser remains ------------------------------------------------------------------------


def count_superusers():
    return UserProfile.objects.filter(is_active=True, is_staff=True, is_superuser=True).count()


@pytest.fixture
def second(db):
    """Another superuser."""
    return UserProfile.objects.create_superuser("second", password="correct horse")


@pytest.mark.parametrize("field", ["is_active", "is_staff"])
def test_the_last_superuser_cannot_deactivate_himself(boss, as_user, field):
    client = as_user(boss)
    answer = client.patch(URL.format(boss.pk), {field: False, "first_name": "Gone"})
    assert (answer.status_code, answer.json()["code"], list(answer.json()["errors"])) == (
        400,
        "validation_error",
        [field],
    )
    boss.refresh_from_db()
    assert (count_superusers(), boss.first_name) == (1, "")
    assert client.get("/auth/me/").status_code == 200


@pytest.mark.parametrize("field", ["is_active", "is_staff", "is_superuser"])
def test_nor_in_the_console(boss, field):
    console = Client()
    console.force_login(boss)
    form = {"username": "boss", "phone_number": "9555555555", "is_active": "on", "is_staff": "on", "is_superuser": "on"}
    path = f"/admin/users/userprofile/{boss.pk}/change/"
    refused = console.post(path, {name: value for name, value in form.items() if name != field}, follow=True)
    assert refused.redirect_chain == [(path, 302)]
    assert "last active superuser" in refused.content.decode()
    assert count_superusers() == 1


@pytest.mark.parametrize("change", [{"is_active": False}, {"is_staff": False}])
def test_an_inactive_superuser_does_not_count(boss, second, as_user, change):
    accounts.change(second, **change)
    assert as_user(boss).patch(URL.format(boss.pk), {"is_active": False}).status_code == 400


def test_with_another_superuser_one_may_go(boss, second, as_user):
    assert as_user(boss).patch(URL.format(boss.pk), {"is_active": False}).status_code == 200
    assert count_superusers() == 1


def test_who_may_not_learns_nothing_of_superusers(support, boss, as_user):
    assert as_user(support).patch(URL.format(boss.pk), {"is_active": False}).status_code == 403


@pytest.mark.django_db(transaction=True)
def test_of_two_who_deactivate_each_other_at_once_one_stays(boss, second):
    def deactivate(by, other):
        try:
            accounts.administer(by=by, user_id=other.pk, is_active=False)
            return "out"
        except LastSuperuser:
            return "refused"
        finally:
            connection.close()

    for _ in range(5):
        UserProfile.objects.filter(is_superuser=True).update(is_active=True)
        outcomes = at_once(lambda: deactivate(boss, second), lambda: deactivate(second, boss))
        assert (sorted(outcomes), count_superusers()) == (["out", "refused"], 1)


@pytest.mark.parametrize(
    ("state", "text"),
    [
        (None, ""),
        ("FROZEN", "FROZEN"),
        ({"username": "asha", "phone_number": None}, "username: asha; phone_number: none"),
        ({"groups": ["Finance", "Support"], "rights": []}, "groups: Finance, Support; rights: none"),
    ],
)
def test_a_logged_state_is_shown_as_text(state, text):
    assert admin._readable(state) == text
