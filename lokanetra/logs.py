"""Log lines: JSON in production, with the id of their request, without phone numbers and tokens."""

import logging
import re
import secrets
from collections import deque
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from select import PIPE_BUF, select
from threading import RLock, Thread
from time import sleep
from typing import Any

import orjson

request_id: ContextVar[str] = ContextVar("request_id", default="-")

VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# Access tokens, API keys, and the secrets of webhooks.
TOKEN = re.compile(r"eyJ[\w-]+(\.[\w-]*)*|lk_[0-9a-f]{12}_[\w-]+|whsec_[\w+/=-]+")
# Ten digits or more, wherever they come from: a database error quotes the value that it refused.
PHONE = re.compile(r"\+?(?<![\w.])[0-9]{8,13}([0-9]{2})(?!\w)")
# After the broken rule, PostgreSQL quotes the whole refused row, which may have many lines: the rest of the error is
# removed, up to the next one in a traceback.
ROW = re.compile(r"\n?DETAIL: .*?(?=\n\n(?:The above|During handling)|\Z)", re.DOTALL)

# Seconds between two batches of lines; and the most lines that wait for one, while writing hangs.
BATCH_SECONDS, MAX_WAITING = 0.05, 20_000
# Bytes that a pipe takes at once, with room for the line that says how many were lost.
MAX_PART = PIPE_BUF - 256


def disable_unused_fields() -> None:
    """No caller, thread and process for each line: finding them takes longer than writing the line."""
    logging._srcfile = None  # as the documentation of logging recommends
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def write_in_batches() -> None:
    """For a process that answers many requests at once: see `NonBlockingHandler`."""
    for handler in logging.root.handlers:
        if isinstance(handler, NonBlockingHandler):
            handler.write_in_batches()


def choose_request_id(given: str | None) -> str:
    """The client's own id if it sent a valid one, else a new one."""
    return given if given and VALID_ID.fullmatch(given) else secrets.token_hex(16)


def mask(text: str) -> str:
    """The text without tokens and rows, and with only the last two digits of phone numbers."""
    return PHONE.sub(r"…\1", TOKEN.sub("[token]", ROW.sub("", text)))


class NonBlockingHandler(logging.StreamHandler):
    """Drops lines while the log collector does not read: waiting for it would block every request.

    The next line that is written says how many were lost.
    """

    def __init__(self, stream: Any = None) -> None:
        super().__init__(stream)
        self.waiting: deque[logging.LogRecord] = deque()
        self.writing = RLock()  # writing a line may log another
        self.lost, self.batched = 0, False

    def write_in_batches(self) -> None:
        """Leave writing to a thread, which does it several times a second: requests would compete for the interpreter
        each time that one has written its line. A process that is killed loses the lines of that time."""
        self.batched = True
        Thread(target=self._flush_repeatedly, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        if not self.batched:
            self.waiting.append(record)
            self.flush()
        elif len(self.waiting) < MAX_WAITING:
            self._keep(record)
        else:
            self.lost += 1

    def _keep(self, record: logging.LogRecord) -> None:
        """Until the next batch, with its message as it is now: what it is about may change."""
        try:
            record.msg, record.args = record.getMessage(), None
            self.waiting.append(record)
        except Exception:  # noqa: BLE001  (as in the handlers of logging)
            self.handleError(record)

    def flush(self) -> None:
        """Write the lines that wait."""
        with self.writing:
            for part in _parts(self._lines()):
                self._write(part)

    def _flush_repeatedly(self) -> None:
        while True:
            sleep(BATCH_SECONDS)
            self.flush()

    def _lines(self) -> Iterator[str]:
        while self.waiting:
            yield from self._line(self.waiting.popleft())

    def _line(self, record: logging.LogRecord) -> list[str]:
        try:
            return [self.format(record) + self.terminator]
        except Exception:  # noqa: BLE001  (as in the handlers of logging)
            self.handleError(record)
            return []

    def _write(self, lines: list[str]) -> None:
        if not self._is_writable():
            self.lost += len(lines)
            return
        if self.lost:
            lost, self.lost = self.lost, 0
            level = {"name": __name__, "levelname": "ERROR"}
            lines = [*self._line(logging.makeLogRecord({**level, "msg": f"{lost} lines lost"})), *lines]
        try:
            self.stream.write("".join(lines))
            self.stream.flush()
        except (OSError, ValueError):
            self.lost += len(lines)

    def _is_writable(self) -> bool:
        """A pipe is writable while it has room for some thousand bytes; a file always is."""
        try:
            _, writable, _ = select([], [self.stream], [], 0)
        except (OSError, ValueError):  # not a file, as in tests
            return True
        return bool(writable)


def _parts(lines: Iterable[str]) -> Iterator[list[str]]:
    """As many lines at a time as a pipe takes at once: whole, and without those of other processes in between."""
    part, size = list[str](), 0
    for line in lines:
        length = len(line.encode(errors="replace"))
        if part and size + length > MAX_PART:
            yield part
            part, size = [], 0
        part.append(line)
        size += length
    if part:
        yield part


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class ClientErrorFilter(logging.Filter):
    """A client's mistake is logged as a line, without a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = None
        return True


class ReadableFormatter(logging.Formatter):
    """For developers."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class JSONFormatter(logging.Formatter):
    """For machines: one object per line. The record's `fields` are added unchanged."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": mask(record.getMessage()),
            "request_id": getattr(record, "request_id", "-"),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["exception"] = mask(self.formatException(record.exc_info))
        return orjson.dumps(line, default=str).decode()
