"""The application as the production server runs it.

An event loop does what waits for clients: it reads a whole request before it is processed, and sends the answer.
A few threads do the work, each with a slot (`slots.py`). Health checks, which must always be answered, have their own.
"""

import asyncio
import logging
import os
import sys
from collections.abc import Awaitable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib import import_module
from io import BytesIO
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")

from django import setup
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import FileResponse, HttpRequest, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import ResolverMatch
from granian.rsgi import ProtocolClosed

from lokanetra import errors, logs, metrics, postgresql
from lokanetra.parsers import JSONRenderer, ProblemRenderer
from lokanetra.slots import Busy, Slots, Threads

logger = logging.getLogger("lokanetra.requests")

# Each with a database connection. Separate, so that payments that wait for a lock do not delay reads, and long lists
# do not delay payments. More would only compete for the interpreter.
WRITE_SLOTS, READ_SLOTS = 4, 3
# Without a connection, for static files; and one for each health check, so that nothing else delays it.
FILE_SLOTS, HEALTH_SLOTS = 2, 1
# Seconds. After both, `/readyz` answers that the database does not answer.
READY = {"timeout": 0.3, "deadline": 1.5}

# Seconds for a body to arrive, and how many bodies may be arriving at once.
BODY_DEADLINE = 10.0
MAX_BODIES = 512
# Bytes. No valid request has as many. More are read for some seconds, because a client that still sends does not see
# the refusal.
MAX_BODY, MAX_READ, DRAIN_DEADLINE = 256 * 1024, 2_500_000, 1.0

# Seconds. A file that was cut off for lack of a slot would look complete.
FILE_TIMEOUT = 3600.0

Headers = list[tuple[str, str]]


class BadBody(Exception):
    """Raised for a body that is refused; `status` says why."""

    def __init__(self, status: int) -> None:
        self.status = status


SLOW, LONG, CUT_OFF = 408, 413, 400


class Bodies:
    """Reads bodies. When too many are arriving, the oldest is dropped: clients that send slowly, however many they are,
    cannot keep others out."""

    def __init__(self) -> None:
        self.deadlines: dict[asyncio.Timeout, None] = {}

    async def read(self, scope: Any, protocol: Any) -> bytes:
        """The whole body. Raises BadBody."""
        length = scope.headers.get("content-length")
        if length == "0" or (length is None and "transfer-encoding" not in scope.headers):
            return b""
        if length and int(length) > MAX_BODY:
            await self._in_time(_read_limited(protocol), DRAIN_DEADLINE, LONG)
            raise BadBody(LONG)
        return await self._in_time(protocol() if length else _read_limited(protocol), BODY_DEADLINE, SLOW)

    async def _in_time(self, body: Awaitable[bytes], seconds: float, status: int) -> bytes:
        self._make_room()
        deadline = asyncio.timeout(seconds)
        self.deadlines[deadline] = None
        try:
            async with deadline:
                return await body
        except TimeoutError:
            raise BadBody(status) from None
        except ProtocolClosed:
            raise BadBody(CUT_OFF) from None
        finally:
            self.deadlines.pop(deadline, None)

    def _make_room(self) -> None:
        if len(self.deadlines) >= MAX_BODIES:
            oldest = next(iter(self.deadlines))
            del self.deadlines[oldest]
            oldest.reschedule(asyncio.get_running_loop().time())


async def _read_limited(protocol: Any) -> bytes:
    """A body of unknown or excessive length. Raises BadBody when it is too long."""
    body, size = bytearray(), 0
    async for part in protocol:
        size += len(part)
        if size <= MAX_BODY:
            body += part
        elif size > MAX_READ:
            break
    if size > MAX_BODY:
        raise BadBody(LONG)
    return bytes(body)


@dataclass
class Answer:
    status: int
    headers: Headers
    content: bytes = b""
    parts: "Parts | None" = None


class Parts:
    """A streamed answer. Each part is generated like a separate request, and may get another connection: no part may
    leave a cursor or a transaction open for the next."""

    def __init__(self, response: StreamingHttpResponse) -> None:
        self.response, self.parts = response, iter(response)
        self.context = copy_context()  # the log lines of all parts have the id of their request

    def next(self) -> bytes | None:
        return self.context.run(next, self.parts, None)

    def close(self) -> None:
        self.context.run(self.response.close)


class Handler(WSGIHandler):
    """Django's handler, without the signals at both ends of a request, by which Django manages connections: `slots.py`
    manages them."""

    def __init__(self) -> None:
        super().__init__()
        self.matches: dict[str, ResolverMatch] = {}

    def answer(self, environ: dict[str, Any]) -> HttpResponseBase:
        return self.get_response(self.request_class(environ))

    def resolve_request(self, request: HttpRequest) -> ResolverMatch:
        """Paths without parameters are resolved once. There are only as many as such routes."""
        match = self.matches.get(request.path_info)
        if match is None:
            match = super().resolve_request(request)
            if not match.kwargs and not match.args:
                self.matches[request.path_info] = match
        request.resolver_match = match
        return match


