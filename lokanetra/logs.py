"""Log lines: JSON in production, with the id of their request, and without anybody's phone number or token."""

import json
import logging
import re
from contextvars import ContextVar
from datetime import UTC, datetime

request_id: ContextVar[str] = ContextVar("request_id", default="-")

TOKEN = re.compile(r"eyJ[\w-]+(\.[\w-]*)*")
# Ten digits and more, however they came into the line: a database error quotes the value that it refused.
PHONE = re.compile(r"\+?(?<![\w.])[0-9]{8,13}([0-9]{2})(?!\w)")
# PostgreSQL tells the whole row that it refused, of however many lines, behind what rule was broken: the rest of the
# error goes, up to the next one of a traceback.
ROW = re.compile(r"\n?DETAIL: .*?(?=\n\n(?:The above|During handling)|\Z)", re.DOTALL)


def mask(text: str) -> str:
    """The text without tokens and rows, and with the last two digits of phone numbers only."""
    return PHONE.sub(r"…\1", TOKEN.sub("[token]", ROW.sub("", text)))


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
        return json.dumps(line)
