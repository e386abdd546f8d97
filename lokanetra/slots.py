"""How many requests are worked on at once: each holds a slot while it works, and none while it waits for the outside.

Without slots (in a command, a test, the development server) everything here lets everybody through.
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

# Seconds. A request that finds no slot within them is better refused than kept waiting.
PATIENCE = 3.0
# Seconds, for a request that held a slot before: what it has done outside would be lost.
PATIENCE_TO_RETURN = 20.0

# Requests that may wait for the outside at a time. Who sends them there lets no more go.
MAX_RELEASED = 16


class Busy(ServerBusy):
    """Raised when there was no slot in time, or no result."""


class Threads:
    """Threads of one event loop, as many as were ever needed at a time. Only the loop starts work, and is told of its
    end, so that counting takes no lock."""

    def __init__(self) -> None:
        self.jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self.idle = 0

    def start(self, job: Callable[[], None]) -> None:
        if self.idle:
            self.idle -= 1
        else:
            Thread(target=self._work, daemon=True).start()
        self.jobs.put(job)

    def _work(self) -> None:
        while True:
            self.jobs.get()()


class Slots:
    """A fixed number of slots of one event loop: each with a database connection of its own, or all with none.

    Requests get them in the order in which they asked.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, threads: Threads, count: int, *, connected: bool = True
    ) -> None:
        self.loop, self.threads, self.count = loop, threads, count
        self.free: list[Any] = [_new_connection() if connected else None for _ in range(count)]
        self.waiting: deque[asyncio.Future[Any]] = deque()

    async def run(
        self, work: Callable[[], Result], *, patience: float = PATIENCE, deadline: float | None = None
    ) -> Result:
        """What `work` returns, called in a thread that holds a slot.

        Raises Busy when no slot is free within `patience`, or, where there is a `deadline`, no result is there by then
        (both in seconds); the work goes on all the same.
        """
        lease = Lease(self, await self.acquire(patience))
        result: asyncio.Future[Result] = self.loop.create_future()
        self.threads.start(partial(lease.work, work, result))
        if deadline is not None:
            await asyncio.wait({result}, timeout=deadline)
            if not result.done():
                raise Busy
        return await result

    async def acquire(self, patience: float) -> Any:
        """The next slot. Raises Busy when none comes within so many seconds."""
        if self.free:
            return self.free.pop()
        turn = self.loop.create_future()
        self.waiting.append(turn)
        timer = self.loop.call_later(patience, _give_up, turn)
        try:
            return await turn
        finally:
            timer.cancel()

    def release(self, connection: Any) -> None:
        """Hand a slot to whoever waits longest."""
        while self.waiting:
            turn = self.waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self.free.append(connection)


class Lease:
    """A slot in use. Its connection is the thread's own for as long."""

    def __init__(self, slots: Slots, connection: Any) -> None:
        self.slots, self.connection, self.is_held = slots, connection, True

    def work(self, work: Callable[[], Result], result: "asyncio.Future[Result]") -> None:
        """Called in a thread. The slot goes back when the work ends, whether or not anybody still waits for it."""
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
        turn = self.slots.acquire(PATIENCE_TO_RETURN)
        self.connection = asyncio.run_coroutine_threadsafe(turn, self.slots.loop).result()
        self.is_held = True
        self._begin()

    def _begin(self) -> None:
        current.lease = self
        if self.connection is not None:
            connections[DEFAULT_DB_ALIAS] = self.connection

    def _end(self) -> None:
        """Django does the same with all connections of a thread at both ends of a request."""
        current.lease = None
        if self.is_held and self.connection is not None:
            with suppress(Error):
                self.connection.close_if_unusable_or_obsolete()
            with suppress(AttributeError):  # whoever took it away has spared us that
                del connections[DEFAULT_DB_ALIAS]

    def _settle(self, result: "asyncio.Future[Any]", value: Any, fault: BaseException | None) -> None:
        self.slots.threads.idle += 1
        if self.is_held:
            self.slots.release(self.connection)
        if not result.done():
            result.set_exception(fault) if fault else result.set_result(value)


current = local()


@contextmanager
def slot_released() -> Iterator[None]:
    """Around what waits for the outside: meanwhile another request has the slot, and its connection.

    Raises RuntimeError inside a transaction, which would be the other request's then; Busy when there is no slot to
    return to.
    """
    lease: Lease | None = getattr(current, "lease", None)
    if lease is None:
        yield
        return
    if connections[DEFAULT_DB_ALIAS].in_atomic_block:
        raise RuntimeError("A transaction is open: its connection cannot be given away.")
    lease.release()
    try:
        yield
    finally:
        lease.reacquire()


def _new_connection() -> Any:
    connection = connections.create_connection(DEFAULT_DB_ALIAS)
    connection.inc_thread_sharing()  # by one thread after the other, never by two at once
    return connection


def _give_up(turn: "asyncio.Future[Any]") -> None:
    if not turn.done():
        turn.set_exception(Busy())
