"""Accounts, codes and logins in the console: what may be done there, by whom, and what is never shown."""

import pytest
from django.contrib.admin import site
from django.contrib.auth.models import Group, Permission
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models.signals import pre_save
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from users import accounts, otp, tokens
from users.models import OTP, Login, UserProfile

USERS, OTPS, LOGINS = "/admin/users/userprofile/", "/admin/users/otp/", "/admin/users/login/"


def console(user: UserProfile) -> Client:
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def editor(staff):
    """Staff who may change accounts and see everything."""
    staff.user_permissions.set(Permission.objects.filter(codename__in=["change_userprofile", "view_otp", "view_login"]))
    return staff


@pytest.fixture
def kavya(db):
    """An account without a phone number."""
    return UserProfile.objects.create_user("kavya")


@pytest.fixture
def before_saving():
    """Connects a callback that runs after an account was read and checked, just before it is saved."""
    done = []

    def connect(callback):
        done.append(lambda **kwargs: callback())
        pre_save.connect(done[0], sender=UserProfile)

    yield connect
    for receiver in done:
        pre_save.disconnect(receiver, sender=UserProfile)


def rows_of(page):
    return list(page.context["cl"].result_list)


def errors_of(page):
    return page.context["adminform"].form.errors


def change(client, user, **fields):
    data = {"username": user.username, "phone_number": user.phone_number or "", "is_active": "on", **fields}
    return client.post(f"{USERS}{user.pk}/change/", {name: value for name, value in data.items() if value is not None})


def test_a_superuser_creates_an_account_with_a_phone_in_any_spelling(boss):
    page = console(boss).post(
        f"{USERS}add/", {"username": "kavya", "phone_number": "+91 (99999) 999-99", "usable_password": "false"}
    )
    assert page.status_code == 302
    user = UserProfile.objects.get(username="kavya")
    assert (user.phone_number, user.has_usable_password(), user.wallet.balance) == ("+919999999999", False, 0)


def test_two_accounts_may_both_be_without_a_phone(boss, kavya):
    page = console(boss).post(f"{USERS}add/", {"username": "maya", "phone_number": "", "usable_password": "false"})
    assert page.status_code == 302
    assert UserProfile.objects.filter(phone_number=None).count() == 2


@pytest.mark.parametrize("path", ["add/", "{}/change/"])
@pytest.mark.parametrize("number", ["9999999999", "+91 99999 99999", "12", "nobody", "0" * 400, "99999\0 99999", "+44"])
def test_a_number_that_is_taken_or_invalid_is_an_error_of_its_field(boss, asha, kavya, path, number):
    page = console(boss).post(
        USERS + path.format(kavya.pk), {"username": "maya", "phone_number": number, "usable_password": "false"}
    )
    assert page.status_code == 200
    assert list(errors_of(page)) == ["phone_number"]


@pytest.mark.parametrize("path", ["add/", "{}/change/"])
def test_a_number_taken_between_check_and_save_is_a_message(boss, asha, kavya, before_saving, path):
    client, path = console(boss), USERS + path.format(kavya.pk)
    before_saving(lambda: UserProfile.objects.filter(pk=asha.pk).update(phone_number="+919777777777"))
    page = client.post(path, {"username": "maya", "phone_number": "9777777777", "usable_password": "false"})
    assert (page.status_code, page["Location"]) == (302, path)
    assert b"was taken just now" in client.get(path).content
    kavya.refresh_from_db()
    assert (kavya.username, kavya.phone_number) == ("kavya", None)
    assert not UserProfile.objects.filter(username="maya").exists()


def test_another_phone_ends_the_logins_and_another_spelling_does_not(boss, asha, as_user):
    client, mobile = console(boss), as_user(asha)
    assert change(client, asha, phone_number="099999 99999").status_code == 302
    assert mobile.get("/auth/me/").status_code == 200
    assert change(client, asha, phone_number="97777 77777").status_code == 302
    assert mobile.get("/auth/me/").status_code == 401
    asha.refresh_from_db()
    assert (asha.username, asha.phone_number) == ("user_9999999999", "+919777777777")
    assert not Login.objects.filter(user=asha, ended_at=None).exists()


