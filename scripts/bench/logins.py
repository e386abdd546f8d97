"""Complete logins: callers that ask for a code and log in with it, and the gateway that gets the codes.

All run in one event loop and keep their connections, to take little of the processor that the product is measured on.
"""

import asyncio
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import uvloop

from scripts.bench.load import CONNECTIONS, Failed, Round, figures

LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


@dataclass
class Logins:
    """The gateway's listening socket, and the last code of each phone by its ten national digits."""

    listening: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    codes: dict[str, str] = field(default_factory=dict)

    @property
    def gateway(self) -> str:
        """Its address, as a setting of the product."""
        return f"json://127.0.0.1:{self.listening.getsockname()[1]}/{{phone}}"

    def run(self, port: int, phones: Iterator[str], seconds: int) -> Round:
        """Logins of one phone after the other at the product on this port. Raises Failed."""
        return uvloop.run(self._run(port, phones, seconds))

    async def _run(self, port: int, phones: Iterator[str], seconds: int) -> Round:
        start, took = time.monotonic(), list[float]()
        async with await asyncio.start_server(self._deliver, sock=self.listening.dup()):
            await asyncio.gather(*(self._log_in(port, phones, start + seconds, took) for _ in range(CONNECTIONS)))
            return figures(len(took) / (time.monotonic() - start), [1e3 * duration for duration in took])

    async def _deliver(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path, message = await _read(reader)
        self.codes[path.split()[1][-10:].decode()] = re.findall(r"\b[0-9]{6}\b", json.loads(message)["message"])[0]
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    async def _log_in(self, port: int, phones: Iterator[str], end: float, took: list[float]) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while (before := time.monotonic()) < end:
            phone = next(phones)
            await _post(reader, writer, "/auth/send-otp/", phone_number=phone)
            await _post(reader, writer, "/auth/verify-otp/", phone_number=phone, otp=self.codes[phone[-10:]])
            took.append(time.monotonic() - before)
        writer.close()


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, **fields: Any) -> None:
    body = json.dumps(fields)
    head = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json"]
    writer.write("\r\n".join([*head, f"Content-Length: {len(body)}", "", body]).encode())
    status, answer = await _read(reader)
    if not status.startswith(b"HTTP/1.1 20"):
        raise Failed(f"login: {path} was answered by {answer.decode()}")


async def _read(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """The first line and the body of a request or an answer."""
    head = await reader.readuntil(b"\r\n\r\n")
    (length,) = LENGTH.findall(head)
    return head.partition(b"\r\n")[0], await reader.readexactly(int(length))
