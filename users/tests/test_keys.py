"""Machines make staff calls with keys, and a key is accepted for nothing else."""

import logging
import re
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied, ValidationError
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone
from rest_framework.test import APIClient

from users import accounts, keys
from users.models import ApiKey, UserProfile

CREDIT = "/wallet/admin/wallets/{}/credit/"
ADJUSTMENT = {"amount": "5.00", "remarks": "settlement"}
LIST = "/wallet/admin/wallets/"


@pytest.fixture
def robot(db):
    account = keys.service_account("settlement")
    keys.grant(account, "wallet.adjust_wallet")
    return account


@pytest.fixture
def made(robot):
    return keys.create(robot, name="nightly")


def by(text, **headers):
    client = APIClient(**headers)
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def code_of(client, path=LIST):
    answer = client.get(path)
    return answer.status_code, answer.json().get("code")


REFUSED = (401, "token_not_valid")


def test_a_key_acts_as_its_account_which_the_audit_names(made, robot, asha):
    answer = by(made[1]).post(CREDIT.format(asha.wallet.pk), ADJUSTMENT, format="json")
    assert (answer.status_code, answer.json()["balance"]) == (200, "1005.00")
    assert LogEntry.objects.filter(user=robot, object_id=str(asha.wallet.pk)).count() == 1


def test_a_key_has_no_rights_but_those_of_its_account(made, asha):
    answer = by(made[1]).post(f"{LIST}{asha.wallet.pk}/freeze/", {"reason": "x"}, format="json")
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path",
    [
        "/wallet/balance/",
        "/auth/me/",
        "/wallet/limits/",
        "/wallet/holds/",
        "/wallet/requests/",
        "/transactions/",
        "/transactions/export/",
    ],
)
def test_a_key_is_refused_for_calls_of_users(made, path):
    assert code_of(by(made[1]), path) == REFUSED


@pytest.mark.parametrize("path", ["/auth/logout-all/", "/auth/logout/", "/wallet/credit/", "/wallet/transfer/"])
def test_a_key_ends_no_login_and_pays_nothing_of_its_own(made, path):
    assert by(made[1]).post(path, {}, format="json").status_code == 401


def test_a_key_is_no_refresh_token(made, nobody):
    answer = nobody.post("/auth/token/refresh/", {"refresh": made[1]}, format="json")
    assert (answer.status_code, answer.json()["code"]) == REFUSED


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"),
        lambda text: text[:3] + "000000000000" + text[15:],
        lambda text: text[:15],
        lambda text: "lk_",
        lambda text: text + "x" * 200,
        lambda text: text + "é",
        lambda text: text[:5] + "\0" + text[6:],
    ],
)
def test_a_wrong_key_is_refused(made, spoil):
    assert code_of(by(spoil(made[1]))) == REFUSED


def spoiled(**fields):
    return lambda key: UserProfile.objects.filter(pk=key.account_id).update(**fields)


@pytest.mark.parametrize(
    "end",
    [
        lambda key: ApiKey.objects.update(expires_at=timezone.now()),
        lambda key: ApiKey.objects.update(networks="192.0.2.0/24"),
        spoiled(is_active=False),
        spoiled(is_superuser=True),
        spoiled(is_staff=False),
        spoiled(is_service=False),
    ],
)
def test_a_key_that_counts_no_more_is_refused_in_the_same_words(made, end):
    assert code_of(by(made[1])) == (200, None)
    right = by(made[1]).get(LIST)
    assert right.status_code == 200
    end(made[0])
    wrong = by("lk_000000000000_x").get(LIST)
    assert by(made[1]).get(LIST).content == wrong.content
    assert code_of(by(made[1])) == REFUSED


def test_a_revoked_key_is_out_at_its_next_request(made, boss, robot):
    assert keys.revoke(ApiKey.objects.all(), by=boss) == 1
    assert code_of(by(made[1])) == REFUSED
    assert keys.revoke(ApiKey.objects.all(), by=boss) == 0
    assert LogEntry.objects.filter(user=boss).count() == 1
    with pytest.raises(PermissionDenied):
        keys.revoke(ApiKey.objects.all(), by=robot)


def test_a_key_works_from_its_networks_alone(robot, settings):
    _, text = keys.create(robot, name="near", networks="127.0.0.0/8, 2001:db8::/32")
    assert code_of(by(text)) == (200, None)
    assert code_of(by(text, REMOTE_ADDR="::ffff:127.0.0.9")) == (200, None)
    assert code_of(by(text, REMOTE_ADDR="192.0.2.1")) == REFUSED
    assert code_of(by(text, REMOTE_ADDR="192.0.2.1", HTTP_X_FORWARDED_FOR="127.0.0.1")) == REFUSED
    assert code_of(by(text, REMOTE_ADDR="")) == REFUSED