def test_an_empty_phone_takes_the_number_away(boss, asha, as_user):
    mobile = as_user(asha)
    assert change(console(boss), asha, phone_number="").status_code == 302
    asha.refresh_from_db()
    assert asha.phone_number is None
    assert mobile.get("/auth/me/").status_code == 401
    accounts.create(phone_number="+919999999999")


def test_deactivation_ends_the_logins(boss, asha, as_user):
    mobile = as_user(asha)
    assert change(console(boss), asha, is_active=None).status_code == 302
    asha.refresh_from_db()
    assert not asha.is_active
    assert mobile.get("/auth/me/").status_code == 401
    assert not Login.objects.filter(user=asha, ended_at=None).exists()
    assert change(console(boss), asha).status_code == 302
    assert mobile.get("/auth/me/").status_code == 401


def test_an_edit_does_not_undo_a_log_out_that_came_in_between(boss, asha, as_user, before_saving):
    client, mobile = console(boss), as_user(asha)
    before_saving(lambda: tokens.end_all(asha))
    assert change(client, asha, first_name="Asha").status_code == 302
    assert mobile.get("/auth/me/").status_code == 401


def test_a_superuser_gives_rights(boss, asha):
    group = Group.objects.create(name="Helpers")
    page = change(console(boss), asha, is_staff="on", groups=[group.pk])
    assert page.status_code == 302
    asha.refresh_from_db()
    assert asha.is_staff
    assert list(asha.groups.all()) == [group]


def test_an_editor_changes_names_and_nothing_else(editor, asha):
    group = Group.objects.create(name="Helpers")
    right = Permission.objects.get(codename="adjust_wallet")
    page = change(
        console(editor),
        asha,
        username="renamed",
        first_name="Asha",
        is_staff="on",
        is_superuser="on",
        groups=[group.pk],
        user_permissions=[right.pk],
        password="x",
        token_version="7",
    )
    assert page.status_code == 302
    asha.refresh_from_db()
    assert (asha.username, asha.first_name) == ("user_9999999999", "Asha")
    assert (asha.is_staff, asha.is_superuser, asha.token_version) == (False, False, 0)
    assert not asha.groups.exists() and not asha.user_permissions.exists() and not asha.has_usable_password()


def test_an_editor_edits_nobody_with_rights_himself_included(editor, boss):
    for user in (boss, editor):
        assert change(console(editor), user, first_name="Mine", is_superuser="on").status_code == 403
        user.refresh_from_db()
        assert user.first_name == ""
    editor.refresh_from_db()
    assert not editor.is_superuser


@pytest.mark.parametrize("method", ["get", "post"])
def test_an_editor_sets_nobodys_password(editor, boss, asha, method):
    for user in (boss, asha, editor):
        before = user.password
        path = f"{USERS}{user.pk}/password/"
        page = getattr(console(editor), method)(path, {"password1": "correct hose", "password2": "correct hose"})
        assert page.status_code == 403
        user.refresh_from_db()
        assert user.password == before


def test_a_superuser_sets_a_password(boss, asha):
    path = f"{USERS}{asha.pk}/password/"
    new = {"password1": "a long enough one", "password2": "a long enough one", "usable_password": "true"}
    assert console(boss).post(path, new).status_code == 302
    asha.refresh_from_db()
    assert asha.check_password("a long enough one")


def test_only_superusers_create_accounts(editor):
    editor.user_permissions.add(Permission.objects.get(codename="add_userprofile"))
    page = console(editor).post(f"{USERS}add/", {"username": "mine", "usable_password": "false"})
    assert page.status_code == 403
    assert not UserProfile.objects.filter(username="mine").exists()


def test_groups_are_for_superusers(editor, boss):
    editor.user_permissions.add(*Permission.objects.filter(content_type__app_label="auth"))
    group = Group.objects.create(name="Helpers")
    for path in ("", "add/", f"{group.pk}/change/", f"{group.pk}/delete/", f"{group.pk}/history/"):
        assert console(boss).get(f"/admin/auth/group/{path}").status_code == 200
        assert console(editor).get(f"/admin/auth/group/{path}").status_code == 403
    assert console(editor).post(f"/admin/auth/group/{group.pk}/change/", {"name": "Mine"}).status_code == 403


