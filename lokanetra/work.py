"""What is due, and when: lanes, each a thread with a connection of its own, that go round chores until they are told to
stop. What the chores are is not said here but in the command `work`."""

import logging
import os
import signal
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from threading import Event, Thread
from typing import Any

from django.db import close_old_connections, connection, connections

from lokanetra import database
from lokanetra.errors import ServerBusy

logger = logging.getLogger("lokanetra.work")

# Seconds before the database is asked again when it is away; each further time doubles them, up to the longest.
PAUSE, LONGEST_PAUSE = 0.5, 10.0
# The same for a chore that failed.
RETRY, LONGEST_RETRY = 10.0, 600.0
# Seconds after which the log tells again that the database is away.
LOG_AGAIN = 60.0
# Seconds for what is under way when the worker is told to stop; what takes longer is abandoned.
GRACE = 18.0
# Seconds between two looks at signals and lanes.
WATCH = 0.1
# Keeps our advisory locks apart from those of others in the same database.
LOCKS = 0x6C6B  # "lk"

# Works until the event is set, or with `True` does what is due now and returns. False when something failed.
Lane = Callable[[Event, bool], bool | None]


# --- One at a time -----------------------------------------------------------------------------------


@contextmanager
def claim(name: str) -> Iterator[bool]:
    """Whether no other worker on this database has the name. Then it is ours, until we leave or die."""
    with _lock_in_database(name) if connection.vendor == "postgresql" else _lock_beside_file(name) as claimed:
        yield claimed


@contextmanager
def _lock_in_database(name: str) -> Iterator[bool]:
    """Held by an open transaction on a connection of its own: a pooler may give the session to somebody else, but not
    while a transaction is open. It reads nothing, so it keeps no vacuum waiting."""
    with closing(connection.copy()) as own:
        own.set_autocommit(False)
        with own.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCKS, zlib.crc32(name.encode()) - 2**31])
            claimed = cursor.fetchone()[0]
        yield claimed


@contextmanager
def _lock_beside_file(name: str) -> Iterator[bool]:
    """Held by a transaction on an SQLite file of its own, which keeps no payment waiting."""
    path = f"{connection.settings_dict['NAME']}-{name}.lock"
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as own:
        try:
            own.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as fault:
            if fault.sqlite_errorname != "SQLITE_BUSY":
                raise
            yield False
        else:
            yield True


# --- Chores ------------------------------------------------------------------------------------------


@dataclass
class Job:
    """Something that `run` does when `is_due`, which is asked `every` so many seconds and must cost next to nothing.

    `run` does all that is due, may be repeated and interrupted anywhere, and tells what it did; nothing, if nothing.
    What is `shared` several workers may do at once.
    """

    name: str
    run: Callable[[], str]
    is_due: Callable[[], bool]
    every: float
    shared: bool = False
    next_check_at: float = 0.0
    failures: int = 0
    away_since: float | None = None
    logged_at: float = float("-inf")

    def run_if_due(self) -> bool:
        """Do it if it is due and no other worker is at it. Whether nothing failed."""
        try:
            self._do_if_due()
        except Exception as fault:  # noqa: BLE001  (whatever it is, the others go on)
            self.failures += 1
            is_away = isinstance(fault, ServerBusy) or database.is_away(fault)
            (self._database_is_away if is_away else self._failed)(fault)
            return False
        self._went_well()
        return True

    def _do_if_due(self) -> None:
        if not self.is_due():
            return
        if self.shared:
            self._do()
            return
        with claim(self.name) as claimed:
            if claimed and self.is_due():  # another one may have done it just now
                self._do()

    def _do(self) -> None:
        started = time.monotonic()
        if said := self.run():
            logger.info("%s: %s in %.1f s", self.name, said, time.monotonic() - started)

    def _went_well(self) -> None:
        now = time.monotonic()
        if self.away_since is not None:
            logger.info("%s: the database is back after %.0f s", self.name, now - self.away_since)
        self.failures, self.away_since, self.logged_at, self.next_check_at = 0, None, float("-inf"), now + self.every

    def _database_is_away(self, fault: Exception) -> None:
        connection.close()
        now = time.monotonic()
        self.away_since = self.away_since or now
        self.next_check_at = now + backoff(PAUSE, LONGEST_PAUSE, self.failures)
        if now - self.logged_at >= LOG_AGAIN:
            self.logged_at = now
            logger.warning("%s: the database is away: %s", self.name, _first_line(fault.__cause__ or fault))

    def _failed(self, fault: Exception) -> None:
        pause = backoff(RETRY, LONGEST_RETRY, self.failures)
        self.next_check_at = time.monotonic() + pause
        logger.error("%s failed; it is tried again in %.0f s", self.name, pause, exc_info=fault)


