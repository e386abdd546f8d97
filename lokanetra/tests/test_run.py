"""`run.sh` runs server and worker, and leaves neither running."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.request import urlopen

import pytest

from lokanetra.env import BASE_DIR
from lokanetra.tests.live import free_port, wait_for

pytestmark = pytest.mark.slow


@dataclass
class Running:
    process: subprocess.Popen
    output: Path
    url: str

    def worker(self) -> int:
        """Its process id."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return next(int(pid) for pid in children if "work" in Path(f"/proc/{pid}/cmdline").read_text().split("\0"))

    def left(self) -> list[str]:
        """What still runs of its process group."""
        command = ["ps", "-o", "stat=,args=", "-g", str(self.process.pid)]
        listed = subprocess.run(command, capture_output=True, text=True)
        return [line for line in listed.stdout.splitlines() if not line.startswith("Z")]


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Running]:
    """In a copy of the project, with this Python, where everything is installed."""
    for name in ("lokanetra", "users", "wallet", "transactions", "manage.py"):
        (tmp_path / name).symlink_to(BASE_DIR / name)
    for path in BASE_DIR.glob("requirements*.txt"):
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "scripts").mkdir()
    for name in ("run.sh", "venv.sh", "constraints.txt"):
        (tmp_path / "scripts" / name).symlink_to(BASE_DIR / "scripts" / name)
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    subprocess.run("cat requirements*.txt scripts/constraints.txt >.venv/installed.txt", shell=True, cwd=tmp_path)
    port = free_port()
    environment = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ} | {
        "PYTHON_DOTENV_DISABLED": "1",
        "DATABASE_URL": f"sqlite:///{tmp_path}/db.sqlite3",
        "PORT": str(port),
    }
    output = tmp_path / "output"
    with output.open("w") as file:
        process = subprocess.Popen(
            ["bash", "scripts/run.sh"],
            cwd=tmp_path,
            env=environment,
            stdout=file,
            stderr=file,
            start_new_session=True,
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored in a suite in the background
        )
    server = Running(process, output, f"http://127.0.0.1:{port}")
    try:
        wait_for(lambda: urlopen(f"http://127.0.0.1:{port}/readyz").status == 200)
        wait_for(lambda: "worker started" in output.read_text())
        yield server
    finally:
        if server.left():
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_signal_to_the_script_ends_both(running, number):
    running.process.send_signal(number)
    assert running.process.wait(timeout=20) != 0
    wait_for(lambda: running.left() == [])


def test_ctrl_c_ends_both(running):
    os.killpg(running.process.pid, signal.SIGINT)
    running.process.wait(timeout=20)
    wait_for(lambda: running.left() == [])


def test_a_worker_that_dies_leaves_the_server_running(running):
    os.kill(running.worker(), signal.SIGKILL)
    assert urlopen(f"{running.url}/readyz").status == 200
    running.process.terminate()
    running.process.wait(timeout=20)
    wait_for(lambda: running.left() == [])
