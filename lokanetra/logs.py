"""Log lines: JSON in production, with the id of their request, and without anybody's phone number or token."""

import logging
import re
import secrets
from contextvars import ContextVar
from datetime import UTC, datetime
from select import select

import orjson

request_id: ContextVar[str] = ContextVar("request_id", default="-")

SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
# Of people, the keys of machines, and the secrets of webhooks.
TOKEN = re.compile(r"eyJ[\w-]+(\.[\w-]*)*|lk_[0-9a-f]{12}_[\w-]+|whsec_[\w+/=-]+")
# Ten digits and more, however they came into the line: a database error quotes the value that it refused.
PHONE = re.compile(r"\+?(?<![\w.])[0-9]{8,13}([0-9]{2})(?!\w)")
# PostgreSQL tells the whole row that it refused, of however many lines, behind what rule was broken: the rest of the
# error goes, up to the next one of a traceback.
ROW = re.compile(r"\n?DETAIL: .*?(?=\n\n(?:The above|During handling)|\Z)", re.DOTALL)


def disable_unused_fields() -> None:
    """Where each line was written, by which thread and process: to find it out takes longer than to write the line."""
    logging._srcfile = None  # as the documentation of logging has it
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def choose_request_id(given: str | None) -> str:
    """The client's own id if it sent a sane one, else a new one."""
    return given if given and SANE_ID.fullmatch(given) else secrets.token_hex(16)


def mask(text: str) -> str:
    """The text without tokens and rows, and with the last two digits of phone numbers only."""
    return PHONE.sub(r"…\1", TOKEN.sub("[token]", ROW.sub("", text)))


class NonBlockingHandler(logging.StreamHandler):
    """Writes lines as long as somebody takes them: a collector that hangs would keep every request waiting.

    Lines that nobody takes are lost, and counted in the next one that is taken.
    """

    lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        if not self._is_taken():
            self.lost += 1
            return
        if self.lost:
            lost, self.lost = self.lost, 0
            super().emit(logging.makeLogRecord({"name": __name__, "levelname": "ERROR", "msg": f"{lost} lines lost"}))
        super().emit(record)

    def _is_taken(self) -> bool:
        """A pipe is writable while some thousand bytes have room in it; a file always."""
        try:
            _, writable, _ = select([], [self.stream], [], 0)
        except (OSError, ValueError):  # no file at all, as in tests
            return True
        return bool(writable)


class RequestIdFilter(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = request_id.get()
        return True


class ClientErrorFilter(logging.Filter):
    """A mistake of the client's is a line in the log, not a traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        if getattr(record, "status_code", 500) < 500:
            record.exc_info = None
        return True


class ReadableFormatter(logging.Formatter):
    """For the eyes of a developer."""

    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class JSONFormatter(logging.Formatter):
    """For machines: one object a line. `fields` of the record are added as they are."""

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
