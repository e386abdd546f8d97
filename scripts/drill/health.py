"""Polls the health check of each server that should be up, and records how fast it answers."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread

# Seconds between two requests, and for an answer.
PAUSE, TIMEOUT = 0.2, 10.0


@dataclass
class Health:
    """Polls one server. `answers` has the time and the duration of each request, which is TIMEOUT without an answer."""

    port: int
    should_be_up: Event = field(default_factory=Event)
    answers: list[tuple[float, float]] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    def watch(self) -> None:
        while not self.over.wait(PAUSE):
            begun, is_up = time.monotonic(), self.should_be_up.is_set()
            is_alive = self._is_alive()
            took = time.monotonic() - begun
            if is_up and self.should_be_up.is_set():
                self.answers.append((begun, took if is_alive else TIMEOUT))

    def _is_alive(self) -> bool:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)
        try:
            connection.request("GET", "/healthz")
            return connection.getresponse().status == 200
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()


@contextmanager
def watched(healths: list[Health]) -> Iterator[None]:
    threads = [Thread(target=health.watch) for health in healths]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for health in healths:
            health.over.set()
        for thread in threads:
            thread.join()
