"""Tiers in the console: superusers edit them, staff see them, and wallets get them with a reason."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from users import accounts, audit
from wallet import payments, status
from wallet.models import Tier, Wallet

TIERS = "/admin/wallet/tier/"
NAMES = ("max_amount", "max_balance", "daily_out", "monthly_out", "monthly_in", "daily_count")


@pytest.fixture
def console():
    """A client of the console, logged in as the user, optionally in a group."""

    def client_of(user, group=None):
        user.groups.set(Group.objects.filter(name=group))
        client = Client()
        client.force_login(user)
        return client

    return client_of


@pytest.fixture
def opening():
    return datetime(2026, 3, 1, tzinfo=UTC)


@pytest.fixture
def gold(db):
    return Tier.objects.create(name="Gold", max_amount=Decimal("500.00"), daily_count=20)


def form(**fields):
    return dict.fromkeys(NAMES, "") | {"name": "Silver", **fields}


def test_a_superuser_adds_changes_and_deletes_a_tier_and_each_is_logged(console, boss):
    client = console(boss)
    page = client.post(f"{TIERS}add/", form(max_amount="150.5", daily_out="0", daily_count="3"))
    assert page["Location"] == TIERS
    tier = Tier.objects.get()
    assert (tier.max_amount, tier.daily_out, tier.daily_count, tier.monthly_in) == (Decimal("150.50"), 0, 3, None)
    client.post(f"{TIERS}{tier.pk}/change/", form(max_amount="150.50", daily_out="", daily_count="4"))
    client.post(f"{TIERS}{tier.pk}/delete/", {"post": "yes"})
    assert not Tier.objects.exists()
    added, changed, deleted = [audit.details(entry) for entry in LogEntry.objects.order_by("pk")]
    assert added["before"] is None
    assert (added["after"]["max_amount"], added["after"]["monthly_in"]) == ("150.50", "no limit")
    assert (changed["before"], changed["after"]) == (
        {"daily_count": 3, "daily_out": "0.00"},
        {"daily_count": 4, "daily_out": "no limit"},
    )
    assert (deleted["before"]["name"], deleted["after"]) == ("Silver", None)


@pytest.mark.parametrize(
    ("field", "text"),
    [(name, text) for name in NAMES[:5] for text in ("1e2", "-1", "1.005", "x", "NaN", "٣", " 1", "9" * 20)]
    + [("daily_count", text) for text in ("1e2", "-1", "1.5", "x", "٣", "1_0", "9" * 20)]
    + [("name", text) for text in ("", "  ", "x" * 65, "a\u202eb", "a\0b", "Gold")],
)
def test_what_is_filled_in_wrong_is_shown(console, boss, gold, field, text):
    page = console(boss).post(f"{TIERS}add/", form(**{field: text}))
    assert (page.status_code, list(page.context["adminform"].form.errors)) == (200, [field])
    assert Tier.objects.count() == 1


@pytest.mark.parametrize("group", ["Support", "Operations", "Finance"])
def test_groups_look_at_tiers_and_change_none(console, staff, gold, group):
    client = console(staff, group)
    assert "Gold" in client.get(TIERS).content.decode()
    page = client.get(f"{TIERS}{gold.pk}/change/")
    assert "₹\N{NO-BREAK SPACE}500.00" in page.content.decode() and not page.context["adminform"].form.fields
    for path in ("add/", f"{gold.pk}/change/", f"{gold.pk}/delete/"):
        assert client.post(TIERS + path, form(post="yes")).status_code == 403
    assert Tier.objects.get().name == "Gold"


def test_a_tier_that_wallets_have_is_not_deleted(console, boss, asha, gold):
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=gold, reason="x")
    client = console(boss)
    for method in (client.get, client.post):
        page = method(f"{TIERS}{gold.pk}/delete/", {"post": "yes"}, follow=True)
        assert "cannot be deleted while 1 wallet has it" in page.content.decode()
    assert Tier.objects.get() == gold


def test_the_list_shows_how_many_wallets_have_each_with_few_queries(console, boss, asha, gold):
    client = console(boss)
    client.get(TIERS)
    with CaptureQueriesContext(connection) as few:
        client.get(TIERS)
    Tier.objects.bulk_create(Tier(name=f"Tier {n}") for n in range(29))
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=gold, reason="x")
    with CaptureQueriesContext(connection) as many:
        page = client.get(TIERS)
    assert len(many) == len(few)
    assert {tier.name: tier.count for tier in page.context["cl"].result_list}["Gold"] == 1
    assert f"/admin/wallet/wallet/?tier__id__exact={gold.pk}" in page.content.decode()


# --- Of a wallet --------------------------------------------------------------------------------------


def page_of(wallet):
    return f"/admin/wallet/wallet/{wallet.pk}/set_tier/"


def chosen(tier, **fields):
    return {"key": "0" * 32, "confirmed": "", "reason": "Known for years", "tier": tier, **fields}


@pytest.mark.parametrize(("group", "may"), [("Support", False), ("Operations", True), ("Finance", False)])
def test_operations_set_the_tier_of_a_wallet(console, staff, asha, gold, group, may):
    client = console(staff, group)
    page = client.get(f"/admin/wallet/wallet/{asha.wallet.pk}/change/")
    assert ("Set tier" in [action["title"] for action in page.context["actions_detail"]]) is may
    assert client.post(page_of(asha.wallet), chosen(gold.pk)).status_code == (302 if may else 403)
    assert Wallet.objects.get(user=asha).tier == (gold if may else None)


def test_a_wallet_gets_a_tier_and_loses_it_with_reasons(console, boss, asha, gold):
    client, path = console(boss), page_of(asha.wallet)
    page = client.post(path, {**chosen(gold.pk), "confirmed": "", "edit": ""})
    assert Wallet.objects.get(user=asha).tier is None
    data = chosen(gold.pk)
    del data["confirmed"]
    assert client.post(path, data).context["form"].answers()["Tier"] == "Gold"
    client.post(path, chosen(gold.pk))
    page = client.get(path)
    assert page.context["form"]["tier"].value() == gold.pk
    del (none := chosen(""))["confirmed"]
    assert client.post(path, none).context["form"].answers()["Tier"].startswith("none")
    client.post(path, chosen("", reason="Changed our mind"))
    assert Wallet.objects.get(user=asha).tier is None
    entries = [audit.details(entry) for entry in LogEntry.objects.order_by("pk")]
    assert [(entry["before"], entry["after"], entry["reason"]) for entry in entries] == [
        (None, "Gold", "Known for years"),
        ("Gold", None, "Changed our mind"),
    ]


@pytest.mark.parametrize("tier", ["0", "x", "9" * 30, "%00", "-1"])
def test_an_unknown_tier_is_reported(console, boss, asha, tier):
    page = console(boss).post(page_of(asha.wallet), chosen(tier))
    assert list(page.context["form"].errors) == ["tier"]


def test_nobody_sets_the_tier_of_his_own_wallet(console, boss, gold):
    page = console(boss).post(page_of(boss.wallet), chosen(gold.pk))
    assert "another member of staff" in str(page.context["form"].non_field_errors())


def test_wallets_are_filtered_by_tier(console, boss, asha, ravi, gold):
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=gold, reason="x")
    client = console(boss)
    rows = lambda **asked: client.get("/admin/wallet/wallet/", asked).context["cl"].result_list  # noqa: E731
    assert [wallet.user for wallet in rows(tier__id__exact=gold.pk)] == [asha]
    assert {wallet.user for wallet in rows(tier__isnull="True")} == {boss, ravi}
    assert client.get("/admin/wallet/wallet/", {"tier__id__exact": "x"})["Location"].endswith("?e=1")


def test_the_page_of_a_wallet_shows_what_is_counted_today_and_nothing_of_days_before(console, boss, asha, clock_at):
    noon = datetime(2026, 3, 30, 6, 30, tzinfo=UTC)
    clock_at(noon)
    payments.debit(user_id=asha.pk, amount=Decimal("12.34"))

    def counted():
        client = console(boss)
        return client.get(f"/admin/wallet/wallet/{asha.wallet.pk}/change/").context["original"]

    wallet = counted()
    assert (wallet.out_day, wallet.count_day, wallet.out_month) == (Decimal("12.34"), 1, Decimal("12.34"))
    clock_at(noon + timedelta(days=1))
    wallet = counted()
    assert (wallet.out_day, wallet.count_day, wallet.out_month) == (0, 0, Decimal("12.34"))
    clock_at(noon + timedelta(days=2))
    wallet = counted()
    assert (wallet.out_day, wallet.count_day, wallet.out_month, wallet.in_month) == (0, 0, 0, 0)


def test_lists_of_wallets_with_tiers_and_holds_take_as_many_queries(console, boss, asha, gold):
    client = console(boss)
    client.get("/admin/wallet/wallet/")
    with CaptureQueriesContext(connection) as few:
        client.get("/admin/wallet/wallet/")
    for number in range(20):
        user = accounts.create(phone_number=f"+9197000000{number:02}")
        status.set_tier(user_id=boss.pk, wallet_id=user.wallet.pk, tier=gold, reason="x")
    with CaptureQueriesContext(connection) as many:
        assert "Gold" in client.get("/admin/wallet/wallet/").content.decode()
    assert len(many) == len(few)
