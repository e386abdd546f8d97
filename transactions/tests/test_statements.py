"""A statement's balances, totals and rows agree, in each format, for any history and while payments go on."""

import csv
import json
import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from random import Random

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pypdf import PdfReader

from lokanetra import days
from lokanetra.tests.test_errors import problem
from transactions import exports, statement_files, statement_pdf, statements
from transactions.models import Transaction
from users import accounts
from wallet import payments
from wallet.models import Wallet

OWN, BALANCE = "/transactions/statement/", "/wallet/balance/"
BEGIN = datetime(2026, 1, 31, 18, 0, tzinfo=UTC)  # half an hour before February begins in India
AMOUNT = re.compile(r"₹ ([0-9,]+\.[0-9]{2})")
REMARKS = ["", "rent", "किराया", "\U0001f600 =1", "a " * 127, "x" * 255, "one\nline", "(\\) Tj ET <script>", "₹ 5.00"]


@pytest.fixture
def opening():
    return BEGIN


@pytest.fixture
def history(request, asha, ravi, at, monkeypatch):
    """Forty payments of two people over four days, some at the same time."""
    seed = request.param
    print("seed", seed)  # noqa: T201
    random, moment = Random(seed), BEGIN
    for _ in range(40):
        moment += timedelta(minutes=random.choice([0, 1, 30, 600]))
        amount = Decimal(random.randint(1, 5000)) / 100
        with at(moment):
            move(random.randrange(4), asha, ravi, amount, random.choice(REMARKS))
    monkeypatch.setattr(exports, "BATCH", 7)


def move(what, asha, ravi, amount, remarks):
    if what == 0:
        payments.credit(user_id=asha.pk, amount=amount, remarks=remarks)
    elif what == 1:
        payments.debit(user_id=asha.pk, amount=amount, remarks=remarks)
    elif what == 2 or ravi_has(ravi) < amount:
        payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=amount, remarks=remarks)
    else:
        payments.transfer(user_id=ravi.pk, to=asha.phone_number, amount=amount, remarks=remarks)


def ravi_has(ravi):
    return Wallet.objects.get(user=ravi).balance


def replayed(wallet):
    """All of a wallet's rows as (time, signed amount), oldest first."""
    rows = Transaction.objects.order_by("pk")
    signs = [(row.timestamp, row.amount * ((row.receiver_id == wallet.pk) - (row.sender_id == wallet.pk)))
             for row in rows]  # fmt: skip
    return [(moment, amount) for moment, amount in signs if amount]


def sums(wallet, first, last):
    """The sums of a period by a replay of the ledger."""
    rows = replayed(wallet)
    start, end = days.start_of(first), days.end_of(last)
    within = [amount for moment, amount in rows if start <= moment <= end]
    before = sum(amount for moment, amount in rows if moment < start)
    paid_in, out = sum(a for a in within if a > 0), -sum(a for a in within if a < 0)
    return [Decimal(before), Decimal(paid_in), Decimal(out), Decimal(before + sum(within))], within


# --- The formats, read back: (opening, in, out, closing), and rows of (signed amount, balance) -----------


def as_json(client, query):
    page = client.get(OWN, query | {"page_size": 3})
    assert page.status_code == 200, page.content
    head, found = None, []
    while page is not None:
        body = page.json()
        totals = [Decimal(body[name]) for name in ("opening_balance", "total_in", "total_out", "closing_balance")]
        assert head in (None, totals)
        head = totals
        for row in body["results"]:
            sign = 1 if row["direction"] == "IN" else -1
            found.append((sign * Decimal(row["amount"]), Decimal(row["balance"])))
        page = client.get(body["next"]) if body["next"] else None
    assert body["count"] == len(found)
    return head, found


def as_csv(client, query):
    text = client.get(OWN, query | {"format": "csv"}).getvalue().decode("utf-8-sig")
    first, *rows, last = csv.DictReader(text.splitlines(keepends=True), strict=True)
    assert (first["transaction_type"], last["transaction_type"]) == ("OPENING", "CLOSING")
    head = [Decimal(first["balance"]), *(Decimal(last[name]) for name in ("amount_in", "amount_out", "balance"))]
    found = [(Decimal(row["amount_in"] or 0) - Decimal(row["amount_out"] or 0), row["balance"]) for row in rows]
    return head, [(amount, Decimal(balance)) for amount, balance in found]


