"""How the production server handles a request before Django sees it."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.http import Http404, StreamingHttpResponse
from granian.rsgi import ProtocolClosed

from lokanetra import rsgi, slots


class Headers:
    """As in granian: lower-case names; values that are not ASCII are missing from the items."""

    def __init__(self, *pairs: tuple[str, str]) -> None:
        self.pairs = pairs

    def keys(self) -> list[str]:
        return [name for name, _ in self.pairs]

    def items(self) -> list[tuple[str, str]]:
        return [pair for pair in self.pairs if pair[1].isascii()]


def environ(*headers: tuple[str, str], **changes: str) -> dict[str, Any]:
    usual = {"method": "GET", "path": "/", "query_string": "", "server": "127.0.0.1:8000", "client": "192.0.2.7:5000"}
    usual |= {"http_version": "1.1", "scheme": "http"} | changes
    return rsgi.environ_of(SimpleNamespace(**usual, headers=Headers(*headers)), b"abc")


def test_a_request_becomes_a_wsgi_environ():
    found = environ(("content-type", "application/json"), ("x-request-id", "7"), method="POST", query_string="a=1")
    assert found["REQUEST_METHOD"] == "POST"
    assert found["CONTENT_TYPE"] == "application/json"
    assert found["CONTENT_LENGTH"] == "3"
    assert found["wsgi.input"].read() == b"abc"
    assert (found["HTTP_X_REQUEST_ID"], found["QUERY_STRING"]) == ("7", "a=1")
    assert (found["SERVER_NAME"], found["SERVER_PORT"]) == ("127.0.0.1", "8000")


@pytest.mark.parametrize(
    "client, address", [("192.0.2.7:5000", "192.0.2.7"), ("[2001:db8::1]:5000", "2001:db8::1"), ("::1:5000", "::1")]
)
def test_the_address_of_the_client_is_without_its_port(client, address):
    assert environ(client=client)["REMOTE_ADDR"] == address


def test_headers_of_one_name_are_joined():
    assert environ(("x-forwarded-for", "1.2.3.4"), ("x-forwarded-for", "5.6.7.8"))["HTTP_X_FORWARDED_FOR"] == (
        "1.2.3.4,5.6.7.8"
    )


def test_a_header_with_an_underscore_is_never_confused_with_the_one_with_a_hyphen():
    found = environ(("x_forwarded_for", "6.6.6.6"), ("x-forwarded-for", "1.2.3.4"), ("idempotency_key", "k"))
    assert found["HTTP_X_FORWARDED_FOR"] == "1.2.3.4"
    assert "HTTP_IDEMPOTENCY_KEY" not in found
    assert found["HTTP_IDEMPOTENCY__KEY"] == "k"


def test_a_header_that_is_not_ascii_is_present_but_empty():
    assert environ(("idempotency-key", "schlüssel"))["HTTP_IDEMPOTENCY_KEY"] == ""


def test_a_path_has_its_bytes_as_latin_1():
    assert environ(path="/द/")["PATH_INFO"].encode("latin-1").decode() == "/द/"


def test_only_routes_without_parameters_are_cached(rf):
    handler = rsgi.Handler()
    for path in ("/wallet/balance/", "/transactions/5/", "/wallet/balance/"):
        assert handler.resolve_request(rf.get(path)).route
    for path in ("/wallet/nothing/", "/wallet/balance"):
        with pytest.raises(Http404):
            handler.resolve_request(rf.get(path))
    assert list(handler.matches) == ["/wallet/balance/"]


class Client:
    """Accepts so many parts, then closes the connection."""

    def __init__(self, most: int) -> None:
        self.most, self.taken = most, []

    def response_stream(self, status: int, headers: Any) -> "Client":
        return self

    async def send_bytes(self, part: bytes) -> None:
        if len(self.taken) == self.most:
            raise ProtocolClosed
        self.taken.append(part)


@pytest.mark.parametrize("most", [0, 1, 2])
def test_parts_are_generated_and_closed_in_a_slot_even_if_the_client_leaves(monkeypatch, most):
    in_slot: list[bool] = []

    def note() -> None:
        in_slot.append(getattr(slots.current, "lease", None) is not None)

    def made() -> Iterator[bytes]:
        try:
            for part in (b"first", b"second"):
                note()
                yield part
        finally:
            note()

    async def play(client: Client, response: StreamingHttpResponse) -> None:
        reads = slots.Slots(asyncio.get_running_loop(), slots.Threads(), 1, connected=False)
        monkeypatch.setattr(rsgi.application, "reads", reads, raising=False)
        parts = rsgi.Parts(response)
        await rsgi.application._stream(client, rsgi.Answer(200, [], parts=parts), parts)

    client, response = Client(most), StreamingHttpResponse(made())
    if most < 2:
        with pytest.raises(ProtocolClosed):
            asyncio.run(play(client, response))
    else:
        asyncio.run(play(client, response))
    assert client.taken == [b"first", b"second"][:most]
    assert in_slot == [True] * min(most + 2, 3)
    assert response.closed
