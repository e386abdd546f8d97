"""Runs the production server: a process for each worker, forked after the application is loaded, replaced when it dies.

    python -m lokanetra.supervisor --host 127.0.0.1 --port 8000 --workers 2

A worker that keeps dying is replaced more and more slowly while the others continue. If none has started serving at
all, the server ends with status 1.

SIGTERM drains it first: for some seconds it serves as before, but `/readyz` answers 503 and every answer closes its
connection, so that a load balancer sends no more. Then it stops listening, answers the requests that it has and ends
with status 0. SIGINT, or a second signal, skips the draining.
"""

import asyncio
import gc
import logging
import os
import resource
import select
import signal
import socket
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

import uvloop
from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from lokanetra import env

logger = logging.getLogger("lokanetra.server")

# The variable by which `prometheus_client` finds the folder where processes share their counters.
METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
# Seconds after which a worker's earlier deaths are forgotten.
LONG_LIFE = 60.0
# Seconds before a worker that died twice in a row is replaced; each further death doubles them, up to the maximum.
PAUSE, MAX_PAUSE = 1.0, 30.0
# Seconds in which a server that is told to stop still accepts requests, so that load balancers have time to notice.
DRAIN = 3
# Seconds after that, for a worker to finish its requests: a payment waits for a lock up to three times 3.
GRACE = 11.0
# Client connections of one worker, most of which are idle; and other open files that it needs.
MAX_CLIENTS, OTHER_FILES = 4096, 128
# Connections that wait until a worker accepts them.
BACKLOG = 1024
# Milliseconds for the next request to arrive on a connection. Proxies keep connections for a minute and must be the
# ones to close them: otherwise a request that has just been sent is lost.
HEADER_TIMEOUT = 75_000
# Seconds between two checks that the supervisor is alive.
PARENT_CHECK = 1.0
# DRF imports these where they are installed, for features that are not used here: 8 MiB of each worker.
UNUSED = ("markdown", "pygments", "requests", "yaml")


class CannotServe(Exception):
    """Raised when trying again is useless."""


@dataclass
class Worker:
    """One worker: its current process, and how often its processes have died."""

    pid: int | None = None
    started_at: float = 0.0
    deaths: int = 0
    due_at: float = 0.0

    def died(self, now: float) -> None:
        self.pid = None
        self.deaths = 1 if now - self.started_at >= LONG_LIFE else self.deaths + 1
        pause = PAUSE * 2 ** (self.deaths - 2) if self.deaths > 1 else 0.0
        self.due_at = now + min(pause, MAX_PAUSE)


class Supervisor:
    """Keeps `count` processes of `work` running. `work` gets a function to call once it is serving. Each process may
    drain for `drain` seconds."""

    def __init__(self, work: Callable[[Callable[[], None]], None], count: int, drain: float = 0.0) -> None:
        self.work, self.drain = work, drain
        self.workers = [Worker() for _ in range(count)]
        self.is_stopping = self.skip_drain = self.has_served = False
        self.signalled, self.wakeup = socket.socketpair()
        self.serving, self.report_serving = socket.socketpair()
        for end in (self.signalled, self.wakeup, self.serving):
            end.setblocking(False)
        signal.set_wakeup_fd(self.wakeup.fileno())
        for number in SIGNALS:
            signal.signal(number, lambda *_: None)

    def run(self) -> None:
        """Returns after a signal, when all workers have stopped. Raises CannotServe."""
        try:
            while not self.is_stopping:
                self._start_due()
                self._wait(self._seconds_to_next_start())
                self._reap(self._exited())
        finally:
            self._stop()

    def _start_due(self) -> None:
        for worker in self.workers:
            if worker.pid is None and worker.due_at <= time.monotonic():
                worker.started_at = time.monotonic()
                worker.pid = os.fork() or self._become_worker()

    def _become_worker(self) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            self.work(lambda: self.report_serving.send(b"."))  # type: ignore[arg-type]
            status = 0
        except BaseException:  # noqa: BLE001  (whatever it is, this process ends here)
            logger.exception("a worker failed")
        finally:
            logging.shutdown()
            os._exit(status)

    def _seconds_to_next_start(self) -> float | None:
        due = [worker.due_at for worker in self.workers if worker.pid is None]
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _wait(self, seconds: float | None) -> None:
        """Until a signal, until a worker reports that it is serving, or for so long."""
        readable, _, _ = select.select([self.signalled, self.serving], [], [], seconds)
        if self.serving in readable:
            self.has_served |= bool(self.serving.recv(4096))
        if self.signalled in readable:
            for number in self.signalled.recv(4096):
                self._handle_signal(number)

    def _handle_signal(self, number: int) -> None:
        if number in (signal.SIGTERM, signal.SIGINT):
            self.skip_drain |= self.is_stopping or number == signal.SIGINT
            self.is_stopping = True

    def _exited(self) -> dict[int, int]:
        """The exit statuses of the processes that have ended, by their ids."""
        found: dict[int, int] = {}
        while any(worker.pid for worker in self.workers if worker.pid not in found):
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            found[pid] = os.waitstatus_to_exitcode(status)
        return found

    def _reap(self, exited: dict[int, int]) -> None:
        """Record the deaths of workers. Raises CannotServe for an unexpected one before any worker has served."""
        now = time.monotonic()
        for worker in self.workers:
            if worker.pid in exited:
                pid, status = worker.pid, exited[worker.pid]
                worker.died(now)
                if METRICS_FOLDER in os.environ:
                    import_module("prometheus_client.multiprocess").mark_process_dead(pid)
                if not self.is_stopping:
                    pause = worker.due_at - now
                    logger.error("worker %s ended with status %s; the next starts in %.0f s", pid, status, pause)
        if exited and not self.is_stopping and not self.has_served:
            pid, status = next(iter(exited.items()))
            raise CannotServe(f"Worker {pid} ended with status {status} before any was serving.")

    def _stop(self) -> None:
        """SIGTERM to all, SIGINT to skip or end the draining, and SIGKILL to those that exceed the grace period."""
        self.is_stopping = True
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self.drain + GRACE
        while self._alive() and not self.skip_drain and time.monotonic() < deadline:
            self._reap_next(deadline)
        self._send(signal.SIGINT)
        deadline = min(deadline, time.monotonic() + GRACE)
        while self._alive() and time.monotonic() < deadline:
            self._reap_next(deadline)
        self._kill()

    def _reap_next(self, deadline: float) -> None:
        self._wait(max(0.0, deadline - time.monotonic()))
        self._reap(self._exited())

    def _kill(self) -> None:
        self._send(signal.SIGKILL)
        for worker in self._alive():
            logger.warning("worker %s did not end in time and was killed, with the requests that it had", worker.pid)
            os.waitpid(worker.pid or 0, 0)

    def _alive(self) -> list[Worker]:
        return [worker for worker in self.workers if worker.pid is not None]

    def _send(self, number: int) -> None:
        for worker in self._alive():
            os.kill(worker.pid or 0, number)


