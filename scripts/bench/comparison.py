"""The product compared with two small servers with the same contract, on the same database; they are in `peers/`."""

import hashlib
import hmac
import os
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from urllib.request import urlopen

from lokanetra.tests.live import Live, free_port, program, wait_for
from scripts.bench import HERE, MEMBERS, report
from scripts.bench.load import CONNECTIONS, Callers, Failed, call
from scripts.bench.throughput import HOT_CONNECTIONS, WORKERS, product, run_rounds

PEERS = HERE / "peers"
PYTHON = PEERS / ".venv" / "bin" / "python"
SCRIPTS = {"transfer": "transfer", "hot": "hot", "balance": "/wallet/balance/"}


def measure(options: Namespace) -> dict[str, Any]:
    _install()
    with product() as callers:
        live = callers.live
        call(live, f"make({MEMBERS})")
        with _served(live, _fastify()) as fastify, _served(live, _fast_api()) as fast_api:
            ports = {"lokanetra": live.port, "FastAPI": fast_api, "Fastify": fastify}
            found = run_rounds(_plan(callers, ports), options)
        if not live.check_ledger()["ok"]:
            raise Failed("afterwards the books do not agree")
        return report.result(live, options, _compared(found))


def _plan(callers: Callers, ports: dict[str, int]) -> dict[str, Any]:
    def run(load: str, port: int) -> Any:
        connections = HOT_CONNECTIONS if load == "hot" else CONNECTIONS
        return partial(callers.send, SCRIPTS[load], port=port, connections=connections)

    return {f"{load}, {name}": run(load, port) for load in SCRIPTS for name, port in ports.items()}


def _compared(found: dict[str, Any]) -> dict[str, Any]:
    for name in found:
        load, _, server = name.partition(", ")
        if server == "lokanetra":
            ratio = found[name]["rate"] / found[f"{load}, Fastify"]["rate"]
            found[name] |= {"compared": "Fastify", "ratio": round(ratio, 3)}
    return found


def _install() -> None:
    """Install the peers' own dependencies in their folder."""
    if not PYTHON.exists():
        subprocess.run([sys.executable, "-m", "venv", PEERS / ".venv"], check=True)
        subprocess.run([PYTHON, "-m", "pip", "install", "-qq", "-r", PEERS / "requirements.txt"], check=True)
    if not (PEERS / "node_modules").exists():
        subprocess.run([program("npm"), "ci", "--silent", "--prefix", PEERS], check=True)


def _fastify() -> list[Any]:
    return [program("node"), PEERS / "fastify.mjs"]


def _fast_api() -> list[Any]:
    arguments = ["fast_api:app", "--app-dir", PEERS, "--workers", str(WORKERS), "--log-level", "warning"]
    return [PYTHON, "-m", "uvicorn", *arguments]


@contextmanager
def _served(live: Live, command: list[Any]) -> Iterator[int]:
    """The port of a peer that runs on the product's database and accepts its tokens."""
    port, is_python = free_port(), "uvicorn" in command
    arguments = ["--port", str(port)] if is_python else []
    process = subprocess.Popen([*command, *arguments], env=_environment(live, port, is_python))
    try:
        wait_for(lambda: urlopen(f"http://127.0.0.1:{port}/readyz").status == 200)
        yield port
    finally:
        process.terminate()
        process.wait(timeout=30)


def _environment(live: Live, port: int, is_python: bool) -> dict[str, str]:
    secret = live.environment["DJANGO_SECRET_KEY"].encode()
    url = live.environment["DATABASE_URL"]
    return {
        "PATH": os.environ["PATH"],
        "PORT": str(port),
        "WORKERS": str(WORKERS),
        "DATABASE_URL": url.replace("postgresql://", "postgresql+asyncpg://", 1) if is_python else url,
        "JWT_SIGNING_KEY": hmac.new(secret, b"JWT_SIGNING_KEY", hashlib.sha256).hexdigest(),
    }
