"""One person on one page of the console, as far as the user may see it, and every list leads there."""

from decimal import Decimal

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from users import accounts, tokens
from wallet import holds, payments, status
from wallet.models import Tier, Wallet
from wallet.tests.test_console_actions import fill_in


@pytest.fixture
def console():
    """A client of the console, logged in as the user, optionally in a group or with some rights."""

    def client_of(user, group=None, rights=()):
        if group:
            user.groups.set([Group.objects.get(name=group)])
        user.user_permissions.set(Permission.objects.filter(codename__in=rights))
        client = Client()
        client.force_login(user)
        return client

    return client_of


@pytest.fixture
def story(asha, ravi, boss):
    """Asha has a tier and a name, paid ravi, set money aside for him, and logged in."""
    accounts.change(asha, first_name="Asha", last_name="Verma")
    tier = Tier.objects.create(name="Gold", max_amount=Decimal(500), daily_out=Decimal(400), daily_count=99)
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=tier, reason="to see")
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("150.50"), remarks="Lunch")
    holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(100))
    tokens.issue(asha)


def page_of(user):
    return f"/admin/users/userprofile/{user.pk}/change/"


def table(page, title):
    (found,) = [table["rows"] for table in page.context["tables"] if table["title"] == title]
    return found


def titles(page, what):
    return [one["title"] for one in page.context.get(what, [])]


def test_it_shows_the_account_its_money_its_limits_and_what_happened(console, boss, story, asha, ravi):
    page = console(boss).get(page_of(asha))
    assert [(card["title"], card["value"], card["note"]) for card in page.context["cards"]] == [
        ("Asha Verma", "9999999999", "user_9999999999, active"),
        ("Balance", "₹ 849.50", "active, tier Gold"),
        ("Available", "₹ 749.50", "₹ 100.00 held"),
    ]
    assert [row[:4] for row in table(page, "Limits")] == [
        ["At once", "₹ 500.00", "", ""],
        ["Out in a day", "₹ 400.00", "₹ 250.50", "₹ 149.50"],
        ["Payments out in a day", "99", "2", "97"],
    ]
    ((_, _, other, remaining, _),) = table(page, "Open holds")
    assert page_of(ravi) in other and remaining == "−₹ 100.00"  # noqa: RUF001
    assert [row[3] for row in table(page, "Last transactions")] == ["−₹ 150.50", "+₹ 1,000.00"]  # noqa: RUF001
    assert len(table(page, "Last logins")) == 1


def test_without_a_tier_the_limits_are_those_of_the_settings(console, boss, ravi):
    page = console(boss).get(page_of(ravi))
    assert [row[:2] for row in table(page, "Limits")] == [
        ["At once", "₹ 10,00,000.00"],
        ["In the wallet", "₹ 10,00,00,000.00"],
    ]
    assert page.context["cards"][1]["note"] == "active, no tier"


@pytest.mark.parametrize(
    ("right", "cards", "tables"),
    [
        ("view_wallet", ["Balance", "Available"], ["Limits"]),
        ("view_hold", [], ["Open holds"]),
        ("view_transaction", [], ["Last transactions", "Statements"]),
        ("view_paymentrequest", [], ["Open requests for money"]),
        ("view_login", [], ["Last logins"]),
        ("view_otp", [], []),
    ],
)
def test_each_sees_what_he_has_the_right_to_see(console, staff, story, asha, right, cards, tables):
    page = console(staff, rights=["view_userprofile", right]).get(page_of(asha))
    assert (titles(page, "cards"), titles(page, "tables")) == (["Asha Verma", *cards], tables)
    assert titles(page, "buttons") == []


def test_who_may_not_see_accounts_sees_nothing_of_a_person(console, staff, story, asha):
    every_other = ["view_wallet", "view_hold", "view_transaction", "view_login", "adjust_wallet", "change_wallet"]
    page = console(staff, rights=every_other).get(page_of(asha))
    assert page.status_code == 403 and "849.50" not in page.content.decode()


MONEY, STATE, ACCOUNT = ["Credit", "Debit"], ["Freeze", "Set tier"], ["Change phone", "Deactivate"]


@pytest.mark.parametrize(
    ("group", "buttons"),
    [("Support", []), ("Finance", MONEY), ("Operations", STATE + ACCOUNT), (None, MONEY + STATE + ACCOUNT)],
)
def test_each_is_offered_what_he_may_do_and_can_go_there(console, staff, boss, story, asha, group, buttons):
    client = console(staff if group else boss, group)
    page = client.get(page_of(asha))
    assert titles(page, "buttons") == buttons
    for button in page.context["buttons"]:
        href = button["href"]
        assert f'href="{href}"' in page.content.decode()
        if href.startswith("#"):
            assert f'id="{href[1:]}"' in page.content.decode()
        else:
            assert client.get(href).status_code == 200


def test_nobody_but_a_superuser_is_offered_to_change_an_account_with_rights(console, staff, boss):
    assert titles(console(staff, "Operations").get(page_of(boss)), "buttons") == STATE


def test_a_deed_leads_back_to_the_person_and_the_idle_one_is_not_offered(console, boss, story, asha):
    client = console(boss)
    (freeze,) = [button for button in client.get(page_of(asha)).context["buttons"] if button["title"] == "Freeze"]
    assert fill_in(client, freeze["href"], reason="Stolen phone")["Location"] == page_of(asha)
    assert Wallet.objects.get(user=asha).is_frozen
    assert titles(client.get(page_of(asha)), "buttons") == ["Credit", "Debit", "Unfreeze", "Set tier", *ACCOUNT]


def test_the_phone_is_changed_and_the_account_deactivated_on_the_same_page(console, staff, story, asha):
    client = console(staff, "Operations")
    names = {"first_name": "Asha", "last_name": "Verma"}
    assert client.post(page_of(asha), {**names, "phone_number": "97000 00001"}).status_code == 302
    card, *_ = client.get(page_of(asha)).context["cards"]
    assert (card["value"], card["note"]) == ("9700000001", "user_9999999999, deactivated")
    assert titles(client.get(page_of(asha)), "buttons")[-1] == "Activate"


@pytest.mark.parametrize(
    "path", ["users/userprofile/", "wallet/wallet/", "wallet/hold/", "transactions/transaction/", "users/login/", ""]
)
def test_the_rows_of_every_list_lead_to_the_person(console, boss, story, asha, path):
    assert f'href="{page_of(asha)}' in console(boss).get(f"/admin/{path}").content.decode()


def test_a_page_of_much_takes_as_many_queries_as_one_of_little(console, boss, story, asha, ravi):
    client = console(boss)

    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert client.get(page_of(asha)).status_code == 200
        return len(captured)

    queries()  # fills the caches of the process
    few = queries()
    for number in range(15):
        payee = accounts.create(phone_number=f"+9197000000{number:02}")
        payments.transfer(user_id=asha.pk, to=payee.phone_number, amount=Decimal("1.00"))
        holds.open_(user_id=asha.pk, to=payee.phone_number, amount=Decimal("1.00"))
        tokens.issue(asha)
        assert payments.transfer(user_id=payee.pk, to=asha.phone_number, amount=Decimal("1.00"))
    assert queries() == few <= 25


def test_there_is_no_page_of_a_person_who_is_not(console, boss):
    assert console(boss).get("/admin/users/userprofile/0/change/").status_code == 302