async def serve(application: Any, host: str, port: int, on_serving: Callable[[], None], *, drain: float = 0.0) -> None:
    """Answer requests until SIGINT, until `drain` seconds after SIGTERM, or until the supervisor is gone."""

    class Target:
        __rsgi__ = staticmethod(application.__rsgi__)

        @staticmethod
        def __rsgi_init__(loop: asyncio.AbstractEventLoop) -> None:
            application.__rsgi_init__(loop)
            loop.call_soon(on_serving)  # granian listens before the loop continues

    server = Server(
        Target,
        address=host,
        port=port,
        interface=Interfaces.RSGI,
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=HEADER_TIMEOUT),
        websockets=False,
        backlog=BACKLOG,
        backpressure=_max_clients(),
        log_enabled=False,
    )
    loop = asyncio.get_running_loop()

    def start_draining() -> None:
        application.is_draining = True
        loop.call_later(drain, server.stop)

    loop.add_signal_handler(signal.SIGTERM, start_draining)
    loop.add_signal_handler(signal.SIGINT, server.stop)
    watch = loop.create_task(_stop_with_parent(server.stop))
    await server.serve()
    watch.cancel()


async def _stop_with_parent(stop: Callable[[], None]) -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_CHECK)
    logger.error("the supervisor is gone: this worker stops too")
    stop()


def main() -> None:
    options = arguments().parse_args()
    # The first process of a container ignores signals without a handler.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit())
    check_address(options.host, options.port)
    with _shared_metrics():
        _run(options)


@contextmanager
def _shared_metrics() -> Iterator[None]:
    """Workers count in files of one folder, where each finds the counters of all others, also of dead ones."""
    if not env.text("METRICS_TOKEN"):
        yield
        return
    with TemporaryDirectory(prefix="lokanetra-metrics-") as folder:
        os.environ[METRICS_FOLDER] = folder
        yield


def load() -> Any:
    """The application, without what it does not use."""
    with _hidden(*UNUSED):
        import_module("rest_framework.compat")
    return import_module("lokanetra.rsgi").application


@contextmanager
def _hidden(*modules: str) -> Iterator[None]:
    """As if there were no such modules: that is what None means to Python's import."""
    hidden: dict[str, Any] = {name: None for name in modules if name not in sys.modules}
    sys.modules.update(hidden)
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _run(options: Namespace) -> None:
    application = load()
    # Objects loaded so far are shared by all workers and exempt from garbage collection.
    gc.collect()
    gc.freeze()
    logger.info("serving at http://%s:%s with %s workers", options.host, options.port, options.workers)
    try:
        Supervisor(
            lambda on_serving: uvloop.run(
                serve(application, options.host, options.port, on_serving, drain=options.drain)
            ),
            options.workers,
            options.drain,
        ).run()
    except CannotServe as fault:
        sys.exit(str(fault))


def arguments() -> ArgumentParser:
    parser = ArgumentParser("lokanetra.supervisor", description="Runs the production server.", allow_abbrev=False)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
    parser.add_argument("--port", type=_whole_number(1, 65_535), default=8000, help="port to listen at")
    parser.add_argument("--workers", type=_whole_number(1, 1_000), default=os.cpu_count(), help="processes")
    parser.add_argument("--drain", type=_whole_number(0, 600), default=DRAIN, help="seconds to drain after SIGTERM")
    return parser


def check_address(host: str, port: int) -> None:
    """Ends the program if the address is in use: the workers' sockets would share it with the other process."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as fault:
        sys.exit(f"Cannot listen at {host}:{port}: {fault.strerror or fault}.")


def _max_clients() -> int:
    """Each is an open file. The usual soft limit is a thousand, so it is raised to the hard one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return MAX_CLIENTS if hard == resource.RLIM_INFINITY else max(1, min(MAX_CLIENTS, hard - OTHER_FILES))


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def whole_number(text: str) -> int:
        if not text.isdecimal() or not least <= int(text) <= most:
            raise ArgumentTypeError(f"write a whole number from {least} to {most}")
        return int(text)

    return whole_number


if __name__ == "__main__":
    main()