@dataclass
class JobLane:
    """A lane that goes round its chores, one after the other. What fails is tried again later and later."""

    name: str
    jobs: list[Job]
    # Whether its statements may take longer than a request would wait.
    patient: bool = False

    def __call__(self, stop: Event, once: bool = False) -> bool:
        connection.patient = self.patient  # type: ignore[attr-defined]
        well = True
        while not stop.is_set():
            well = self._go_round(stop)
            if once:
                break
            stop.wait(max(0.0, min(job.next_check_at for job in self.jobs) - time.monotonic()))
        return well

    def _go_round(self, stop: Event) -> bool:
        well = True
        for job in self.jobs:
            if job.next_check_at <= time.monotonic() and not stop.is_set():
                close_old_connections()
                well = job.run_if_due() and well
        return well


def backoff(first: float, longest: float, times: int) -> float:
    return min(first * 2 ** min(times - 1, 30), longest)


def _first_line(fault: BaseException) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]


# --- The worker --------------------------------------------------------------------------------------


class Worker:
    """Runs lanes until SIGTERM or SIGINT, `with_parent` also until the process ends that started it. A second signal
    ends it at once."""

    def __init__(self, lanes: dict[str, Lane], *, once: bool = False, with_parent: bool = False) -> None:
        self.once = once
        self.parent = os.getppid() if with_parent else None
        self.stop = Event()
        self.signals = 0
        self.failed: set[str] = set()
        # Daemons: one that does not end in time keeps the process from nothing.
        self.threads = [
            Thread(target=self._keep, args=(name, lane), name=name, daemon=True) for name, lane in lanes.items()
        ]

    def run(self) -> bool:
        """Whether nothing failed. A worker that had to abandon something does not return: its process ends."""
        self._tell("worker started: %s", _names(self.threads))
        with self._listening():
            for thread in self.threads:
                thread.start()
            self._wait_until(lambda: bool(self.signals) or self._is_orphan())
            self.stop.set()
            deadline = time.monotonic() + GRACE
            self._wait_until(lambda: time.monotonic() > deadline)
        if abandoned := self._alive():
            logger.warning("worker stopped; not finished: %s", _names(abandoned))
            _end(0)
        self._tell("worker stopped")
        return not self.failed

    def _keep(self, name: str, lane: Lane) -> None:
        """Run the lane, again should it end, and leave no connection behind."""
        endings = 0
        while not self.stop.is_set():
            if not self._runs_well(name, lane):
                self.failed.add(name)
            if self.once:
                break
            endings += 1
            self.stop.wait(backoff(PAUSE, LONGEST_PAUSE, endings))

    def _runs_well(self, name: str, lane: Lane) -> bool:
        try:
            return lane(self.stop, self.once) is not False
        except Exception:
            logger.exception("lane %s failed", name)
            return False
        finally:
            connections.close_all()

    def _tell(self, *line: str) -> None:
        """To cron nothing is told but what was done, and what failed."""
        if not self.once:
            logger.info(*line)

    def _alive(self) -> list[Thread]:
        return [thread for thread in self.threads if thread.is_alive()]

    def _is_orphan(self) -> bool:
        return self.parent is not None and os.getppid() != self.parent

    def _wait_until(self, happened: Callable[[], bool]) -> None:
        """Or until all lanes have ended."""
        while self._alive() and not happened():
            time.sleep(WATCH)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, *_: Any) -> None:
        """No more than this: a handler may run while its thread holds any lock."""
        self.signals += 1
        if self.signals > 1:
            os._exit(1)


def _names(threads: list[Thread]) -> str:
    return ", ".join(thread.name for thread in threads)


def _end(status: int) -> None:
    """Without waiting for threads."""
    logging.shutdown()
    os._exit(status)
