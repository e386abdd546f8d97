"""The ledger as files: every row of a list in one CSV of any length.

A file is made while it is sent. Its rows are read in batches, each by short queries that begin after the last row of
the previous batch; between two batches nothing is held: no cursor, no transaction, no lock, and at most one batch in
memory. So neither a long ledger nor a slow client is a problem.
"""

import csv
import logging
import unicodedata
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from heapq import merge
from io import StringIO
from itertools import islice
from operator import itemgetter
from threading import Lock
from time import monotonic
from typing import Any, ClassVar
from weakref import WeakSet

from django.db.models import QuerySet
from django.http import HttpRequest, StreamingHttpResponse
from rest_framework.request import Request
from rest_framework.serializers import Field, Serializer

from lokanetra import days
from lokanetra.errors import ServerBusy
from lokanetra.replica import Reader
from transactions.models import Transaction
from transactions.serializers import EntrySerializer, StaffEntrySerializer
from users import audit
from users.exceptions import TooManyRequests

logger = logging.getLogger(__name__)

# Rows read and sent at a time: a few hundredths of a second, so that other requests run in between.
BATCH = 2_000
# Formatted cells that are cached for each column: the same people and amounts repeat.
CACHED_CELLS = 4_096

# Files that one process sends at a time, and to one user.
MAX_AT_ONCE = 16
MAX_PER_USER = 2
# Seconds. A client that reads nothing for this long frees its slot, and its file breaks off when it continues.
STALL_SECONDS = 60
# Open files including stalled ones, whose unread rows stay in memory.
MAX_OPEN = 64

# Without it spreadsheets do not recognise UTF-8.
BYTE_ORDER_MARK = "\ufeff"

FORMULA_SIGNS = frozenset("=+-@")
# The quote is never closed: a server may end a broken response normally, and a CSV reader does not accept this row.
INCOMPLETE = '"This file is not complete: the export broke off here.'


class Stalled(Exception):
    """Raised in a file whose client read nothing for too long."""


class Download:
    """A file that is being sent, part by part. It counts until it is closed or garbage-collected, even if nobody reads
    it.

    Raises TooManyRequests when the user has `MAX_PER_USER` already, ServerBusy when the process has too many.
    """

    def __init__(self, user_id: int, parts: Generator[Any, None, None]) -> None:
        self.user_id, self.parts, self.read_at = user_id, parts, monotonic()
        with downloads_lock:
            others = list(active_downloads)
            if sum(other.user_id == user_id for other in others) >= MAX_PER_USER:
                raise TooManyRequests(STALL_SECONDS)
            if len(others) >= MAX_OPEN or sum(not other.has_stalled for other in others) >= MAX_AT_ONCE:
                raise ServerBusy
            active_downloads.add(self)

    @property
    def has_stalled(self) -> bool:
        return monotonic() - self.read_at > STALL_SECONDS

    def __iter__(self) -> "Download":
        return self

    def __next__(self) -> Any:
        has_stalled, self.read_at = self.has_stalled, monotonic()
        return self.parts.throw(Stalled) if has_stalled else next(self.parts)

    def close(self) -> None:
        active_downloads.discard(self)
        self.parts.close()


downloads_lock = Lock()
active_downloads: WeakSet[Download] = WeakSet()


@dataclass(frozen=True, kw_only=True)
class CSV:
    """A file with a header line. Its columns are the fields of a serializer, formatted by those fields."""

    columns: type[Serializer]
    audited: bool = False
    media_type: ClassVar[str] = "text/csv"

    def answer(self, request: Request | HttpRequest, rows: Any) -> StreamingHttpResponse:
        """The file of these rows: an ordered queryset, or a list of disjoint ones that are merged, newest first.

        Raises TooManyRequests and ServerBusy as `Download` does.
        """
        parts: Iterable[str] = [] if request.method == "HEAD" else self._begin(request, rows)
        kind = f"{self.media_type}; charset=utf-8"
        return StreamingHttpResponse(parts, content_type=kind, headers=attachment_header(self._name(rows)))

    def _name(self, rows: Any) -> str:
        return f"transactions-{days.today()}.csv"

    def _begin(self, request: Request | HttpRequest, rows: Any) -> Download:
        user_id: Any = request.user.pk
        download = Download(user_id, self._parts(user_id, self._lines(rows)))
        try:
            if self.audited:
                self._record(request, rows)
        except Exception:
            download.close()
            raise
        return download

    def _record(self, request: Request | HttpRequest, rows: Any) -> None:
        user_id: Any = request.user.pk
        audit.record(user_id=user_id, on=Transaction, what="export", filters=request.GET.dict())

    def _parts(self, user_id: int, lines: Iterator[list[str]]) -> Generator[str, None, None]:
        count = 0
        try:
            yield BYTE_ORDER_MARK + csv_text([self.columns().fields])
            while batch := list(islice(lines, BATCH)):
                count += len(batch)
                yield csv_text(batch)
            logger.info("user %s was sent %s rows", user_id, count)
        except GeneratorExit:
            logger.info("user %s disconnected after %s rows", user_id, count)
            raise
        except Exception as fault:  # after any exception the file must not look complete
            log = logger.info if isinstance(fault, Stalled) else logger.exception
            log("the export for user %s broke off after %s rows", user_id, count)
            yield INCOMPLETE
            raise

    def _lines(self, rows: Any) -> Iterator[list[str]]:
        fields = self.columns().fields.values()
        columns = list(dict.fromkeys(column_of(field) for field in fields))
        cells = [(columns.index(column_of(field)), cell_formatter(field)) for field in fields]
        for row in read_rows(rows, columns, Reader()):
            yield [show(row[index]) for index, show in cells]