def as_pdf(client, query):
    """Amounts are in the order in which they are drawn; the balances give their direction."""
    response = client.get(OWN, query | {"format": "pdf"})
    assert (response.status_code, response["Content-Type"]) == (200, "application/pdf")
    text = "\n".join(page.extract_text() for page in PdfReader(BytesIO(response.content)).pages)
    amounts = [Decimal(found.replace(",", "")) for found in AMOUNT.findall(text.replace("₹ 5.00", ""))]
    head, (opening, *body, closing) = amounts[:4], amounts[4:]
    pairs = list(zip(body[::2], body[1::2], strict=True))
    befores = [opening, *(balance for _, balance in pairs)]
    assert (head[0], head[3]) == (opening, closing)
    found = [(amount if now > was else -amount, now) for was, (amount, now) in zip(befores, pairs, strict=False)]
    return head, found


@pytest.mark.parametrize("read", [as_json, as_csv, as_pdf])
@pytest.mark.parametrize("history", [1, 2, 3], indirect=True)
def test_opening_and_totals_and_closing_agree_and_rows_chain(history, asha, as_user, read):
    client, wallet = as_user(asha), asha.wallet
    first = date(2026, 1, 30)
    for start in range(8):
        for length in (1, 3, 10):
            begin, end = first + timedelta(days=start), first + timedelta(days=start + length - 1)
            head, rows = read(client, {"start_date": str(begin), "end_date": str(end)})
            expected, within = sums(wallet, begin, end)
            assert head == expected
            assert head[0] + head[1] - head[2] == head[3]
            assert [amount for amount, _ in rows] == within
            balance = head[0]
            for amount, after in rows:
                balance += amount
                assert balance == after
            assert balance == head[3]


@pytest.mark.parametrize("history", [4, 5, 6], indirect=True)
def test_a_balance_at_each_moment_is_what_a_replay_says(history, asha, ravi, as_user):
    for user in (asha, ravi):
        rows = replayed(user.wallet)
        for moment in {moment for moment, _ in rows}:
            for at in (moment - timedelta(microseconds=1), moment, moment + timedelta(microseconds=1)):
                shown = as_user(user).get(BALANCE, {"at": at.isoformat().replace("+00:00", "Z")}).json()
                assert Decimal(shown["balance"]) == sum(amount for when, amount in rows if when <= at)


def test_a_balance_is_found_where_clocks_differed(asha, ravi, stranger, at):
    """Rows of others that are older by time and newer by id do not matter."""
    moments = [BEGIN + timedelta(days=n) for n in range(6)]
    for n, moment in enumerate(moments):
        with at(moment):
            payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(n + 1))
    with at(BEGIN - timedelta(days=9)):
        payments.credit(user_id=stranger.pk, amount=Decimal(5))
    with at(moments[2]):
        payments.debit(user_id=stranger.pk, amount=Decimal(5))
    held = [statements.point_at(asha.wallet, moment).balance for moment in moments]
    assert held == [Decimal(1000) - sum(range(1, n + 2)) for n in range(6)]
    assert statements.point_at(asha.wallet, BEGIN - timedelta(seconds=1)) == statements.EMPTY


# --- Periods ---------------------------------------------------------------------------------------------


@pytest.fixture
def midnight(asha, ravi, at):
    """A payment at 23:59 of 31 January in India, and one at 00:01 of 1 February."""
    for minute, amount in ((29, "1.00"), (31, "2.00")):
        with at(datetime(2026, 1, 31, 18, minute, tzinfo=UTC)):
            payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(amount))


@pytest.mark.parametrize(
    ("query", "amounts"),
    [
        ({"month": "2026-01"}, ["1000.00", "1.00"]),
        ({"month": "2026-02"}, ["2.00"]),
        ({"start_date": "2026-01-31", "end_date": "2026-01-31"}, ["1000.00", "1.00"]),
        ({"start_date": "2026-02-01", "end_date": "2026-02-01"}, ["2.00"]),
        ({"start_date": "2026-01-31", "end_date": "2026-02-01"}, ["1000.00", "1.00", "2.00"]),
        ({"month": "2026-03"}, []),
    ],
)
def test_days_and_months_are_those_of_the_time_zone(midnight, asha, as_user, query, amounts):
    assert [row["amount"] for row in as_user(asha).get(OWN, query).json()["results"]] == amounts


