"""Local servers that receive webhooks and accept them, refuse them, or hang."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from standardwebhooks import Webhook


@dataclass
class Receiver:
    """The requests it received. `answer` is called for each and returns the status and the text of the response."""

    url: str = ""
    answer: Callable[[], tuple[int, str]] = lambda: (200, "thanks")
    requests: list[tuple[dict[str, str], bytes]] = field(default_factory=list)

    def events(self, secret: str | None) -> list[Any]:
        """The events received, all verified with the secret. Raises WebhookVerificationError."""
        assert secret
        return [Webhook(secret).verify(body, headers) for headers, body in self.requests]


class Server(ThreadingHTTPServer):
    request_queue_size = 128


@contextmanager
def receiver(port: int = 0) -> Iterator[Receiver]:
    """A receiver that accepts everything unless `answer` is set."""
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.requests.append((dict(self.headers), body))
            status, text = found.answer()
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *args: Any) -> None:
            pass

    with Server(("127.0.0.1", port), Handler) as server:
        found.url = f"http://127.0.0.1:{server.server_port}/events"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()
