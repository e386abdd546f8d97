"""The application as a WSGI server runs it."""

import gc
import os
from collections.abc import Callable, Iterable
from contextvars import copy_context
from io import BytesIO
from queue import SimpleQueue
from typing import Any

from django.core.cache import close_caches
from django.core.handlers.base import reset_urlconf
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections, reset_queries
from django.http import FileResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")
# A request that waits longer than this has lost its client: better a clear 503. Management commands take their time.
os.environ.setdefault("PGOPTIONS", "-c lock_timeout=3s -c statement_timeout=10s")

# More than one, for a gateway of messages may keep one waiting for seconds.
DESKS = 4
# More than any request of ours has; what is cut off is refused as too large.
LONGEST_BODY = 2_500_000


class Desks:
    """The few places at which the application works. Each has a connection to the database, which belongs to whoever
    sits there: the server's threads are many, and one connection for each of them would be too many."""

    def __init__(self, count: int) -> None:
        self.free: SimpleQueue[Any] = SimpleQueue()
        for _ in range(count):
            connection = connections.create_connection(DEFAULT_DB_ALIAS)
            connection.inc_thread_sharing()  # by one after the other, never by two at once
            self.free.put(connection)

    def __enter__(self) -> None:
        connections[DEFAULT_DB_ALIAS] = self.free.get()

    def __exit__(self, *exception: object) -> None:
        connection = connections[DEFAULT_DB_ALIAS]
        try:
            connection.close_if_unusable_or_obsolete()  # the next one makes it again
        finally:
            del connections[DEFAULT_DB_ALIAS]  # what the thread does next, it does without
            self.free.put(connection)


class InParts:
    """An answer that is made while it is sent, each part of it at a desk of its own.

    The server asks for a part when the client has room for it, and a part is a short piece of work like any request.
    Two parts may be made with different connections: no part may leave a cursor or a transaction to the next.
    """

    def __init__(self, answer: StreamingHttpResponse, desks: Desks) -> None:
        self.answer, self.parts, self.desks = answer, iter(answer), desks
        self.context = copy_context()  # the log lines of all parts carry the id of their request

    def __iter__(self) -> "InParts":
        return self

    def __next__(self) -> bytes:
        with self.desks:
            return self.context.run(next, self.parts)

    def close(self) -> None:
        """Called at the end, and when the client is gone before it."""
        self.context.run(self.answer.close)


class Whole:
    """Reads a request whole before it takes one of the few desks: clients that send slowly wait in the server's
    threads, which are many and hold nothing."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.desks = Desks(DESKS)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(self._length(environ))
        # A body in chunks told no length beforehand.
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": environ.get("CONTENT_LENGTH") or str(len(body))}
        with self.desks:
            answer = self.app(environ, start_response)
        if isinstance(answer, StreamingHttpResponse) and not isinstance(answer, FileResponse):
            return InParts(answer, self.desks)
        return answer

    @staticmethod
    def _length(environ: dict[str, Any]) -> int:
        """How much to read. Without a length only a server that marks the end may be read from."""
        told = environ.get("CONTENT_LENGTH", "")
        if told.isdecimal():
            return min(int(told), LONGEST_BODY)
        return LONGEST_BODY if environ.get("wsgi.input_terminated") else 0


application = Whole(get_wsgi_application())
# What Django does for a thread at the ends of each request: a desk has done it for its connection, and what else there
# is to close or to forget (caches, the log of queries, the map of URLs) is nothing here.
request_started.disconnect(reset_queries)
request_started.disconnect(close_old_connections)
request_finished.disconnect(close_old_connections)
request_finished.disconnect(close_caches)
request_finished.disconnect(reset_urlconf)
# What is loaded now stays: the collector need not look at it again and again.
gc.collect()
gc.freeze()
