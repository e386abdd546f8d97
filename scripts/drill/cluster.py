"""Three PostgreSQL nodes under Patroni, each in a network namespace of its own, and their etcd.

The processes of a node are those of its namespace, so they are killed and stopped by their process ids.
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

# The bridge has the address of etcd and of this machine; the nodes are .11, .12 and .13.
NETWORK, ETCD, BRIDGE = "10.99.7.0/24", "10.99.7.1", "lokanetra-br"
ADDRESSES = {f"lokanetra-{n}": f"10.99.7.{10 + n}" for n in (1, 2, 3)}
# Seconds until a node whose Patroni died is started again, as systemd does with `RestartSec=1`.
RESTART = 1.0
WHOLE = [("leader", "running"), ("quorum_standby", "streaming"), ("quorum_standby", "streaming")]
SECONDS_TO_HEAL = 90
# PostgreSQL refuses to run as root. The account may only read, because Python and the wheel may be below the home of
# root.
UNPRIVILEGED = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
UNPRIVILEGED += ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def run(*command: str) -> str:
    """The output of a command. Raises Failed with its error output."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


def wait_until(condition: Callable[[], Any], what: str, seconds: float = SECONDS_TO_HEAL) -> Any:
    """The value of the condition, once it is true. Raises Failed."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with suppress(OSError, ValueError, psycopg.Error):
            if found := condition():
                return found
        time.sleep(0.1)
    raise Failed(f"{what}: not within {seconds} s")


@dataclass
class Node:
    """A machine with Patroni and PostgreSQL: processes and a network of its own."""

    name: str
    address: str
    folder: Path
    patroni: Path
    # Whether it is started again when it dies.
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
        """Send a signal to all of its processes, or to those whose program contains `only`."""
        for pid in self.pids():
            with suppress(ProcessLookupError, FileNotFoundError):
                if not only or only.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0]:
                    os.kill(pid, number)

    def kill(self) -> None:
        """Kill its processes until none is left, including those forked meanwhile."""
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
        """A URL that leads to whichever node is the primary."""
        hosts = ",".join(node.address for node in self.nodes)
        ports = ",".join("5432" for _ in self.nodes)
        parameters = f"host={hosts}&port={ports}&target_session_attrs=read-write"
        return f"postgresql://{user}:{self.password}@/{database}?{parameters}"

    def members(self) -> list[dict[str, Any]]:
        """All nodes, as the first one that answers sees them."""
        for node in self.nodes:
            with suppress(OSError, ValueError):
                return node.members()
        return []

    def node(self, role: str) -> Node:
        """The `leader`, or the first `quorum_standby`."""
        names = wait_until(
            lambda: [node["name"] for node in self.members() if node["role"] == role], f"there is no {role}"
        )
        return next(node for node in self.nodes if node.name == names[0])

    def is_whole(self) -> bool:
        """Whether there are a primary and two synchronous standbys, and all nodes agree on that."""
        views = [sorted((each["role"], each["state"], each["name"]) for each in node.members()) for node in self.nodes]
        return [each[:2] for each in views[0]] == WHOLE and all(view == views[0] for view in views)

    def switch_over(self) -> None:
        leader, standby = self.node("leader"), self.node("quorum_standby")
        command = ["switchover", "lokanetra", "--leader", leader.name, "--candidate", standby.name, "--force"]
        run(str(self.patronictl), "-c", str(leader.folder / "patroni.yml"), *command)


@contextmanager
def running(folder: Path, environment: Path, password: str) -> Iterator[Cluster]:
    """Run the whole cluster in this folder with the Patroni of this virtual environment."""
    with ExitStack() as stack:
        _lock_machine(stack)
        _network(stack)
        etcd = _etcd(stack, folder)
        nodes = [_node(stack, name, folder, environment, password) for name in ADDRESSES]
        cluster = Cluster(nodes, password, environment / "bin" / "patronictl", etcd)
        for node in nodes:
            node.start()
        wait_until(cluster.is_whole, "the cluster is not whole")
        yield cluster


def _lock_machine(stack: ExitStack) -> None:
    """Let only one drill run. The socket's abstract name disappears with this process, however it ends."""
    lock = stack.enter_context(socket.socket(socket.AF_UNIX))
    try:
        lock.bind("\0lokanetra-drill")
    except OSError:
        raise Failed("another drill is running on this machine") from None
    leftovers = [name for name in (*ADDRESSES, BRIDGE) if (Path("/run/netns") / name).exists() or _is_link(name)]
    if leftovers:
        raise Failed(
            f"{', '.join(leftovers)}: left by a drill that was killed. End the processes of `ip netns pids NAME`, "
            f"then `ip netns delete NAME` and `ip link delete {BRIDGE}`"
        )


def _is_link(name: str) -> bool:
    return Path("/sys/class/net", name).exists()


def _network(stack: ExitStack) -> None:
    """A bridge, which plays the switch between the machines."""
    if taken := run("ip", "route", "show", "root", NETWORK).strip():
        raise Failed(f"{NETWORK} is a network of this machine already: {taken}")
    run("ip", "link", "add", BRIDGE, "type", "bridge")
    stack.callback(run, "ip", "link", "delete", BRIDGE)
    run("ip", "address", "add", f"{ETCD}/24", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")


def _etcd(stack: ExitStack, folder: Path) -> Popen:
    """A single etcd. In production there are three, on three machines."""
    client, peer = f"http://{ETCD}:2379", f"http://{ETCD}:2380"
    data = _make_folder(folder / "etcd")
    command = ["etcd", "--name=drill", f"--data-dir={data}/data", f"--initial-cluster=drill={peer}"]
    command += [f"--listen-client-urls={client}", f"--advertise-client-urls={client}"]
    command += [f"--listen-peer-urls={peer}", f"--initial-advertise-peer-urls={peer}"]
    with (data / "etcd.log").open("w") as log:
        etcd = Popen([*UNPRIVILEGED, *command], stdout=log, stderr=STDOUT, start_new_session=True)
    stack.callback(etcd.wait)
    stack.callback(etcd.kill)  # it may be stopped, and its data is not needed
    wait_until(lambda: urlopen(f"{client}/health", timeout=1).status == 200, "etcd does not answer", 30)
    return etcd


def _node(stack: ExitStack, name: str, folder: Path, environment: Path, password: str) -> Node:
    """A namespace with a link to the bridge, and the configuration of its Patroni."""
    node = Node(name, ADDRESSES[name], _make_folder(folder / name), environment / "bin" / "patroni")
    run("ip", "netns", "add", name)
    stack.callback(_remove, node)
    run("ip", "link", "add", f"{name}-e", "type", "veth", "peer", "name", "eth0", "netns", name)
    stack.callback(run, "ip", "link", "delete", f"{name}-e")  # deleting the namespace would remove it, but later
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


def _make_folder(folder: Path) -> Path:
    folder.mkdir()
    shutil.chown(folder, "nobody", "nogroup")
    return folder


def _remove(node: Node) -> None:
    node.supervised.clear()
    node.kill()
    run("ip", "netns", "delete", node.name)
