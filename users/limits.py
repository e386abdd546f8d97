"""Rate limits, counted in committed rows by one statement each, so that parallel calls cannot exceed them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import connection
from django.utils import timezone

from lokanetra.prepared import rows_of
from users.exceptions import TooManyRequests
from users.models import Counter

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COOLDOWN = "otp_cooldown"
MAX_KEY_LENGTH = 128
DECREMENT = """
    UPDATE users_counter SET count = count - 1 WHERE name = %s AND key = %s AND window_start = %s AND count > 0
    RETURNING count
"""


@dataclass(frozen=True)
class Limit:
    """At most `maximum` times in each fixed window of time, for each key."""

    name: str
    maximum: int
    window: timedelta

    def window_start(self, now: datetime) -> datetime:
        return now - (now - EPOCH) % self.window


@dataclass(frozen=True)
class Hit:
    """One count, which `restore` can undo."""

    name: str
    key: str
    window_start: datetime


def consume(wanted: Sequence[tuple[Limit, str]]) -> list[Hit]:
    """Count once towards each limit, or towards none. Raises TooManyRequests with the seconds to wait."""
    now, hits = timezone.now(), []
    for limit, key in wanted:
        hit = _hit(limit, key, now)
        hits.append(hit)
        if _count(hit) > limit.maximum:
            restore(hits)
            raise TooManyRequests((hit.window_start + limit.window - now).total_seconds())
    return hits


def restore(hits: Sequence[Hit]) -> None:
    """Undo these counts."""
    for hit in hits:
        rows_of(DECREMENT, _key_of(hit))


def hits(limit: Limit, key: str) -> int:
    """How often the limit was counted in the current window."""
    hit = _hit(limit, key, timezone.now())
    return _rows(hit).values_list("count", flat=True).first() or 0


def start_cooldown(key: str, seconds: int, hits: Sequence[Hit]) -> None:
    """Start a cooldown of `seconds` for the key. During another one, restore the hits and raise TooManyRequests."""
    if not seconds:
        return
    now = int(timezone.now().timestamp())
    started = _upsert(
        "count = excluded.count WHERE users_counter.count <= %s", Hit(COOLDOWN, key, EPOCH), now + seconds, now
    )
    if started is None:
        restore(hits)
        until = Counter.objects.filter(name=COOLDOWN, key=key).values_list("count", flat=True).first() or now
        raise TooManyRequests(until - now)


def end_cooldown(key: str) -> None:
    """End the cooldown of the key."""
    Counter.objects.filter(name=COOLDOWN, key=key).delete()


def _hit(limit: Limit, key: str, now: datetime) -> Hit:
    if len(key) > MAX_KEY_LENGTH:
        key = hashlib.sha256(key.encode()).hexdigest()
    return Hit(limit.name, key, limit.window_start(now))


def _rows(hit: Hit) -> Any:
    return Counter.objects.filter(name=hit.name, key=hit.key, window_start=hit.window_start)


def _count(hit: Hit) -> int:
    found = _upsert("count = users_counter.count + 1", hit, 1)
    assert found is not None
    return found


def _upsert(update: str, hit: Hit, *values: int) -> int | None:
    """Insert a counter or update it, in one statement. Returns its count, None if it was not updated."""
    found = rows_of(
        "INSERT INTO users_counter (name, key, window_start, count) VALUES (%s, %s, %s, %s) "  # noqa: S608
        f"ON CONFLICT (name, key, window_start) DO UPDATE SET {update} RETURNING count",
        [*_key_of(hit), *values],
    )
    return found[0][0] if found else None


def _key_of(hit: Hit) -> list[Any]:
    return [hit.name, hit.key, connection.ops.adapt_datetimefield_value(hit.window_start)]
