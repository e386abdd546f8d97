"""An export holds all that the list would show, as CSV that no spreadsheet runs and that is whole or says it is not."""

import csv
import json
import logging
import sys
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection
from socket import SO_RCVBUF, SOL_SOCKET, socket
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import OperationalError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lokanetra.tests.live import Live, wait_for
from lokanetra.tests.test_errors import problem
from transactions import exports
from users import accounts
from wallet import services

OWN, ALL, CONSOLE = "/transactions/export/", "/transactions/admin-export/", "/admin/transactions/transaction/"


@pytest.fixture
def auditor(staff):
    """Staff who may export, and nothing more."""
    staff.user_permissions.set(Permission.objects.filter(codename__in=["export_transaction", "view_transaction"]))
    return staff


@pytest.fixture
def console(auditor):
    client = Client()
    client.force_login(auditor)
    return client


@pytest.fixture
def rows(asha, ravi, monkeypatch):
    """Twelve payments there and back within three seconds, of three amounts: in every order some are equal."""
    monkeypatch.setattr(exports, "BATCH", 3)
    for number in range(12):
        payer, payee = (ravi, asha) if number % 3 == 2 else (asha, ravi)
        with monkeypatch.context() as patch:
            patch.setattr(timezone, "now", lambda: datetime(2026, 1, 31, 12, 0, number // 4, tzinfo=UTC))  # noqa: B023
            amount = Decimal(f"{1 + number % 3}.50")
            services.transfer(user_id=payer.pk, to=payee.phone_number, amount=amount, remarks=f"no. {number}")


def text_of(response):
    assert response.status_code == 200
    return b"".join(response.streaming_content).decode()


def records(response):
    return list(csv.DictReader(text_of(response).splitlines(keepends=True), strict=True))


def shown(response):
    """The rows of a list as a file has them."""
    return [
        {name: "" if value is None else str(value) for name, value in row.items()} for row in response.json()["results"]
    ]


@pytest.mark.parametrize(
    "query",
    [{}, {"direction": "IN"}, {"type": "transfer"}, {"min_amount": "2.50"}, {"phone": "9888888888"},
     {"phone": "9777777777"}, {"start_date": "2026-01-31T12:00:01Z", "end_date": "2026-01-31"}],
)  # fmt: skip
def test_ones_own_export_is_ones_own_list(rows, asha, as_user, query):
    client = as_user(asha)
    assert records(client.get(OWN, query)) == shown(client.get("/transactions/", query | {"page_size": 100}))


@pytest.mark.parametrize("ordering", ["", "timestamp", "-timestamp", "amount", "-amount", "amount,-timestamp",
                                      "-timestamp,amount", "-amount,timestamp"])  # fmt: skip
@pytest.mark.parametrize("query", [{}, {"search": "no. 1"}, {"search": "ravi"}, {"sender_phone": "9999999999"}])
def test_the_staff_export_is_the_staff_list_in_each_of_its_orders(rows, auditor, as_user, query, ordering):
    client, query = as_user(auditor), query | {"ordering": ordering}
    assert records(client.get(ALL, query)) == shown(client.get("/transactions/admin-list/", query | {"page_size": 100}))


def test_a_file_without_rows_has_its_header_as_the_documentation_shows_it(boss, as_user, client):
    documented = client.get("/swagger.json").json()["paths"]
    for path in (OWN, ALL):
        header = text_of(as_user(boss).get(path))
        example = documented[path]["get"]["responses"]["200"]["examples"]["text/csv"]
        assert header == example.splitlines(keepends=True)[0]


@pytest.mark.parametrize(("path", "per_batch"), [(OWN, 1), (ALL, 2), (ALL + "?ordering=amount,timestamp", 3)])
def test_a_batch_takes_the_same_few_queries_wherever_it_begins(rows, asha, boss, as_user, path, per_batch):
    client = as_user(boss if path.startswith(ALL) else asha)
    response = client.get(path)
    with CaptureQueriesContext(connection) as captured:
        batches = len(text_of(response).splitlines()) // exports.BATCH
    assert batches == 4
    assert len(captured) <= per_batch * (batches + 1) + 1


def test_what_comes_while_it_is_read_stays_out(rows, asha, as_user):
    client = as_user(asha)
    before = shown(client.get("/transactions/", {"page_size": 100}))
    response = client.get(OWN)
    services.credit(user_id=asha.pk, amount=Decimal("1.00"))
    assert records(response) == before


@pytest.mark.parametrize(
    "remarks",
    ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", "＋1", "－1", "＠x", "﹢1", "⁼1", " =1+1", "\u00a0=1", "\u200b=1",
     "\ufeff=1", "\t1", "\r1", "\n1", "\t=1"],
)  # fmt: skip
def test_what_a_spreadsheet_might_run_gets_an_apostrophe(remarks):
    assert exports.defused(remarks) == f"'{remarks}"


@pytest.mark.parametrize(
    "remarks", ["", " ", "rent", "1=1", " 1-2", "a@b", "'=1", "किराया", "\U0001f600", "~=1", '"=1']
)
def test_what_no_spreadsheet_runs_is_left_alone(remarks):
    assert exports.defused(remarks) == remarks


def test_every_cell_is_defused_and_quotes_and_line_breaks_survive(asha, boss, as_user):
    accounts.change(asha, username="=cmd")
    accounts.assign_phone(asha, "+12015550123")
    services.debit(user_id=asha.pk, amount=Decimal("150.5"), remarks='=1,"2"\r\n;3')
    latest = records(as_user(boss).get(ALL))[0]
    assert (latest["sender"], latest["sender_phone_number"]) == ("'=cmd", "'+12015550123")
    assert (latest["amount"], latest["remarks"], latest["receiver"]) == ("150.50", '\'=1,"2"\r\n;3', "")


def test_the_answer_is_a_file_that_nobody_keeps(asha, as_user, console, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC).replace(hour=23))
    today = datetime.now(UTC).date()
    for response in (as_user(asha).get(OWN), console.get(f"{CONSOLE}export/")):
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert response["Content-Disposition"] == f'attachment; filename="transactions-{today}.csv"'
        assert "no-store" in response["Cache-Control"]


