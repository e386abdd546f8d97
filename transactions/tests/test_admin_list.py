"""Staff see the whole ledger and all wallets, filtered, searched, ordered and in pages with a true count."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from itertools import count, product
from urllib.parse import quote, urlencode

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lokanetra import pagination
from transactions import filters
from transactions.models import Transaction
from users import accounts
from users.models import OTP, UserProfile
from wallet import payments, status
from wallet.models import Wallet

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
ROWS, WALLETS = "/transactions/admin-list/", "/wallet/admin/wallets/"


@pytest.fixture
def get(staff, as_user):
    client = as_user(staff)
    return lambda path=ROWS, **query: client.get(f"{path}?{urlencode(query)}" if query else path)


@pytest.fixture
def opening():
    return datetime(2025, 12, 31, tzinfo=UTC)


@pytest.fixture
def rows(asha, ravi, stranger, at):
    """A few days of January 2026, by name; before them asha received her 1000.00."""

    def on(day, operation, amount, **arguments):
        with at(datetime(2026, 1, day, 12, tzinfo=UTC)):
            return operation(amount=Decimal(amount), **arguments).transaction.pk

    return {
        "gift": on(1, payments.credit, "500.00", user_id=stranger.pk, remarks="Birthday gift"),
        "rent": on(10, payments.transfer, "250.50", user_id=asha.pk, to=ravi.phone_number, remarks="Rent for May"),
        "tea": on(10, payments.transfer, "4.00", user_id=ravi.pk, to=asha.phone_number, remarks="tea, 50% off"),
        "loan": on(20, payments.transfer, "4.00", user_id=stranger.pk, to=ravi.phone_number, remarks="for May_be"),
        "debit": on(31, payments.debit, "4.00", user_id=asha.pk),
    }


def ids(answer):
    assert answer.status_code == 200, answer.json()
    return [row["id"] for row in answer.json()["results"]]


def refused(answer, name):
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_error")
    assert list(answer.json()["errors"]) == [name]


def test_it_shows_both_sides_of_every_row_newest_first(rows, get):
    answer = get().json()
    opening = Transaction.objects.earliest("pk").pk
    assert list(answer) == ["count", "next", "previous", "results"]
    assert (answer["count"], answer["next"], answer["previous"]) == (6, None, None)
    assert [row["id"] for row in answer["results"]] == [*reversed(rows.values()), opening]
    assert answer["results"][-3] == {
        "id": rows["rent"],
        "sender": "user_9999999999",
        "receiver": "user_9888888888",
        "sender_phone_number": "9999999999",
        "receiver_phone_number": "9888888888",
        "amount": "250.50",
        "transaction_type": "TRANSFER",
        "timestamp": "2026-01-10T12:00:00Z",
        "remarks": "Rent for May",
        "hold": None,
        "reverses": None,
    }
    assert [answer["results"][-1][key] for key in ("sender", "sender_phone_number")] == [None, None]


def test_an_account_without_a_phone_is_shown_without(boss, get):
    accounts.assign_phone(boss, None)
    payments.credit(user_id=boss.pk, amount=Decimal("1.00"))
    assert get().json()["results"][0]["receiver_phone_number"] is None


JANUARY = {"start_date": "2026-01-01", "end_date": "2026-01-31"}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["debit", "loan", "tea", "rent", "gift"]),
        ({"type": "transfer"}, ["loan", "tea", "rent"]),
        ({"type": "Credit"}, ["gift"]),
        ({"start_date": "2026-01-10", "end_date": "2026-01-10"}, ["tea", "rent"]),
        ({"end_date": "2026-01-10"}, ["tea", "rent", "gift"]),
        ({"start_date": "2026-01-10T12:00:00.000001Z"}, ["debit", "loan"]),
        ({"sender_phone": "9999999999"}, ["debit", "rent"]),
        ({"sender_phone": "+91 99999-99999"}, ["debit", "rent"]),
        ({"receiver_phone": "098888 88888"}, ["loan", "rent"]),
        ({"sender_phone": "9777777777", "receiver_phone": "9888888888"}, ["loan"]),
        ({"sender_phone": "9333333333"}, []),
        ({"min_amount": "250.50"}, ["rent", "gift"]),
        ({"min_amount": "4", "max_amount": "4.00"}, ["debit", "loan", "tea"]),
        ({"max_amount": "3.99"}, []),
        ({"search": "DEBIT"}, ["debit"]),
        ({"search": "transfer"}, ["loan", "tea", "rent"]),
        ({"search": "user_97"}, ["loan", "gift"]),
        ({"search": "97777"}, ["loan", "gift"]),
        ({"search": "+91 97777"}, ["loan", "gift"]),
        ({"search": "097777 77777"}, ["loan", "gift"]),
        ({"search": "7777"}, ["loan", "gift"]),
        ({"search": "777-77"}, ["loan", "gift"]),
        ({"search": "777"}, []),
        ({"search": "7778"}, []),
        ({"search": "+7777"}, []),
        ({"search": "ser_97"}, []),
        ({"search": "may"}, ["loan", "rent"]),
        ({"search": "MAY rent"}, ["rent"]),
        ({"search": "birth"}, ["gift"]),
        ({"search": "50%"}, ["tea"]),
        ({"search": "5_%"}, []),
        ({"search": "may_"}, ["loan"]),
        ({"search": "may", "min_amount": "5"}, ["rent"]),
        ({"search": "' OR 1=1 --"}, []),
        ({"search": "\\"}, []),
        ({"search": "", "type": "", "sender_phone": "", "ordering": ""}, ["debit", "loan", "tea", "rent", "gift"]),
        ({"ordering": "timestamp"}, ["gift", "rent", "tea", "loan", "debit"]),
        ({"ordering": "-timestamp"}, ["debit", "loan", "tea", "rent", "gift"]),
        ({"ordering": "amount"}, ["tea", "loan", "debit", "rent", "gift"]),
        ({"ordering": "-amount"}, ["gift", "rent", "debit", "loan", "tea"]),
    ],
)
def test_it_can_be_narrowed_and_ordered(rows, get, query, names):
    answer = get(**(JANUARY | query))
    assert ids(answer) == [rows[name] for name in names]
    assert answer.json()["count"] == len(names)


def test_words_are_searched_in_the_newest_rows_only(rows, get, monkeypatch):
    monkeypatch.setattr(filters, "SEARCHED_ROWS", 2)
    assert ids(get(search="may", **JANUARY)) == [rows["loan"]]
    assert ids(get(search="may", type="transfer", **JANUARY)) == [rows["loan"], rows["rent"]]


def test_a_search_that_finds_many_accounts_finds_their_newest_rows(rows, get, monkeypatch):
    few = ids(get(search="user_9"))
    monkeypatch.setattr(filters, "MAX_NAMED_WALLETS", 1)
    assert ids(get(search="user_9")) == few
    assert len(few) == 6
    monkeypatch.setattr(filters, "SEARCHED_ROWS", 2)
    assert ids(get(search="user_9")) == few[:2]
    assert ids(get(search="user_98")) == [rows["loan"], rows["tea"], rows["rent"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "GIFT"), ("start_date", "soon"), ("end_date", "2026-13-01"), ("sender_phone", "123"),
        ("receiver_phone", "98888ABCDE"), ("min_amount", "1e2"), ("max_amount", "-1"), ("ordering", "remarks"),
        ("ordering", "sender__user__password"), ("ordering", "--amount"), ("search", "nul \0"), ("page", "0"),
        ("page", "-1"), ("page", "abc"), ("page", "1.0"), ("page", "५"), ("page", "9" * 5000), ("page", "10001"),
        ("page", "501"), ("page_size", "0"), ("page_size", "101"), ("page_size", "abc"), ("page_size", "1e1"),
    ],
    ids=lambda text: repr(text)[:24],
)  # fmt: skip
def test_an_invalid_parameter_is_named(rows, get, name, value):
    refused(get(**{name: value}), name)


def test_page_times_size_ends_at_ten_thousand_rows(rows, get):
    refused(get(page=101, page_size=100), "page")
    assert get(page=100, page_size=100).status_code == 404


def test_a_page_too_far_is_not_found(rows, get):
    assert get(page=3, page_size=2).status_code == 200
    refusal = get(page=4, page_size=2)
    assert (refusal.status_code, refusal.json()["code"]) == (404, "not_found")


def test_no_rows_are_one_empty_page(get):
    assert get().json() == {"count": 0, "next": None, "previous": None, "results": []}
    assert get(page=2).status_code == 404


def test_the_links_lead_through_all_rows_and_back(rows, get):
    everything, forward, url = ids(get(ordering="amount")), [], f"{ROWS}?ordering=amount&page_size=4&type="
    while url:
        last = get(url).json()
        forward += [row["id"] for row in last["results"]]
        url = last["next"]
    first = get(last["previous"]).json()
    assert forward == everything
    assert [row["id"] for row in first["results"]] == everything[:4]
    assert first["previous"] is None


@pytest.mark.parametrize("column", ["amount", "timestamp"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_equal_rows_keep_their_order_from_page_to_page(rows, asha, get, at, column, sign):
    with at(datetime(2026, 1, 31, 12, tzinfo=UTC)):
        for _ in range(6):
            payments.debit(user_id=asha.pk, amount=Decimal("4.00"))
    pages = [ids(get(ordering=f"{sign}{column}", page_size=3, page=page)) for page in range(1, 5)]
    assert sum(pages, []) == [row.pk for row in Transaction.objects.order_by(f"{sign}{column}", f"{sign}id")]


def test_the_count_is_capped_and_says_so(rows, get, monkeypatch):
    monkeypatch.setattr(pagination, "MAX_ROWS", 5)
    capped = get(page_size=2).json()
    assert (capped["count"], capped["count_is_exact"]) == (5, False)
    second = get(capped["next"]).json()
    assert second["next"] is None
    refused(get(page_size=2, page=3), "page")
    exact = get(page_size=5, **JANUARY).json()
    assert exact["count"] == 5
    assert "count_is_exact" not in exact


def test_a_list_that_was_too_long_to_count_is_not_counted_again_at_once(rows, get, monkeypatch):
    def counts(**query):
        with CaptureQueriesContext(connection) as captured:
            assert get(**query).status_code == 200
        return sum("COUNT(*)" in query["sql"] for query in captured.captured_queries)

    monkeypatch.setattr(pagination, "MAX_ROWS", 5)
    assert [counts(page_size=2), counts(page_size=1, page=2), counts(ordering="amount", page_size=1)] == [1, 0, 0]
    assert [counts(page_size=2, **JANUARY), counts(page_size=2, **JANUARY)] == [1, 1]
    pagination.too_long.clear()  # a minute later
    assert counts(page_size=2) == 1


@pytest.mark.parametrize("path", [ROWS, WALLETS])
def test_it_is_for_staff_only(asha, nobody, as_user, path):
    refusal = as_user(asha).get(path)
    assert (refusal.status_code, refusal.json()["code"]) == (403, "permission_denied")
    refusal = nobody.get(path)
    assert (refusal.status_code, refusal.json()["code"]) == (401, "not_authenticated")


SEARCHES = [{}, {"search": "user_9"}, {"search": "2"}]


@pytest.mark.parametrize(
    "path, query",
    [*((path, query) for path in (ROWS, WALLETS) for query in SEARCHES), (ROWS, {"sender_phone": "9999999999"})],
)
def test_the_number_of_queries_does_not_grow_with_the_rows(asha, ravi, get, path, query):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            ids(get(path, **query))
        return len(captured)

    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("1.00"))
    few = queries()
    for n in range(5):
        user = accounts.create(phone_number=f"+9198{n:08}")
        payments.transfer(user_id=asha.pk, to=user.phone_number, amount=Decimal("2.00"))
    assert queries() == few


@pytest.fixture
def wallets(asha, ravi, stranger):
    """By their owners' names; asha has 1000.00, ravi 250.50 and is frozen, the stranger nothing."""
    payments.credit(user_id=ravi.pk, amount=Decimal("250.50"))
    status.freeze(user_id=ravi.pk, wallet_id=ravi.wallet.pk, reason="Reported stolen")
    return {"asha": asha.wallet.pk, "ravi": ravi.wallet.pk, "stranger": stranger.wallet.pk}


