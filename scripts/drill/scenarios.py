"""The scenarios. Each is a context manager that causes a fault, yields its time, and repairs it at the end."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass

from scripts.drill.site import Site

# The longest time in seconds from a fault to the first acknowledged payment, where it is noticed at once ...
PROMPT = 15.0
# ... and where a machine is silent: the `ttl` of its lock (20, see `patroni.yml`), 2 that Patroni waits before it
# promotes another, 3 that the product waits while it connects, and some margin.
SILENT = 27.0
# Seconds without Redis, and without etcd, which is longer than a primary keeps its lock without it.
AWAY, LONG = 5.0, 25.0


@contextmanager
def kill(site: Site) -> Iterator[float]:
    site.cluster.node("leader").kill()
    yield time.monotonic()


@contextmanager
def postgres(site: Site) -> Iterator[float]:
    site.cluster.node("leader").send(signal.SIGKILL, only="postgres")
    yield time.monotonic()


@contextmanager
def lose(site: Site) -> Iterator[float]:
    node = site.cluster.node("leader")
    node.supervised.clear()
    node.link("down")  # data that no standby has received is lost
    node.kill()
    yield time.monotonic()
    node.link("up")
    node.start()


@contextmanager
def hang(site: Site) -> Iterator[float]:
    node = site.cluster.node("leader")
    node.send(signal.SIGSTOP)
    yield time.monotonic()
    node.send(signal.SIGCONT)


@contextmanager
def cut_off(site: Site, role: str = "leader") -> Iterator[float]:
    node = site.cluster.node(role)
    node.link("down")
    yield time.monotonic()
    node.link("up")


@contextmanager
def kill_server(site: Site) -> Iterator[float]:
    server, fault = site.servers[0], time.monotonic()
    server.kill()
    yield fault
    server.start()


@contextmanager
def restart_redis(site: Site) -> Iterator[float]:
    fault = time.monotonic()
    site.redis.stop()
    time.sleep(AWAY)
    site.redis.start()
    yield fault


@contextmanager
def stop_etcd(site: Site) -> Iterator[float]:
    fault = time.monotonic()
    site.cluster.etcd.send_signal(signal.SIGSTOP)
    time.sleep(LONG)
    site.cluster.etcd.send_signal(signal.SIGCONT)
    yield fault


@contextmanager
def switch_over(site: Site) -> Iterator[float]:
    fault = time.monotonic()
    site.cluster.switch_over()
    yield fault


@contextmanager
def restart_servers(site: Site) -> Iterator[float]:
    fault = time.monotonic()
    for server in site.servers:
        server.stop()
        server.start()
    yield fault


@dataclass(frozen=True)
class Scenario:
    title: str
    fail: Callable[[Site], AbstractContextManager[float]]
    limit: float = PROMPT
    times: int = 1


SCENARIOS = {
    "kill": Scenario("primary killed, with its Patroni", kill, times=3),
    "postgres": Scenario("PostgreSQL of the primary killed", postgres),
    "lost": Scenario("primary killed and its machine gone", lose, SILENT),
    "hang": Scenario("primary hangs", hang, SILENT),
    "partition": Scenario("primary cut off", cut_off, SILENT),
    "standby": Scenario("standby cut off", lambda site: cut_off(site, "quorum_standby")),
    "switchover": Scenario("planned switchover", switch_over),
    "server": Scenario("a server of ours killed", kill_server),
    "rolling": Scenario("both servers restarted, one by one", restart_servers),
    "etcd": Scenario(f"etcd hangs for {LONG:.0f} s", stop_etcd),
    "redis": Scenario(f"Redis away for {AWAY:.0f} s", restart_redis),
}
