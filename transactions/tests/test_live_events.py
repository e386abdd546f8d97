"""Events and deliveries by real processes, which are killed while they work.

`DRILL=1000 ./scripts/test.sh -n 0 transactions/tests/test_live_events.py -k killed -s` runs longer, and verifies
with the npm library too.
"""

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from lokanetra.env import BASE_DIR
from lokanetra.tests.live import Live, Unanswered, free_port, wait_for
from transactions.tests.receivers import receiver

pytestmark = pytest.mark.once

DRILL = int(os.environ.get("DRILL", "0"))
PAYMENTS, CLIENTS = DRILL or 120, 8
KILLS = 6 if DRILL else 2
# Enough for a lease to end, or for a third attempt.
TIMEOUT = 360 if DRILL else 90

PYTHON_RECEIVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from standardwebhooks import Webhook

class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        event = Webhook(sys.argv[2]).verify(self.rfile.read(int(self.headers["Content-Length"])), dict(self.headers))
        with open(sys.argv[3], "a") as log:
            log.write(json.dumps(event) + "\\n")
        self.send_response(204)
        self.end_headers()

    def log_message(self, *args):
        pass

class Server(ThreadingHTTPServer):
    request_queue_size = 128

Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
NODE_RECEIVER = """
const { Webhook } = require('standardwebhooks'), http = require('http'), fs = require('fs');
const [port, secret, file] = process.argv.slice(2), webhook = new Webhook(secret);
http.createServer((request, response) => {
  const parts = [];
  request.on('data', part => parts.push(part)).on('end', () => {
    const event = webhook.verify(Buffer.concat(parts).toString(), request.headers);
    fs.appendFileSync(file, JSON.stringify(event) + '\\n');
    response.writeHead(204).end();
  });
}).listen(Number(port), '127.0.0.1');
"""
MAKE = """
from transactions import events, webhooks
from users import accounts
from users.models import UserProfile
phone = "+919810000001"
boss = UserProfile.objects.filter(phone_number=phone).first() or accounts.create(phone_number=phone, is_superuser=True)
events.number()
for url in {urls!r}:
    webhook = webhooks.create(by=boss.pk, url=url, types=["transaction.created"])
    print(webhook.pk, webhook.secret)
"""
OFF = "from transactions.models import Webhook; Webhook.objects.update(is_active=False)"
TRIED = "from transactions.models import Delivery; print(*Delivery.objects.values_list('status', 'attempts', 'answer'))"
FEED = "from transactions.models import Event; print(*Event.objects.values_list('transaction_id', flat=True))"


class Process:
    """A process that is killed and started again."""

    def __init__(self, *command: str, environment: dict[str, str], folder: Path | None = None) -> None:
        self.command, self.environment, self.folder, self.kills = command, environment, folder, 0
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            self.command, env=self.environment, cwd=self.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.kills += 1


@contextmanager
def process(*command: str, environment: dict[str, str], folder: Path | None = None) -> Iterator[Process]:
    found = Process(*command, environment=environment, folder=folder)
    try:
        yield found
    finally:
        found.kill()


@pytest.fixture
def here(live: Live) -> Iterator[dict[str, str]]:
    """The environment of a worker that may send to this machine; afterwards all webhooks are off."""
    yield live.environment | {"DEBUG": "on"}
    live.shell(OFF)


