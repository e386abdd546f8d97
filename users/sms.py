"""Delivery of a text to a phone, through the gateway that `OTP_SMS_URL` names."""

import ctypes
import json
import logging
import re
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Thread
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies

from django.conf import settings

from lokanetra import env, outside, slots
from users.exceptions import SMSUnavailable

logger = logging.getLogger(__name__)

# Seconds to connect, to read once, and in total: below five, because somebody is looking at a spinner.
TIMEOUTS = "cto=1.5&rto=3.0"
DEADLINE = 4.5
# Messages that one process sends at a time, and so the most threads that a hanging gateway can block.
MAX_IN_FLIGHT = slots.MAX_RELEASED
in_flight = BoundedSemaphore(MAX_IN_FLIGHT)

# The URL of a service of the operator's own, without options. Apprise would take six times as long to post some JSON to
# it, which was a third of a login, so we do that ourselves.
OWN_SERVICE = re.compile(r"(?i:json)(?P<tls>(?i:s?))(?P<rest>://[A-Za-z0-9.:\[\]-]+(?:/[\w.~{}-]+)*/?)", re.ASCII)
# Variables of the environment that Apprise's HTTP library heeds and ours does not.
OTHER_AUTHORITIES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
JSON = {"Content-Type": "application/json"}


def load() -> None:
    """What `send` needs. A server calls it before it forks: its processes share it, and no message waits."""
    if settings.OTP_ECHO or not settings.OTP_SMS_URL or _own_service():
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
    service = _own_service()
    with slots.slot_released():
        delivered = _post(service.replace("{phone}", to), text) if service else _notify(_url(to), text)
    if not delivered:
        logger.error("the SMS gateway did not accept a message")
        raise SMSUnavailable


def _has_place() -> bool:
    """Whether one more message may be in flight. If so, it has to release its place."""
    if in_flight.acquire(blocking=False):
        return True
    logger.error("%s messages to the SMS gateway are in flight already", MAX_IN_FLIGHT)
    return False


# --- A service of the operator's own ---------------------------------------------------------------------


def _own_service() -> str:
    """Its address, with {phone}; empty where Apprise has to send the message."""
    found = OWN_SERVICE.fullmatch(settings.OTP_SMS_URL or "")
    if found is None or getproxies().keys() - {"no"} or any(env.text(name) for name in OTHER_AUTHORITIES):
        return ""
    return f"http{found['tls'].lower()}{found['rest']}"


def _post(url: str, text: str) -> bool:
    """Send what Apprise would send."""
    message = {"version": "1.0", "title": "", "message": text, "attachments": [], "type": "info"}
    if not _has_place():
        return False
    try:
        answer = outside.post(url, json.dumps(message).encode(), JSON, timeout=DEADLINE, anywhere=True)
    finally:
        in_flight.release()
    if answer.status is None or not 200 <= answer.status < 300:
        logger.warning("the SMS gateway: %s", answer.fault or f"status {answer.status}")
        return False
    return True


# --- Any other gateway, by Apprise -----------------------------------------------------------------------


def _url(to: str) -> str:
    url = (settings.OTP_SMS_URL or "").replace("{phone}", quote(to, safe=""))
    return f"{url}{'&' if '?' in url else '?'}{TIMEOUTS}"


def _notify(url: str, text: str) -> bool:
    import apprise  # a large library that most requests never need

    gateway = apprise.Apprise.instantiate(url)
    if gateway is None:
        logger.error("OTP_SMS_URL is not a URL that Apprise can read")
        return False
    return _has_place() and _call_with_deadline(lambda: gateway.notify(body=text, title=""))


def _call_with_deadline(call: Callable[[], Any]) -> bool:
    """The result of the call; false after DEADLINE, because a gateway may send its answer byte by byte."""
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