class Application:
    """The entry point for granian. Loading it opens no connection, so that processes can be forked afterwards.

    While it is draining, every answer closes its connection and `/readyz` answers 503, so that clients go elsewhere.
    """

    is_draining = False

    def __init__(self) -> None:
        postgresql.serve()
        setup(set_prefix=False)
        _load_what_requests_need()
        self.django = Handler()
        self.bodies = Bodies()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        logs.disable_unused_fields()
        logs.write_in_batches()
        threads = Threads()
        self.writes = Slots(loop, threads, WRITE_SLOTS)
        self.reads = Slots(loop, threads, READ_SLOTS)
        self.files = Slots(loop, threads, FILE_SLOTS, connected=False)
        self.alive = Slots(loop, threads, HEALTH_SLOTS, connected=False)
        self.ready = Slots(loop, threads, HEALTH_SLOTS)
        self.metrics = Slots(loop, threads, HEALTH_SLOTS, connected=False)
        if metrics.enabled():
            self._report_slots(loop)

    def _report_slots(self, loop: asyncio.AbstractEventLoop) -> None:
        """Every second: counting each acquired slot would cost more."""
        for kind, slots in {"write": self.writes, "read": self.reads, "file": self.files}.items():
            metrics.slots.labels(kind, "busy").set(slots.count - len(slots.free))
            metrics.slots.labels(kind, "waited_for").set(len(slots.waiting))
        loop.call_later(1.0, self._report_slots, loop)

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        answer = await self._answer(scope, protocol)
        if self.is_draining:
            answer.headers.append(("Connection", "close"))
        with suppress(ProtocolClosed):
            if answer.parts:
                await self._stream(protocol, answer, answer.parts)
            else:
                protocol.response_bytes(answer.status, answer.headers, answer.content)

    async def _answer(self, scope: Any, protocol: Any) -> Answer:
        try:
            body = await self.bodies.read(scope, protocol)
            slots, limits = self._slots_for(scope)
            return await slots.run(partial(self._call, environ_of(scope, body)), **limits)
        except BadBody as refused:
            return refusal(scope, refused.status)
        except Busy:
            return refusal(scope, 503)

    def _slots_for(self, scope: Any) -> tuple[Slots, dict[str, float]]:
        path = scope.path.removeprefix(settings.FORCE_SCRIPT_NAME or "")
        if path == "/readyz":
            if self.is_draining:
                raise Busy
            return self.ready, READY
        if path == "/healthz":
            return self.alive, {}
        if path == "/metrics":
            return self.metrics, {}
        if path.startswith(settings.STATIC_URL):
            return self.files, {}
        return (self.reads if scope.method in ("GET", "HEAD") else self.writes), {}

    def _call(self, environ: dict[str, Any]) -> Answer:
        """Django's answer. Called in a thread that holds a slot."""
        response = self.django.answer(environ)
        answer = Answer(response.status_code, _headers(response))
        if isinstance(response, StreamingHttpResponse) and not isinstance(response, FileResponse):
            answer.parts = Parts(response)
        elif response.streaming:
            answer.content = b"".join(response)
            response.close()
        else:
            answer.content = response.content  # type: ignore[attr-defined]
        return answer

    async def _stream(self, protocol: Any, answer: Answer, parts: Parts) -> None:
        """Send parts as the client reads them. No slot is held between two parts."""
        transport = protocol.response_stream(answer.status, answer.headers)
        try:
            while (part := await self.reads.run(parts.next, timeout=FILE_TIMEOUT)) is not None:
                await transport.send_bytes(part)
        finally:
            await self.reads.run(parts.close, timeout=FILE_TIMEOUT)


def _load_what_requests_need() -> None:
    """Before workers are forked: else each has 6 MiB more of its own, and its first requests wait."""
    for module in (settings.ROOT_URLCONF, "rest_framework_simplejwt.state"):
        import_module(module)
    import_module("users.sms").load()


def _headers(response: HttpResponseBase) -> Headers:
    cookies = [("Set-Cookie", cookie.output(header="")) for cookie in response.cookies.values()]
    return [*response.headers._store.values(), *cookies]  # looking each one up would take longer


def environ_of(scope: Any, body: bytes) -> dict[str, Any]:
    """The request as a WSGI environ. A header with an underscore is never confused with the one with a hyphen."""
    host, _, port = scope.server.rpartition(":")
    environ = {
        "REQUEST_METHOD": scope.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": _as_latin(scope.path),
        "QUERY_STRING": _as_latin(scope.query_string),
        "SERVER_NAME": host,
        "SERVER_PORT": port,
        "SERVER_PROTOCOL": f"HTTP/{scope.http_version}",
        "REMOTE_ADDR": scope.client.rpartition(":")[0].strip("[]"),
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": scope.scheme,
        "wsgi.input": BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
    }
    environ |= _headers_of(scope.headers)
    environ["CONTENT_TYPE"] = environ.pop("HTTP_CONTENT_TYPE", "")
    environ["CONTENT_LENGTH"] = str(len(body))
    return environ


def _headers_of(headers: Any) -> dict[str, str]:
    """A value that is not ASCII is kept as an empty one; headers of one name are joined."""
    found = dict.fromkeys(map(_wsgi_name, headers.keys()), "")
    for header, value in headers.items():
        name = _wsgi_name(header)
        found[name] = f"{found[name]},{value}" if found[name] else value
    return found


@lru_cache(64)
def _wsgi_name(header: str) -> str:
    return f"HTTP_{header.replace('_', '__').replace('-', '_').upper()}"


def _as_latin(text: str) -> str:
    """WSGI passes the bytes of a text as Latin-1 characters."""
    return text if text.isascii() else text.encode().decode("latin-1")


def refusal(scope: Any, status: int) -> Answer:
    """A problem as the answer to a request that Django does not see."""
    logger.warning("%s %s: refused before it was processed", scope.method, status)
    metrics.count_refusal(status)
    headers = {
        "Content-Type": ProblemRenderer.media_type,
        "Cache-Control": "no-store",
        "X-Request-Id": logs.choose_request_id(scope.headers.get("x-request-id")),
    }
    if status == 503:
        headers["Retry-After"] = "1"
    problem = errors.body(status, *errors.STATUS_CODES[status])
    return Answer(status, list(headers.items()), JSONRenderer().render(problem))


application = Application()
