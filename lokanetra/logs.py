"""Log lines: JSON in production, with the id of their request, without phone numbers and tokens."""

import logging
import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from select import select

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


def disable_unused_fields() -> None:
    """No caller, thread and process for each line: finding them takes longer than writing the line."""
    logging._srcfile = None  # as the documentation of logging recommends
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


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

    lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_writable():
            self.lost += 1
            return
        if self.lost:
            lost, self.lost = self.lost, 0
            super().emit(logging.makeLogRecord({"name": __name__, "levelname": "ERROR", "msg": f"{lost} lines lost"}))
        super().emit(record)

    def _is_writable(self) -> bool:
        """A pipe is writable while it has room for some thousand bytes; a file always is."""
        try:
            _, writable, _ = select([], [self.stream], [], 0)
        except (OSError, ValueError):  # not a file, as in tests
            return True
        return bool(writable)


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