def make(live: Live, here: dict[str, str], *urls: str) -> list[str]:
    """The secrets of webhooks with these addresses."""
    command = [sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", MAKE.format(urls=urls)]
    done = subprocess.run(command, cwd=BASE_DIR, env=here, capture_output=True, text=True, check=True)
    return [line.split()[1] for line in done.stdout.splitlines()]


def pay(live: Live, token: str, count: int, name: str) -> list[int]:
    """Make payments of one client, each repeated with its key until it is answered, and return their ids."""
    found = []
    for number in range(count):
        while True:
            with suppress(Unanswered):
                answer = live.post("/wallet/debit/", {"amount": "0.01"}, token, key=f"{name}-{number}")
                if answer.status == 200:
                    found.append(answer.body["transaction_id"])
                    break
    return found


def client(live: Live, number: int) -> str:
    token = live.log_in(f"98120000{number:02}")
    assert live.post("/wallet/credit/", {"amount": "1000.00"}, token).status == 200
    return token


def read(log: Path) -> Counter[int]:
    lines = log.read_text().splitlines() if log.exists() else []
    return Counter(json.loads(line)["data"]["id"] for line in lines)


def install_from_npm(folder: Path) -> None:
    (folder / "receiver.js").write_text(NODE_RECEIVER)
    subprocess.run(
        ["npm", "install", "--silent", "--prefer-offline", "standardwebhooks@1.0.0"],
        cwd=folder,
        check=True,
        timeout=120,
    )


@pytest.mark.slow
def test_each_payment_arrives_whichever_process_is_killed(live: Live, here, tmp_path):
    seed = random.randrange(10**6)
    print(f"seed {seed}")  # noqa: T201
    dice, ports = random.Random(seed), [free_port() for _ in range(2 if DRILL else 1)]
    secrets = make(live, here, *(f"http://127.0.0.1:{port}/" for port in ports))
    logs = [tmp_path / f"{port}.log" for port in ports]
    commands = [[sys.executable, "-c", PYTHON_RECEIVER]]
    if DRILL:
        install_from_npm(tmp_path)
        commands.append(["node", "receiver.js"])
    tokens = [client(live, number) for number in range(CLIENTS)]
    with ExitStack() as stack:
        start = lambda *command, **how: stack.enter_context(process(*command, environment=here, **how))  # noqa: E731
        workers = [start(sys.executable, "manage.py", "work", folder=BASE_DIR) for _ in range(2)]
        receivers = [
            start(*command, str(port), secret, str(log), folder=tmp_path if "node" in command else None)
            for command, port, secret, log in zip(commands, ports, secrets, logs, strict=True)
        ]
        with ThreadPoolExecutor(CLIENTS) as clients:
            paying = [
                clients.submit(pay, live, token, PAYMENTS // CLIENTS, f"{seed}-{number}")
                for number, token in enumerate(tokens)
            ]
            while (
                any(not client.done() for client in paying) or min(each.kills for each in workers + receivers) < KILLS
            ):
                time.sleep(dice.uniform(0.2, 0.8))
                victim = dice.choice(workers + receivers)
                victim.kill()
                time.sleep(dice.uniform(0, 0.5))
                victim.start()
        paid = {pk for result in paying for pk in result.result()}
        began = time.monotonic()
        while any(paid - read(log).keys() for log in logs):
            assert time.monotonic() - began < TIMEOUT, [len(paid - read(log).keys()) for log in logs]
            time.sleep(0.5)
        kills = [[each.kills for each in group] for group in (workers, receivers)]
        repeated = [sum(count - 1 for pk, count in read(log).items() if pk in paid) for log in logs]
        print(f"{len(paid)} payments, kills {kills}, repeated {repeated}, waited {time.monotonic() - began:.1f} s")  # noqa: T201
    assert len(paid) == PAYMENTS
    assert paid <= {int(pk) for pk in live.shell(FEED).split() if pk != "None"}


def test_one_endpoint_of_fifty_that_hangs_does_not_delay_others(live: Live, here, tmp_path):
    token, over = client(live, 20), threading.Event()
    with receiver() as good, receiver() as hanging, ExitStack() as stack:
        hanging.answer = lambda: (over.wait(20) and 200, "")
        make(live, here, hanging.url, *(f"{good.url}/{number}" for number in range(49)))
        stack.enter_context(process(sys.executable, "manage.py", "work", environment=here, folder=BASE_DIR))
        pay(live, token, 1, f"first-{random.random()}")
        wait_for(lambda: len(good.requests) >= 49)  # the worker is running
        pay(live, token, 10, f"fifty-{random.random()}")
        began = time.monotonic()
        with suppress(TimeoutError):
            wait_for(lambda: len(good.requests) >= 49 * 11)
        seconds = time.monotonic() - began
        assert seconds < 14, live.shell(TRIED)  # waiting for the one that hangs takes 15
        over.set()
    print(f"{len(good.requests)} deliveries after {seconds:.2f} s")  # noqa: T201
    assert len(hanging.requests) >= 1
