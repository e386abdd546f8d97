"""Where the time of a request goes: instructions and microseconds of each layer, including the layers below."""

import json
import re
import shutil
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lokanetra.env import BASE_DIR
from lokanetra.tests.live import Live
from scripts.bench import MEMBERS
from scripts.bench.load import Failed, call
from scripts.bench.meters import LAYERS
from scripts.bench.throughput import product

REQUESTS = ("transfer", "balance", "history", "send-otp", "verify-otp")
# Requests of each kind for each layer, for counting and for timing.
COUNTED, TIMED = 5, 20


def measure(options: Namespace) -> dict[str, Any]:
    if shutil.which("valgrind") is None:
        raise Failed("there is no valgrind on PATH. On Debian and Ubuntu: apt-get install valgrind")
    with product(options.sqlite) as callers, TemporaryDirectory() as folder:
        live = callers.live
        call(live, f"make({MEMBERS})")
        microseconds = json.loads(_run(live, [], "clock", TIMED).splitlines()[-1])
        out = f"--callgrind-out-file={folder}/out"
        _run(live, ["valgrind", "--tool=callgrind", "--instr-atstart=no", out], "instructions", COUNTED)
        instructions = dict(_read(path) for path in Path(folder).glob("out.*"))
        if not live.check_ledger()["ok"]:
            raise Failed("afterwards the books do not agree")
    return {"bill": {name: _bill(name, instructions, microseconds) for name in REQUESTS}}


def text(result: dict[str, Any]) -> str:
    """Markdown: thousands of instructions, and microseconds."""
    lines = [f"| thousand instructions, µs | {' | '.join(REQUESTS)} |", f"|---|{'---|' * len(REQUESTS)}"]
    for number, (layer, depth, _) in enumerate(LAYERS):
        cells = [_cell(result["bill"][name][number]) for name in REQUESTS]
        lines.append(f"| {'&nbsp; ' * depth}{layer} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(found: dict[str, float]) -> str:
    return f"{found['instructions'] / 1e3:.0f}, {found['microseconds']:.0f}" if found["instructions"] else ""


def _bill(name: str, instructions: dict[str, int], microseconds: dict[str, float]) -> list[dict[str, Any]]:
    return [
        {
            "layer": layer,
            "instructions": instructions.get(f"{name} {number}", 0) / COUNTED,
            "microseconds": microseconds[f"{name} {number}"] / TIMED,
        }
        for number, (layer, _, _) in enumerate(LAYERS)
    ]


def _run(live: Live, prefix: list[str], kind: str, times: int) -> str:
    command = [*prefix, sys.executable, "-m", "scripts.bench.bill_worker", kind, str(times)]
    # Codes come with the response, so no SMS gateway is measured.
    environment = live.environment | {"PYTHONHASHSEED": "0", "OTP_ECHO": "on"}
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Failed(done.stderr[-2000:])
    return done.stdout


def _read(path: Path) -> tuple[str, int]:
    """The name of a dump and its instructions."""
    dump = path.read_text()
    (name,) = re.findall(r"^desc: Trigger: Client Request: (.*)$", dump, re.MULTILINE) or [""]
    (total,) = re.findall(r"^(?:summary|totals): (\d+)", dump, re.MULTILINE)[:1] or ["0"]
    return name, int(total)