def test_a_wallet_is_shown_with_its_owner(wallets, get):
    answer = get(WALLETS).json()
    ravis = next(row for row in answer["results"] if row["id"] == wallets["ravi"])
    created_at = ravis.pop("created_at")
    assert answer["count"] == 4
    assert ravis == {
        "id": wallets["ravi"],
        "user": "user_9888888888",
        "phone_number": "9888888888",
        "balance": "250.50",
        "currency": "INR",
        "status": "FROZEN",
        "held": "0.00",
        "available": "250.50",
        "tier": None,
    }
    assert created_at.endswith("Z")


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({}, ["stranger", "ravi", "asha"]),
        ({"search": "user_98"}, ["ravi"]),
        ({"search": "9999"}, ["asha"]),
        ({"search": "+91 9777"}, ["stranger"]),
        ({"search": "8888"}, ["ravi"]),
        ({"search": "88 888"}, ["ravi"]),
        ({"search": "888"}, []),
        ({"search": "x8888"}, []),
        ({"status": "frozen"}, ["ravi"]),
        ({"status": "Active"}, ["stranger", "asha"]),
        ({"min_balance": "250.50"}, ["ravi", "asha"]),
        ({"max_balance": "250.50"}, ["stranger", "ravi"]),
        ({"min_balance": "0.01", "max_balance": "999.99"}, ["ravi"]),
        ({"max_balance": "0"}, ["stranger"]),
        ({"ordering": "balance"}, ["stranger", "ravi", "asha"]),
        ({"ordering": "-balance"}, ["asha", "ravi", "stranger"]),
        ({"ordering": "created_at"}, ["asha", "ravi", "stranger"]),
        ({"ordering": "-created_at"}, ["stranger", "ravi", "asha"]),
    ],
)
def test_wallets_can_be_narrowed_and_ordered(wallets, get, staff, query, names):
    answer = get(WALLETS, **query)
    assert [pk for pk in ids(answer) if pk != staff.wallet.pk] == [wallets[name] for name in names]


