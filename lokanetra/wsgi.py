"""The application as a WSGI server runs it."""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from typing import Any

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "lokanetra.settings")
# A request that waits longer than this has lost its client: better a clear 503. Management commands take their time.
os.environ.setdefault("PGOPTIONS", "-c lock_timeout=3s -c statement_timeout=10s")

# More than one, for a gateway of messages may keep one waiting for seconds.
THREADS = 4
# More than any request of ours has; what is cut off is refused as too large.
LONGEST_BODY = 2_500_000


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
        return self.threads.submit(self.app, environ, start_response).result()

    @staticmethod
    def _length(environ: dict[str, Any]) -> int:
        """How much to read. Without a length only a server that marks the end may be read from."""
        told = environ.get("CONTENT_LENGTH", "")
        if told.isdecimal():
            return min(int(told), LONGEST_BODY)
        return LONGEST_BODY if environ.get("wsgi.input_terminated") else 0


application = Whole(get_wsgi_application())
