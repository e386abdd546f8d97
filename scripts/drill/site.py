"""The whole product as on several machines: two servers, the worker, a cache, and the database cluster."""

import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import STDOUT, Popen

import psycopg

from lokanetra.env import BASE_DIR
from lokanetra.tests.live import SERVING, Live, Unanswered, free_port, live_server
from scripts.bench import PHONES, cost
from scripts.bench.load import call
from scripts.drill import Failed, cluster
from scripts.drill.clients import CLIENTS, Clients, Payment
from scripts.drill.cluster import Cluster, wait_until
from scripts.drill.health import Health, watched

# The virtual environment of Patroni, separate from the product's dependencies.
PATRONI = BASE_DIR / ".drill"
WORKERS = 2
LEDGER = """
    SELECT remarks, coalesce(payer.phone_number, payee.phone_number), payee.phone_number, amount
    FROM transactions_transaction
    LEFT JOIN wallet_wallet AS sender ON sender.id = sender_id
    LEFT JOIN users_userprofile AS payer ON payer.id = sender.user_id
    JOIN wallet_wallet AS receiver ON receiver.id = receiver_id
    JOIN users_userprofile AS payee ON payee.id = receiver.user_id
    WHERE remarks LIKE 'drill-%'
"""
BALANCES = """
    SELECT phone_number, balance FROM wallet_wallet JOIN users_userprofile AS account ON account.id = user_id
    WHERE NOT is_staff
"""


@dataclass
class Redis:
    folder: Path
    port: int
    process: Popen | None = None

    def start(self) -> None:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        with (self.folder / "redis.log").open("a") as log:
            self.process = Popen(command, cwd=self.folder, stdout=log, stderr=STDOUT, start_new_session=True)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait()


@dataclass
class Server:
    """A server of the product, and the polling of its health check."""

    live: Live
    health: Health
    log: Path

    def start(self) -> None:
        self.live.start()
        self.health.should_be_up.set()

    def stop(self) -> None:
        self.health.should_be_up.clear()
        self.keep_log()
        self.live.stop()

    def kill(self) -> None:
        """Kill it and its workers."""
        self.health.should_be_up.clear()
        workers = self.live.workers()
        for pid in (self.live.process.pid, *workers):
            os.kill(pid, signal.SIGKILL)
        self.keep_log()
        self.live.stop()

    def is_ready(self) -> bool:
        try:
            return self.live.call("GET", "/readyz").status == 200
        except Unanswered:
            return False

    def keep_log(self) -> None:
        """Append the log of this start before it is removed."""
        if self.live.output.exists():
            with self.log.open("ab") as log:
                log.write(self.live.output.read_bytes())


@dataclass
class Site:
    folder: Path
    cluster: Cluster
    servers: list[Server]
    redis: Redis
    worker: Popen
    clients: Clients
    check_clients: Callable[[], None]

    def wait_for_write(self, fault: float) -> None:
        """Wait until a payment that was begun after the fault is acknowledged."""
        self._wait_for_clients(lambda: self.clients.since(fault), "no payment is acknowledged")

    def recover(self) -> None:
        """Wait until the cluster is whole, both servers are ready, and each client has paid again."""
        wait_until(self.cluster.is_whole, "the cluster is not whole again")
        for server in self.servers:
            wait_until(server.is_ready, "a server is not ready")
        now = time.monotonic()
        self._wait_for_clients(lambda: len(self.clients.paid_since(now)) == CLIENTS, "a client makes no progress")
        if self.worker.poll() is not None:
            raise Failed("the worker has ended")

    def _wait_for_clients(self, condition: Callable[[], object], what: str) -> None:
        def checked() -> object:
            self.check_clients()
            return condition()

        wait_until(checked, what)

    def log_in(self) -> None:
        """Log the clients in again before their logins end."""
        call(self.servers[0].live, f"log_in({str(self.folder)!r}, {CLIENTS})")
        lines = (self.folder / "members").read_text().splitlines()
        self.clients.logins = [line.split()[1] for line in lines]

    def balances(self) -> dict[int, int]:
        """The balance of each client's wallet, in paise."""
        return {_number(phone): balance for phone, balance in self._rows(BALANCES)}

    def ledger(self) -> list[Payment]:
        """The payments of the drill in the ledger."""
        found = self._rows(LEDGER)
        return [Payment(key, _number(payer), _number(payee), amount) for key, payer, payee, amount in found]

    def _rows(self, query: str) -> list[tuple]:
        """Read from the primary, without the product."""
        with psycopg.connect(self.cluster.url(database="lokanetra"), connect_timeout=3) as session:
            return session.execute(query).fetchall()


@contextmanager
def running(folder: Path) -> Iterator[Site]:
    """Run everything. It is stopped in reverse order when the block ends."""
    with ExitStack() as stack:
        nodes = stack.enter_context(cluster.running(folder, PATRONI, secrets.token_hex()))
        with psycopg.connect(nodes.url(), autocommit=True) as session:
            for role in ("lokanetra", SERVING):
                session.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{nodes.password}'")
            session.execute("CREATE DATABASE lokanetra OWNER lokanetra")
        redis = Redis(folder, free_port())
        stack.callback(redis.stop)
        redis.start()
        servers = [_server(stack, live, folder) for live in _two_servers(stack, nodes, redis)]
        call(servers[0].live, f"make({CLIENTS})")
        worker = _worker(stack, folder, servers[0].live.environment)
        clients = Clients([server.live.port for server in servers])
        site = Site(folder, nodes, servers, redis, worker, clients, lambda: None)
        site.log_in()
        stack.enter_context(watched([server.health for server in servers]))
        yield site


def _two_servers(stack: ExitStack, nodes: Cluster, redis: Redis) -> tuple[Live, Live]:
    # Counted in the cache, and higher than a client reaches.
    limits = {"REDIS_URL": f"redis://127.0.0.1:{redis.port}", "API_RATE_LIMIT": "6000/min"}
    first = stack.enter_context(live_server(nodes.url("lokanetra", "lokanetra"), workers=WORKERS, **limits))
    return first, stack.enter_context(_second_server(first))


@contextmanager
def _second_server(first: Live) -> Iterator[Live]:
    server = cost.second_server(first)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _server(stack: ExitStack, live: Live, folder: Path) -> Server:
    server = Server(live, Health(live.port), folder / f"server-{live.port}.log")
    server.health.should_be_up.set()
    stack.callback(server.keep_log)
    return server


def _worker(stack: ExitStack, folder: Path, environment: dict[str, str]) -> Popen:
    with (folder / "worker.log").open("w") as log:
        worker = Popen([BASE_DIR / "scripts" / "worker.sh"], env=environment, stdout=log, stderr=STDOUT)
    stack.callback(worker.wait)
    stack.callback(worker.terminate)
    return worker


def _number(phone: str) -> int:
    return int(phone[-10:]) - PHONES - 1