@pytest.mark.parametrize(
    ("name", "value"),
    [("status", "CLOSED"), ("min_balance", "ten"), ("max_balance", "-1"), ("min_balance", "1.005"),
     ("ordering", "user"), ("search", "\0"), ("page", "0"), ("page_size", "101")],
)  # fmt: skip
def test_an_invalid_parameter_about_wallets_is_named(wallets, get, name, value):
    refused(get(WALLETS, **{name: value}), name)


@pytest.fixture
def crowd(asha, ravi):
    """Five thousand wallets, each with a credit and two debits; their balances are what the rows say."""
    numbers = [f"+9196{n:08}" for n in range(5000)]
    users = UserProfile.objects.bulk_create(UserProfile(username=number, phone_number=number) for number in numbers)
    wallets = Wallet.objects.bulk_create(Wallet(user=user, balance=1) for user in users)
    moments = (timezone.now() + timedelta(milliseconds=n) for n in count())
    Transaction.objects.bulk_create(
        Transaction(
            transaction_type="CREDIT",
            receiver=wallet,
            amount=3,
            receiver_balance=3,
            timestamp=moment,
            initiated_by=asha,
        )
        for wallet, moment in zip(wallets, moments, strict=False)
    )
    Transaction.objects.bulk_create(
        Transaction(
            transaction_type="DEBIT", sender=wallet, amount=1, sender_balance=left, timestamp=moment, initiated_by=asha
        )
        for left in (2, 1)
        for wallet, moment in zip(wallets, moments, strict=False)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def plans(call, wanted):
    """The database's plans for the selected queries of `call`."""
    with CaptureQueriesContext(connection) as captured:
        call()
    explain = "EXPLAIN QUERY PLAN" if connection.vendor == "sqlite" else "EXPLAIN"
    found = []
    for query in captured.captured_queries:
        if wanted(query["sql"]):
            with connection.cursor() as cursor:
                cursor.execute(f"{explain} {query['sql']}")
                found.append("\n".join(str(line) for line in cursor.fetchall()))
    return found


def scans(plan, *tables):
    """The tables that the plan scans."""
    verb = "SCAN" if connection.vendor == "sqlite" else "Seq Scan on"
    return [table for table in tables if f"{verb} {table}" in plan]


def of_the_ledger(sql):
    return 'FROM "transactions_transaction"' in sql


def test_ones_own_history_is_read_by_index(crowd, asha, as_user):
    client = as_user(asha)
    (plan,) = plans(lambda: ids(client.get("/transactions/")), of_the_ledger)
    assert "transactions_paid" in plan
    assert "transactions_received" in plan
    assert not scans(plan, "transactions_transaction", "wallet_wallet", "users_userprofile")


@pytest.mark.parametrize(("side", "index"), [("sender", "transactions_paid"), ("receiver", "transactions_received")])
def test_the_rows_of_a_phone_number_are_read_by_index(crowd, get, side, index):
    found = plans(lambda: ids(get(**{f"{side}_phone": "9999999999"})), of_the_ledger)
    count, page, *names = found
    assert index in count
    assert index in page
    assert len(names) == int(side == "receiver")  # she has paid nobody
    for plan in found:
        assert not scans(plan, "transactions_transaction", "wallet_wallet", "users_userprofile")


def test_the_newest_rows_are_read_by_index(crowd, get):
    _, plan = plans(lambda: ids(get()), lambda sql: of_the_ledger(sql) and "ORDER BY" in sql)  # the count, the page
    assert "transactions_by_time" in plan


def test_a_transfer_locks_its_two_wallets_by_index(crowd, asha, ravi):
    def pay():
        payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("1.00"))

    (plan,) = plans(pay, lambda sql: sql.startswith("SELECT") and 'FROM "wallet_wallet"' in sql)
    assert not scans(plan, "wallet_wallet", "users_userprofile")


