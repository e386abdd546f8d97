"""Users see the history of their own wallet, newest first, and nothing else."""

import json
import re
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.db.transaction import atomic, set_rollback
from django.test.utils import CaptureQueriesContext

from lokanetra.prepared import Placeholder
from transactions.models import Transaction, _newest
from users import accounts
from wallet import payments

INDIA = ZoneInfo("Asia/Kolkata")
ENTRY = ["id", "transaction_id", "transaction_type", "direction", "counterparty", "amount", "balance", "sender",
         "receiver", "remarks", "timestamp", "hold", "reverses"]  # fmt: skip


@pytest.fixture
def opening():
    return datetime(2025, 12, 31, tzinfo=UTC)


@pytest.fixture
def on(at):
    """Calls something at a moment of January 2026, in India."""

    def do(day, operation, clock="12:00:00", **arguments):
        moment = datetime.fromisoformat(f"2026-01-{day:02}T{clock}").replace(tzinfo=INDIA)
        with at(moment):
            return operation(**arguments).transaction.pk

    return do


@pytest.fixture
def history(asha, ravi, stranger, on):
    """Asha's transactions by name; she had 1000.00 before them."""
    on(1, payments.credit, user_id=stranger.pk, amount=Decimal("500.00"))
    loan = Decimal("100.00")
    rows = {
        "credit": on(1, payments.credit, "00:00:00", user_id=asha.pk, amount=Decimal("5.00"), remarks="gift"),
        "rent": on(10, payments.transfer, user_id=asha.pk, to=ravi.phone_number, amount=Decimal("250.50")),
        "back": on(20, payments.transfer, user_id=ravi.pk, to=asha.phone_number, amount=Decimal("0.50")),
        "loan": on(20, payments.transfer, "23:59:59.999999", user_id=stranger.pk, to=asha.phone_number, amount=loan),
        "debit": on(31, payments.debit, user_id=asha.pk, amount=Decimal("4.00")),
    }  # fmt: skip
    on(31, payments.transfer, user_id=stranger.pk, to=ravi.phone_number, amount=Decimal("1.00"))
    return rows


@pytest.fixture
def get(asha, as_user):
    client = as_user(asha)

    def fetch(path="", **query):
        """A path below the history, or a whole link from an answer."""
        url = path if path.startswith("http") else f"/transactions/{path}"
        return client.get(f"{url}?{urlencode(query)}" if query else url)

    return fetch


def ids(answer):
    assert answer.status_code == 200, answer.json()
    return [row["id"] for row in answer.json()["results"]]


def cursor(direction, pk):
    return urlsafe_b64encode(f"{direction}{pk}".encode()).decode()


def walk(get, link, url):
    """The ids of each page from `url` on, along its `next` or `previous`."""
    pages = []
    while url:
        page = get(url).json()
        pages.append([row["id"] for row in page["results"]])
        url = page[link]
    return pages


def test_it_is_ones_own_and_newest_first(history, asha, get):
    opening = Transaction.objects.earliest("pk").pk
    assert ids(get()) == [*reversed(history.values()), opening]
    assert list(get().json()) == ["next", "previous", "results"]


def test_a_row_shows_the_direction(history, get):
    rows = {row["id"]: row for row in get().json()["results"]}
    assert list(rows[history["rent"]]) == ENTRY
    assert rows[history["rent"]] == {
        "id": history["rent"],
        "transaction_id": history["rent"],
        "transaction_type": "TRANSFER",
        "direction": "OUT",
        "counterparty": "user_9888888888",
        "amount": "250.50",
        "balance": "754.50",
        "sender": "user_9999999999",
        "receiver": "user_9888888888",
        "remarks": "",
        "timestamp": "2026-01-10T06:30:00Z",
        "hold": None,
        "reverses": None,
    }
    shown = [rows[pk] for pk in history.values()]
    assert [(row["direction"], row["counterparty"], row["balance"]) for row in shown] == [
        ("IN", None, "1005.00"),
        ("OUT", "user_9888888888", "754.50"),
        ("IN", "user_9888888888", "755.00"),
        ("IN", "user_9777777777", "855.00"),
        ("OUT", None, "851.00"),
    ]


