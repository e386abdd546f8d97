"""Delivery of a text to a phone, through whatever gateway `OTP_SMS_URL` names."""

import ctypes
import logging
import re
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Thread
from typing import Any
from urllib.parse import quote

from django.conf import settings

from lokanetra import slots
from users.exceptions import SMSUnavailable

logger = logging.getLogger(__name__)

# Seconds, below five: somebody is looking at a spinner. To connect, to read once, and in all.
TIMEOUTS = "cto=1.5&rto=3.0"
DEADLINE = 4.5
# Messages that one process hands over at a time: a gateway that hangs keeps as many threads waiting, and no more.
MAX_IN_FLIGHT = slots.MAX_RELEASED
in_flight = BoundedSemaphore(MAX_IN_FLIGHT)


def load() -> None:
    """What `send` needs. A server calls it before it forks: its processes share it, and no message waits."""
    if settings.OTP_ECHO or not settings.OTP_SMS_URL:
        return
    import apprise

    manager = apprise.NotificationManager()
    modules = _modules_of(settings.OTP_SMS_URL.partition(":")[0].lower(), Path(manager.module_path))
    with TemporaryDirectory() as folder:  # Apprise imports the modules that a folder has the names of
        for name in modules:
            Path(folder, name).touch()
        manager.load_modules(folder if modules else None)


def _modules_of(scheme: str, services: Path) -> set[str]:
    """Those of Apprise that know it, for all two hundred take 9 MiB more of each process; none where only the modules
    themselves can tell."""
    knows = re.compile(rf'protocol = .*"{re.escape(scheme)}"')
    files = [file for file in services.rglob("*.py") if knows.search(file.read_text(encoding="utf-8"))]
    return {file.relative_to(services).parts[0] for file in files}


def send(*, to: str, text: str) -> None:
    """Hand `text` for the E.164 number `to` over to the gateway. Nothing of the server is held while it takes its time.

    Raises SMSUnavailable when the gateway refuses, hangs or is down, or has too many messages to take already.
    """
    import apprise  # a large library that most requests never need

    gateway = apprise.Apprise.instantiate(_url(to))
    if gateway is None:
        logger.error("OTP_SMS_URL is not a URL that Apprise can read")
        raise SMSUnavailable
    with slots.slot_released():
        delivered = _in_time(lambda: gateway.notify(body=text, title=""))
    if not delivered:
        logger.error("the SMS gateway did not take a message")
        raise SMSUnavailable


def _in_time(call: Callable[[], Any]) -> bool:
    """What the call returns; false when it takes too long, for a gateway may send its answer letter by letter, and at
    once when too many calls are under way."""
    if not in_flight.acquire(blocking=False):
        logger.error("the SMS gateway has %s messages to take already", MAX_IN_FLIGHT)
        return False
    results: SimpleQueue[bool] = SimpleQueue()
    thread = Thread(target=_report, args=(call, results), name="message", daemon=True)
    thread.start()
    try:
        return results.get(timeout=DEADLINE)
    except Empty:
        _interrupt(thread)
        return False


def _report(call: Callable[[], Any], results: "SimpleQueue[bool]") -> None:
    """The message has its place until the call has really ended."""
    delivered = False
    try:
        delivered = bool(call())
    except SystemExit:
        logger.error("the SMS gateway was cut off in the middle of its answer")
    finally:
        in_flight.release()
        results.put(delivered)


def _interrupt(thread: Thread) -> None:
    """End the thread when it gets the next letter: a gateway that sends one now and then would keep it for ever."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def _url(to: str) -> str:
    url = (settings.OTP_SMS_URL or "").replace("{phone}", quote(to, safe=""))
    return f"{url}{'&' if '?' in url else '?'}{TIMEOUTS}"