TABLES = ("transactions_transaction", "wallet_wallet", "users_userprofile", "users_otp")
SEARCHES = ["/auth/admin/users/?search=", f"{WALLETS}?search=", f"{ROWS}?search=",
            *(f"/admin/{name}/?q=" for name in ("users/userprofile", "users/otp", "users/login", "wallet/wallet",
                                                "transactions/transaction"))]  # fmt: skip


def test_no_search_scans_a_whole_table(crowd, boss, as_user, monkeypatch):
    if connection.vendor == "sqlite":
        return  # it reads in the order of the page instead of sorting what an index finds
    monkeypatch.setattr(filters, "SEARCHED_ROWS", 100)
    OTP.objects.bulk_create(OTP(phone_number=f"+9196{n:08}", created_at=NOW, expires_at=NOW) for n in range(5000))
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    client = as_user(boss)
    client.force_login(boss)
    for path, text in product(SEARCHES, ["4321", "00 04321", "+91 96000 04321", "9600004321", "nobody"]):
        found = plans(partial(client.get, f"{path}{quote(text)}"), lambda sql: "LIKE" in sql or of_the_ledger(sql))
        assert found or (path, text) == ("/admin/users/otp/?q=", "nobody")
        for plan in found:
            assert not scans(plan, *TABLES), (path, text, plan)