def test_the_other_side_sees_its_own_balance(history, ravi, as_user):
    row = as_user(ravi).get(f"/transactions/{history['rent']}/").json()
    assert (row["direction"], row["counterparty"], row["balance"]) == ("IN", "user_9999999999", "250.50")


def test_neighbours_with_more_rows_do_not_show(asha, ravi, stranger, as_user):
    for user in (asha, ravi, stranger, ravi):
        payments.credit(user_id=user.pk, amount=Decimal("1.00"))
    payments.debit(user_id=stranger.pk, amount=Decimal("1.00"))
    for user, count in ((asha, 1), (ravi, 2), (stranger, 2)):
        page = as_user(user).get("/transactions/").json()["results"]
        assert {user.username} == {row["sender"] or row["receiver"] for row in page}
        assert len(page) == count + (user == asha)  # who opened with a credit


def test_the_first_page_of_a_busy_wallet_reads_no_more_rows_than_it_shows(asha):
    if connection.vendor == "sqlite":
        return  # it always reads an index that has the order
    wallet = asha.wallet.pk
    compiled = _newest(21)._compiled
    numbered = compiled.sql.replace("%s", "${}").format(*range(1, 9))
    values = {"wallet": wallet, "name": "'asha'"}
    given = [values[param.name] if isinstance(param, Placeholder) else f"'{param}'" for param in compiled.params]
    with atomic(), connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")  # none may be pending when a table is altered
        # As where most wallets have few rows.
        cursor.execute("ALTER TABLE transactions_transaction ALTER COLUMN receiver_id SET (n_distinct = 1000)")
        cursor.execute(
            """INSERT INTO transactions_transaction (transaction_type, receiver_id, amount, receiver_balance, remarks,
                timestamp, initiated_by_id) SELECT 'CREDIT', %s, 1, 1, '', now(), %s FROM generate_series(1, 3000)""",
            [wallet, asha.pk],
        )
        cursor.execute("ANALYZE transactions_transaction")
        cursor.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        cursor.execute(f"PREPARE page (text, text, int8, int8, text, text, int8, int8) AS {numbered}")
        cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) EXECUTE page ({', '.join(map(str, given))})")
        ((plan,),) = cursor.fetchall()
        cursor.execute("DEALLOCATE page")
        set_rollback(True)
    assert max(re.findall(r'"Actual Rows": ([0-9.]+)', json.dumps(plan)), key=float) == "21.0"


