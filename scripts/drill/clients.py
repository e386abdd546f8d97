"""Clients that pay while machines fail, each one payment after the other, and record the answers.

Each payment has its own key, which is in its remarks too, so that the ledger can be counted without the product's table
of keys. A payment without a final answer is requested again with the same key from the other server.
"""

import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from threading import Event

from scripts.bench import PHONES
from scripts.drill import Failed

CLIENTS = 20
# Seconds: for an answer, between two payments of one client, and before a payment is requested again.
TIMEOUT, PAUSE, RETRY_PAUSE = 20.0, 0.05, 0.25
# Seconds for payments in progress at the end.
FINISH_TIMEOUT = 60.0
# Answers that are not final, after which the same key is sent again.
UNDECIDED = (401, 408, 429, 500, 502, 503, 504)
# Outcomes that promise that nothing has moved.
NOTHING_MOVED = ("no server", "503 server_busy", "401 token_not_valid", "429 throttled", "408 request_timeout")

PAID, REPLAYED = DONE = ("200", "200 replayed")


@dataclass(frozen=True)
class Payment:
    """A credit of the client's own wallet, or a transfer to the wallet `to`; wallets are numbers, amounts paise."""

    key: str
    payer: int
    to: int
    amount: int

    @property
    def is_credit(self) -> bool:
        return self.payer == self.to


@dataclass(frozen=True)
class Acknowledged:
    """`is_contradicted`: it was done by an attempt whose answer promised that nothing moved."""

    payment: Payment
    begun: float
    answered: float
    is_contradicted: bool


@dataclass
class Clients:
    """The answers of all clients, with times of `time.monotonic`. Lists only grow, so they can be read meanwhile."""

    ports: list[int]
    logins: list[str] = field(default_factory=list)
    acknowledged: list[Acknowledged] = field(default_factory=list)
    outcomes: list[tuple[float, str]] = field(default_factory=list)
    over: Event = field(default_factory=Event)
    given_up: Event = field(default_factory=Event)

    def pay(self, number: int) -> None:
        """Run one client until `over` is set; the payment in progress is completed."""
        servers = itertools.cycle(self.ports[number % 2 :] + self.ports[: number % 2])
        port = next(servers)
        for payment in _payments(number):
            if self.over.wait(PAUSE):
                return
            is_sure = True
            while (outcome := self._request(payment, port, is_sure)) not in DONE:
                if self.given_up.wait(RETRY_PAUSE):
                    return
                is_sure = is_sure and outcome in NOTHING_MOVED
                port = next(servers)

    def _request(self, payment: Payment, port: int, is_sure: bool) -> str:
        begun = time.monotonic()
        outcome = self._send(payment, port)
        answered = time.monotonic()
        self.outcomes.append((answered, outcome))
        if outcome in DONE:
            is_contradicted = is_sure and outcome == REPLAYED
            self.acknowledged.append(Acknowledged(payment, begun, answered, is_contradicted))
        return outcome

    def _send(self, payment: Payment, port: int) -> str:
        """Send it and return the outcome. Raises Failed when the product refused it without a reason."""
        connection = HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
        try:
            connection.request("POST", *_message(payment, self.logins[payment.payer]))
            response = connection.getresponse()
            content = json.loads(response.read())
        except ConnectionRefusedError:
            return "no server"
        except TimeoutError:
            return "no answer in time"
        except (OSError, HTTPException, ValueError):
            return "broken off"
        finally:
            connection.close()
        if response.status == 200:
            return REPLAYED if response.headers["Idempotent-Replayed"] else PAID
        if response.status not in UNDECIDED:
            raise Failed(f"{payment} was answered with {response.status}: {content}")
        return f"{response.status} {content.get('code')}"

    def since(self, moment: float) -> list[Acknowledged]:
        """What was begun at that moment or later."""
        return [answer for answer in list(self.acknowledged) if answer.begun >= moment]

    def paid_since(self, moment: float) -> set[int]:
        """The clients that began a payment at that moment or later and had it acknowledged."""
        return {answer.payment.payer for answer in self.since(moment)}


@contextmanager
def paying(clients: Clients) -> Iterator[Callable[[], None]]:
    """Let the clients pay until the block ends. The function it yields raises the exception that ended a client."""
    with ThreadPoolExecutor(CLIENTS) as pool:
        running: list[Future[None]] = [pool.submit(clients.pay, number) for number in range(CLIENTS)]

        def check() -> None:
            for client in running:
                if client.done():
                    client.result()

        try:
            yield check
            clients.over.set()
            wait(running, timeout=FINISH_TIMEOUT)
            check()
        finally:
            clients.over.set()
            clients.given_up.set()


def _payments(number: int) -> Iterator[Payment]:
    """Every third is a credit; transfers rotate, so that each wallet receives from all others."""
    for turn in itertools.count(1):
        payee = (number + turn % (CLIENTS - 1) + 1) % CLIENTS
        yield Payment(f"drill-{number}-{turn}", number, payee if turn % 3 else number, 1 + turn % 100)


def _message(payment: Payment, login: str) -> tuple[str, str, dict[str, str]]:
    rupees = f"{payment.amount // 100}.{payment.amount % 100:02}"
    body = {"amount": rupees, "remarks": payment.key}
    if not payment.is_credit:
        body["to_phone_number"] = str(PHONES + 1 + payment.to)
    headers = {"Authorization": f"Bearer {login}", "Idempotency-Key": payment.key, "Content-Type": "application/json"}
    return f"/wallet/{'credit' if payment.is_credit else 'transfer'}/", json.dumps(body), headers
