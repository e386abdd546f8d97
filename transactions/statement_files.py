"""Statements as files: CSV, which is written while it is sent, and PDF, which is drawn first."""

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import islice
from threading import Lock
from typing import Any, ClassVar

from django.http import HttpRequest, HttpResponse
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request

from lokanetra import days
from lokanetra.slots import slot_released
from transactions import exports
from transactions.serializers import StatementLineSerializer
from transactions.statements import Statement
from users import audit

COLUMNS = ["timestamp", "id", "transaction_type", "direction", "counterparty", "remarks", "amount", "balance"]
# This many rows are up to four hundred pages, and take ten to fifteen seconds of one core.
MAX_PDF_ROWS = 10_000


@dataclass(frozen=True, kw_only=True)
class StatementCSV(exports.CSV):
    """One line for each row, oldest first, between the opening balance and a line of totals and closing balance."""

    columns: Any = StatementLineSerializer

    def _name(self, statement: Statement) -> str:
        return file_name(statement, "csv")

    def _record(self, request: Request | HttpRequest, statement: Statement) -> None:
        record_download(request, statement)

    def _lines(self, statement: Statement) -> Iterator[list[str]]:
        cells = [exports.cell_formatter(field) for field in self.columns().fields.values()]
        for line in lines(statement):
            yield [show(value) for show, value in zip(cells, line, strict=True)]


@dataclass(frozen=True, kw_only=True)
class StatementPDF:
    """Pages to print. A process draws one batch of rows at a time, and holds no slot while it draws.

    Raises ValidationError for more rows than `MAX_PDF_ROWS`, and what `exports.Download` raises.
    """

    audited: bool = False
    columns: Any = StatementLineSerializer
    media_type: ClassVar[str] = "application/pdf"

    def answer(self, request: Request, statement: Statement) -> HttpResponse:
        if statement.count > MAX_PDF_ROWS:
            message = (
                f"A PDF has at most {MAX_PDF_ROWS:,} rows, and this would have {statement.count:,}: "
                "take CSV, or a shorter period."
            )
            raise ValidationError({"format": [message]})
        content = b"" if request.method == "HEAD" else self._content(request, statement)
        headers = exports.attachment_header(file_name(statement, "pdf"))
        return HttpResponse(content, content_type=self.media_type, headers=headers)

    def _content(self, request: Request, statement: Statement) -> bytes:
        user_id: Any = request.user.pk
        with closing(exports.Download(user_id, pdf_parts(statement))) as parts:
            if self.audited:
                record_download(request, statement)
            return b"".join(parts)


def pdf_parts(statement: Statement) -> Generator[bytes, None, None]:
    """The whole file, in one part."""
    from transactions.statement_pdf import Drawing  # 18 MiB with what draws: only in processes that were asked to

    drawing, rows = Drawing(statement), ledger_rows(statement)
    while batch := list(islice(rows, exports.BATCH)):
        with slot_released(), drawing_lock:
            drawing.add(batch)
    with slot_released(), drawing_lock:
        content = drawing.finish()
    yield content


# Two threads that draw at once would not be faster, and would leave payments less time of the interpreter.
drawing_lock = Lock()


def record_download(request: Request | HttpRequest, statement: Statement) -> None:
    user_id: Any = request.user.pk
    audit.record(user_id=user_id, on=statement.wallet, what="statement", filters=request.GET.dict())


def file_name(statement: Statement, kind: str) -> str:
    return f"statement-{statement.start_date}-{statement.end_date}.{kind}"


def ledger_rows(statement: Statement) -> Iterator[tuple]:
    """The rows, as tuples of `COLUMNS`."""
    return exports.merged(statement.rows(), COLUMNS, statement.read, newest_first=False)


def lines(statement: Statement) -> Iterator[tuple]:
    """The lines of a file: the rows between the opening and the closing balance."""
    yield balance_line(days.start_of(statement.start_date), "OPENING", None, None, statement.opening_balance)
    for timestamp, pk, kind, direction, counterparty, remarks, amount, balance in ledger_rows(statement):
        sums = (amount, None) if direction == "OUT" else (None, amount)
        yield timestamp, pk, kind, counterparty, remarks, *sums, balance
    totals = (statement.total_out, statement.total_in)
    yield balance_line(days.end_of(statement.end_date), "CLOSING", *totals, statement.closing_balance)


def balance_line(at: datetime, kind: str, out: Decimal | None, in_: Decimal | None, balance: Decimal) -> tuple:
    return at, None, kind, None, None, out, in_, balance


FILES = {"csv": StatementCSV(), "pdf": StatementPDF()}
STAFF_FILES = {"csv": StatementCSV(audited=True), "pdf": StatementPDF(audited=True)}
