"""Support finds people by how a username, phone or name begins, and by the last digits of a phone."""

from importlib import import_module

import pytest
from django.db import connection, migrations
from django.test import Client
from django.utils import timezone

from users import accounts, tokens
from users.models import OTP, UserProfile

indexes = import_module("users.migrations.0002_search_indexes")


@pytest.fixture
def people(db):
    """kavya in India, maya in America, and staff with no phone."""
    kavya = accounts.create(phone_number="+919876543210", username="kavya", first_name="Kavya", last_name="Rao")
    maya = accounts.create(phone_number="+12015553210", username="maya", first_name="कावेरी", last_name="O'Hara")
    for user in (kavya, maya):
        OTP.objects.create(phone_number=user.phone_number, created_at=timezone.now(), expires_at=timezone.now())
        tokens.issue(user)


@pytest.fixture
def console(people):
    client = Client()
    client.force_login(UserProfile.objects.create_superuser("boss", password=None))
    return client


FOUND = {
    "3210": {"kavya", "maya"},
    "543210": {"kavya"},
    "43 210": {"kavya"},
    "(55) 53210": {"maya"},
    "987654321": {"kavya"},
    "+1 201": {"maya"},
    "210": set(),
    "+3210": set(),
    "x3210": set(),
    "५३२१०": set(),
    "3211": set(),
    "0543210": set(),
}
NAMES = {"rao": {"kavya"}, "KAV": {"kavya"}, "o'h": {"maya"}, "कावे": {"maya"}, "Ra%": set(), "ya": set()}


@pytest.mark.parametrize(("text", "names"), (FOUND | NAMES).items())
def test_the_api_finds_accounts(people, staff, as_user, text, names):
    rows = as_user(staff).get("/auth/admin/users/", {"search": text}).json()["results"]
    assert {row["username"] for row in rows} == names


@pytest.mark.parametrize(("text", "names"), FOUND.items())
@pytest.mark.parametrize("page", ["users/userprofile", "users/otp", "users/login", "wallet/wallet"])
def test_the_console_finds_accounts_codes_logins_and_wallets(console, page, text, names):
    found = console.get(f"/admin/{page}/", {"q": text}).context["cl"].result_list
    phones = set(UserProfile.objects.filter(username__in=names).values_list("phone_number", flat=True))
    assert {getattr(row, "user", row).phone_number for row in found} == phones


def names_of_indexes():
    with connection.cursor() as cursor:
        tables = (indexes.USERS, indexes.CODES)
        return {name for table in tables for name in connection.introspection.get_constraints(cursor, table)}


def test_no_later_migration_lost_the_indexes(db):
    made = indexes.POSTGRESQL if connection.vendor == "postgresql" else indexes.SQLITE
    assert set(made) <= names_of_indexes()


@pytest.mark.django_db(transaction=True)
def test_the_indexes_can_be_recreated_and_dropped():
    made = indexes.POSTGRESQL if connection.vendor == "postgresql" else indexes.SQLITE
    (operation,) = indexes.Migration.operations
    assert isinstance(operation, migrations.RunPython)
    with connection.schema_editor(atomic=False) as editor:
        indexes.create(None, editor)  # as after a run that broke off
        assert set(made) <= names_of_indexes()
        indexes.drop(None, editor)
        assert not set(made) & names_of_indexes()
        indexes.create(None, editor)
    assert set(made) <= names_of_indexes()
