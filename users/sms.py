"""Delivery of a text to a phone, through the gateway that `OTP_SMS_URL` names."""

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

# Seconds to connect, to read once, and in total: below five, because somebody is looking at a spinner.
TIMEOUTS = "cto=1.5&rto=3.0"
DEADLINE = 4.5
# Messages that one process sends at a time, and so the most threads that a hanging gateway can block.
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
    """Send `text` to the E.164 number `to` through the gateway. The request's slot is free while the gateway answers.

    Raises SMSUnavailable when the gateway refuses, hangs or is down, or too many messages are in flight.
    """
    import apprise  # a large library that most requests never need

    gateway = apprise.Apprise.instantiate(_url(to))
    if gateway is None:
        logger.error("OTP_SMS_URL is not a URL that Apprise can read")
        raise SMSUnavailable
    with slots.slot_released():
        delivered = _call_with_deadline(lambda: gateway.notify(body=text, title=""))
    if not delivered:
        logger.error("the SMS gateway did not accept a message")
        raise SMSUnavailable


def _call_with_deadline(call: Callable[[], Any]) -> bool:
    """The result of the call; false after DEADLINE, because a gateway may send its answer byte by byte, and at once
    when too many calls are in flight."""
    if not in_flight.acquire(blocking=False):
        logger.error("%s messages to the SMS gateway are in flight already", MAX_IN_FLIGHT)
        return False
    results: SimpleQueue[bool] = SimpleQueue()
    thread = Thread(target=_run, args=(call, results), name="message", daemon=True)
    thread.start()
    try:
        return results.get(timeout=DEADLINE)
    except Empty:
        _kill(thread)
        return False


def _run(call: Callable[[], Any], results: "SimpleQueue[bool]") -> None:
    """Put the result of the call in the queue. The message is in flight until the call has really ended."""
    delivered = False
    try:
        delivered = bool(call())
    except SystemExit:
        logger.error("the SMS gateway was cut off in the middle of its answer")
    finally:
        in_flight.release()
        results.put(delivered)


def _kill(thread: Thread) -> None:
    """End the thread at the next byte that it receives: a gateway may send one now and then for ever."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit))


def _url(to: str) -> str:
    url = (settings.OTP_SMS_URL or "").replace("{phone}", quote(to, safe=""))
    return f"{url}{'&' if '?' in url else '?'}{TIMEOUTS}"