def test_an_empty_month_opens_and_closes_with_what_was_there(midnight, asha, as_user):
    body = as_user(asha).get(OWN, {"month": "2026-03"}).json()
    assert (body["opening_balance"], body["closing_balance"], body["count"]) == ("997.00", "997.00", 0)
    assert (body["total_in"], body["total_out"], body["results"], body["next"]) == ("0.00", "0.00", [], None)
    text = PdfReader(BytesIO(as_user(asha).get(OWN, {"month": "2026-03", "format": "pdf"}).content))
    assert "No transactions in this period." in text.pages[0].extract_text()


@pytest.mark.parametrize("query", [{"month": "2020-02"}, {"month": "0001-01"}])
def test_before_a_wallet_existed_its_balance_was_zero(asha, as_user, query):
    body = as_user(asha).get(OWN, query).json()
    assert (body["opening_balance"], body["closing_balance"], body["count"]) == ("0.00", "0.00", 0)
    shown = as_user(asha).get(BALANCE, {"at": "2020-01-31"}).json()
    assert (shown["balance"], shown["at"]) == ("0.00", "2020-01-31T18:29:59.999999Z")


def test_without_a_period_it_is_this_month(asha, as_user, clock_at):
    clock_at(datetime(2026, 1, 31, 19, tzinfo=UTC))
    body = as_user(asha).get(OWN).json()
    assert (body["start_date"], body["end_date"]) == ("2026-02-01", "2026-02-28")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"month": "2026-13"}, "month"),
        ({"month": "2026-1"}, "month"),
        ({"month": "२०२६-०१"}, "month"),
        ({"month": ""}, "month"),
        ({"month": "2999-01"}, "month"),
        ({"month": "9999-12"}, "month"),
        ({"month": "2026-01", "start_date": "2026-01-01", "end_date": "2026-01-02"}, "month"),
        ({"start_date": "2026-01-01"}, "start_date"),
        ({"end_date": "2026-01-01"}, "end_date"),
        ({"start_date": "2999-01-01", "end_date": "2999-01-02"}, "start_date"),
        ({"start_date": "2026-02-30", "end_date": "2026-03-01"}, "start_date"),
        ({"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-03-01"}, "start_date"),
        ({"start_date": "2026-01-02", "end_date": "2026-01-01"}, "end_date"),
        ({"start_date": "2025-01-01", "end_date": "2026-01-02"}, "end_date"),
        ({"format": "xlsx"}, "format"),
        ({"format": ""}, "format"),
        ({"cursor": "1"}, "cursor"),
        ({"cursor": "1-"}, "cursor"),
        ({"page_size": "1001"}, "page_size"),
        ({"months": "2026-01"}, "months"),
    ],
)
def test_an_invalid_period_is_refused_by_field(asha, as_user, query, field):
    assert list(problem(as_user(asha).get(OWN, query), 400, "validation_error")["errors"]) == [field]


def test_366_days_are_not_too_many(asha, as_user):
    query = {"start_date": "2025-01-01", "end_date": "2026-01-01"}
    assert as_user(asha).get(OWN, query).json()["end_date"] == "2026-01-01"


# --- Past balances ---------------------------------------------------------------------------------------


def test_a_date_is_its_end_and_today_is_now(midnight, asha, as_user, clock_at):
    clock_at(datetime(2026, 2, 1, 4, tzinfo=UTC))
    client = as_user(asha)
    assert client.get(BALANCE, {"at": "2026-01-31"}).json()["balance"] == "999.00"
    shown = client.get(BALANCE, {"at": "2026-02-01"}).json()
    assert (shown["balance"], shown["at"]) == ("997.00", "2026-02-01T04:00:00Z")
    for later in ("2026-02-02", "2026-02-01T04:00:01Z"):
        assert list(problem(client.get(BALANCE, {"at": later}), 400, "validation_error")["errors"]) == ["at"]


def test_for_the_past_only_the_balance_is_shown(asha, as_user):
    now, then = as_user(asha).get(BALANCE).json(), as_user(asha).get(BALANCE, {"at": "2026-01-31"}).json()
    assert set(then) == set(now) | {"at"}
    assert {name for name, value in then.items() if value is None} == {"status", "held", "available", "tier"}


def test_a_parameter_that_is_misspelt_does_not_give_todays_balance(asha, as_user):
    problem(as_user(asha).get(BALANCE, {"At": "2026-01-31"}), 400, "validation_error")


# --- While payments go on --------------------------------------------------------------------------------


