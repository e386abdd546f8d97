"""Deadlines for sockets. A time-out of the socket itself would start again with every byte that arrives, and a call
into a C library may have none.

One thread shuts the sockets that are late: whoever waits for one gets an error then, at most a `TICK` after the
deadline.
"""

import socket
from contextlib import suppress
from threading import Lock, Thread
from time import monotonic, sleep

# Seconds.
TICK = 0.1

_deadlines: dict[socket.socket, float] = {}
_starting = Lock()
_watcher: Thread | None = None


def begin(watched: socket.socket, seconds: float) -> None:
    """Shut the socket after so many seconds, unless `end` is called before."""
    _deadlines[watched] = monotonic() + seconds
    if _watcher is None or not _watcher.is_alive():  # a process that was forked has none of its parent's threads
        _start()


def end(watched: socket.socket) -> bool:
    """Whether the socket was in time, and still is open."""
    return _deadlines.pop(watched, None) is not None


def _start() -> None:
    global _watcher
    with _starting:
        if _watcher is None or not _watcher.is_alive():
            _watcher = Thread(target=_watch, name="deadlines", daemon=True)
            _watcher.start()


def _watch() -> None:
    while True:
        sleep(TICK)
        now = monotonic()
        for watched, deadline in list(_deadlines.items()):
            if deadline <= now and end(watched):
                with suppress(OSError):  # its owner has just closed it
                    watched.shutdown(socket.SHUT_RDWR)
