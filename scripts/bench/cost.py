"""The cost of the server: memory when idle and after the load, and the time to start."""

import re
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from lokanetra.env import BASE_DIR
from lokanetra.tests.live import Live, free_port


def summary(live: Live, idle: dict[str, list[float]], rounds: int) -> dict[str, Any]:
    """Measured after the load; `idle` is the memory before it. Times are medians, in seconds."""
    return {
        "idle": idle,
        "loaded": memory(live),
        "seconds_to_start": round(statistics.median(_start(live) for _ in range(rounds)), 2),
        "seconds_to_import": round(statistics.median(_import(live) for _ in range(rounds)), 2),
    }


def memory(live: Live) -> dict[str, list[float]]:
    """MiB of each worker: PSS divides shared memory among its users, RSS counts it for each."""
    rollups = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in live.workers()]
    return {name.upper(): [_mebibytes(name, rollup) for rollup in rollups] for name in ("Pss", "Rss")}


def second_server(live: Live, **environment: str) -> Live:
    """A server like this one on the same database, not yet started."""
    port = free_port()
    return replace(live, port=port, environment=live.environment | environment | {"PORT": str(port)})


def _start(live: Live) -> float:
    """Seconds from `serve.sh` to the first response of a second server; the database is migrated already."""
    server = second_server(live)
    before = time.monotonic()
    try:
        server.start()
        return time.monotonic() - before
    finally:
        server.stop()


def _import(live: Live) -> float:
    command = [sys.executable, "-X", "importtime", "-c", "import lokanetra.wsgi"]
    done = subprocess.run(command, cwd=BASE_DIR, env=live.environment, capture_output=True, text=True, check=True)
    return int(re.findall(r"(\d+) \| +lokanetra\.wsgi$", done.stderr, re.MULTILINE)[0]) / 1e6


def _mebibytes(name: str, rollup: str) -> float:
    return round(int(re.findall(rf"^{name}: +(\d+) kB", rollup, re.MULTILINE)[0]) / 1024, 1)
