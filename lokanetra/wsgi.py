"""The application as a WSGI server runs it."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from io import BytesIO
from typing import Any

from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from django.http import FileResponse, StreamingHttpResponse

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")
# A request that waits longer than this has lost its client: better a clear 503. Management commands take their time.
os.environ.setdefault("PGOPTIONS", "-c lock_timeout=3s -c statement_timeout=10s")

# More than one, for a gateway of messages may keep one waiting for seconds.
THREADS = 4
# More than any request of ours has; what is cut off is refused as too large.
LONGEST_BODY = 2_500_000


class InParts:
    """An answer that is made while it is sent, each part of it in one of the application's threads.

    The server asks for a part, in a thread of its own, when the client has room for it. Were it made there, each of
    those many threads would open a connection to the database, and keep it for ever; so they only wait, and a part is
    a short piece of work like any request. Two parts may be made by different threads, with different connections:
    no part may leave a cursor or a transaction to the next.
    """

    def __init__(self, answer: StreamingHttpResponse, threads: ThreadPoolExecutor) -> None:
        self.answer, self.parts, self.threads = answer, iter(answer), threads
        self.context = copy_context()  # the log lines of all parts carry the id of their request

    def __iter__(self) -> "InParts":
        return self

    def __next__(self) -> bytes:
        part = self.threads.submit(self.context.run, self._part).result()
        if part is None:
            raise StopIteration
        return part

    def _part(self) -> bytes | None:
        close_old_connections()  # a request does so when it begins: a connection that was lost is made again
        return next(self.parts, None)

    def close(self) -> None:
        """Called at the end, and when the client is gone before it."""
        self.threads.submit(self.context.run, self.answer.close).result()


class Whole:
    """Reads a request whole before it takes one of the few threads in which the application runs.

    Clients that send slowly wait in the server's own threads, which are many and hold nothing; the application's are
    few, because each holds a connection to the database, and because they share one interpreter.
    """

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self.app = app
        self.threads = ThreadPoolExecutor(THREADS)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = environ["wsgi.input"].read(self._length(environ))
        # A body in chunks told no length beforehand.
        environ |= {"wsgi.input": BytesIO(body), "CONTENT_LENGTH": environ.get("CONTENT_LENGTH") or str(len(body))}
        return self.threads.submit(self._answer, environ, start_response).result()

    def _answer(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        answer = self.app(environ, start_response)
        if isinstance(answer, StreamingHttpResponse) and not isinstance(answer, FileResponse):
            return InParts(answer, self.threads)
        return answer

    @staticmethod
    def _length(environ: dict[str, Any]) -> int:
        """How much to read. Without a length only a server that marks the end may be read from."""
        told = environ.get("CONTENT_LENGTH", "")
        if told.isdecimal():
            return min(int(told), LONGEST_BODY)
        return LONGEST_BODY if environ.get("wsgi.input_terminated") else 0


application = Whole(get_wsgi_application())
