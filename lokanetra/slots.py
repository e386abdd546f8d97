"""Limits how many requests are processed at once: each holds a slot while it works, but not while it waits for an
external service.

Without slots (in a command, a test, the development server) nothing is limited.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from threading import Thread, local
from typing import Any, TypeVar

from django.db import DEFAULT_DB_ALIAS, Error, connections

from lokanetra.errors import ServerBusy

Result = TypeVar("Result")

# Seconds that a request waits for a slot before it is refused.
ACQUIRE_TIMEOUT = 3.0
# Seconds for a request that released its slot: refused, it would lose what it has done outside.
REACQUIRE_TIMEOUT = 20.0

# Requests that may wait for external services at a time. The callers of `slot_released` enforce this.
MAX_RELEASED = 16


class Busy(ServerBusy):
    """Raised when there was no free slot, or no result, in time."""


Jobs = SimpleQueue[Callable[[], None]]


class Threads:
    """Threads of one event loop, as many as were ever needed at a time, each known by its queue of jobs.

    Only the loop starts work and handles its end, so that no lock is needed. The thread that was idle last works next:
    it wakes up faster, and its data is still in the processor's cache.
    """

    def __init__(self) -> None:
        self.idle: list[Jobs] = []

    def start(self, job: Callable[[], None]) -> Jobs:
        """Start a job. At its end the thread has to be added to `idle` again."""
        thread = self.idle.pop() if self.idle else self._new()
        thread.put(job)
        return thread

    def _new(self) -> Jobs:
        jobs = Jobs()
        Thread(target=_do, args=[jobs], daemon=True).start()
        return jobs


def _do(jobs: Jobs) -> None:
    while True:
        jobs.get()()


class Slots:
    """A fixed number of slots of one event loop: each with its own database connection, or all without one.

    Requests get them in the order of their arrival.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threads: Threads, count: int, *, connected: bool = True
    ) -> None:
        self.loop, self.threads, self.count = loop, threads, count
        self.free: list[Any] = [_new_connection() if connected else None for _ in range(count)]
        self.waiting: deque[asyncio.Future[Any]] = deque()

    async def run(
        self, work: Callable[[], Result], *, timeout: float = ACQUIRE_TIMEOUT, deadline: float | None = None
    ) -> Result:
        """The result of `work`, called in a thread that holds a slot.

        Raises Busy when no slot is free within `timeout`, or when a `deadline` is given and passes without a result
        (both in seconds); the work then continues nevertheless.
        """
        lease = Lease(self, await self.acquire(timeout))
        result: asyncio.Future[Result] = self.loop.create_future()
        lease.thread = self.threads.start(partial(lease.work, work, result))
        if deadline is not None:
            await asyncio.wait({result}, timeout=deadline)
            if not result.done():
                raise Busy
        return await result

    async def acquire(self, timeout: float) -> Any:
        """The next free slot. Raises Busy when there is none within `timeout` seconds."""
        with suppress(IndexError):
            return self.free.pop()
        turn = self.loop.create_future()
        self.waiting.append(turn)
        timer = self.loop.call_later(timeout, _give_up, turn)
        try:
            return await turn
        finally:
            timer.cancel()

    def release(self, connection: Any) -> None:
        """Hand a slot to the request that has waited longest."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self.free.append(connection)


class Lease:
    """A slot in use. Its connection is the thread's default one meanwhile."""

    thread: Jobs

    def __init__(self, slots: Slots, connection: Any) -> None:
        self.slots, self.connection, self.is_held = slots, connection, True

    def work(self, work: Callable[[], Result], result: "asyncio.Future[Result]") -> None:
        """Called in a thread. The slot is released when the work ends, even if nobody waits for the result any more."""
        value, fault = None, None
        try:
            self._begin()
            value = work()
        except BaseException as error:  # noqa: BLE001  (raised again where the result is awaited)
            fault = error
        self._end()
        self.slots.loop.call_soon_threadsafe(self._settle, result, value, fault)

    def release(self) -> None:
        """Let others have the slot until `reacquire`."""
        self._end()
        self.is_held = False
        self.slots.loop.call_soon_threadsafe(self.slots.release, self.connection)

    def reacquire(self) -> None:
        """Wait for a slot. Raises Busy."""
        try:
            self.connection = self.slots.free.pop()  # atomic, and sooner than the loop's answer
        except IndexError:
            turn = self.slots.acquire(REACQUIRE_TIMEOUT)
            self.connection = asyncio.run_coroutine_threadsafe(turn, self.slots.loop).result()
        self.is_held = True
        self._begin()

    def _begin(self) -> None:
        current.lease = self
        if self.connection is not None:
            connections[DEFAULT_DB_ALIAS] = self.connection

    def _end(self) -> None:
        """As Django does with all connections of a thread at both ends of a request."""
        current.lease = None
        if self.is_held and self.connection is not None:
            with suppress(Error):
                self.connection.close_if_unusable_or_obsolete()
            with suppress(AttributeError):  # somebody else has already removed it
                del connections[DEFAULT_DB_ALIAS]

    def _settle(self, result: "asyncio.Future[Any]", value: Any, fault: BaseException | None) -> None:
        self.slots.threads.idle.append(self.thread)
        if self.is_held:
            self.slots.release(self.connection)
        if not result.done():
            result.set_exception(fault) if fault else result.set_result(value)


current = local()


@contextmanager
def slot_released() -> Iterator[None]:
    """For waiting on an external service: meanwhile another request may use the slot and its connection.

    Raises RuntimeError inside a transaction, which the other request would get; Busy when no slot is free afterwards.
    """
    lease: Lease | None = getattr(current, "lease", None)
    if lease is None:
        yield
        return
    if connections[DEFAULT_DB_ALIAS].in_atomic_block:
        raise RuntimeError("A transaction is open: its connection cannot be released.")
    lease.release()
    try:
        yield
    finally:
        lease.reacquire()


def _new_connection() -> Any:
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    connection.inc_thread_sharing()  # used by one thread after the other, never by two at once
    return connection


def _give_up(turn: "asyncio.Future[Any]") -> None:
    if not turn.done():
        turn.set_exception(Busy())
