"""Rate limits, counted in committed rows by one statement each, so that parallel calls cannot exceed them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from django.db import connection
from django.utils import timezone

from lokanetra.prepared import Later, rows_of
from users.exceptions import TooManyRequests
from users.models import Counter

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
COOLDOWN = "otp_cooldown"
MAX_KEY_LENGTH = 128
COUNTED = "SELECT count FROM users_counter WHERE name = %s AND key = %s AND window_start = %s"
# A counter that is inserted with 1 counts one more, and one with 0 counts one less.
CHANGE = (
    "count = users_counter.count + CASE excluded.count WHEN 0 THEN -1 ELSE 1 END "
    "WHERE users_counter.count > 0 OR excluded.count > 0"
)
UNLESS_CLOSED = "count = excluded.count WHERE users_counter.count <= %s"


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
    """Count once towards each limit, in their order and by one statement, or towards none. Raises TooManyRequests with
    the seconds to wait."""
    now = timezone.now()
    hits = [_hit(limit, key, now) for limit, key in wanted]
    counts = _upsert(CHANGE, [(hit, 1) for hit in hits])
    for (limit, _), hit in zip(wanted, hits, strict=True):
        if counts[hit.name, hit.key] > limit.maximum:
            restore(hits)
            raise TooManyRequests((hit.window_start + limit.window - now).total_seconds())
    return hits


def count(limit: Limit, key: str, *, instead_of: Sequence[Hit] = ()) -> Hit:
    """Count once, whatever the maximum, and restore the hits that this is `instead_of`: by one statement, which is sent
    `Later`."""
    hit = _hit(limit, key, timezone.now())
    _upsert_later(CHANGE, [*((each, 0) for each in instead_of), (hit, 1)])
    return hit


def restore(hits: Sequence[Hit]) -> None:
    """Undo these counts. Counters are locked in the order in which `consume` locks them, or the two deadlock."""
    _upsert(CHANGE, [(hit, 0) for hit in hits])


def hits(limit: Limit, key: str) -> int:
    """How often the limit was counted in the current window."""
    found = rows_of(COUNTED, _key_of(_hit(limit, key, timezone.now())))
    return found[0][0] if found else 0


def start_cooldown(key: str, seconds: int, hits: Sequence[Hit]) -> None:
    """Start a cooldown of `seconds` for the key. During another one, restore the hits and raise TooManyRequests."""
    if not seconds:
        return
    now = int(timezone.now().timestamp())
    if not _upsert(UNLESS_CLOSED, [(Hit(COOLDOWN, key, EPOCH), now + seconds)], now):
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


def _upsert(update: str, counted: Sequence[tuple[Hit, int]], *values: int) -> dict[tuple[str, str], int]:
    """One statement that inserts counters, or changes those that are there: the counts of all that it did not leave
    alone, by name and key."""
    return _upsert_later(update, counted, *values).result if counted else {}


def _upsert_later(update: str, counted: Sequence[tuple[Hit, int]], *values: int) -> Later[dict[tuple[str, str], int]]:
    inserted = [value for hit, count in counted for value in (*_key_of(hit), count)]
    return Later(_upsert_of(update, len(counted)), [*inserted, *values], _counts)


def _counts(rows: list[tuple]) -> dict[tuple[str, str], int]:
    return {(name, key): count for name, key, count in rows}


@cache
def _upsert_of(update: str, rows: int) -> str:
    return (
        "INSERT INTO users_counter (name, key, window_start, count) "  # noqa: S608
        f"VALUES {', '.join(rows * ['(%s, %s, %s, %s)'])} "
        f"ON CONFLICT (name, key, window_start) DO UPDATE SET {update} RETURNING name, key, count"
    )


def _key_of(hit: Hit) -> list[Any]:
    return [hit.name, hit.key, connection.ops.adapt_datetimefield_value(hit.window_start)]