def test_later_pages_include_no_new_rows(asha, as_user):
    for _ in range(4):
        payments.debit(user_id=asha.pk, amount=Decimal(1))
    client = as_user(asha)
    first = client.get(OWN, {"page_size": 3}).json()
    payments.credit(user_id=asha.pk, amount=Decimal(500))
    second = client.get(first["next"]).json()
    totals = ("opening_balance", "total_in", "total_out", "closing_balance", "count")
    assert [second[name] for name in totals] == [first[name] for name in totals]
    assert second["results"][-1]["balance"] == first["closing_balance"]
    assert second["next"] is None


def test_totals_of_a_long_statement_are_summed_once(asha, as_user):
    for _ in range(4):
        payments.debit(user_id=asha.pk, amount=Decimal(1))
    client = as_user(asha)
    first = client.get(OWN, {"page_size": 2}).json()
    with CaptureQueriesContext(connection) as captured:
        client.get(first["next"])
    assert not [query for query in captured if "SUM(" in query["sql"]]


def test_a_file_includes_no_new_rows(asha, as_user):
    response = as_user(asha).get(OWN, {"format": "csv"})
    payments.credit(user_id=asha.pk, amount=Decimal(500))
    last = list(csv.DictReader(response.getvalue().decode("utf-8-sig").splitlines()))[-1]
    assert (last["amount_in"], last["balance"]) == ("0.00", "1000.00")


# --- Access ----------------------------------------------------------------------------------------------


def test_rows_of_others_are_not_in_a_statement(asha, stranger, as_user):
    assert as_user(stranger).get(OWN, {"month": "2026-01"}).json()["count"] == 0


def test_staff_see_what_the_owner_sees(midnight, asha, staff, as_user):
    path = f"/wallet/admin/wallets/{asha.wallet.pk}"
    own, by_staff = as_user(asha).get(OWN, {"month": "2026-01"}), as_user(staff).get(f"{path}/statement/?month=2026-01")
    assert own.json() == by_staff.json()
    query = {"at": "2026-01-31"}
    assert as_user(staff).get(f"{path}/balance/", query).json() == as_user(asha).get(BALANCE, query).json()
    assert as_user(staff).get(f"{path}/balance/").json()["balance"] == "997.00"
    for call in ("statement", "balance"):
        problem(as_user(staff).get(f"/wallet/admin/wallets/{10**17}/{call}/"), 404, "not_found")


@pytest.mark.parametrize("kind", ["csv", "pdf"])
def test_files_that_staff_download_are_logged(asha, staff, as_user, kind):
    path = f"/wallet/admin/wallets/{asha.wallet.pk}/statement/"
    as_user(staff).head(path, {"format": kind})
    as_user(asha).get(OWN, {"format": kind})
    assert not LogEntry.objects.exists()
    as_user(staff).get(path, {"format": kind, "month": "2026-01"})
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (staff, str(asha.wallet.pk))
    assert json.loads(entry.change_message) == {
        "what": "statement",
        "filters": {"format": kind, "month": "2026-01"},
    }


@pytest.mark.parametrize("kind", ["csv", "pdf"])
def test_a_user_has_two_files_at_a_time(asha, as_user, kind):
    client = as_user(asha)
    left = [client.get(OWN, {"format": "csv"}) for _ in range(exports.MAX_PER_USER)]
    problem(client.get(OWN, {"format": kind}), 429, "throttled")
    assert left
    exports.active_downloads.clear()
    assert client.get(OWN, {"format": kind}).status_code == 200


def test_the_console_links_the_statements_of_a_wallets_months(asha, boss, clock_at):
    clock_at(datetime(2026, 3, 1, tzinfo=UTC))
    Wallet.objects.update(created_at=datetime(2026, 1, 31, 19, tzinfo=UTC))
    console = Client()
    console.force_login(boss)
    page = console.get(f"/admin/wallet/wallet/{asha.wallet.pk}/change/").content.decode()
    links = re.findall(r'href="(/wallet/admin/wallets/\d+/statement/[^"]+)"', page)
    assert [link.partition("month=")[2].replace("&amp;", "&") for link in links] == [
        "2026-03&format=csv", "2026-03&format=pdf", "2026-02&format=csv", "2026-02&format=pdf",
    ]  # fmt: skip
    assert console.get(links[-1].replace("&amp;", "&")).content.startswith(b"%PDF-")


