"""How fast other requests are while something hangs: the gateway, the database, the cache, or clients.

During each fault a few callers make one payment after the other, and others call both health checks. Measured is how
long each waits; a payment that cannot be made must be refused soon.
"""

import itertools
import os
import shutil
import signal
import socket
import sys
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from subprocess import DEVNULL, Popen
from tempfile import TemporaryDirectory
from threading import Event, Thread
from typing import Any

import psycopg

from lokanetra.tests.live import Live, Postgres, Unanswered, free_port, live_server, own_postgres, wait_for
from scripts.bench.load import Failed, call

PAYERS = 4
ACCOUNTS = 50
# Concurrent requests for codes from one address.
CODE_REQUESTS = 30
WORKERS = 3

Requests = list[tuple[float, str]]


class Gateway(ThreadingHTTPServer):
    """Accepts messages at once, unless `mode` is set."""

    mode: Callable[[BaseHTTPRequestHandler], None] | None = None
    daemon_threads = True
    request_queue_size = 128

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), GatewayHandler)

    @property
    def url(self) -> str:
        return f"json://127.0.0.1:{self.server_port}/{{phone}}"


class GatewayHandler(BaseHTTPRequestHandler):
    server: Gateway

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.mode:
            self.server.mode(self)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


def hang(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(60)


def delay(handler: BaseHTTPRequestHandler) -> None:
    time.sleep(2.5)


def trickle(handler: BaseHTTPRequestHandler) -> None:
    """A response that comes byte by byte and never ends."""
    handler.send_response(200)
    handler.send_header("Content-Length", "1000000")
    handler.end_headers()
    for _ in range(120):
        handler.wfile.write(b" ")
        time.sleep(1)


class Proxy:
    """A proxy between the product and its database. While `is_cut` is set, it drops all data."""

    def __init__(self, target: str) -> None:
        self.target, self.is_cut = target, Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.port = self.listener.getsockname()[1]
        Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self.listener.accept()
            server = socket.socket(socket.AF_UNIX)
            if not self.is_cut.is_set():
                server.connect(self.target)
            for ends in ((client, server), (server, client)):
                Thread(target=self._forward, args=ends, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if not self.is_cut.is_set():
                    sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            source.close()
            sink.close()


# --- Faults ----------------------------------------------------------------------------------------------


class Faults:
    def __init__(self, live: Live, gateway: Gateway, postgres: Postgres, proxy: Proxy, redis: Popen | None) -> None:
        self.live, self.gateway, self.postgres, self.proxy, self.redis = live, gateway, postgres, proxy, redis
        self.phones = (str(9_100_000_000 + n) for n in itertools.count())

    def all(self) -> dict[str, Callable[[], Any]]:
        found: dict[str, Callable[[], Any]] = {
            "nothing": lambda: ExitStack(),
            "gateway hangs": lambda: self.codes(hang),
            "gateway takes 2.5 s": lambda: self.codes(delay),
            "gateway trickles": lambda: self.codes(trickle),
            "200 half bodies": lambda: self.half_requests(200),
            "1000 half bodies": lambda: self.half_requests(1000),
            "1000 half heads": lambda: self.half_requests(1000, head=True),
            "cache stopped": lambda: stopped(self.redis.pid if self.redis else 0),
            "standby gone": self.standby_gone,
            "database stopped": lambda: self.database_stopped(),
            "database unreachable": self.unreachable,
        }
        return {name: fault for name, fault in found.items() if self.redis or name != "cache stopped"}

    @contextmanager
    def codes(self, mode: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[None]:
        """Many clients request codes all the time from one address."""
        self.gateway.mode, over = mode, Event()

        def ask(_: int) -> None:
            while not over.is_set():
                with suppress(Unanswered):
                    self.live.post("/auth/send-otp/", {"phone_number": next(self.phones)})

        with ThreadPoolExecutor(CODE_REQUESTS) as pool:
            asking = pool.map(ask, range(CODE_REQUESTS))
            yield
            over.set()
            self.gateway.mode = None
            list(asking)

    @contextmanager
    def half_requests(self, count: int, *, head: bool = False) -> Iterator[None]:
        """This many clients send half a request and keep waiting; they reconnect when they are disconnected."""
        over = Event()
        text = b"POST /wallet/debit/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        text += b"X-Half: " if head else b"Content-Length: 100\r\n\r\n{"

        def keep() -> None:
            clients: dict[int, socket.socket] = {}
            while not over.is_set():
                for index in range(count):
                    if index not in clients or _is_closed(clients[index]):
                        clients[index] = socket.create_connection(("127.0.0.1", self.live.port))
                        clients[index].sendall(text)
                over.wait(0.5)
            for client in clients.values():
                client.close()

        thread = Thread(target=keep)
        thread.start()
        yield
        over.set()
        thread.join()

    @contextmanager
    def standby_gone(self) -> Iterator[None]:
        with psycopg.connect(self.postgres.url, autocommit=True) as session:
            session.execute("ALTER SYSTEM SET synchronous_standby_names = 'gone'")
            session.execute("SELECT pg_reload_conf()")
            yield
            session.execute("ALTER SYSTEM RESET synchronous_standby_names")
            session.execute("SELECT pg_reload_conf()")

    @contextmanager
    def database_stopped(self) -> Iterator[None]:
        """Stop all its processes, as when its machine hangs."""
        leader = self.postgres.pid()
        children = Path(f"/proc/{leader}/task/{leader}/children").read_text().split()
        with ExitStack() as stack:
            for pid in [leader, *map(int, children)]:
                stack.enter_context(stopped(pid))
            yield

    @contextmanager
    def unreachable(self) -> Iterator[None]:
        self.proxy.is_cut.set()
        yield
        self.proxy.is_cut.clear()


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    os.kill(pid, signal.SIGSTOP)
    yield
    os.kill(pid, signal.SIGCONT)


def _is_closed(client: socket.socket) -> bool:
    try:
        client.setblocking(False)
        return client.recv(4096) == b"" or True  # a response means that it was disconnected
    except BlockingIOError:
        return False
    except OSError:
        return True


# --- The measurement -------------------------------------------------------------------------------------


def measure(options: Namespace) -> dict[str, Any]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="lokanetra-bench-")))
        postgres = stack.enter_context(own_postgres())
        gateway, proxy = Gateway(), Proxy(str(postgres.folder / ".s.PGSQL.5432"))
        Thread(target=gateway.serve_forever, daemon=True).start()
        redis, cache = stack.enter_context(_redis(folder))
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/postgres?sslmode=disable"
        own = {"OTP_SMS_URL": gateway.url, "OTP_SENDS_PER_ADDRESS": "0"} | cache
        live = stack.enter_context(live_server(url, workers=WORKERS, **own))
        call(live, f"make({ACCOUNTS})")
        call(live, f"log_in({str(folder)!r}, {ACCOUNTS})")
        logins = [line.split()[1] for line in (folder / "members").read_text().splitlines()]
        found = {}
        for name, fault in Faults(live, gateway, postgres, proxy, redis).all().items():
            requests_by_kind = _during(live, logins, fault, options.seconds)
            found[name] = {kind: _summary(requests) for kind, requests in requests_by_kind.items()}
            print(_line(name, found[name]), file=sys.stderr)
            wait_for(lambda: live.call("GET", "/readyz").status == 200)
            time.sleep(2)
        if not live.check_ledger()["ok"]:
            raise Failed("afterwards the books do not agree")
        return {"outside": found}


@contextmanager
def _redis(folder: Path) -> Iterator[tuple[Popen | None, dict[str, str]]]:
    """A Redis, if the machine has one."""
    if not shutil.which("redis-server"):
        yield None, {}
        return
    port = free_port()
    command = ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with Popen(command, stdout=DEVNULL) as server:
        yield server, {"REDIS_URL": f"redis://127.0.0.1:{port}", "API_RATE_LIMIT": "100000/min"}
        server.terminate()


def _during(live: Live, logins: list[str], fault: Callable[[], Any], seconds: int) -> dict[str, Requests]:
    over, requests = Event(), {"payments": [], "healthz": [], "readyz": []}  # type: ignore[var-annotated]

    def pay(number: int) -> None:
        turns = itertools.count()
        while not over.is_set():
            key = f"{number}-{time.monotonic()}-{next(turns)}"
            _measure_request(
                requests["payments"], partial(live.post, "/wallet/debit/", {"amount": "0.01"}, logins[number], key)
            )

    def check_health(name: str) -> None:
        while not over.is_set():
            _measure_request(requests[name], lambda: live.call("GET", f"/{name}"))
            time.sleep(0.1)

    with ThreadPoolExecutor(PAYERS + 2) as pool:
        running = [pool.submit(pay, number) for number in range(PAYERS)]
        running += [pool.submit(check_health, name) for name in ("healthz", "readyz")]
        time.sleep(1)
        with fault():
            for answered in requests.values():
                answered.clear()
            time.sleep(seconds)
            over.set()
            for client in running:
                client.result()
    return requests


def _measure_request(requests: Requests, request: Callable[[], Any]) -> None:
    before = time.monotonic()
    try:
        answer = request()
        outcome = str(answer.status) if answer.status == 200 else f"{answer.status} {answer.code}"
    except Unanswered:
        outcome = "none"
    requests.append((time.monotonic() - before, outcome))


def _summary(requests: Requests) -> dict[str, Any]:
    """Milliseconds, and how often each outcome occurred; empty without requests."""
    if not requests:
        return {}
    took = [1e3 * seconds for seconds, _ in requests] * 2
    cuts = quantiles(took, n=100, method="inclusive")
    answers = dict(Counter(outcome for _, outcome in requests).most_common())
    return {"p50": round(cuts[49]), "p99": round(cuts[98]), "longest": round(max(took)), "answers": answers}


def text(result: dict[str, Any]) -> str:
    lines = ["| meanwhile | payments: p50, p99, longest ms | answers | healthz: longest ms | readyz: longest ms |"]
    lines.append("|---|---|---|---|---|")
    return "\n".join([*lines, *(_line(name, found) for name, found in result["outside"].items())])


def _line(name: str, found: dict[str, dict[str, Any]]) -> str:
    paid = found["payments"]
    cells = [name, f"{paid['p50']}, {paid['p99']}, {paid['longest']}", _answers(paid)]
    cells += [f"{found[check]['longest']} ({_answers(found[check])})" for check in ("healthz", "readyz")]
    return f"| {' | '.join(cells)} |"


def _answers(figures: dict[str, Any]) -> str:
    return ", ".join(f"{count} × {outcome}" for outcome, count in figures["answers"].items())  # noqa: RUF001
