"""Delivery of a text to a phone, through whatever gateway `OTP_SMS_URL` names."""

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

from django.conf import settings

from users.exceptions import SMSUnavailable

logger = logging.getLogger(__name__)

# Seconds, below five: somebody is looking at a spinner. To connect, to read once, and in all.
TIMEOUTS = "cto=1.5&rto=3.0"
DEADLINE = 4.5


def send(*, to: str, text: str) -> None:
    """Hand `text` for the E.164 number `to` over to the gateway.

    Raises SMSUnavailable when the gateway refuses, hangs or is down.
    """
    import apprise  # a large library that most requests never need

    gateway = apprise.Apprise()
    if not gateway.add(_url(to)):
        logger.error("OTP_SMS_URL is not a URL that Apprise can read")
        raise SMSUnavailable
    if not _in_time(lambda: gateway.notify(body=text, title="")):
        logger.error("the SMS gateway did not take a message")
        raise SMSUnavailable


def _in_time(call: Callable[[], Any]) -> bool:
    """What the call returns; false when it takes too long, for a gateway may send its answer letter by letter."""
    pool = ThreadPoolExecutor(1)
    try:
        return bool(pool.submit(call).result(timeout=DEADLINE))
    except TimeoutError:
        return False
    finally:
        pool.shutdown(wait=False)


def _url(to: str) -> str:
    url = (settings.OTP_SMS_URL or "").replace("{phone}", quote(to, safe=""))
    return f"{url}{'&' if '?' in url else '?'}{TIMEOUTS}"
