"""Accounts: one's own profile, the accounts as staff see and create them, a wallet for each, a phone by command."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from users import accounts, tokens
from users.models import UserProfile
from wallet.models import Wallet

pytestmark = pytest.mark.django_db

USERS = "/auth/admin/users/"
PROFILE = {"id", "username", "phone_number", "first_name", "last_name", "email"}
NEW_PHONE, NEW_E164 = "9111111111", "+919111111111"


def names(response):
    assert response.status_code == 200
    return [row["username"] for row in response.json()["results"]]


def refused_fields(response):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, "validation_error")
    return set(problem["errors"])


def row_of(user):
    return UserProfile.objects.filter(pk=user.pk).values().get()


# --- One's own --------------------------------------------------------------------------------------


def test_users_see_their_own_account(asha, as_user):
    answer = as_user(asha).get("/auth/me/")
    assert answer.status_code == 200
    assert answer.json() == {
        "id": asha.pk,
        "username": "user_9999999999",
        "phone_number": "9999999999",
        "first_name": "",
        "last_name": "",
        "email": "",
    }


def test_an_account_without_a_phone_has_null(db, as_user):
    assert as_user(UserProfile.objects.create_user("plain")).get("/auth/me/").json()["phone_number"] is None


@pytest.mark.parametrize(
    "change",
    [
        {"first_name": "Asha"},
        {"last_name": "Rao"},
        {"email": "asha@example.com"},
        {"first_name": "आशा", "last_name": "O'Neill-Ñandú", "email": ""},
        {"first_name": "a" * 150, "last_name": "b" * 150},
        {},
    ],
)
def test_names_and_email_can_be_changed(asha, as_user, change):
    before = row_of(asha)
    answer = as_user(asha).patch("/auth/me/", change)
    assert answer.status_code == 200
    assert set(answer.json()) == PROFILE
    assert answer.json() == as_user(asha).get("/auth/me/").json()
    assert row_of(asha) == before | change


def test_nothing_else_can_be_changed(asha, as_user):
    before = row_of(asha)
    wanted = {
        "id": 1, "pk": 1, "username": "root", "phone_number": NEW_PHONE, "password": "x", "is_staff": True,
        "is_superuser": True, "is_active": False, "token_version": 5, "groups": [1], "user_permissions": [1],
        "date_joined": "2000-01-01T00:00:00Z", "wallet": {"balance": "1.00"}, "balance": "1.00",
    }  # fmt: skip
    for name, value in wanted.items():
        refused = as_user(asha).patch("/auth/me/", {name: value, "first_name": "Asha"})
        assert (refused.status_code, list(refused.json()["errors"])) == (400, [name])
    assert row_of(asha) == before


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("first_name", "a" * 151),
        ("last_name", "a" * 151),
        ("first_name", 5),
        ("first_name", True),
        ("first_name", None),
        ("first_name", ["Asha"]),
        ("first_name", {"first_name": "Asha"}),
        ("last_name", "Ra\0o"),
        ("email", "asha"),
        ("email", "asha@"),
        ("email", "asha@example.com\nBcc: ravi@example.com"),
        ("email", f"{'a' * 60}@{'b.' * 95}example.com"),
        ("email", 5),
        ("email", None),
    ],
)
def test_an_invalid_name_or_email_changes_nothing(asha, as_user, field, value):
    before = row_of(asha)
    assert refused_fields(as_user(asha).patch("/auth/me/", {"last_name": "Rao"} | {field: value})) == {field}
    assert row_of(asha) == before


# --- As staff see them --------------------------------------------------------------------------------


def test_staff_list_the_accounts_newest_first(asha, ravi, staff, as_user):
    page = as_user(staff).get(USERS).json()
    assert {name: page[name] for name in ("count", "next", "previous")} == {"count": 3, "next": None, "previous": None}
    assert [row["id"] for row in page["results"]] == [staff.pk, ravi.pk, asha.pk]
    assert set(page["results"][0]) == PROFILE | {"is_active", "is_staff", "is_superuser", "date_joined"}
    assert page["results"][0]["date_joined"].endswith("Z")


def test_staff_see_one_account(asha, staff, as_user):
    answer = as_user(staff).get(f"{USERS}{asha.pk}/")
    assert (answer.status_code, answer.json()["username"]) == (200, asha.username)
    assert [as_user(staff).get(f"{USERS}{pk}/").status_code for pk in ("0", "9" * 18, "9" * 19, "x")] == [404] * 4


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["staff", "user_9888888888", "user_9999999999"]),
        ({"search": "user_"}, ["user_9888888888", "user_9999999999"]),
        ({"search": "user_99"}, ["user_9999999999"]),
        ({"search": "99999 99999"}, ["user_9999999999"]),
        ({"search": "+919888888888"}, ["user_9888888888"]),
        ({"search": "098888"}, ["user_9888888888"]),
        ({"search": "ash"}, ["user_9999999999"]),
        ({"search": "RAO"}, ["user_9999999999"]),
        ({"search": "nobody"}, []),
        ({"search": "%"}, []),
        ({"search": "' OR 1=1 --"}, []),
        ({"is_active": "false"}, ["user_9888888888"]),
        ({"is_active": "TRUE"}, ["staff", "user_9999999999"]),
        ({"is_staff": "true"}, ["staff"]),
        ({"is_staff": "false", "is_active": "true"}, ["user_9999999999"]),
        ({"ordering": "id"}, ["user_9999999999", "user_9888888888", "staff"]),
        ({"ordering": "-id"}, ["staff", "user_9888888888", "user_9999999999"]),
        ({"ordering": "username"}, ["staff", "user_9888888888", "user_9999999999"]),
        ({"ordering": "-username"}, ["user_9999999999", "user_9888888888", "staff"]),
        ({"ordering": "date_joined"}, ["user_9999999999", "user_9888888888", "staff"]),
        ({"ordering": "-date_joined", "search": "user_"}, ["user_9888888888", "user_9999999999"]),
        ({"search": "", "is_active": "", "ordering": ""}, ["staff", "user_9888888888", "user_9999999999"]),
    ],
)
def test_staff_find_accounts(asha, ravi, staff, as_user, query, found):
    accounts.change(asha, first_name="Asha", last_name="Rao")
    accounts.set_active(ravi, False)
    answer = as_user(staff).get(USERS, query)
    assert names(answer) == found
    assert answer.json()["count"] == len(found)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("is_active", "maybe"),
        ("is_active", "1"),
        ("is_staff", "null"),
        ("ordering", "password"),
        ("ordering", "--id"),
        ("ordering", "id;"),
        ("search", "a\0b"),
        ("page", "0"),
        ("page", "-1"),
        ("page", "x"),
        ("page", "५"),
        ("page_size", "0"),
        ("page_size", "101"),
        ("page_size", "1.5"),
    ],
)
def test_what_cannot_be_read_is_refused_and_not_ignored(staff, as_user, name, value):
    assert refused_fields(as_user(staff).get(USERS, {name: value})) == {name}


def test_the_list_has_pages(staff, as_user):
    for n in range(4):
        accounts.create(phone_number=f"+91911111111{n}", username=f"u{n}")
    client = as_user(staff)
    first = client.get(USERS, {"page_size": 2, "ordering": "id"})
    second = client.get(first.json()["next"])
    third = client.get(second.json()["next"])
    assert [names(page) for page in (first, second, third)] == [["staff", "u0"], ["u1", "u2"], ["u3"]]
    assert [page.json()["count"] for page in (first, second, third)] == [5, 5, 5]
    assert third.json()["next"] is None
    assert names(client.get(second.json()["previous"])) == ["staff", "u0"]
    assert client.get(USERS, {"page": 4, "page_size": 2}).status_code == 404


def test_a_longer_list_takes_no_more_queries(staff, as_user):
    client = as_user(staff)

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert client.get(USERS, {"page_size": 100, "search": "user_9"}).status_code == 200
        return len(captured)

    counts = []
    for start in (10, 40):
        for n in range(start, start + start // 2):
            accounts.create(phone_number=f"+9199999999{n}")
        counts.append(queries())
    assert counts[0] == counts[1] <= 4


# --- As superusers make them --------------------------------------------------------------------------


def test_a_superuser_creates_an_account_that_can_log_in(boss, as_user, nobody):
    wanted = {"phone_number": "091111 11111", "username": "meera", "first_name": "Meera", "email": "m@example.com"}
    made = as_user(boss).post(USERS, wanted)
    assert made.status_code == 201
    assert made.json().items() >= (wanted | {"phone_number": NEW_PHONE, "is_staff": False}).items()
    user = UserProfile.objects.get(username="meera")
    assert (user.phone_number, user.wallet.balance, user.has_usable_password()) == (NEW_E164, 0, False)
    otp = nobody.post("/auth/send-otp/", {"phone_number": NEW_PHONE}).json()["otp"]
    login = nobody.post("/auth/verify-otp/", {"phone_number": NEW_PHONE, "otp": otp})
    assert login.json()["user"]["id"] == user.pk


def test_without_a_username_it_is_named_after_its_phone(boss, as_user):
    assert as_user(boss).post(USERS, {"phone_number": NEW_PHONE}).json()["username"] == f"user_{NEW_PHONE}"


def test_a_superuser_creates_staff_but_no_superuser(boss, as_user):
    wanted = {"phone_number": NEW_PHONE, "is_staff": True}
    refused = as_user(boss).post(USERS, wanted | {"is_superuser": True, "id": 7})
    assert (refused.status_code, set(refused.json()["errors"])) == (400, {"is_superuser", "id"})
    made = as_user(boss).post(USERS, wanted)
    user = UserProfile.objects.get(phone_number=NEW_E164)
    assert (made.status_code, user.is_staff, user.is_superuser) == (201, True, False)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("phone_number", "+91 99999 99999"),
        ("phone_number", "1234567890"),
        ("phone_number", ""),
        ("phone_number", 9111111111),
        ("phone_number", None),
        ("username", "user_9999999999"),
        ("username", "two words"),
        ("username", "semi;colon"),
        ("username", "line\nfeed"),
        ("username", ""),
        ("username", "u" * 151),
        ("username", 5),
        ("first_name", 5),
        ("email", "nobody"),
        ("is_staff", "perhaps"),
        ("is_staff", None),
    ],
)
def test_what_is_wrong_with_a_new_account_is_named(asha, boss, as_user, field, value):
    before = UserProfile.objects.count(), Wallet.objects.count()
    refused = as_user(boss).post(USERS, {"phone_number": NEW_PHONE, "username": "meera"} | {field: value})
    assert refused_fields(refused) == {field}
    assert (UserProfile.objects.count(), Wallet.objects.count()) == before


@pytest.mark.parametrize(
    ("who", "status", "code"),
    [("nobody", 401, "not_authenticated"), ("asha", 403, "permission_denied"), ("staff", 403, "permission_denied")],
)
def test_nobody_else_creates_accounts(request, as_user, who, status, code):
    client = as_user(None if who == "nobody" else request.getfixturevalue(who))
    before = UserProfile.objects.count()
    refused = client.post(USERS, {"phone_number": NEW_PHONE})
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert UserProfile.objects.count() == before


@pytest.mark.parametrize(("who", "status"), [("nobody", 401), ("asha", 403)])
def test_nobody_but_staff_sees_the_accounts(request, asha, as_user, who, status):
    client = as_user(None if who == "nobody" else asha)
    assert [client.get(path).status_code for path in (USERS, f"{USERS}{asha.pk}/")] == [status] * 2


# --- A wallet for each --------------------------------------------------------------------------------


def by_login(boss, as_user):
    client = as_user(None)
    otp = client.post("/auth/send-otp/", {"phone_number": NEW_PHONE}).json()["otp"]
    client.post("/auth/verify-otp/", {"phone_number": NEW_PHONE, "otp": otp})


@pytest.mark.parametrize(
    "make",
    [
        by_login,
        lambda boss, as_user: accounts.create(phone_number=NEW_E164),
        lambda boss, as_user: as_user(boss).post(USERS, {"phone_number": NEW_PHONE}),
        lambda boss, as_user: UserProfile.objects.create_user("plain"),
        lambda boss, as_user: UserProfile.objects.create_superuser("root", password="correct horse"),
        lambda boss, as_user: UserProfile.objects.create(username="bare"),
        lambda boss, as_user: call_command(
            "createsuperuser", username="root", email="", interactive=False, verbosity=0
        ),
    ],
    ids=["login", "service", "API", "create_user", "create_superuser", "ORM", "createsuperuser"],
)
def test_every_account_has_a_wallet_however_created(boss, as_user, make):
    make(boss, as_user)
    user = UserProfile.objects.exclude(pk=boss.pk).get()
    assert (user.wallet.balance, user.wallet.status) == (0, Wallet.Status.ACTIVE)
    accounts.change(user, first_name="Meera")
    assert Wallet.objects.count() == 2


# --- A phone by command -------------------------------------------------------------------------------


def assign_phone(username, phone):
    out = StringIO()
    call_command("assign_phone", username, phone, stdout=out)
    return out.getvalue()


def test_the_command_gives_an_account_its_phone(boss, nobody):
    pair = tokens.issue(boss)
    assert assign_phone("boss", "+91 91111-11111") == f"boss now logs in with {NEW_PHONE}.\n"
    assert row_of(boss)["phone_number"] == NEW_E164
    assert nobody.post("/auth/token/refresh/", {"refresh": pair["refresh"]}).status_code == 401
    otp = nobody.post("/auth/send-otp/", {"phone_number": NEW_PHONE}).json()["otp"]
    login = nobody.post("/auth/verify-otp/", {"phone_number": NEW_PHONE, "otp": otp})
    assert login.json()["user"]["username"] == "boss"


def test_the_command_may_be_repeated(boss):
    assert assign_phone("boss", NEW_PHONE) == assign_phone("boss", NEW_PHONE)


@pytest.mark.parametrize(
    ("username", "phone", "complaint"),
    [
        ("bose", NEW_PHONE, "There is no user 'bose'."),
        ("boss", "099999 99999", "'099999 99999': This phone number belongs to another account."),
        ("boss", "1234567890", "'1234567890': This is not a mobile number."),
        ("boss", "98765ABCDE", "'98765ABCDE': A phone number has digits"),
        ("boss", "", "'': A phone number has digits"),
    ],
)
def test_the_command_names_what_is_wrong_and_changes_nothing(asha, boss, username, phone, complaint):
    before = row_of(boss)
    with pytest.raises(CommandError) as error:
        assign_phone(username, phone)
    assert str(error.value).startswith(complaint)
    assert row_of(boss) == before
