"""A server that is told to stop answers its running requests, says that it is not ready, and ends in time."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection

import psycopg
import pytest

from lokanetra.env import BASE_DIR
from lokanetra.supervisor import DRAIN, GRACE
from lokanetra.tests.live import Live, Postgres, Unanswered, free_port, live_server, wait_for

pytestmark = pytest.mark.slow

# Seconds for which the server of these tests drains, and clearly fewer.
DRAINS, SOONER = 3, 2.5


@pytest.fixture(scope="module")
def one(postgres: Postgres) -> Iterator[Live]:
    """A server with one worker, whose gateway does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as gateway:
        url = f"json://127.0.0.1:{gateway.getsockname()[1]}/{{phone}}"
        with live_server(postgres.url, workers=1, DRAIN_SECONDS=str(DRAINS), OTP_SMS_URL=url) as server:
            yield server


@pytest.fixture
def server(one: Live) -> Live:
    """The same, restarted after each test that stopped it."""
    if one.process.poll() is not None:
        one.output.unlink()
        one.start()
    return one


@pytest.fixture(scope="module")
def token(one: Live) -> str:
    return one.new_account("9877000002")


def test_a_draining_server_serves_but_is_not_ready(server, token):
    kept = HTTPConnection("127.0.0.1", server.port, timeout=10)
    kept.request("GET", "/healthz")
    assert kept.getresponse().read() == b'{"status":"ok"}'
    server.process.terminate()
    wait_for(lambda: server.call("GET", "/readyz").code == "server_busy")
    answer = server.post("/wallet/credit/", {"amount": "1.00"}, token)
    assert (answer.status, answer.headers.get("connection")) == (200, "close")
    kept.request("GET", "/healthz")
    response = kept.getresponse()
    assert (response.status, response.getheader("connection")) == (200, "close")
    assert server.process.wait(timeout=10) == 0
    with pytest.raises(Unanswered):
        server.call("GET", "/healthz")


def test_running_requests_are_answered_and_idle_connections_closed(server, token, postgres):
    idle, half = (socket.create_connection(("127.0.0.1", server.port), timeout=20) for _ in range(2))
    with ThreadPoolExecutor() as callers, psycopg.connect(postgres.url) as holder:
        holder.execute("SELECT * FROM wallet_wallet FOR UPDATE")
        server.process.terminate()
        time.sleep(DRAINS - 1)
        payment = callers.submit(server.post, "/wallet/debit/", {"amount": "0.25"}, token)
        code = callers.submit(server.post, "/auth/send-otp/", {"phone_number": "9833333303"})
        half.sendall(b"POST /auth/verify-otp/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{")
        assert idle.recv(1) == b""
        holder.rollback()
        half.sendall(b"}")
        assert half.recv(65536).startswith(b"HTTP/1.1 415 ")
        assert payment.result().status == 200
        assert code.result().code == "sms_unavailable"
    assert server.process.wait(timeout=10) == 0
    assert f'"transaction":{payment.result().body["transaction_id"]}' in server.output.read_text()


@pytest.mark.parametrize("signals", [(signal.SIGTERM, signal.SIGTERM), (signal.SIGINT,)])
def test_a_second_signal_or_an_interrupt_skips_the_draining(server, signals):
    began = time.monotonic()
    for number in signals:
        server.process.send_signal(number)
        time.sleep(0.2)
    assert server.process.wait(timeout=10) == 0
    assert time.monotonic() - began < SOONER


@pytest.mark.parametrize("seconds", [0.3, 1.5])
def test_a_server_that_is_stopped_while_it_starts_ends_at_once(one, seconds):
    environment = one.environment | {"PORT": str(free_port())}
    process = subprocess.Popen([BASE_DIR / "scripts" / "serve.sh"], env=environment, stderr=subprocess.DEVNULL)
    time.sleep(seconds)
    process.terminate()
    assert process.wait(timeout=5) in (0, -signal.SIGTERM)


DEAF = """
from lokanetra.supervisor import *
from lokanetra import supervisor
supervisor.GRACE = 0.5
def work(on_serving):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    os.write(1, b"serves\\n")  # in one piece, because two write at once
    time.sleep(60)
Supervisor(work, 2, drain=0.5).run()
"""


def test_a_worker_that_does_not_end_is_killed_in_time():
    command = [sys.executable, "-c", DEAF]
    with subprocess.Popen(command, cwd=BASE_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert [process.stdout.readline() for _ in range(2)] == [b"serves\n"] * 2  # type: ignore[union-attr]
        process.terminate()
        assert process.wait(timeout=5) == 0
        assert process.stderr.read().count(b"did not end in time") == 2  # type: ignore[union-attr]
    assert DRAIN + GRACE < 15
