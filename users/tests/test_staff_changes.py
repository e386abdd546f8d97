"""Staff change accounts, and nobody gains rights by it."""

import json

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission

URL = "/auth/admin/users/{}/"


@pytest.fixture
def support(staff):
    staff.user_permissions.add(Permission.objects.get(codename="change_userprofile"))
    return staff


def test_support_deactivates_an_account_which_is_out_at_once(support, asha, as_user):
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


def test_support_touches_no_account_with_rights_not_even_its_own(support, boss, as_user):
    for other in (support, boss):
        assert as_user(support).patch(URL.format(other.pk), {"first_name": "X"}).status_code == 403


def test_rights_cannot_be_taken_from_the_body(boss, asha, as_user):
    answer = as_user(boss).patch(URL.format(asha.pk), {"is_superuser": True, "username": "root", "password": "x"})
    assert answer.status_code == 200
    asha.refresh_from_db()
    assert (asha.is_superuser, asha.username) == (False, "user_9999999999")


@pytest.mark.parametrize("value", ["true", 1, None, [], {}])
def test_a_flag_is_a_json_boolean(boss, asha, as_user, value):
    answer = as_user(boss).patch(URL.format(asha.pk), {"is_active": value})
    assert answer.status_code == 400
    assert list(answer.json()["errors"]) == ["is_active"]


def test_an_account_that_is_not_there_is_404(boss, as_user):
    assert as_user(boss).patch(URL.format(10**17), {"first_name": "X"}).status_code == 404
