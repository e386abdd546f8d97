"""Wallets in the console: found and shown, never edited."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from users import accounts
from wallet.models import Wallet

WALLETS = "/admin/wallet/wallet/"


@pytest.fixture
def console(boss):
    client = Client()
    client.force_login(boss)
    return client


def found(page):
    assert page.status_code == 200
    return [wallet.user.username for wallet in page.context["cl"].result_list]


def test_a_superuser_neither_adds_nor_changes_nor_deletes_a_wallet(console, asha):
    before = Wallet.objects.values().get(user=asha)
    data = {"user": asha.pk, "balance": "9999.00", "status": "FROZEN", "post": "yes"}
    for path in ("add/", f"{asha.wallet.pk}/change/", f"{asha.wallet.pk}/delete/"):
        assert console.post(WALLETS + path, data).status_code == 403
    for action in ("delete_selected", "freeze"):
        console.post(WALLETS, {"action": action, "_selected_action": [asha.wallet.pk], "post": "yes"})
    assert Wallet.objects.values().get(user=asha) == before


def test_the_page_of_a_wallet_shows_it_without_a_field_to_fill(console, asha):
    page = console.get(f"{WALLETS}{asha.wallet.pk}/change/")
    assert "₹\N{NO-BREAK SPACE}1,000.00" in page.content.decode()
    assert not page.context["adminform"].form.fields


@pytest.mark.parametrize("term", ["99999", "99999 99999", "+91 99999", "user_9999"])
def test_search_reads_a_phone_as_people_write_it_and_usernames(console, asha, ravi, term):
    assert found(console.get(WALLETS, {"q": term})) == [asha.username]


@pytest.mark.parametrize(
    ("limits", "count"),
    [
        ({"balance_from": "1000.00"}, 1),
        ({"balance_from": "1000.01"}, 0),
        ({"balance_from": "0", "balance_to": "999.99"}, 2),
        ({"balance_from": "", "balance_to": "1000"}, 3),
        ({"status__exact": "ACTIVE"}, 3),
        ({"status__exact": "FROZEN"}, 0),
    ],
)
def test_filters_narrow_the_list(console, asha, ravi, limits, count):
    assert len(found(console.get(WALLETS, limits))) == count


@pytest.mark.parametrize(
    "limit", ["abc", "NaN", "sNaN", "-Infinity", "1e400", "1e999999999", "1e-999999999", "0.001", "9" * 19, "٣", " "]
)
def test_a_limit_that_is_no_amount_leads_back_to_the_list(console, asha, limit):
    for name in ("balance_from", "balance_to"):
        assert console.get(WALLETS, {name: limit})["Location"] == f"{WALLETS}?e=1"


def test_a_page_takes_as_many_queries_for_thirty_wallets_as_for_one(console, boss):
    console.get(WALLETS)
    with CaptureQueriesContext(connection) as few:
        assert len(found(console.get(WALLETS))) == 1
    for number in range(29):
        accounts.create(phone_number=f"+9197000000{number:02}")
    with CaptureQueriesContext(connection) as many:
        assert len(found(console.get(WALLETS))) == 30
    assert len(many) == len(few)


def test_balances_are_shown_to_the_paisa(console, asha):
    assert "₹\N{NO-BREAK SPACE}1,000.00" in console.get(WALLETS).content.decode()
