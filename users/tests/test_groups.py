"""What the ready-made groups can and cannot do, over HTTP, and that none of them leads to more."""

import json
from decimal import Decimal

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, DELETION, LogEntry
from django.contrib.auth.models import Group, Permission
from django.core.management import call_command
from django.test import Client

from users import accounts, audit, groups
from users.models import UserProfile
from wallet import payments

USERS = "/admin/users/userprofile/"
# Each action with the groups that may do it. {user} and {wallet} are Asha's, {row} a transaction of hers.
S, O, F = "Support", "Operations", "Finance"  # noqa: E741
ACTIONS = {
    "GET /admin/": [S, O, F],
    "GET /admin/users/userprofile/": [S, O, F],
    "GET /admin/users/userprofile/{user}/change/": [S, O, F],
    "GET /admin/wallet/wallet/": [S, O, F],
    "GET /admin/wallet/wallet/{wallet}/change/": [S, O, F],
    "GET /admin/transactions/transaction/": [S, O, F],
    "GET /admin/users/login/": [S, O, F],
    "GET /admin/users/otp/": [S, O, F],
    "GET /admin/wallet/paymentrequest/": [S, O, F],
    "GET /admin/wallet/ledgercheck/": [S, O, F],
    "GET /admin/admin/logentry/": [S, O, F],
    "GET /admin/auth/group/": [],
    "GET /admin/users/userprofile/add/": [],
    "GET /admin/users/userprofile/{user}/password/": [],
    "GET /admin/wallet/wallet/{wallet}/freeze/": [O],
    "GET /admin/wallet/wallet/{wallet}/unfreeze/": [O],
    "GET /admin/wallet/wallet/{wallet}/credit/": [F],
    "GET /admin/wallet/wallet/{wallet}/debit/": [F],
    "GET /admin/transactions/transaction/{row}/reverse/": [F],
    "POST /admin/wallet/wallet/{wallet}/freeze/": [O],
    "POST /admin/wallet/wallet/{wallet}/credit/": [F],
    "POST /admin/transactions/transaction/{row}/reverse/": [F],
    "POST /admin/users/userprofile/{user}/change/": [O],
    "GET /auth/admin/users/": [S, O, F],
    "GET /wallet/admin/wallets/": [S, O, F],
    "GET /wallet/admin/requests/": [S, O, F],
    "GET /transactions/admin-list/": [S, O, F],
    "GET /transactions/admin-export/": [F],
    "GET /transactions/events/": [S, O, F],
    "GET /transactions/webhooks/": [],
    "GET /admin/transactions/webhook/": [],
    "GET /admin/transactions/delivery/": [],
    "GET /admin/transactions/transaction/export/": [F],
    "POST /auth/admin/users/": [],
    "PATCH /auth/admin/users/{user}/": [O],
    "POST /wallet/admin/wallets/{wallet}/freeze/": [O],
    "POST /wallet/admin/wallets/{wallet}/credit/": [F],
    "POST /wallet/admin/wallets/{wallet}/debit/": [F],
    "POST /transactions/{row}/reverse/": [F],
}


@pytest.fixture
def member(db):
    """Staff of one of the groups."""

    def of(group):
        user = accounts.create(phone_number="+919333333333", username="member", is_staff=True)
        user.groups.add(Group.objects.get(name=group))
        return user

    return of


