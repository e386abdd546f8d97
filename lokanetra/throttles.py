"""The general rate limit of the API. It protects the server; limits that protect people are counted in the database."""

import logging
import time

from django.conf import settings
from django.core.cache import cache
from rest_framework.request import Request
from rest_framework.throttling import BaseThrottle

from lokanetra.addresses import client_of

logger = logging.getLogger(__name__)


# Seconds for which a failed cache is not used. Otherwise each request would wait for it while it hangs.
COOLDOWN = 10.0


class RateLimit(BaseThrottle):
    """At most `API_RATE_LIMIT` calls per user, or per address for a caller without a login, in each fixed
    window; `SERVICE_RATE_LIMIT` calls per service account.

    While the cache fails nobody is limited: the wallet matters more than this limit.
    """

    disabled_until = 0.0
    remaining: float = 0

    def allow_request(self, request: Request, view: object) -> bool:
        by_key = getattr(request.user, "by_key", False)
        limit = settings.SERVICE_RATE_LIMIT if by_key else settings.API_RATE_LIMIT
        if limit is None or time.monotonic() < RateLimit.disabled_until:
            return True
        calls, seconds = limit
        window, elapsed = divmod(time.time(), seconds)
        self.remaining = seconds - elapsed
        key = f"rate:{request.user.pk or client_of(request)}:{window:.0f}"
        try:
            return self._count(key, seconds) <= calls
        except _faults() as fault:
            RateLimit.disabled_until = time.monotonic() + COOLDOWN
            logger.warning("the cache fails, and is not used for %.0f s: %s", COOLDOWN, fault)
            return True

    def wait(self) -> float:
        return self.remaining

    def _count(self, key: str, seconds: int) -> int:
        if cache.add(key, 1, timeout=seconds):
            return 1
        try:
            return cache.incr(key)
        except ValueError:  # expired between the two calls: a new window has begun
            return 1


def _faults() -> tuple[type[Exception], ...]:
    """Imported only when something went wrong: the Redis client is a large library."""
    from redis.exceptions import RedisError

    return RedisError, OSError
