"""An export has all rows of the list, as CSV that no spreadsheet runs and that is complete or invalid."""

import csv
import gc
import json
import logging
import shutil
import subprocess
import sys
from codecs import BOM_UTF8
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from http.client import HTTPConnection
from socket import SO_RCVBUF, SOL_SOCKET, socket
from types import SimpleNamespace
from urllib.parse import urlencode
from xml.etree import ElementTree

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.core.signals import request_finished
from django.db import OperationalError, close_old_connections, connection
from django.db.models import F
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from lokanetra.errors import ServerBusy
from lokanetra.tests.live import Live, at_once, wait_for
from lokanetra.tests.test_errors import problem
from transactions import exports
from transactions.models import Transaction
from users import accounts, audit
from users.exceptions import TooManyRequests
from wallet import payments

OWN, ALL, CONSOLE = "/transactions/export/", "/transactions/admin-export/", "/admin/transactions/transaction/"


@pytest.fixture
def auditor(staff):
    """Staff with the right to export and no other."""
    staff.user_permissions.set(Permission.objects.filter(codename__in=["export_transaction", "view_transaction"]))
    return staff


@pytest.fixture
def console(auditor):
    client = Client()
    client.force_login(auditor)
    return client


@pytest.fixture
def opening():
    return datetime(2025, 12, 31, tzinfo=UTC)


