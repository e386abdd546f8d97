"""Runs periodic jobs in lanes: each is a thread with its own connection, and runs until it is told to stop. The command
`work` has the jobs."""

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

# Seconds before the database is tried again while it is away; each further time doubles them, up to the maximum.
PAUSE, MAX_PAUSE = 0.5, 10.0
# The same for a job that failed.
RETRY, MAX_RETRY = 10.0, 600.0
# Seconds after which the log repeats that the database is away.
LOG_AGAIN = 60.0
# Seconds for running jobs to finish when the worker is told to stop; the rest is abandoned.
GRACE = 18.0
# Seconds between two checks of signals and lanes.
POLL = 0.1
# Separates our advisory locks from those of others in the same database.
LOCKS = 0x6C6B  # "lk"

# Works until the event is set, or with `True` does what is due and returns. Returns False when something failed.
Lane = Callable[[Event, bool], bool | None]


# --- One at a time -----------------------------------------------------------------------------------


@contextmanager
def claim(name: str) -> Iterator[bool]:
    """Whether no other worker on this database holds the name. If so, we hold it until we leave or die."""
    with _lock_in_database(name) if database.is_postgresql() else _lock_beside_file(name) as claimed:
        yield claimed


@contextmanager
def _lock_in_database(name: str) -> Iterator[bool]:
    """Held by an open transaction on a separate connection: a pooler may give a session to others, but not while a
    transaction is open. It reads nothing, so it does not delay vacuum."""
    with closing(connection.copy()) as own:
        own.set_autocommit(False)
        with own.cursor() as cursor:
            cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s, %s)", [LOCKS, zlib.crc32(name.encode()) - 2**31])
            claimed = cursor.fetchone()[0]
        yield claimed


@contextmanager
def _lock_beside_file(name: str) -> Iterator[bool]:
    """Held by a transaction on a separate SQLite file, which does not block payments."""
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


# --- Jobs --------------------------------------------------------------------------------------------


@dataclass
class Job:
    """Calls `run` when `is_due`, which is checked `every` so many seconds and must be cheap.

    `run` does everything that is due, may be repeated and interrupted anywhere, and returns what it did as a text,
    empty for nothing. A `shared` job may be done by several workers at once.
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
        """Run if it is due and no other worker is running it. False if it failed."""
        try:
            self._claim_and_run()
        except Exception as fault:  # noqa: BLE001  (whatever it is, the other jobs continue)
            self.failures += 1
            is_away = isinstance(fault, ServerBusy) or database.is_away(fault)
            (self._database_is_away if is_away else self._failed)(fault)
            return False
        self._succeeded()
        return True

    def _claim_and_run(self) -> None:
        if not self.is_due():
            return
        if self.shared:
            self._run()
            return
        with claim(self.name) as claimed:
            if claimed and self.is_due():  # another worker may have just done it
                self._run()

    def _run(self) -> None:
        started = time.monotonic()
        if result := self.run():
            logger.info("%s: %s in %.1f s", self.name, result, time.monotonic() - started)

    def _succeeded(self) -> None:
        now = time.monotonic()
        if self.away_since is not None:
            logger.info("%s: the database is back after %.0f s", self.name, now - self.away_since)
        self.failures, self.away_since, self.logged_at, self.next_check_at = 0, None, float("-inf"), now + self.every

    def _database_is_away(self, fault: Exception) -> None:
        connection.close()
        now = time.monotonic()
        self.away_since = self.away_since or now
        self.next_check_at = now + backoff(PAUSE, MAX_PAUSE, self.failures)
        if now - self.logged_at >= LOG_AGAIN:
            self.logged_at = now
            logger.warning("%s: the database is away: %s", self.name, _first_line(fault.__cause__ or fault))

    def _failed(self, fault: Exception) -> None:
        pause = backoff(RETRY, MAX_RETRY, self.failures)
        self.next_check_at = time.monotonic() + pause
        logger.error("%s failed; it is tried again in %.0f s", self.name, pause, exc_info=fault)


@dataclass
class JobLane:
    """A lane that runs its jobs one after the other. Failed jobs are retried after longer and longer pauses."""

    name: str
    jobs: list[Job]
    # Whether its statements may take longer than a request would wait.
    patient: bool = False

    def __call__(self, stop: Event, once: bool = False) -> bool:
        connection.patient = self.patient  # type: ignore[attr-defined]
        ok = True
        while not stop.is_set():
            ok = self._run_due(stop)
            if once:
                break
            stop.wait(max(0.0, min(job.next_check_at for job in self.jobs) - time.monotonic()))
        return ok

    def _run_due(self, stop: Event) -> bool:
        ok = True
        for job in self.jobs:
            if job.next_check_at <= time.monotonic() and not stop.is_set():
                close_old_connections()
                ok = job.run_if_due() and ok
        return ok


def backoff(first: float, most: float, times: int) -> float:
    return min(first * 2 ** min(times - 1, 30), most)


def _first_line(fault: BaseException) -> str:
    return (str(fault).splitlines() or [type(fault).__name__])[0]


# --- The worker --------------------------------------------------------------------------------------


class Worker:
    """Runs lanes until SIGTERM or SIGINT, `with_parent` also until its parent process ends. A second signal ends it
    immediately."""

    def __init__(self, lanes: dict[str, Lane], *, once: bool = False, with_parent: bool = False) -> None:
        self.once = once
        self.parent = os.getppid() if with_parent else None
        self.stop = Event()
        self.signals = 0
        self.failed: set[str] = set()
        # Daemons: one that does not end in time does not keep the process from ending.
        self.threads = [
            Thread(target=self._keep_running, args=(name, lane), name=name, daemon=True) for name, lane in lanes.items()
        ]

    def run(self) -> bool:
        """False if something failed. A worker that had to abandon a lane does not return: its process ends."""
        self._log("worker started: %s", _names(self.threads))
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
        self._log("worker stopped")
        return not self.failed

    def _keep_running(self, name: str, lane: Lane) -> None:
        """Run the lane, and restart it if it ends, without leaving connections open."""
        endings = 0
        while not self.stop.is_set():
            if not self._run_lane(name, lane):
                self.failed.add(name)
            if self.once:
                break
            endings += 1
            self.stop.wait(backoff(PAUSE, MAX_PAUSE, endings))

    def _run_lane(self, name: str, lane: Lane) -> bool:
        try:
            return lane(self.stop, self.once) is not False
        except Exception:
            logger.exception("lane %s failed", name)
            return False
        finally:
            connections.close_all()

    def _log(self, *line: str) -> None:
        """Not under cron, which mails every line: there only work and failures are logged."""
        if not self.once:
            logger.info(*line)

    def _alive(self) -> list[Thread]:
        return [thread for thread in self.threads if thread.is_alive()]

    def _is_orphan(self) -> bool:
        return self.parent is not None and os.getppid() != self.parent

    def _wait_until(self, happened: Callable[[], bool]) -> None:
        """Or until all lanes have ended."""
        while self._alive() and not happened():
            time.sleep(POLL)

    @contextmanager
    def _listening(self) -> Iterator[None]:
        before = {number: signal.signal(number, self._signalled) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _signalled(self, *_: Any) -> None:
        """Only counts: a handler may run while its thread holds any lock."""
        self.signals += 1
        if self.signals > 1:
            os._exit(1)


def _names(threads: list[Thread]) -> str:
    return ", ".join(thread.name for thread in threads)


def _end(status: int) -> None:
    """Without waiting for threads."""
    logging.shutdown()
    os._exit(status)
