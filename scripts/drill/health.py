"""Whether each server that is meant to be up says that it is alive, all the time, and how soon."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread

# Seconds between two questions, and for an answer.
PAUSE, TIMEOUT = 0.2, 10.0


@dataclass
class Health:
    """Asks one server; `asked` has when, and the seconds that it took, which are TIMEOUT where nothing came."""

    port: int
    meant_to_be_up: Event = field(default_factory=Event)
    asked: list[tuple[float, float]] = field(default_factory=list)
    over: Event = field(default_factory=Event)

    def watch(self) -> None:
        while not self.over.wait(PAUSE):
            begun, is_up = time.monotonic(), self.meant_to_be_up.is_set()
            is_alive = self._is_alive()
            took = time.monotonic() - begun
            if is_up and self.meant_to_be_up.is_set():
                self.asked.append((begun, took if is_alive else TIMEOUT))

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
def watched(several: list[Health]) -> Iterator[None]:
    threads = [Thread(target=one.watch) for one in several]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        for one in several:
            one.over.set()
        for thread in threads:
            thread.join()