def test_nobody_deletes_an_account(boss, asha):
    client = console(boss)
    assert client.post(f"{USERS}{asha.pk}/delete/", {"post": "yes"}).status_code == 403
    client.post(USERS, {"action": "delete_selected", "_selected_action": [asha.pk], "post": "yes"})
    assert UserProfile.objects.filter(pk=asha.pk).exists()


def test_codes_and_logins_are_read_only_for_superusers_too(boss, asha):
    otp.send(phone_number=asha.phone_number, address="127.0.0.1")
    tokens.issue(asha)
    client, before = console(boss), (list(OTP.objects.values()), list(Login.objects.values()))
    for pages, pk in ((OTPS, OTP.objects.get().pk), (LOGINS, Login.objects.get().pk)):
        for path in ("add/", f"{pk}/change/", f"{pk}/delete/"):
            data = {"post": "yes", "attempts": "0", "ended_at": "", "user": boss.pk, "phone_number": "+919999999999"}
            assert client.post(pages + path, data).status_code == 403
        client.post(pages, {"action": "delete_selected", "_selected_action": [pk], "post": "yes"})
    assert (list(OTP.objects.values()), list(Login.objects.values())) == before


def test_codes_tokens_and_hashes_are_shown_nowhere(boss, editor, asha):
    otp.send(phone_number=asha.phone_number, address="127.0.0.1")
    tokens.rotate(tokens.issue(asha)["refresh"])
    code, login = OTP.objects.get(), Login.objects.get()
    asha.set_password("a long enough one")
    asha.save()
    editor.user_permissions.remove(Permission.objects.get(codename="change_userprofile"))
    editor.user_permissions.add(Permission.objects.get(codename="view_userprofile"))
    secrets = [code.salt, code.code_hash, login.refresh_jti, login.previous_jti, asha.password.split("$")[-1]]
    for user in (boss, UserProfile.objects.get(pk=editor.pk)):
        client = console(user)
        for path in (
            OTPS,
            f"{OTPS}{code.pk}/change/",
            LOGINS,
            f"{LOGINS}{login.pk}/change/",
            USERS,
            f"{USERS}{asha.pk}/change/",
        ):
            page = client.get(path)
            assert page.status_code == 200
            assert [secret for secret in secrets if secret in page.content.decode()] == []


@pytest.mark.parametrize(
    "path",
    [
        f"{OTPS}?code_hash__startswith=a",
        f"{OTPS}?salt__gte=a",
        f"{LOGINS}?refresh_jti__startswith=a",
        f"{LOGINS}?user__password__startswith=a",
        f"{USERS}?password__startswith=a",
        f"{USERS}?groups__user__password__startswith=a",
        f"{USERS}?token_version__gte=0",
        "/admin/transactions/transaction/?initiated_by__password__startswith=a",
    ],
)
def test_nobody_guesses_a_hash_by_filters(boss, path):
    assert console(boss).get(path).status_code == 400


@pytest.mark.parametrize("term", ["99999", "99999 99999", "+91 99999", "099999", "+919999999999", "user_9999"])
@pytest.mark.parametrize("path", [USERS, LOGINS])
def test_search_reads_a_phone_as_people_write_it_and_usernames(boss, asha, ravi, path, term):
    tokens.issue(asha), tokens.issue(ravi)
    found = rows_of(console(boss).get(path, {"q": term}))
    assert [getattr(row, "user", row) for row in found] == [asha]


@pytest.mark.parametrize("term", ["99999", "99999 99999", "+91 99999", "+919999999999"])
def test_codes_are_searched_by_phone_and_all_listed_without(boss, term):
    for phone in ("+919999999999", "+919888888888"):
        otp.send(phone_number=phone, address="127.0.0.1")
    client = console(boss)
    assert [code.phone_number for code in rows_of(client.get(OTPS, {"q": term}))] == ["+919999999999"]
    assert len(rows_of(client.get(OTPS))) == 2
    assert rows_of(client.get(OTPS, {"q": "user_"})) == []


def test_accounts_are_found_by_name(boss, asha):
    accounts.change(asha, last_name="Rao")
    assert rows_of(console(boss).get(USERS, {"q": "rao"})) == [asha]