def test_a_wallet_without_rows_has_an_empty_history(history, boss, as_user):
    assert as_user(boss).get("/transactions/").json() == {"next": None, "previous": None, "results": []}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ({"type": "CREDIT"}, ["credit"]),
        ({"type": "debit"}, ["debit"]),
        ({"type": "Transfer"}, ["loan", "back", "rent"]),
        ({"direction": "out"}, ["debit", "rent"]),
        ({"direction": "In"}, ["loan", "back", "credit"]),
        ({"direction": "IN", "type": "transfer"}, ["loan", "back"]),
        ({"min_amount": "100"}, ["loan", "rent"]),
        ({"min_amount": "100.01"}, ["rent"]),
        ({"max_amount": "4.00"}, ["debit", "back"]),
        ({"min_amount": "4", "max_amount": "5"}, ["debit", "credit"]),
        ({"max_amount": "0"}, []),
        ({"start_date": "2026-01-20"}, ["debit", "loan", "back"]),
        ({"end_date": "2026-01-20"}, ["loan", "back", "rent", "credit"]),
        ({"start_date": "2026-01-20", "end_date": "2026-01-20"}, ["loan", "back"]),
        ({"start_date": "20260120", "end_date": "20260120"}, ["loan", "back"]),
        ({"start_date": "2026-01-01", "end_date": "2026-01-01"}, ["credit"]),
        ({"start_date": "2026-01-10T06:30:00Z", "end_date": "2026-01-10T06:30:00Z"}, ["rent"]),
        ({"start_date": "2026-01-10T12:00:00", "end_date": "2026-01-10T12:00"}, ["rent"]),
        ({"start_date": "2026-01-10T01:30:00-05:00", "end_date": "2026-01-20T12:00:00"}, ["back", "rent"]),
        ({"start_date": "2026-01-31T12:00:00.000001"}, []),
        ({"start_date": "2026-01-21", "end_date": "2026-01-20"}, []),
        ({"start_date": "0001-01-01", "end_date": "0001-01-01"}, []),
        ({"start_date": "9999-12-31", "end_date": "9999-12-31"}, []),
        ({"phone": "9888888888"}, ["back", "rent"]),
        ({"phone": "+91 98888-88888"}, ["back", "rent"]),
        ({"phone": "098888 88888", "direction": "in"}, ["back"]),
        ({"phone": "9777777777"}, ["loan"]),
        ({"phone": "9999999999"}, []),
        ({"phone": "9333333333"}, []),
        ({"phone": "", "type": "", "min_amount": "", "direction": "out"}, ["debit", "rent"]),
    ],
)
def test_it_can_be_narrowed(history, get, query, names):
    start = {} if "start_date" in query else {"start_date": "2026-01-01"}
    end = {} if "end_date" in query else {"end_date": "2026-01-31"}
    assert ids(get(**(query | start | end))) == [history[name] for name in names]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("type", "GIFT"), ("type", "CREDIT,DEBIT"), ("type", "x\0"), ("direction", "UP"), ("direction", "0"),
        ("min_amount", "1e2"), ("min_amount", "-1"), ("min_amount", "1.005"), ("min_amount", "NaN"),
        ("min_amount", "५"),
        ("max_amount", " 5"), ("max_amount", "1_0"), ("max_amount", "9" * 13), ("max_amount", "9" * 5000),
        ("start_date", "yesterday"), ("start_date", "2026-02-30"), ("start_date", "2026-01-31T25:00:00Z"),
        ("start_date", "31-01-2026"), ("start_date", "1769817600"), ("start_date", "0001-01-01T00:00:00+05:30"),
        ("end_date", "9999-12-31T23:59:59-05:30"), ("end_date", "2026-01-31\0"), ("end_date", "12:00"),
        ("end_date", "2026-01-20T12:00:00 05:30"),
        ("phone", "12345"), ("phone", "98888ABCDE"), ("phone", "x\0"), ("phone", "९८८८८८८८८८"), ("phone", "'"),
        ("phone", "9888888888\n"),
        ("page_size", "0"), ("page_size", "101"), ("page_size", "abc"), ("page_size", "-1"), ("page_size", "1.0"),
        ("page_size", "५"), ("page_size", "9" * 5000),
        ("cursor", "abc"), ("cursor", "%%%"), ("cursor", "PA=="), ("cursor", "चा"), ("cursor", "PDE\0"),
        ("cursor", "x" * 5000),
        ("cursor", "PDk5OTk5OTk5OTk5OTk5OTk5OTk5"), ("cursor", "PC0x"), ("cursor", "PTE="), ("cursor", "PDEK"),
        ("cursor", "PD!E="), ("cursor", "PDE=\n"), ("cursor", "PDE=="), ("cursor", "PDF="),
        ("type", "tran\u017ffer"), ("direction", "\u0131n"), ("start_date", "\uff12026-01-31"),
    ],
    ids=lambda text: repr(text)[:30],
)  # fmt: skip
def test_an_invalid_parameter_is_named(history, get, name, value):
    refusal = get(**{name: value})
    assert (refusal.status_code, refusal.json()["code"]) == (400, "validation_error")
    assert list(refusal.json()["errors"]) == [name]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_pages_go_forward_and_back_over_exactly_all_rows(history, get, size):
    everything = ids(get())
    forward = walk(get, "next", f"?page_size={size}")
    assert sum(forward, []) == everything
    assert all(len(page) == size for page in forward[:-1])
    before_the_last = get(page_size=size, cursor=cursor("<", everything[-2])).json()
    back = walk(get, "previous", before_the_last["previous"])
    assert [row["id"] for row in before_the_last["results"]] == everything[-1:]
    assert sum(reversed(back), []) == everything[:-1]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_new_rows_do_not_disturb_later_pages(history, asha, get, size):
    everything, url, seen = ids(get()), f"?page_size={size}", []
    while url:
        page = get(url).json()
        seen += [row["id"] for row in page["results"]]
        payments.credit(user_id=asha.pk, amount=Decimal("1.00"))
        url = page["next"]
    assert seen == everything


