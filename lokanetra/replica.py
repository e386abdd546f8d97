"""Reads that may be seconds old go to a replica, where there is one that is available and not late.

    read = Reader()
    rows = read(lambda: list(Transaction.objects.newest_first()[:100]))

Whatever moves money, makes decisions, or shows people their own balance and history reads from the primary.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, TypeVar

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections

from lokanetra import database
from lokanetra.env import REPLICA
from lokanetra.postgresql.base import PROBE_TIMEOUT

logger = logging.getLogger("lokanetra.replica")

Result = TypeVar("Result")

# Seconds between two checks of it, for how long a check is valid, and between two log lines that it is not used.
EVERY, COUNTS_FOR, LOG_AGAIN = 1.0, 3.0, 60.0
# Seconds for an answer. Longer work is not sent to it, and the primary can still be asked.
ANSWER_TIMEOUT = 5.0

# How much each has written or replayed, as a position in the write-ahead log.
WRITTEN = "SELECT pg_current_wal_lsn() - '0/0'"
REPLAYED = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0'"


class Reader:
    """Runs reads on the replica if it may be used, otherwise on the primary.

    A reader that has used the primary stays there: the replica may lack rows that it has already seen.
    """

    def __init__(self) -> None:
        self.on_replica = REPLICA in settings.DATABASES

    def __call__(self, work: Callable[[], Result]) -> Result:
        """The result of `work`, which is called again on the primary if the replica fails. So it must change nothing,
        and read everything that it needs before it returns."""
        in_transaction = connections[DEFAULT_DB_ALIAS].in_atomic_block
        self.on_replica = self.on_replica and not in_transaction and monitor.is_fresh()
        if self.on_replica:
            try:
                with _replica_as_default():
                    return work()
            except Error as fault:
                if not (database.is_away(fault) or database.is_conflict(fault)):
                    raise
                monitor.mark_unusable(fault)
                self.on_replica = False
        return work()


class Monitor:
    """Knows whether the replica may be used: a thread checks every second, so that no request has to wait.

    The lag is measured by the primary's past positions: a replica that has replayed what was written five seconds
    ago is at most five seconds late. This also detects a replica that lost its primary, whatever it reports itself.
    """

    def __init__(self) -> None:
        self.starting = Lock()
        self.is_running = False
        # Times and positions of the primary, the newest first.
        self.written: deque[tuple[float, int]] = deque(maxlen=600)
        self.fresh_at = self.logged_at = float("-inf")

    def is_fresh(self) -> bool:
        if not self.is_running:
            self._start()
        return monotonic() - self.fresh_at < COUNTS_FOR

    def mark_unusable(self, reason: object) -> None:
        """Stop using it until the next successful check. Logged once a minute."""
        self.fresh_at = float("-inf")
        if monotonic() - self.logged_at >= LOG_AGAIN:
            self.logged_at = monotonic()
            logger.warning("the replica is not used: %s", str(reason).splitlines()[0])

    def check(self) -> None:
        now = monotonic()
        try:
            reason = self._unusable_reason(now)
        except Exception as fault:  # noqa: BLE001  (whatever it is, the primary can be used)
            reason = str(fault) or type(fault).__name__
            connections.close_all()
        if reason:
            self.mark_unusable(reason)
            return
        if self.fresh_at == self.logged_at == float("-inf"):
            logger.info("the replica is used")
        elif self.fresh_at == float("-inf"):
            logger.info("the replica is used again")
        self.fresh_at = now

    def _unusable_reason(self, now: float) -> str | None:
        (written,) = _query(DEFAULT_DB_ALIAS, WRITTEN)
        self.written.appendleft((now, written))
        is_replica, replayed = _query(REPLICA, REPLAYED)
        if not is_replica or replayed is None:
            return "it is not a replica, or no longer one"
        reached = next((at for at, end in self.written if end <= replayed), float("-inf"))
        most = settings.REPLICA_MAX_LAG
        return f"it is more than {most} s late" if now - reached > most else None

    def _start(self) -> None:
        """Only in processes that use it. The first caller waits for the first check."""
        with self.starting:
            if not self.is_running:
                self.check()
                Thread(target=self._keep_checking, name=REPLICA, daemon=True).start()
                self.is_running = True

    def _keep_checking(self) -> None:
        while True:
            sleep(EVERY)
            self.check()


monitor = Monitor()


def _query(alias: str, query: str) -> tuple:
    """The only row of the query, with a short time-out."""
    connection: Any = connections[alias]
    connection.close_if_unusable_or_obsolete()
    connection.probe_timeout = PROBE_TIMEOUT
    with connection.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


@contextmanager
def _replica_as_default() -> Iterator[None]:
    """Inside it, this thread's default connection is one to the replica, so that every query goes there."""
    primary: Any = connections[DEFAULT_DB_ALIAS]
    if primary.replica is None:
        primary.replica = _new_connection(primary.patient)
    primary.replica.close_if_unusable_or_obsolete()
    connections[DEFAULT_DB_ALIAS] = primary.replica
    try:
        yield
    finally:
        connections[DEFAULT_DB_ALIAS] = primary


def _new_connection(patient: bool) -> Any:
    """Lives as long as the thread's connection to the primary, and is used by the same thread."""
    connection: Any = connections.create_connection(REPLICA)
    connection.inc_thread_sharing()
    connection.alias = DEFAULT_DB_ALIAS  # rows read from it are saved on the primary, if at all
    connection.patient, connection.answer_timeout = patient, ANSWER_TIMEOUT
    return connection
