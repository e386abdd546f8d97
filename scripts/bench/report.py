"""The result as a table and as data: medians over the rounds, and the machine."""

import os
import platform
import re
import sqlite3
import statistics
import subprocess
from argparse import Namespace
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import scalar_row

from lokanetra.tests.live import Live
from scripts.bench.load import Round

# Settings that a database could turn off to look faster.
DURABLE = ("fsync", "synchronous_commit")


def result(live: Live, options: Namespace, measurements: dict[str, Any]) -> dict[str, Any]:
    return {
        "machine": _machine(live.environment["DATABASE_URL"]),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "measurements": measurements,
    }


def summary(rounds: list[Round]) -> dict[str, Any]:
    """Medians over the rounds, and the range of the rates."""
    rates = [found.rate for found in rounds]
    return {
        "rate": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "p50": statistics.median(found.p50 for found in rounds),
        "p99": statistics.median(found.p99 for found in rounds),
        "rounds": [asdict(found) for found in rounds],
    }


def text(result: dict[str, Any]) -> str:
    """All of it as Markdown."""
    lines = [f"- {name}: {value}" for name, value in result["machine"].items()]
    lines += ["", *(_growth(result) if "sizes" in result else _throughput(result))]
    return "\n".join(lines)


def _throughput(result: dict[str, Any]) -> list[str]:
    lines = ["| | per second | least to most | p50 ms | p99 ms | compared |", "|---|---|---|---|---|---|"]
    for name, found in result["measurements"].items():
        compared = f"{found['ratio']:.2f} of {found['compared']}" if "ratio" in found else ""
        spread = f"{found['least']:.0f} to {found['most']:.0f}"
        lines.append(
            f"| {name} | {found['rate']:.0f} | {spread} | {found['p50']:.1f} | {found['p99']:.1f} | {compared} |"
        )
    return lines + _cost(result.get("cost"))


def _cost(found: dict[str, Any] | None) -> list[str]:
    if not found:
        return []
    lines = ["", "| cost | |", "|---|---|"]
    for when in ("idle", "loaded"):
        for kind, workers in found[when].items():
            lines.append(
                f"| {kind} per worker, {when} | {', '.join(f'{mebibytes:.0f}' for mebibytes in workers)} MiB |"
            )
    lines.append(f"| from serve.sh to the first answer | {found['seconds_to_start']:.1f} s |")
    return [*lines, f"| import of lokanetra.wsgi | {found['seconds_to_import']:.2f} s |"]


def _growth(result: dict[str, Any]) -> list[str]:
    small, large = ("{wallets:,} wallets, {rows:,} rows".format(**size) for size in result["sizes"].values())
    lines = [f"| p50 ms with | {small} | {large} | ratio |", "|---|---|---|---|"]
    for name, found in result["measurements"].items():
        lines.append(f"| {name} | {found['small']['p50']:.1f} | {found['large']['p50']:.1f} | {found['ratio']:.2f} |")
    return lines


def _machine(database_url: str) -> dict[str, str]:
    model = re.findall(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    wrk = subprocess.run(["wrk", "--version"], capture_output=True, text=True).stdout.split()[1]
    return {
        "cores": f"{os.cpu_count()} of {model[0] if model else platform.machine()}",
        "python": platform.python_version(),
        "server": f"granian {version('granian')}, Django {version('Django')}",
        "database": _database(database_url),
        "wrk": wrk,
    }


def _database(url: str) -> str:
    if url.startswith("sqlite"):
        return f"SQLite {sqlite3.sqlite_version}"
    with psycopg.connect(url, row_factory=scalar_row) as connection:
        durable = [f"{name} {connection.execute('SELECT current_setting(%s)', [name]).fetchone()}" for name in DURABLE]
        return f"PostgreSQL {connection.info.parameter_status('server_version')}, {', '.join(durable)}"
