"""Slots are granted in order, released whatever happens, and left to others by requests that wait outside."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from threading import Event, active_count
from typing import Any

import pytest
from django.db import connections

from lokanetra import slots
from lokanetra.slots import Busy, Slots, Threads


@pytest.fixture
def with_slots() -> Callable[..., Any]:
    """Runs `play`, a coroutine function, with some slots."""

    def run(count: int, play: Callable[[Slots], Any], **how: Any) -> Any:
        async def scene() -> Any:
            return await play(Slots(asyncio.get_running_loop(), Threads(), count, **how))

        return asyncio.run(scene())

    return run


def test_a_request_without_a_slot_in_time_is_refused(with_slots):
    async def play(one: Slots) -> None:
        over = Event()
        working = asyncio.create_task(one.run(over.wait))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await one.run(lambda: None, timeout=0.05)
        over.set()
        assert await working
        assert await one.run(lambda: "again") == "again"

    with_slots(1, play, connected=False)


def test_slots_are_granted_in_order(with_slots):
    async def play(one: Slots) -> list[int]:
        served: list[int] = []
        await asyncio.gather(*(one.run(lambda n=n: served.append(n)) for n in range(20)))
        return served

    assert with_slots(1, play, connected=False) == list(range(20))


def test_a_late_result_is_not_waited_for_and_its_slot_is_released(with_slots):
    async def play(one: Slots) -> None:
        over = Event()
        with pytest.raises(Busy):
            await one.run(over.wait, deadline=0.05)
        assert one.free == []
        over.set()
        assert await one.run(lambda: "next") == "next"

    with_slots(1, play, connected=False)


def test_there_are_no_more_threads_than_work_at_a_time(with_slots):
    async def play(two: Slots) -> None:
        before = active_count()
        for _ in range(20):
            await asyncio.gather(two.run(lambda: None), two.run(lambda: None))
        assert active_count() - before <= 2
        assert len(two.threads.idle) == active_count() - before

    with_slots(2, play, connected=False)


def test_an_error_reaches_the_caller_and_the_slot_is_released(with_slots):
    async def play(one: Slots) -> None:
        with pytest.raises(ZeroDivisionError):
            await one.run(lambda: 1 // 0)
        assert len(one.free) == 1

    with_slots(1, play, connected=False)


def test_a_slot_is_released_whatever_happens_to_its_connection(with_slots):
    def careless() -> None:
        del connections["default"]

    async def play(one: Slots) -> None:
        own = list(one.free)
        await one.run(careless)
        assert one.free == own

    with_slots(1, play)


@pytest.mark.parametrize("work", [lambda: None, lambda: 1 // 0], ids=["whole", "with a fault"])
def test_a_connection_is_checked_before_another_request_gets_it(with_slots, monkeypatch, work):
    events: list[str] = []

    async def play(one: Slots) -> None:
        monkeypatch.setattr(one.free[0], "close_if_unusable_or_obsolete", lambda: events.append("before"))
        with suppress(ZeroDivisionError):
            await one.run(work)
        await one.run(lambda: events.append("next"))

    with_slots(1, play)
    assert events == ["before", "next", "before"]


def test_each_slot_has_a_connection_of_its_own_and_lends_it_to_one_thread_at_a_time(with_slots):
    def lent() -> Any:
        return connections["default"]

    async def play(two: Slots) -> None:
        own = set(map(id, two.free))
        used = await asyncio.gather(*(two.run(lent) for _ in range(10)))
        assert set(map(id, used)) == own
        assert set(map(id, two.free)) == own

    with_slots(2, play)


def test_a_request_that_waits_outside_releases_its_slot_and_connection(with_slots):
    """With one slot, another request is processed while the first one waits."""
    inside, seen = Event(), []

    def outside() -> Any:
        before = connections["default"]
        with slots.slot_released():
            seen.append("left")
            assert inside.wait(5)
        return before is connections["default"]

    async def play(one: Slots) -> None:
        waiting = asyncio.create_task(one.run(outside))
        while not seen:
            await asyncio.sleep(0.01)
        await one.run(inside.set, timeout=1)
        assert await waiting
        assert len(one.free) == 1

    with_slots(1, play)


def test_a_slot_is_not_released_inside_a_transaction(with_slots, monkeypatch):
    def careless() -> None:
        connections["default"].in_atomic_block = True
        try:
            with slots.slot_released():
                raise AssertionError("it was released")
        finally:
            connections["default"].in_atomic_block = False

    async def play(one: Slots) -> None:
        with pytest.raises(RuntimeError, match="transaction"):
            await one.run(careless)

    with_slots(1, play)


def test_without_slots_nothing_is_released():
    with slots.slot_released():
        pass