def test_a_filter_that_cannot_be_read_is_refused_before_anything_is_sent(asha, auditor, as_user):
    problem(as_user(asha).get(OWN, {"start_date": "yesterday"}), 400, "validation_error")
    problem(as_user(auditor).get(ALL, {"ordering": "password"}), 400, "validation_error")
    assert not LogEntry.objects.exists()


def test_what_staff_export_is_on_record_with_its_filters(asha, auditor, as_user, console):
    as_user(auditor).head(ALL)
    as_user(asha).get(OWN)
    assert not LogEntry.objects.exists()
    as_user(auditor).get(ALL, {"search": "rent", "ordering": "-amount"})
    console.get(f"{CONSOLE}export/", {"q": "9999"})
    entries = [
        (entry.user, entry.object_repr, json.loads(entry.change_message)) for entry in LogEntry.objects.order_by("pk")
    ]
    assert entries == [
        (auditor, "transactions", {"what": "export", "filters": {"search": "rent", "ordering": "-amount"}}),
        (auditor, "transactions", {"what": "export", "filters": {"q": "9999"}}),
    ]


def test_an_export_leaves_a_line_in_the_log(rows, asha, as_user, caplog):
    with caplog.at_level(logging.INFO, "transactions.exports"):
        text_of(as_user(asha).get(OWN))
    assert caplog.messages == [f"user {asha.pk} was sent 13 transactions"]


def test_a_file_that_broke_off_cannot_be_taken_for_a_whole_one(rows, asha, as_user, caplog):
    def lost(execute, sql, params, many, context):
        raise OperationalError("the connection is lost")

    parts = as_user(asha).get(OWN).streaming_content
    sent = [next(parts), next(parts)]
    with connection.execute_wrapper(lost), pytest.raises(OperationalError):
        sent.extend(parts)
    assert "broke off after 3 transactions" in caplog.text
    lines = b"".join(sent).decode().splitlines(keepends=True)
    assert len(lines) == 1 + 3 + 1
    with pytest.raises(csv.Error):
        list(csv.reader(lines, strict=True))