@pytest.fixture
def rows(asha, ravi, at, monkeypatch):
    """Twelve payments there and back within three seconds, of three amounts: in every order some are equal."""
    monkeypatch.setattr(exports, "BATCH", 3)
    for number in range(12):
        payer, payee = (ravi, asha) if number % 3 == 2 else (asha, ravi)
        with at(datetime(2026, 1, 31, 12, 0, number // 4, tzinfo=UTC)):
            amount = Decimal(f"{1 + number % 3}.50")
            payments.transfer(user_id=payer.pk, to=payee.phone_number, amount=amount, remarks=f"no. {number}")


def text_of(response):
    """The text without its byte order mark."""
    assert response.status_code == 200
    content = b"".join(response.streaming_content)
    assert content.startswith(BOM_UTF8)
    assert content.count(BOM_UTF8) == 1
    return content.decode("utf-8-sig")


def records(response):
    return list(csv.DictReader(text_of(response).splitlines(keepends=True), strict=True))


def shown(response):
    """The rows of a list as a file shows them."""
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


def test_rows_added_while_it_is_read_are_not_included(rows, asha, as_user):
    client = as_user(asha)
    before = shown(client.get("/transactions/", {"page_size": 100}))
    response = client.get(OWN)
    payments.credit(user_id=asha.pk, amount=Decimal("1.00"))
    assert records(response) == before


@pytest.mark.parametrize(
    "remarks",
    ["=1+1", "+1", "-1", "@SUM(A1)", "＝1+1", "＋1", "－1", "＠x", "﹢1", "⁼1", " =1+1", "\u00a0=1", "\u200b=1",
     "\ufeff=1", "\t1", "\r1", "\n1", "\t=1"],
)  # fmt: skip
def test_what_a_spreadsheet_might_run_gets_an_apostrophe(remarks):
    assert exports.escape_formula(remarks) == f"'{remarks}"


@pytest.mark.parametrize(
    "remarks", ["", " ", "rent", "1=1", " 1-2", "a@b", "'=1", "किराया", "\U0001f600", "~=1", '"=1']
)
def test_harmless_text_is_unchanged(remarks):
    assert exports.escape_formula(remarks) == remarks


def test_every_cell_is_escaped_and_quotes_and_line_breaks_survive(asha, boss, as_user):
    accounts.change(asha, username="=cmd")
    accounts.assign_phone(asha, "+12015550123")
    payments.debit(user_id=asha.pk, amount=Decimal("150.5"), remarks='=1,"2"\r\n;3')
    latest = records(as_user(boss).get(ALL))[0]
    assert (latest["sender"], latest["sender_phone_number"]) == ("'=cmd", "'+12015550123")
    assert (latest["amount"], latest["remarks"], latest["receiver"]) == ("150.50", '\'=1,"2"\r\n;3', "")


def test_the_answer_is_a_file_that_is_not_cached(asha, as_user, auditor, monkeypatch):
    monkeypatch.setattr(timezone, "now", lambda: datetime.now(UTC).replace(hour=23))
    console = Client()
    console.force_login(auditor)  # at that time, because an earlier session would have ended
    today = datetime.now(UTC).date() + timedelta(days=1)  # in India
    for response in (as_user(asha).get(OWN), console.get(f"{CONSOLE}export/")):
        assert response["Content-Type"] == "text/csv; charset=utf-8"
        assert response["Content-Disposition"] == f'attachment; filename="transactions-{today}.csv"'
        assert "no-store" in response["Cache-Control"]


def test_a_filter_that_cannot_be_read_is_refused_before_anything_is_sent(asha, auditor, as_user):
    problem(as_user(asha).get(OWN, {"start_date": "yesterday"}), 400, "validation_error")
    problem(as_user(auditor).get(ALL, {"ordering": "password"}), 400, "validation_error")
    assert not LogEntry.objects.exists()


def test_staff_exports_are_logged_with_their_filters(asha, auditor, as_user, console):
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
    assert caplog.messages == [f"user {asha.pk} was sent 13 rows"]


def test_an_interrupted_file_is_not_valid_csv(rows, asha, as_user, caplog):
    def lost(execute, sql, params, many, context):
        raise OperationalError("the connection is lost")

    parts = as_user(asha).get(OWN).streaming_content
    sent = [next(parts), next(parts)]
    with connection.execute_wrapper(lost), pytest.raises(OperationalError):
        sent.extend(parts)
    assert "broke off after 3 rows" in caplog.text
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
    monkeypatch.setattr("transactions.admin.ledger.TransactionAdmin.list_per_page", 5)
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


def test_hindi_arrives_in_a_spreadsheet_and_in_a_program(asha, as_user, console):
    payments.credit(user_id=asha.pk, amount=Decimal("1.00"), remarks="किराया")
    for response in (as_user(asha).get(OWN), console.get(f"{CONSOLE}export/")):
        assert records(response)[0]["remarks"] == "किराया"


@pytest.fixture
def mixed(asha, ravi, at):
    """Payments with remarks in Hindi and of a formula, by phones of two countries."""
    accounts.assign_phone(ravi, "+12015550123")
    with at(datetime(2026, 1, 31, 18, 30, tzinfo=UTC)):
        payments.transfer(user_id=asha.pk, to="+12015550123", amount=Decimal("150.50"), remarks="किराया, मई")
    with at(datetime(2026, 1, 31, 18, 31, tzinfo=UTC)):
        payments.transfer(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("0.05"), remarks="=1+1")


def test_a_file_for_spreadsheets_is_this_byte_for_byte(mixed, asha, boss, as_user):
    first = Transaction.objects.earliest("pk").pk
    own, of_all = (b"".join(client.get(path).streaming_content).decode() for client, path in
                   ((as_user(asha), OWN), (as_user(boss), ALL)))  # fmt: skip
    assert own == (
        "\ufeffid,transaction_id,transaction_type,direction,counterparty,amount,balance,sender,receiver,remarks,timestamp,"
        "hold,reverses\r\n"
        f"{first + 2},{first + 2},TRANSFER,IN,user_9888888888,0.05,849.55,user_9888888888,user_9999999999,'=1+1,"
        "2026-01-31T18:31:00Z,,\r\n"
        f"{first + 1},{first + 1},TRANSFER,OUT,user_9888888888,150.50,849.50,user_9999999999,user_9888888888,"
        '"किराया, मई",2026-01-31T18:30:00Z,,\r\n'
        f"{first},{first},CREDIT,IN,,1000.00,1000.00,,user_9999999999,,2025-12-31T00:00:00Z,,\r\n"
    )
    assert of_all == (
        "\ufeffid,sender,receiver,sender_phone_number,receiver_phone_number,amount,transaction_type,timestamp,remarks,hold,"
        "reverses\r\n"
        f"{first + 2},user_9888888888,user_9999999999,'+12015550123,9999999999,0.05,TRANSFER,2026-01-31T18:31:00Z,"
        "'=1+1,,\r\n"
        f"{first + 1},user_9999999999,user_9888888888,9999999999,'+12015550123,150.50,TRANSFER,2026-01-31T18:30:00Z,"
        '"किराया, मई",,\r\n'
        f"{first},,user_9999999999,,9999999999,1000.00,CREDIT,2025-12-31T00:00:00Z,,,\r\n"
    )


# The usual choices in the dialog that opens a CSV file.
COMMAS_AND_UTF8 = "--infilter=CSV:44,34,76,1"


@pytest.mark.once
def test_a_spreadsheet_sums_amounts_and_keeps_phones_and_hindi_and_no_formula(mixed, boss, as_user, tmp_path):
    office = shutil.which("soffice")
    if not office:
        pytest.skip("left out: this machine has no LibreOffice")
    (tmp_path / "all.csv").write_bytes(b"".join(as_user(boss).get(ALL).streaming_content))
    office = [office, f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}", "--headless"]
    for source, *how in (("all.csv", COMMAS_AND_UTF8, "--convert-to", "xlsx"), ("all.xlsx", "--convert-to", "fods")):
        command = [*office, *how, "--outdir", tmp_path, tmp_path / source]
        subprocess.run(command, check=True, capture_output=True, timeout=120)
    header, *lines = cells(tmp_path / "all.fods")
    columns = dict(zip([name for _, name in header], zip(*lines, strict=True), strict=True))
    assert columns["amount"] == (("float", "0.05"), ("float", "150.5"), ("float", "1000"))
    assert columns["sender_phone_number"] == (("string", "'+12015550123"), ("float", "9999999999"), (None, ""))
    assert columns["remarks"] == (("string", "'=1+1"), ("string", "किराया, मई"), (None, ""))


def cells(spreadsheet):
    """The lines of the first table of a flat OpenDocument: the type and the stored value of each cell."""
    office, table, text = (
        f"{{urn:oasis:names:tc:opendocument:xmlns:{name}:1.0}}" for name in ("office", "table", "text")
    )
    for line in ElementTree.parse(spreadsheet).iter(f"{table}table-row"):
        found = []
        for cell in line.iter(f"{table}table-cell"):
            assert not cell.get(f"{table}formula")
            shown = "".join(part for paragraph in cell.iter(f"{text}p") for part in paragraph.itertext())
            value = cell.get(f"{office}value", shown), int(cell.get(f"{table}number-columns-repeated", 1))
            found += [(cell.get(f"{office}value-type"), value[0])] * value[1]
        if any(kind for kind, _ in found):
            yield found[:11]


def test_a_head_request_has_no_content(asha, boss, as_user):
    for user, path in ((asha, OWN), (boss, ALL)):
        assert b"".join(as_user(user).head(path)) == b""


@pytest.mark.parametrize("order", [["-pk_count", "pk"], ["pkg", "-id"]])
def test_only_the_key_itself_is_called_the_id(order):
    named = Transaction.objects.annotate(pk_count=F("amount"), pkg=F("amount")).order_by(*order)
    assert exports.sort_columns(named) == [(order[0].lstrip("-"), order[0][0] == "-"), ("id", order[1][0] == "-")]


# --- Slots -----------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A stopped clock that tests move, in seconds."""
    clock = SimpleNamespace(seconds=0.0)
    monkeypatch.setattr(exports, "monotonic", lambda: clock.seconds)
    return clock


def slots_taken():
    gc.collect()
    return len(exports.active_downloads)


def test_too_many_at_once_are_refused_until_one_is_finished(asha, as_user, console, monkeypatch):
    monkeypatch.setattr(exports, "MAX_AT_ONCE", 1)
    client = as_user(asha)
    first = client.get(OWN).streaming_content
    begun = next(first)
    problem(client.get(OWN), 503, "server_busy")
    assert "Try again in a moment." in console.get(f"{CONSOLE}export/", follow=True).content.decode()
    assert not LogEntry.objects.exists()
    assert (begun + b"".join(first)).decode("utf-8-sig") == text_of(client.get(OWN))


def test_a_user_has_two_at_a_time_and_does_not_block_others(asha, auditor, as_user, console):
    client = as_user(asha)
    files = [client.get(OWN), client.get(OWN)]
    refusal = client.get(OWN)
    problem(refusal, 429, "throttled")
    assert refusal["Retry-After"] == "60"
    assert records(as_user(auditor).get(ALL))
    assert records(files.pop())
    assert records(client.get(OWN))
    staffs = [console.get(f"{CONSOLE}export/") for _ in range(2)]
    assert "Too many requests." in console.get(f"{CONSOLE}export/", follow=True).content.decode()
    assert LogEntry.objects.count() == 1 + len(staffs)


@pytest.fixture
def closing_closes_no_connection():
    """As in a server, whose database connections outlive the requests."""
    request_finished.disconnect(close_old_connections)
    yield
    request_finished.connect(close_old_connections)


@pytest.mark.parametrize("end", [lambda file: file.close(), lambda file: None], ids=["closed", "forgotten"])
def test_a_file_that_is_never_read_frees_its_slot(asha, as_user, end, closing_closes_no_connection):
    client = as_user(asha)
    for _ in range(3):
        file = client.get(OWN)
        assert slots_taken() == 1
        end(file)
        del file
        assert slots_taken() == 0
    client.head(OWN)
    assert slots_taken() == 0


def test_a_file_that_cannot_be_logged_frees_its_slot(auditor, as_user, monkeypatch):
    def lost(**entry):
        raise OperationalError("the connection is lost")

    monkeypatch.setattr(audit, "record", lost)
    problem(as_user(auditor).get(ALL), 503, "server_busy")
    assert len(exports.active_downloads) == 0


@pytest.mark.parametrize(("users", "most"), [([7] * 64, exports.MAX_PER_USER), (range(64), exports.MAX_AT_ONCE)])
def test_concurrent_starts_do_not_exceed_the_limit(users, most):
    def begin(user):
        try:
            return exports.Download(user, iter([]))
        except (TooManyRequests, ServerBusy):
            return None

    begun = at_once(*[partial(begin, user) for user in users])
    assert sum(file is not None for file in begun) == most


def test_a_client_that_stops_reading_frees_its_slot_and_its_file_breaks_off(
    asha, ravi, as_user, monkeypatch, clock, caplog
):
    caplog.set_level(logging.INFO, "transactions.exports")
    monkeypatch.setattr(exports, "MAX_AT_ONCE", 1)
    stalled = as_user(asha).get(OWN).streaming_content
    sent = next(stalled)
    clock.seconds += exports.STALL_SECONDS
    problem(as_user(ravi).get(OWN), 503, "server_busy")
    clock.seconds += 1
    text_of(as_user(ravi).get(OWN))
    sent += next(stalled)
    with pytest.raises(exports.Stalled):
        next(stalled)
    with pytest.raises(csv.Error):
        list(csv.reader(sent.decode().splitlines(keepends=True), strict=True))
    assert f"the export for user {asha.pk} broke off after 0 rows" in caplog.messages
    assert not [record for record in caplog.records if record.name == exports.logger.name and record.exc_info]


def test_a_client_that_reads_slowly_keeps_its_slot(rows, asha, as_user, clock):
    file = as_user(asha).get(OWN).streaming_content
    sent = b""
    for part in file:
        sent += part
        clock.seconds += exports.STALL_SECONDS
    assert len(sent.splitlines()) == 1 + 13


def test_stalled_files_are_limited_too(monkeypatch, clock):
    monkeypatch.setattr(exports, "MAX_OPEN", 3)
    held = [exports.Download(user, iter([])) for user in (1, 1, 2)]
    clock.seconds += exports.STALL_SECONDS + 1
    with pytest.raises(TooManyRequests):
        exports.Download(1, iter([]))
    with pytest.raises(ServerBusy):
        exports.Download(3, iter([]))
    held.clear()
    assert exports.Download(3, iter([]))


# --- Over the production server ------------------------------------------------------------------------

LONG = 40_000
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
    """The token of a user with a long history."""
    token = live.log_in("9866600001")
    if live.balance(token) == "0.00":
        live.run(sys.executable, "manage.py", "shell", "-v", "0", "-c", LONG_HISTORY)
    return token


def slow_download(live, token):
    """A client that reads slowly and has requested the history."""
    slow = socket()
    slow.setsockopt(SOL_SOCKET, SO_RCVBUF, 8_192)
    slow.settimeout(30)
    slow.connect(("127.0.0.1", live.port))
    connection = HTTPConnection("127.0.0.1", live.port)
    connection.sock = slow
    connection.request("GET", f"{OWN}?{urlencode({'type': 'credit'})}", headers={"Authorization": f"Bearer {token}"})
    return connection


@pytest.fixture
def download(live, token):
    with closing(slow_download(live, token)) as connection:
        yield connection


def ends(live: Live, words: str) -> int:
    return live.output.read_text().count(words)


def test_it_is_streamed_and_delays_nobody(live, token, download):
    before = ends(live, f"was sent {LONG} rows")
    answer = download.getresponse()
    assert answer.readline().startswith(BOM_UTF8 + b"id,transaction_id,")
    assert live.balance(token) == f"{LONG}.00"
    assert ends(live, f"was sent {LONG} rows") == before
    assert answer.read().count(b"\r\n") == LONG
    wait_for(lambda: ends(live, f"was sent {LONG} rows") == before + 1)


def test_a_client_that_goes_away_ends_the_work(live, token, download):
    before = ends(live, "disconnected after")
    download.getresponse().readline()
    download.close()
    wait_for(lambda: ends(live, "disconnected after") == before + 1)
    assert live.balance(token) == f"{LONG}.00"


@pytest.mark.slow
def test_a_user_who_stops_reading_does_not_block_exports_of_others(live, token):
    other = live.log_in("9866600002")
    with ExitStack() as held:
        # Each of the three workers sends the user two.
        files = [held.enter_context(closing(slow_download(live, token))).getresponse() for _ in range(20)]
        refused = [file for file in files if file.status == 429]
        assert len(files) - len(refused) <= 3 * exports.MAX_PER_USER
        assert {(file.status, file.getheader("Retry-After")) for file in refused} == {(429, "60")}
        for _ in range(6):
            assert export_of(live, other) == 200
    wait_for(lambda: [export_of(live, token) for _ in range(6)] == [200] * 6)


def export_of(live, token):
    """The status of a whole export."""
    with closing(HTTPConnection("127.0.0.1", live.port)) as connection:
        connection.request("GET", OWN, headers={"Authorization": f"Bearer {token}"})
        response = connection.getresponse()
        response.read()
        return response.status
