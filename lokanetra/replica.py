"""Reads that may be seconds old are made on a replica, where there is one that is there and not late.

    read = Reader()
    rows = read(lambda: list(Transaction.objects.newest_first()[:100]))

What moves money, decides, or shows people their own balance and history reads the primary.
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

# Seconds between two looks at it, for how long one counts, and before the log tells again that it is not used.
EVERY, COUNTS_FOR, LOG_AGAIN = 1.0, 3.0, 60.0
# Seconds for an answer. It is used for what takes less, and the primary can still be asked.
ANSWER_TIMEOUT = 5.0

# How far each has come, as the number of bytes of the log ahead of the ledger and all else.
WRITTEN = "SELECT pg_current_wal_lsn() - '0/0'"
REPLAYED = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0'"


class Reader:
    """Calls what reads, on the replica if it may be used, and else on the primary.

    A reader that once was on the primary stays there: of rows that it read on, a replica may not have those between.
    """

    def __init__(self) -> None:
        self.on_replica = REPLICA in settings.DATABASES

    def __call__(self, work: Callable[[], Result]) -> Result:
        """What `work` returns. It is called again on the primary where the replica fails, so it changes nothing, and it
        reads all that it needs before it returns."""
        in_transaction = connections[DEFAULT_DB_ALIAS].in_atomic_block
        self.on_replica = self.on_replica and not in_transaction and monitor.is_fresh()
        if self.on_replica:
            try:
                with _in_its_place():
                    return work()
            except Error as fault:
                if not (database.is_away(fault) or database.is_conflict(fault)):
                    raise
                monitor.mark_unusable(fault)
                self.on_replica = False
        return work()


class Monitor:
    """Knows whether the replica may be used: a thread looks every second, so that no request waits to find out.

    How late it is follows from what the primary had written when: a replica that has replayed what was written four
    seconds ago is at most four seconds late. One that lost its primary is found out too, whatever it says of itself.
    """

    def __init__(self) -> None:
        self.starting = Lock()
        self.is_running = False
        # When the primary had written how much, the newest first.
        self.written: deque[tuple[float, int]] = deque(maxlen=600)
        self.fresh_at = self.logged_at = float("-inf")

    def is_fresh(self) -> bool:
        if not self.is_running:
            self._start()
        return monotonic() - self.fresh_at < COUNTS_FOR

    def mark_unusable(self, reason: object) -> None:
        """Use it no more until the next look that finds nothing wrong. Told once a minute."""
        self.fresh_at = float("-inf")
        if monotonic() - self.logged_at >= LOG_AGAIN:
            self.logged_at = monotonic()
            logger.warning("the replica is not used: %s", str(reason).splitlines()[0])

    def check(self) -> None:
        now = monotonic()
        try:
            trouble = self._trouble(now)
        except Exception as fault:  # noqa: BLE001  (whatever it is, there is the primary)
            trouble = str(fault) or type(fault).__name__
            connections.close_all()
        if trouble:
            self.mark_unusable(trouble)
            return
        if self.fresh_at == self.logged_at == float("-inf"):
            logger.info("the replica is used")
        elif self.fresh_at == float("-inf"):
            logger.info("the replica is used again")
        self.fresh_at = now

    def _trouble(self, now: float) -> str | None:
        """Why it may not be used."""
        (written,) = _asked(DEFAULT_DB_ALIAS, WRITTEN)
        self.written.appendleft((now, written))
        is_replica, replayed = _asked(REPLICA, REPLAYED)
        if not is_replica or replayed is None:
            return "it is no replica, or not any more"
        reached = next((at for at, end in self.written if end <= replayed), float("-inf"))
        most = settings.REPLICA_MAX_LAG
        return f"it is more than {most} s late" if now - reached > most else None

    def _start(self) -> None:
        """In a process that asks. The first to ask waits for the first look."""
        with self.starting:
            if not self.is_running:
                self.check()
                Thread(target=self._keep_looking, name=REPLICA, daemon=True).start()
                self.is_running = True

    def _keep_looking(self) -> None:
        while True:
            sleep(EVERY)
            self.check()


monitor = Monitor()


def _asked(alias: str, query: str) -> tuple:
    """The one row of it, soon or not at all."""
    asked: Any = connections[alias]
    asked.close_if_unusable_or_obsolete()
    asked.probe_timeout = PROBE_TIMEOUT
    with asked.cursor() as cursor:
        cursor.execute(query)
        return cursor.fetchone()


@contextmanager
def _in_its_place() -> Iterator[None]:
    """Within, this thread's connection is one to the replica: with it every query goes there, however it is made."""
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
    """It lives as long as that to the primary which it stands beside, and is used by the same thread."""
    made: Any = connections.create_connection(REPLICA)
    made.inc_thread_sharing()
    made.alias = DEFAULT_DB_ALIAS  # rows that it reads are changed on the primary, if at all
    made.patient, made.answer_timeout = patient, ANSWER_TIMEOUT
    return made
