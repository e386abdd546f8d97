"""Three PostgreSQL nodes under Patroni, each in a network namespace of its own, and the etcd that they vote in.

All of a node's processes are those of its namespace, so they are killed, stopped and ended by their process ids.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from subprocess import STDOUT, Popen
from threading import Event, Thread
from typing import Any
from urllib.request import urlopen

import psycopg

from scripts.bench.load import program
from scripts.drill import HERE, Failed

# The bridge's end of it is ours, and etcd's; the nodes are .11, .12 and .13.
NETWORK, ETCD, BRIDGE = "10.99.7.0/24", "10.99.7.1", "lokanetra-br"
ADDRESSES = {f"lokanetra-{n}": f"10.99.7.{10 + n}" for n in (1, 2, 3)}
# Seconds until a service manager starts a node again whose Patroni died, as systemd does with `RestartSec=1`.
RESTART = 1.0
WHOLE = [("leader", "running"), ("quorum_standby", "streaming"), ("quorum_standby", "streaming")]
SECONDS_TO_HEAL = 90
# PostgreSQL refuses to be root. The account has no rights but to read where Python and the wheel lie, which may be
# below the home of root.
UNPRIVILEGED = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
UNPRIVILEGED += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def run(*command: str) -> str:
    """What it prints. Raises Failed with what it complains of."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def until(condition: Callable[[], Any], what: str, seconds: float = SECONDS_TO_HEAL) -> Any:
    """What the condition comes to, once it is true. Raises Failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, psycopg.Error):
            if found := condition():
                return found
        time.sleep(0.1)
    raise Failed(f"{what}: not within {seconds} s")


@dataclass
class Node:
    """A machine with Patroni and PostgreSQL, as far as processes and network go."""

    name: str
    address: str
    folder: Path
    patroni: Path
    # Whether its service manager starts it again.
    supervised: Event = field(default_factory=Event)
    process: Popen | None = None

    def start(self) -> None:
        command = ["ip", "netns", "exec", self.name, *UNPRIVILEGED, str(self.patroni), str(self.folder / "patroni.yml")]
        with (self.folder / "node.log").open("a") as log:
            self.process = Popen(command, cwd=self.folder, stdout=log, stderr=STDOUT, start_new_session=True)
        self.supervised.set()
        Thread(target=self._supervise, args=(self.process,), daemon=True).start()

    def _supervise(self, process: Popen) -> None:
        process.wait()
        time.sleep(RESTART)
        if self.supervised.is_set():
            self.start()

    def pids(self) -> list[int]:
        return [int(pid) for pid in run("ip", "netns", "pids", self.name).split()]

    def send(self, number: int, only: str = "") -> None:
        """The signal to all of its processes, or to those whose command begins so."""
        for pid in self.pids():
            with suppress(ProcessLookupError, FileNotFoundError):
                if not only or only.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    os.kill(pid, number)

    def kill(self) -> None:
        """Until nothing of it is left: what is forked meanwhile goes with the rest."""
        while self.pids():
            self.send(signal.SIGKILL)

    def link(self, state: str) -> None:
        run("ip", "link", "set", f"{self.name}-e", state)

    def members(self) -> list[dict[str, Any]]:
        """All nodes, as this one sees them."""
        with urlopen(f"http://{self.address}:8008/cluster", timeout=2) as answer:
            return json.load(answer)["members"]


@dataclass
class Cluster:
    nodes: list[Node]
    password: str
    patronictl: Path
    etcd: Popen

    def url(self, user: str = "postgres", database: str = "postgres") -> str:
        """Whichever node writes."""
        hosts = ",".join(node.address for node in self.nodes)
        ports = ",".join("5432" for _ in self.nodes)
        every = f"host={hosts}&port={ports}&target_session_attrs=read-write"
        return f"postgresql://{user}:{self.password}@/{database}?{every}"

    def members(self) -> list[dict[str, Any]]:
        """As the first node that answers sees them."""
        for node in self.nodes:
            with suppress(OSError, ValueError):
                return node.members()
        return []

    def node(self, role: str) -> Node:
        """The `leader`, or the first `quorum_standby`."""
        named = until(lambda: [one["name"] for one in self.members() if one["role"] == role], f"there is no {role}")
        return next(node for node in self.nodes if node.name == named[0])

    def is_whole(self) -> bool:
        """One primary, and two standbys that follow it and count for what is acknowledged; and all see the same."""
        views = [sorted((one["role"], one["state"], one["name"]) for one in node.members()) for node in self.nodes]
        return [one[:2] for one in views[0]] == WHOLE and all(view == views[0] for view in views)

    def switch_over(self) -> None:
        leader, standby = self.node("leader"), self.node("quorum_standby")
        command = ["switchover", "lokanetra", "--leader", leader.name, "--candidate", standby.name, "--force"]
        run(str(self.patronictl), "-c", str(leader.folder / "patroni.yml"), *command)


@contextmanager
def running(folder: Path, environment: Path, password: str) -> Iterator[Cluster]:
    """The whole cluster, in this folder, by the Patroni of this virtual environment."""
    with ExitStack() as stack:
        _only_one(stack)
        _network(stack)
        etcd = _etcd(stack, folder)
        nodes = [_node(stack, name, folder, environment, password) for name in ADDRESSES]
        cluster = Cluster(nodes, password, environment / "bin" / "patronictl", etcd)
        for node in nodes:
            node.start()
        until(cluster.is_whole, "the cluster is not whole")
        yield cluster


def _only_one(stack: ExitStack) -> None:
    """The socket has a name that is gone with this process, however it ends."""
    lock = stack.enter_context(socket.socket(socket.AF_UNIX))
    try:
        lock.bind("\0lokanetra-drill")
    except OSError:
        raise Failed("another drill is running on this machine") from None
    left = [name for name in (*ADDRESSES, BRIDGE) if (Path("/run/netns") / name).exists() or _is_link(name)]
    if left:
        raise Failed(
            f"{', '.join(left)}: left by a drill that was killed. End the processes of `ip netns pids NAME`, "
            f"then `ip netns delete NAME` and `ip link delete {BRIDGE}`"
        )


def _is_link(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _network(stack: ExitStack) -> None:
    """A bridge, which stands for the switch between the machines."""
    if taken := run("ip", "route", "show", "root", NETWORK).strip():
        raise Failed(f"{NETWORK} is a network of this machine already: {taken}")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    stack.callback(run, "ip", "link", "delete", BRIDGE)
    run("ip", "address", "add", f"{ETCD}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def _etcd(stack: ExitStack, folder: Path) -> Popen:
    """One. In production they are three, on three machines."""
    client, peer = f"http://{ETCD}:2379", f"http://{ETCD}:2380"
    data = _own(folder / "etcd")
    command = ["etcd", "--name=drill", f"--data-dir={data}/data", f"--initial-cluster=drill={peer}"]
    command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    with (data / "etcd.log").open("w") as log:
        etcd = Popen([*UNPRIVILEGED, *command], stdout=log, stderr=STDOUT, start_new_session=True)
    stack.callback(etcd.wait)
    stack.callback(etcd.kill)  # it may be stopped, and has nothing to say that is worth keeping
    until(lambda: urlopen(f"{client}/health", timeout=1).status == 200, "etcd does not answer", 30)
    return etcd


def _node(stack: ExitStack, name: str, folder: Path, environment: Path, password: str) -> Node:
    """A namespace with its end of a cable to the bridge, and the configuration of what will run in it."""
    node = Node(name, ADDRESSES[name], _own(folder / name), environment / "bin" / "patroni")
    run("ip", "netns", "add", name)
    stack.callback(_remove, node)
    run("ip", "link", "add", f"{name}-e", "type", "veth", "peer", "name", "eth0", "netns", name)
    stack.callback(run, "ip", "link", "delete", f"{name}-e")  # with the namespace it would go, but later
    run("ip", "link", "set", f"{name}-e", "master", BRIDGE, "up")
    run("ip", "-n", name, "address", "add", f"{node.address}/24", "dev", "eth0")
    for device in ("eth0", "lo"):
        run("ip", "-n", name, "link", "set", device, "up")
    (node.folder / "patroni.yml").write_text(configuration(node, password))
    return node


def configuration(node: Node, password: str) -> str:
    names = {"name": node.name, "address": node.address, "folder": node.folder, "password": password}
    known = names | {"etcd": ETCD, "network": NETWORK, "binaries": Path(program("postgres")).parent}
    return Template((HERE / "patroni.yml").read_text()).substitute(known)


def _own(folder: Path) -> Path:
    folder.mkdir()
    shutil.chown(folder, "nobody", "nogroup")
    return folder


def _remove(node: Node) -> None:
    node.supervised.clear()
    node.kill()
    run("ip", "netns", "delete", node.name)
