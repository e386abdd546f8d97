"""How the production server treats clients that are slow, talk in chunks, or talk too much."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from http.client import HTTPConnection

from lokanetra.tests.live import Live

WORKERS = 3


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
