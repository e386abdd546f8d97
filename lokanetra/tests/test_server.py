"""How the production server treats clients that are slow, talk in chunks, or talk too much."""

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from lokanetra import supervisor
from lokanetra.env import BASE_DIR
from lokanetra.tests.live import Live, at_once

WORKERS = 3
LOADED = "import sys; from lokanetra import supervisor; supervisor.load(); print(*sys.modules)"


@contextmanager
def talking(live: Live, *headers: str) -> Iterator[socket.socket]:
    """A connection that has sent the head of a payment, and none of its body."""
    head = ["POST /wallet/debit/ HTTP/1.1", f"Host: 127.0.0.1:{live.port}", "Content-Type: application/json", *headers]
    with socket.create_connection(("127.0.0.1", live.port), timeout=20) as connection:
        connection.sendall("\r\n".join([*head, "", ""]).encode())
        yield connection


def answer_to(connection: socket.socket) -> tuple[int, dict]:
    text = b""
    while b"}" not in text and (more := connection.recv(65536)):
        text += more
    head, _, body = text.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body[body.index(b"{") : body.rindex(b"}") + 1])


def test_clients_that_send_slowly_keep_nobody_waiting(live: Live):
    with ExitStack() as stack:
        for _ in range(5 * WORKERS):
            stack.enter_context(talking(live, "Content-Length: 100")).sendall(b"{")
        for _ in range(3 * WORKERS):
            assert live.call("GET", "/healthz").status == 200


def test_a_body_in_chunks_is_read(live: Live):
    token = live.log_in("9844444444")
    live.post("/wallet/credit/", {"amount": "10.00"}, token)
    connection = HTTPConnection("127.0.0.1", live.port, timeout=20)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
    parts = iter([b'{"amount":', b'"1.00"}'])
    connection.request("POST", "/wallet/debit/", body=parts, headers=headers, encode_chunked=True)
    assert json.loads(connection.getresponse().read())["balance"] == "9.00"
    connection.close()


def test_a_body_without_an_end_is_refused(live: Live):
    token = live.log_in("9844444444")
    with talking(live, "Content-Length: 4000000", f"Authorization: Bearer {token}") as connection:
        connection.sendall(b" " * 2_600_000)
        status, problem = answer_to(connection)
    assert (status, problem["code"]) == (413, "body_too_large")


def test_a_body_that_is_far_too_long_is_refused_before_it_is_sent(live: Live):
    with talking(live, "Content-Length: 999999999999") as connection:
        status, problem = answer_to(connection)
    assert (status, problem["code"]) == (413, "body_too_large")


def test_a_body_that_is_cut_off_moves_nothing(live: Live):
    """Also where what came of it could pass for the whole."""
    token = live.log_in("9844444445")
    live.post("/wallet/credit/", {"amount": "10.00"}, token)
    with talking(live, "Content-Length: 40", f"Authorization: Bearer {token}") as connection:
        connection.sendall(b'{"amount":"1.00"}')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65536)[:12] in (b"", b"HTTP/1.1 400")
    assert live.balance(token) == "10.00"


def test_clients_that_go_away_take_no_slot_with_them(live: Live):
    token = live.log_in("9844444446")
    live.post("/wallet/credit/", {"amount": "10.00"}, token)
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    beginnings = [
        f"POST /wallet/debit/ HTTP/1.1\r\n{head}Content-Length: 40\r\n\r\n{{",
        f'POST /wallet/debit/ HTTP/1.1\r\n{head}Content-Length: 17\r\n\r\n{{"amount":"0.01"}}',
        f"GET /wallet/balance/ HTTP/1.1\r\n{head}\r\n",
        f"GET /transactions/export/ HTTP/1.1\r\n{head}\r\n",
        f'POST /wallet/debit/ HTTP/1.1\r\n{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{"amo',
    ]
    for _ in range(30):
        for text in beginnings:
            with socket.create_connection(("127.0.0.1", live.port)) as client:
                client.sendall(text.encode())
    answers = at_once(*[lambda: live.call("GET", "/wallet/balance/", token=token)] * 20)
    assert [answer.status for answer in answers] == [200] * 20
    assert "Traceback" not in live.output.read_text()


def test_a_worker_is_forked_with_what_requests_need_and_without_what_few_do(live: Live):
    loaded = set(live.run(sys.executable, "-c", LOADED).stdout.split())
    assert loaded >= {"lokanetra.urls", "jwt"}
    assert loaded.isdisjoint({"apprise", "fpdf", "fontTools", "drf_yasg.openapi", "sentry_sdk", *supervisor.UNUSED})


def test_what_was_not_loaded_can_still_be(live: Live):
    """The API's documentation needs YAML, and some gateways `requests`."""
    code = f"{LOADED}; import requests, yaml; from drf_yasg import codecs"
    assert live.run(sys.executable, "-c", code).returncode == 0


def test_a_server_with_another_gateway_loads_the_service_of_that_alone(live: Live):
    options = live.environment["OTP_SMS_URL"] + "?method=post"
    command = [sys.executable, "-c", LOADED]
    done = subprocess.run(command, cwd=BASE_DIR, env=live.environment | {"OTP_SMS_URL": options}, capture_output=True)
    loaded = set(done.stdout.decode().split())
    assert "apprise.plugins.custom_json" in loaded
    assert "apprise.plugins.twilio" not in loaded