def test_new_rows_are_found_on_the_way_back(history, asha, get):
    second = get(get("?page_size=3").json()["next"]).json()
    new = [payments.credit(user_id=asha.pk, amount=Decimal("1.00")).transaction.pk for _ in range(2)]
    back = walk(get, "previous", second["previous"])
    assert sum(reversed(back), []) == [*reversed(new), *ids(get())[2:5]]


def test_links_keep_the_filters(history, get):
    page = get(type="transfer", page_size=2).json()
    assert [row["id"] for row in page["results"]] == [history["loan"], history["back"]]
    assert ids(get(page["next"])) == [history["rent"]]
    assert get(page["next"]).json()["next"] is None


def test_a_page_has_twenty_rows_and_at_most_a_hundred(asha, get):
    for _ in range(101):
        payments.debit(user_id=asha.pk, amount=Decimal("0.01"))
    assert len(ids(get())) == 20
    assert len(ids(get(page_size=100))) == 100
    assert len(ids(get(get(page_size=100).json()["next"]))) == 2


def test_one_row_is_shown_as_in_the_list(history, get):
    for row in get().json()["results"]:
        assert get(f"{row['id']}/").json() == row | {"refunded": "0.00"}


def test_transactions_of_others_are_not_found(history, get, ravi, as_user):
    foreign = Transaction.objects.exclude(pk__in=ids(get())).values_list("pk", flat=True)
    assert len(foreign) == 2
    for pk in [*foreign, 0, 999999, "9" * 18, "9" * 19, "9" * 40, "-1", "abc", "1.0", "५"]:
        refusal = get(f"{pk}/")
        assert (refusal.status_code, refusal.json()["code"]) == (404, "not_found")
    assert as_user(ravi).get(f"/transactions/{history['credit']}/").status_code == 404


def test_staff_see_no_more_of_it_than_others(history, boss, as_user):
    assert as_user(boss).get(f"/transactions/{history['rent']}/").status_code == 404


def test_nobody_sees_it_without_a_login(history, nobody):
    for path in ("", f"{history['rent']}/"):
        assert nobody.get(f"/transactions/{path}").status_code == 401


def test_it_cannot_be_written(history, asha, as_user):
    client = as_user(asha)
    for path in ("/transactions/", f"/transactions/{history['rent']}/"):
        for verb in (client.post, client.put, client.patch, client.delete):
            assert verb(path, {"amount": "1"}).status_code == 405


def test_the_number_of_queries_does_not_grow_with_the_rows(asha, ravi, stranger, get):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            ids(get(phone="9888888888"))
            ids(get())
        return len(captured)

    few = queries()
    for user in (ravi, stranger, *(accounts.create(phone_number=f"+9198{n:08}") for n in range(5))):
        payments.transfer(user_id=asha.pk, to=user.phone_number, amount=Decimal("2.00"))
        payments.transfer(user_id=user.pk, to=asha.phone_number, amount=Decimal("1.00"))
    assert len(ids(get())) == 15
    assert queries() == few