def test_a_key_costs_no_more_queries_than_a_token(made, staff, as_user, django_assert_num_queries):
    client, path = by(made[1]), "/wallet/admin/tiers/"
    client.get(path)
    as_staff = as_user(staff)
    as_staff.get(path)
    with django_assert_num_queries(3):
        as_staff.get(path)
    with django_assert_num_queries(3):
        client.get(path)


def test_its_last_use_is_written_down_once_a_minute(made):
    by(made[1]).get(LIST)
    first = ApiKey.objects.get().last_used_at
    by(made[1]).get(LIST)
    assert ApiKey.objects.get().last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    by(made[1]).get(LIST)
    assert ApiKey.objects.get().last_used_at >= first


def test_a_key_has_a_rate_limit_of_its_own(made, staff, as_user, settings):
    settings.API_RATE_LIMIT, settings.SERVICE_RATE_LIMIT = (1, 60), (2, 60)
    assert [by(made[1]).get(LIST).status_code for _ in range(3)] == [200, 200, 429]
    assert [as_user(staff).get(LIST).status_code for _ in range(2)] == [200, 429]


def test_a_machine_makes_nobody_superuser_and_no_phone_of_its_own(made, robot, boss, asha, as_user):
    keys.grant(robot, "users.change_userprofile")
    for user in (robot, asha):
        answer = by(made[1]).patch(f"/auth/admin/users/{user.pk}/", {"is_superuser": True}, format="json")
        assert answer.status_code in (400, 403)
    for change in ({"phone_number": "+919444444444"}, {"is_superuser": True}):
        with pytest.raises(ValidationError):
            accounts.administer(by=boss, user_id=robot.pk, **change)
    with pytest.raises(ValidationError):
        accounts.assign_phones({robot.username: "+919444444444"})
    robot.refresh_from_db()
    assert (robot.is_superuser, robot.phone_number) == (False, None)


def test_a_machine_never_opens_the_console(made, robot):
    robot.set_password("correct horse")  # even if somebody sets one
    robot.save()
    client = Client()
    answer = client.post("/admin/login/", {"username": robot.username, "password": "correct horse"})
    assert answer.status_code == 200
    assert "_auth_user_id" not in client.session
    client.force_login(robot)
    assert client.get("/admin/").status_code == 302
    assert by(made[1]).get("/admin/").status_code == 302


def test_only_service_accounts_have_keys_and_only_superusers_make_them(robot, asha, boss, staff):
    for person in (asha, boss):
        with pytest.raises(ValidationError):
            keys.create(person, name="x")
    for person in (staff, robot):
        with pytest.raises(PermissionDenied):
            keys.create(robot, name="x", by=person)
    with pytest.raises(ValidationError):
        keys.service_account("boss")


def test_the_secret_is_nowhere_in_the_database_and_the_log(made, asha, caplog):
    text = made[1]
    secret = text.split("_", 2)[2]
    with caplog.at_level(logging.INFO):
        by(text).post(CREDIT.format(asha.wallet.pk), ADJUSTMENT, format="json")
        by(text + "x").get(LIST)
    assert secret not in caplog.text
    tables = connection.introspection.table_names()
    with connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"SELECT * FROM {connection.ops.quote_name(table)}")
            assert secret not in repr(cursor.fetchall()), table


def test_a_key_in_a_log_line_is_masked(made):
    from lokanetra.logs import mask

    assert mask(f"got {made[1]} here") == "got [token] here"


# --- The command --------------------------------------------------------------------------------------


def test_the_command_makes_account_rights_and_key_and_shows_the_key_alone(asha, capsys):
    call_command("create_key", "bank", name="nightly", permission=["wallet.adjust_wallet"], network=["127.0.0.0/8"])
    output = capsys.readouterr()
    assert re.fullmatch(r"lk_[0-9a-f]{12}_[\w-]{43}\n", output.out)
    assert output.out.strip() not in output.err
    answer = by(output.out.strip()).post(CREDIT.format(asha.wallet.pk), ADJUSTMENT, format="json")
    assert answer.status_code == 200
    account = UserProfile.objects.get(username="bank")
    assert (account.is_service, account.is_superuser, account.has_usable_password()) == (True, False, False)
    assert ApiKey.objects.get().expires_at - timezone.now() > timedelta(days=364)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"permission": ["wallet.adjust_walet"]}, "wallet.adjust_wallet"),
        ({"network": ["10.0.0.1/8"]}, "host bits"),
        ({"days": 0}, "days"),
        ({"name": ""}, "blank"),
    ],
)
def test_the_command_says_what_is_wrong_and_makes_nothing(db, options, complaint):
    with pytest.raises(CommandError, match=complaint):
        call_command("create_key", "bank", **{"name": "nightly", **options})
    assert not UserProfile.objects.exists()


def test_the_indexes_of_searches_are_still_there(db):
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, "users_userprofile")
    assert {"users_phone_ending", "users_first_name", "users_last_name"} <= set(found)


def test_rights_are_ordinary_permissions(robot):
    assert list(robot.user_permissions.all()) == [Permission.objects.get(codename="adjust_wallet")]