@pytest.mark.parametrize("path", [USERS, OTPS, LOGINS])
def test_a_list_takes_as_many_queries_for_thirty_rows_as_for_one(boss, path):
    def more(count):
        for _ in range(count):
            phone = f"+9197{UserProfile.objects.count():08}"
            tokens.issue(accounts.create(phone_number=phone))
            otp.send(phone_number=phone, address="127.0.0.1")

    client = console(boss)
    more(1)
    client.get(path)
    with CaptureQueriesContext(connection) as few:
        assert len(rows_of(client.get(path))) >= 1
    more(29)
    with CaptureQueriesContext(connection) as many:
        assert len(rows_of(client.get(path))) >= 30
    assert len(many) == len(few)


LISTS = (
    "users/userprofile",
    "users/otp",
    "users/login",
    "wallet/wallet",
    "transactions/transaction",
    "auth/group",
)
HOSTILE = [
    "q=%00", "q=%F0%9F%A6%84", "q='%22%25_", "q=" + "9" * 5000, "p=abc", "p=-1", "p=99999999999999999999", "o=999",
    "o=-1.-2.x", "o=%00", "e=1", "all=", "_facets=True", "_to_field=password", "_popup=1", "is_active__exact=%00",
    "is_active__exact=x", "is_active__isnull=x", "groups__id__exact=%00", "groups__id__exact=x",
    "groups__id__exact=99999999999999999999", "groups__id__in=1,x", "username__regex=(", "nothing=1", "=1", "%00=1",
    "status__exact=%00", "status__exact=x", "transaction_type__exact=%00", "transaction_type__exact=x",
    "q=x", "balance_from=%00", "amount_from=%00", "timestamp_from=%00",
]  # fmt: skip


@pytest.mark.parametrize("query", HOSTILE)
def test_a_hostile_query_string_breaks_no_list(boss, query):
    client = console(boss)
    client.raise_request_exception = False
    for model in site._registry:
        path = reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist")
        assert client.get(f"{path}?{query}").status_code in (200, 302, 400), path


@pytest.mark.parametrize("pk", ["0", "x", "%00", "99999999999999999999", "-1", "1_2F"])
def test_an_id_of_nothing_breaks_no_page(boss, pk):
    client = console(boss)
    client.raise_request_exception = False
    for path in LISTS:
        for page in ("change", "history", "delete"):
            assert client.get(f"/admin/{path}/{pk}/{page}/").status_code in (302, 403, 404), (path, page)


def test_facets_never_count_whole_tables(boss, asha):
    page = console(boss).get(USERS, {"_facets": "True"})
    assert page.context["cl"].add_facets is False


def test_the_count_of_a_list_is_capped(boss, asha, ravi, monkeypatch):
    monkeypatch.setattr("lokanetra.admin.MAX_ROWS", 2)
    assert console(boss).get(USERS).context["cl"].result_count == 2


def test_the_sidebar_has_what_its_reader_may_see(boss, editor):
    def sidebar(user):
        page = console(user).get("/admin/")
        return [item["title"] for group in page.context["sidebar_navigation"] for item in group["items"]]

    assert sidebar(boss) == [
        "Users",
        "Wallets",
        "Transactions",
        "Holds",
        "Payment requests",
        "Tiers",
        "One-time passwords",
        "Logins",
        "API keys",
        "Webhooks",
        "Deliveries",
        "Groups",
        "Ledger checks",
        "Log entries",
    ]
    assert sidebar(editor) == ["Users", "One-time passwords", "Logins"]


def test_a_log_in_leads_to_the_console(boss):
    page = Client().post("/admin/login/", {"username": "boss", "password": "correct horse"})
    assert (page.status_code, page["Location"]) == (302, "/admin/")


def test_people_without_rights_see_nothing(asha, staff):
    assert console(asha).get(USERS).status_code == 302
    for path in (USERS, OTPS, LOGINS, f"{USERS}{asha.pk}/change/", f"{USERS}{asha.pk}/password/"):
        assert console(staff).get(path).status_code == 403


def test_a_number_that_is_taken_is_refused_by_the_account_itself(asha, kavya):
    with pytest.raises(ValidationError):
        accounts.assign_phone(kavya, asha.phone_number)