def console(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("group", groups.GROUPS)
def test_each_group_does_its_own_work(member, as_user, asha, action, group):
    row = payments.debit(user_id=asha.pk, amount=Decimal(1)).transaction
    method, path = action.format(user=asha.pk, wallet=asha.wallet.pk, row=row.pk).split()
    user = member(group)
    if path.startswith("/admin/"):
        answer = getattr(console(user), method.lower())(path)
    else:
        answer = getattr(as_user(user), method.lower())(path, {}, format="json")
    # An empty body is refused too, but only after the permission check.
    assert (answer.status_code != 403) == (group in ACTIONS[action]), answer.status_code


RISES = [{"is_superuser": True}, {"is_staff": True}, {"groups": [1, 2, 3]}, {"user_permissions": [1]}]


@pytest.mark.parametrize("rise", RISES)
@pytest.mark.parametrize("group", groups.GROUPS)
def test_no_member_gives_himself_or_his_friend_more(member, as_user, asha, group, rise):
    user = member(group)
    form = {name: "on" if value is True else value for name, value in rise.items()}
    for target in (user, asha):
        before = rights(target)
        as_user(user).patch(f"/auth/admin/users/{target.pk}/", rise, format="json")
        as_user(user).patch("/auth/me/", rise, format="json")
        data = {"username": target.username, "phone_number": target.phone_number, "is_active": "on", **form}
        console(user).post(f"{USERS}{target.pk}/change/", data)
        console(user).post(f"/admin/auth/group/{user.groups.get().pk}/change/", {"name": group, "permissions": [1, 2]})
        assert rights(target) == before
    assert console(user).post(f"{USERS}add/", {"username": "mine", "usable_password": "false"}).status_code == 403


def rights(user):
    user = UserProfile.objects.get(pk=user.pk)
    return user.is_superuser, user.is_staff, user.get_all_permissions(), user.has_usable_password()


@pytest.mark.parametrize("group", groups.GROUPS)
def test_no_member_changes_an_account_with_rights(member, as_user, staff, boss, group):
    user = member(group)
    for target in (staff, boss):
        assert as_user(user).patch(f"/auth/admin/users/{target.pk}/", {"is_active": False}).status_code == 403
        assert console(user).post(f"{USERS}{target.pk}/change/", {"username": target.username}).status_code == 403
        target.refresh_from_db()
        assert target.is_active


def test_operations_changes_a_phone_in_the_console_which_is_logged(member, as_user, asha):
    user, mobile = member("Operations"), as_user(asha)
    data = {"username": asha.username, "phone_number": "9444444444", "is_active": "on"}
    assert console(user).post(f"{USERS}{asha.pk}/change/", data).status_code == 302
    assert mobile.get("/auth/me/").status_code == 401
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (user, str(asha.pk))
    assert audit.details(entry) == {
        "what": "account",
        "before": {"phone_number": "+919999999999"},
        "after": {"phone_number": "+919444444444"},
    }


def test_a_superuser_s_gifts_are_logged_with_before_and_after(boss, asha):
    group = Group.objects.get(name="Support")
    data = {"username": asha.username, "phone_number": asha.phone_number, "is_active": "on", "is_staff": "on"}
    console(boss).post(f"{USERS}{asha.pk}/change/", {**data, "groups": [group.pk]})
    console(boss).post(f"{USERS}add/", {"username": "kavya", "usable_password": "false"})
    assert [details for _, details in logged()] == [
        {"what": "account", "before": {"is_staff": False}, "after": {"is_staff": True}},
        {"what": "groups", "before": [], "after": ["Support"]},
        {"what": "account", "before": None, "after": {"username": "kavya", "phone_number": None}},
    ]


def test_an_account_created_by_the_api_is_logged(boss, as_user):
    answer = as_user(boss).post("/auth/admin/users/", {"phone_number": "9444444444", "is_staff": True}, format="json")
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (boss, str(answer.json()["id"]))
    assert audit.details(entry)["after"] == {
        "username": "user_9444444444",
        "phone_number": "+919444444444",
        "is_staff": True,
    }


def test_a_password_change_is_logged_without_the_password(boss, asha):
    new = {"password1": "a long enough one", "password2": "a long enough one", "usable_password": "true"}
    console(boss).post(f"{USERS}{asha.pk}/password/", new)
    assert [json.loads(entry.change_message) for entry in LogEntry.objects.all()] == [{"what": "password"}]


def test_log_entries_are_read_only_for_superusers_too(boss, asha, as_user):
    as_user(boss).patch(f"/auth/admin/users/{asha.pk}/", {"first_name": "Asha"}, format="json")
    before = LogEntry.objects.values().get()
    client, entries = console(boss), "/admin/admin/logentry/"
    assert "first_name: Asha" in client.get(entries).content.decode()
    for path in ("add/", f"{before['id']}/change/", f"{before['id']}/delete/"):
        assert client.post(entries + path, {"post": "yes", "change_message": "x"}).status_code == 403
    client.post(entries, {"action": "delete_selected", "_selected_action": [before["id"]], "post": "yes"})
    assert LogEntry.objects.values().get() == before


def test_a_group_that_was_changed_or_deleted_stays_so(db):
    Group.objects.get(name="Support").permissions.clear()
    Group.objects.get(name="Finance").delete()
    call_command("migrate", verbosity=0)
    assert not Group.objects.get(name="Support").permissions.exists()
    assert not Group.objects.filter(name="Finance").exists()


def test_where_there_is_no_group_they_are_created(db):
    Group.objects.all().delete()
    call_command("migrate", verbosity=0)
    assert set(Group.objects.values_list("name", flat=True)) == set(groups.GROUPS)
    assert Group.objects.get(name="Finance").permissions.filter(codename="adjust_wallet").exists()


GROUP_PAGES = "/admin/auth/group/"
CREDIT, EXPORT = "adjust_wallet", "export_transaction"


def logged():
    return [(entry.action_flag, audit.details(entry)) for entry in LogEntry.objects.order_by("pk")]


def test_what_a_group_may_do_is_logged_with_before_and_after(boss):
    client, (credit, export) = console(boss), (Permission.objects.get(codename=name) for name in (CREDIT, EXPORT))
    client.post(f"{GROUP_PAGES}add/", {"name": "Tellers", "permissions": [credit.pk]})
    group = Group.objects.get(name="Tellers")
    page = f"{GROUP_PAGES}{group.pk}/change/"
    client.post(page, {"name": "Tellers", "permissions": [credit.pk, export.pk]})
    client.post(page, {"name": "Cashiers", "permissions": [credit.pk, export.pk]})
    client.post(page, {"name": "Cashiers", "permissions": [credit.pk, export.pk]})
    assert logged() == [
        (ADDITION, {"what": "group", "before": None, "after": {"name": "Tellers", "permissions": [str(credit)]}}),
        (
            CHANGE,
            {
                "what": "group",
                "before": {"permissions": [str(credit)]},
                "after": {"permissions": sorted([str(credit), str(export)])},
            },
        ),
        (CHANGE, {"what": "group", "before": {"name": "Tellers"}, "after": {"name": "Cashiers"}}),
    ]
    assert {entry.user for entry in LogEntry.objects.all()} == {boss}
    assert "name: Cashiers" in client.get("/admin/admin/logentry/").content.decode()


def test_what_a_deleted_group_gave_to_whom_is_logged(boss, member):
    user = member("Finance")
    group = user.groups.get()
    rights = sorted(map(str, group.permissions.all()))
    console(boss).post(f"{GROUP_PAGES}{group.pk}/delete/", {"post": "yes"})
    assert not Group.objects.filter(pk=group.pk).exists()
    before = {"name": "Finance", "permissions": rights, "members": ["member"]}
    assert logged() == [(DELETION, {"what": "group", "before": before, "after": None})]


def test_a_right_of_an_account_is_logged_with_before_and_after(boss, asha):
    credit = Permission.objects.get(codename=CREDIT)
    data = {"username": asha.username, "phone_number": asha.phone_number, "is_active": "on"}
    console(boss).post(f"{USERS}{asha.pk}/change/", {**data, "user_permissions": [credit.pk]})
    assert logged() == [(CHANGE, {"what": "user_permissions", "before": [], "after": [str(credit)]})]


def test_every_right_of_the_groups_exists(db):
    known = {
        f"{one.content_type.app_label}.{one.codename}" for one in Permission.objects.select_related("content_type")
    }
    assert {right for rights in groups.GROUPS.values() for right in rights} <= known


def test_a_right_without_being_staff_is_worth_nothing(asha, as_user):
    asha.user_permissions.add(Permission.objects.get(codename="export_transaction"))
    answer = as_user(asha).get("/transactions/admin-export/")
    assert (answer.status_code, answer.json()["code"]) == (403, "permission_denied")
