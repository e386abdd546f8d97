"""The supervisor survives its workers, and ends when continuing is useless."""

import os
import re
import signal
import socket
import subprocess
import sys
import time

import pytest

from lokanetra.env import BASE_DIR
from lokanetra.supervisor import LONG_LIFE, MAX_PAUSE, Worker
from lokanetra.tests.live import Live, Unanswered, wait_for

pytestmark = pytest.mark.once


def test_a_worker_is_replaced_at_once_after_its_first_death_and_later_after_others():
    worker, pauses = Worker(), []
    for _ in range(9):
        worker.died(now=10.0)
        pauses.append(worker.due_at - 10.0)
    assert pauses[:4] == [0, 1, 2, 4]
    assert pauses[-1] == MAX_PAUSE


def test_after_a_long_life_earlier_deaths_are_forgotten():
    worker = Worker(deaths=7, started_at=0.0)
    worker.died(now=LONG_LIFE)
    assert worker.due_at == LONG_LIFE


def test_a_server_survives_workers_that_die_again_and_again(live: Live):
    supervisor = live.process.pid
    for _ in range(3):
        for pid in live.workers():
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: len(live.workers()) == 3 and live.call("GET", "/healthz").status == 200)
    assert live.process.poll() is None
    assert live.process.pid == supervisor
    assert "the next starts in 1 s" in live.output.read_text()


def test_a_request_under_way_is_answered_before_its_worker_stops(live: Live):
    head = ["POST /auth/verify-otp/ HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as client:
        client.sendall("\r\n".join([*head, "Content-Length: 2", "", "{"]).encode())
        time.sleep(0.3)
        for pid in live.workers():
            os.kill(pid, signal.SIGTERM)
        time.sleep(0.3)
        client.sendall(b"}")
        assert client.recv(65536).startswith(b"HTTP/1.1 400 ")
    wait_for(lambda: len(live.workers()) == 3 and live.call("GET", "/healthz").status == 200)


def test_workers_stop_when_their_supervisor_is_killed(live: Live):
    workers = live.workers()
    os.kill(live.process.pid, signal.SIGKILL)
    live.process.wait()
    try:
        wait_for(lambda: not any(_runs(pid) for pid in workers))
    finally:
        live.start()


@pytest.fixture
def environment(live: Live) -> dict[str, str]:
    return live.environment


def serve(environment: dict[str, str], **changes: str) -> subprocess.CompletedProcess:
    command = [BASE_DIR / "scripts" / "serve.sh"]
    return subprocess.run(command, env=environment | changes, capture_output=True, text=True, timeout=60)


def test_an_address_in_use_ends_it_with_a_clear_message(live: Live):
    ended = serve(live.environment)
    assert ended.returncode == 1
    assert f"Cannot listen at 127.0.0.1:{live.port}: Address already in use." in ended.stderr


@pytest.mark.parametrize("name, value", [("PORT", "many"), ("PORT", "70000"), ("WORKERS", "0")])
def test_an_invalid_number_ends_it_with_a_clear_message(environment, name, value):
    ended = serve(environment, **{name: value})
    assert ended.returncode == 2
    assert re.search(rf"--{name.lower()}: write a whole number", ended.stderr)


def test_a_server_whose_workers_cannot_serve_ends_with_a_clear_message():
    code = (
        "from lokanetra.supervisor import *\n"
        "try: Supervisor(lambda on_serving: 1 / 0, 2).run()\n"
        "except CannotServe as fault: sys.exit(str(fault))"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=BASE_DIR, capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert re.search(r"^Worker \d+ ended with status 1 before any was serving\.$", ended.stderr, re.MULTILINE)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_server_that_is_stopped_answers_nobody(live: Live):
    live.stop()
    try:
        with pytest.raises(Unanswered):
            live.call("GET", "/healthz")
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", live.port))
    finally:
        live.start()