# --- The PDF ---------------------------------------------------------------------------------------------


def pdf(client, **query):
    response = client.get(OWN, query | {"format": "pdf"})
    assert response.status_code == 200, response.content
    return response.content


def text_of(content):
    return "\n".join(page.extract_text() for page in PdfReader(BytesIO(content)).pages)


@pytest.mark.parametrize("remarks", REMARKS)
def test_no_remark_breaks_a_pdf_and_what_it_cannot_draw_is_a_box(asha, as_user, remarks):
    payments.debit(user_id=asha.pk, amount=Decimal(1), remarks=remarks)
    text = text_of(pdf(as_user(asha)))
    assert "₹ 999.00" in text
    words = statement_pdf.printable(remarks)
    assert words.replace(" ", "") in text.replace("\n", "").replace(" ", "")
    assert ("□" in text) == ("\U0001f600" in remarks)


def test_a_vowel_sign_is_drawn_before_its_consonants():
    assert statement_pdf.printable("किराया") == "िकराया"
    assert statement_pdf.printable("हिन्दी स्थिति") == "िहन्दी िस्थित"


def test_invisible_characters_are_dropped_and_lines_joined():
    assert statement_pdf.printable("a\u200db\ufe0f\n c\t") == "ab c"


def test_a_pdf_has_neither_scripts_nor_links_nor_files(asha, as_user):
    payments.debit(user_id=asha.pk, amount=Decimal(1), remarks="https://example.com [x](https://example.com) **b**")
    content = pdf(as_user(asha))
    for name in (b"/Annots", b"/AA", b"/URI", b"/JavaScript", b"/Launch", b"/EmbeddedFile", b"/AcroForm"):
        assert name not in content
    assert "[x](https://example.com) **b**" in " ".join(text_of(content).split())


def test_a_pdf_names_the_owner_and_no_more_than_four_digits_of_the_phone(asha, as_user):
    text = text_of(pdf(as_user(asha)))
    assert "user_••••••9999" in text
    assert "9999999999" not in text
    accounts.change(asha, first_name="आशा", last_name="Rao")
    assert "आशा Rao" in text_of(pdf(as_user(asha)))


def test_a_pdf_numbers_its_pages_and_repeats_the_heads(asha, as_user, monkeypatch):
    for n in range(60):
        payments.debit(user_id=asha.pk, amount=Decimal(1), remarks=f"no. {n}")
    pages = [page.extract_text() for page in PdfReader(BytesIO(pdf(as_user(asha)))).pages]
    assert len(pages) == 3
    for number, text in enumerate(pages, 1):
        assert f"Page {number} of 3" in text
        assert "Paid out" in text


def test_the_largest_amount_fits_its_column(asha, as_user, settings):
    settings.WALLET_MAX_AMOUNT = settings.WALLET_MAX_BALANCE = Decimal(10**13)
    payments.credit(user_id=asha.pk, amount=Decimal("999999999999.99"), remarks="w" * 60)
    assert "₹ 9,99,99,99,99,999.99" in text_of(pdf(as_user(asha)))


def test_too_many_rows_for_a_pdf_are_refused_with_an_alternative(midnight, asha, as_user, monkeypatch):
    monkeypatch.setattr(statement_files, "MAX_PDF_ROWS", 1)
    query = {"month": "2026-01", "format": "pdf"}
    (message,) = problem(as_user(asha).get(OWN, query), 400, "validation_error")["errors"]["format"]
    assert message == "A PDF has at most 1 rows, and this would have 2: take CSV, or a shorter period."
    assert as_user(asha).get(OWN, query | {"month": "2026-02"}).status_code == 200


def test_a_pdf_releases_its_slot_while_it_is_drawn(asha, as_user, monkeypatch):
    held = []

    class Watched:
        def __enter__(self):
            held.append("left")

        def __exit__(self, *fault):
            held.append("back")

    monkeypatch.setattr(statement_files, "slot_released", Watched)
    add, finish = statement_pdf.Drawing.add, statement_pdf.Drawing.finish
    monkeypatch.setattr(statement_pdf.Drawing, "add", lambda self, rows: held.append("draws") or add(self, rows))
    monkeypatch.setattr(statement_pdf.Drawing, "finish", lambda self: held.append("draws") or finish(self))
    pdf(as_user(asha), start_date="2026-01-01", end_date="2026-02-01")
    assert held == 2 * ["left", "draws", "back"]