@pytest.mark.parametrize("order", ["", "5", "-5", "-5.1", "7.-5", "1", "-1"])
def test_the_console_exports_all_that_its_list_shows_in_its_order(rows, console, monkeypatch, order):
    query = {"q": "9999", "transaction_type__exact": "TRANSFER", "amount_from": "2.00", "o": order}
    page = console.get(CONSOLE, query)
    (button,) = page.context["actions_list"]
    assert f'href="{button["path"].replace("&", "&amp;")}"' in page.content.decode()
    listed = [str(row.pk) for row in page.context["cl"].result_list]
    assert [row["id"] for row in records(console.get(button["path"]))] == listed
    assert len(listed) == 8


def test_the_console_exports_more_than_one_page(rows, console, monkeypatch):
    monkeypatch.setattr("transactions.admin.TransactionAdmin.list_per_page", 5)
    (button,) = console.get(CONSOLE, {"p": "2"}).context["actions_list"]
    assert len(records(console.get(button["path"]))) == 13


def test_the_button_is_for_those_who_may_export(rows, console, auditor):
    auditor.user_permissions.set(Permission.objects.filter(codename="view_transaction"))
    assert console.get(CONSOLE).context["actions_list"] == []
    assert console.get(f"{CONSOLE}export/").status_code == 403


def test_a_filter_that_the_console_cannot_read_leads_back_to_the_list(console):
    page = console.get(f"{CONSOLE}export/", {"timestamp_from": "soon"}, follow=True)
    assert page.redirect_chain == [(CONSOLE, 302)]
    assert "A filter cannot be read." in page.content.decode()


def test_too_many_at_once_are_refused_and_there_is_room_again_behind_them(asha, as_user, console, monkeypatch):
    monkeypatch.setattr(exports, "MOST_AT_ONCE", 1)
    client = as_user(asha)
    first = client.get(OWN).streaming_content
    begun = next(first)
    problem(client.get(OWN), 503, "server_busy")
    assert "Try again in a moment." in console.get(f"{CONSOLE}export/", follow=True).content.decode()
    assert not LogEntry.objects.exists()
    assert (begun + b"".join(first)).decode() == text_of(client.get(OWN))


# --- Over the production server ------------------------------------------------------------------------

LONG = 20_000
# One user's credits with long remarks, so many that the buffers between server and client do not hold them.
LONG_HISTORY = f"""
from django.utils import timezone
from transactions.models import Transaction
from wallet.models import Wallet
wallet = Wallet.objects.get(user__phone_number="+919866600001")
Transaction.objects.bulk_create(
    Transaction(transaction_type="CREDIT", receiver=wallet, amount=1, receiver_balance=number, remarks="x" * 250,
                timestamp=timezone.now(), initiated_by_id=wallet.user_id)
    for number in range(1, {LONG} + 1)
)
Wallet.objects.filter(pk=wallet.pk).update(balance={LONG})
"""


@pytest.fixture
def token(live):
    """Of somebody with a long history."""
    token = live.log_in("9866600001")
    if live.balance(token) == "0.00":
        live.run(sys.executable, "manage.py", "shell", "-v", "0", "-c", LONG_HISTORY)
    return token


@pytest.fixture
def download(live, token):
    """A client that takes little at a time, and has asked for its history."""
    slow = socket()
    slow.setsockopt(SOL_SOCKET, SO_RCVBUF, 8_192)
    slow.settimeout(30)
    slow.connect(("127.0.0.1", live.port))
    connection = HTTPConnection("127.0.0.1", live.port)
    connection.sock = slow
    connection.request("GET", f"{OWN}?{urlencode({'type': 'credit'})}", headers={"Authorization": f"Bearer {token}"})
    yield connection
    connection.close()


def ends(live: Live, words: str) -> int:
    return live.output.read_text().count(words)


def test_it_arrives_while_it_is_made_and_keeps_nobody_waiting(live, token, download):
    before = ends(live, f"was sent {LONG} transactions")
    answer = download.getresponse()
    assert answer.readline().startswith(b"id,transaction_id,")
    assert live.balance(token) == f"{LONG}.00"
    assert ends(live, f"was sent {LONG} transactions") == before
    assert answer.read().count(b"\r\n") == LONG
    wait_for(lambda: ends(live, f"was sent {LONG} transactions") == before + 1)


def test_a_client_that_goes_away_ends_the_work(live, token, download):
    before = ends(live, "went away after")
    download.getresponse().readline()
    download.close()
    wait_for(lambda: ends(live, "went away after") == before + 1)
    assert live.balance(token) == f"{LONG}.00"