HISTORY = CSV(columns=EntrySerializer)
LEDGER = CSV(columns=StaffEntrySerializer, audited=True)


def attachment_header(name: str) -> dict[str, str]:
    """The header that makes a browser save a file under this name."""
    return {"Content-Disposition": f'attachment; filename="{name}"'}


# --- Cells -------------------------------------------------------------------------------------------


def column_of(field: Field) -> str:
    """The column that a field reads, by its name in a queryset."""
    return str(field.source).replace(".", "__")


def csv_text(lines: Iterable[Iterable[str]]) -> str:
    text = StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()


def cell_formatter(field: Field) -> Callable[[Any], str]:
    """A function that writes the values of a column as text."""

    @lru_cache(maxsize=CACHED_CELLS)
    def show(value: Any) -> str:
        return "" if value is None else escape_formula(str(field.to_representation(value)))

    return show


def escape_formula(text: str) -> str:
    """Put an apostrophe before a cell that a spreadsheet might run as a formula.

    That is a cell whose first visible character is a formula sign, including full-width and small ones, or that begins
    with a tab or a line break.
    """
    if not text or text[0].isalnum():
        return text
    visible = next((sign for sign in text if sign.isprintable() and not sign.isspace()), "")
    if text[:1] in ("\t", "\r", "\n") or unicodedata.normalize("NFKC", visible) in FORMULA_SIGNS:
        return f"'{text}"
    return text


# --- Rows --------------------------------------------------------------------------------------------


def read_rows(rows: Any, columns: list[str], read: Reader) -> Iterator[tuple]:
    """The rows of a queryset, or of disjoint ones merged newest first, as tuples of these columns."""
    if isinstance(rows, list):
        return merged(rows, columns, read, newest_first=True)
    return in_batches(rows, columns, read)


def merged(sides: Sequence[QuerySet], columns: list[str], read: Reader, *, newest_first: bool) -> Iterator[tuple]:
    """The rows of disjoint querysets, ordered by id, which must be one of the columns."""
    batches = [in_batches(side.order_by("-id" if newest_first else "id"), columns, read) for side in sides]
    return merge(*batches, key=itemgetter(columns.index("id")), reverse=newest_first)


def in_batches(rows: QuerySet, columns: list[str], read: Reader) -> Iterator[tuple]:
    """The rows in their order, whose columns must be among `columns`. Each batch begins after the last row of the
    previous one."""
    order, rows = sort_columns(rows), rows.values_list(*columns)
    batch = read(partial(first_batch, [rows]))
    while batch:
        yield from batch
        last = dict(zip(columns, batch[-1], strict=True))
        following = list(rows_after(last, rows, order))
        batch = read(partial(first_batch, following)) if len(batch) == BATCH else []


def sort_columns(rows: QuerySet) -> list[tuple[str, bool]]:
    """The columns of an order and whether each descends, up to the id: it is unique, so later ones do not matter."""
    columns = [(name.lstrip("-"), name.startswith("-")) for name in map(str, rows.query.order_by)]
    order = [("id" if column == "pk" else column, descends) for column, descends in columns]
    return order[: [name for name, _ in order].index("id") + 1]


def first_batch(ranges: Iterable[QuerySet]) -> list[tuple]:
    """The first batch of consecutive ranges."""
    batch: list[tuple] = []
    for rows in ranges:
        batch += rows[: BATCH - len(batch)] if len(batch) < BATCH else []
    return batch


def rows_after(last: dict[str, Any], rows: QuerySet, order: list[tuple[str, bool]]) -> Iterator[QuerySet]:
    """The rows after a row, as consecutive ranges of an index each: with an OR the database uses no index.

    Ordered by (amount, id) these are the rows with the same amount and a greater id, then those with a greater amount.
    """
    for index in reversed(range(len(order))):
        equal = {name: last[name] for name, _ in order[:index]}
        name, descends = order[index]
        yield rows.filter(**equal, **{f"{name}__{'lt' if descends else 'gt'}": last[name]})
