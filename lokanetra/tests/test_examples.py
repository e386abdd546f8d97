"""The example servers in the documents, as processes, against the production server and its worker."""

import json
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, NamedTuple

import pytest

from lokanetra.tests.docs import API, read
from lokanetra.tests.live import Live, free_port, program, wait_for
from transactions import signatures
from transactions.tests.receivers import receiver

pytestmark = pytest.mark.slow

EXAMPLES = dict(re.findall(r"^`(\w+\.\w+)` [^\n]*:\n\n```\w+\n(.*?)^```$", read(API), re.DOTALL | re.MULTILINE))
# The examples have long time-outs; these tests do not.
IMPATIENT = {"timeout=20": "timeout=1", "20_000": "1000", "time.sleep(pause)": "", "1000 * pause": "0"}
PHONES = {"py": "9870000001", "mjs": "9870000002"}


@pytest.fixture(params=["py", "mjs"])
def language(request: pytest.FixtureRequest) -> str:
    return request.param


def command(name: str, folder: Path, edit: dict[str, str] | None = None) -> list[str]:
    """The command that runs the example of this name."""
    interpreter = sys.executable if name.endswith(".py") else program("node")
    code = EXAMPLES[name]
    for text, other in (edit or {}).items():
        code = code.replace(text, other)
    (folder / name).write_text(code, encoding="utf-8")
    return [interpreter, str(folder / name)]


def test_the_documents_have_the_examples_in_both_languages():
    assert set(EXAMPLES) == {"credit.py", "credit.mjs", "shop.py", "shop.mjs"}


# --- The gateway's backend ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def api_key(live: Live) -> str:
    """Created as the documents describe."""
    arguments = ["gateway", "--name", "backend", "--permission", "wallet.adjust_wallet"]
    return live.run(sys.executable, "manage.py", "create_key", *arguments).stdout.strip()


@dataclass
class Backend:
    """Credits with the example, in a process for each payment."""

    command: list[str]
    environment: dict[str, str]

    def credit(self, *arguments: str, by: str | None = None) -> subprocess.CompletedProcess[str]:
        environment = self.environment | ({"LOKANETRA_URL": by} if by else {})
        return subprocess.run(
            [*self.command, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )


@pytest.fixture
def backend(live: Live, api_key: str, language: str, tmp_path: Path) -> Backend:
    address = f"http://127.0.0.1:{live.port}"
    environment = {"LOKANETRA_URL": address, "LOKANETRA_KEY": api_key, "PATH": live.environment["PATH"]}
    return Backend(command(f"credit.{language}", tmp_path, IMPATIENT), environment)


def test_a_payment_reported_twice_is_credited_once(live: Live, backend: Backend, language: str):
    asha = live.log_in(PHONES[language])
    before = Decimal(live.balance(asha))
    payment = [f"pay_twice_{language}", PHONES[language], "150.50"]
    first, again = (json.loads(backend.credit(*payment).stdout) for _ in range(2))
    assert (first["amount"], first["remarks"]) == ("150.50", f"Payment pay_twice_{language}")
    assert again == first
    assert Decimal(live.balance(asha)) - before == Decimal("150.50")


def test_it_repeats_with_the_same_key_until_there_is_an_answer(live: Live, backend: Backend, language: str):
    asha = live.log_in(PHONES[language])
    before = Decimal(live.balance(asha))
    with front(live, ["hangs", "breaks", "502", "503", "429", "408"]) as (address, keys):
        done = backend.credit(f"pay_lost_{language}", PHONES[language], "20.00", by=address)
    assert json.loads(done.stdout)["amount"] == "20.00"
    assert keys == [f"pay_lost_{language}"] * 7
    assert done.stderr.count("again in") == 6
    assert Decimal(live.balance(asha)) - before == 20


def test_a_refusal_is_not_repeated_and_says_why(live: Live, backend: Backend):
    with front(live, []) as (address, keys):
        done = backend.credit("pay_unknown", "9879999999", "20.00", by=address)
    assert (done.returncode, done.stdout) == (1, "")
    assert '"code":"recipient_not_found"' in done.stderr
    assert len(keys) == 1


@contextmanager
def front(live: Live, faults: list[str]) -> Iterator[tuple[str, list[str]]]:
    """A proxy in front of the server, with these faults, one for each call, and then none: its address, and the keys
    received. A call that hangs or breaks was executed, but its answer is lost."""
    keys: list[str] = []
    left = iter(faults)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            keys.append(self.headers["Idempotency-Key"])
            fault = next(left, "none")
            status, content = (int(fault), b"{}") if fault.isdigit() else self.forward(body)
            if fault == "hangs":
                time.sleep(1.5)
            elif fault != "breaks":
                self.answer(status, content)

        def forward(self, body: bytes) -> tuple[int, bytes]:
            return sent(live.port, self.path, dict(self.headers), body)

        def answer(self, status: int, content: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", keys
        server.shutdown()


def sent(port: int, path: str, headers: dict[str, str], body: bytes) -> tuple[int, bytes]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("POST", path, body=body, headers=headers)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


# --- The shop ----------------------------------------------------------------------------------------


@dataclass
class Shop:
    port: int
    output: Path

    def answer(self, headers: dict[str, str], body: bytes) -> int:
        return sent(self.port, "/events", headers, body)[0]

    def accepted(self) -> list[Any]:
        """The events that it accepted."""
        return [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def open_shop(language: str, tmp_path: Path) -> Iterator[Callable[..., Shop]]:
    """Starts the example with a secret, at a given port or any."""
    processes = []

    def start(secret: str, port: int | None = None) -> Shop:
        shop = Shop(port or free_port(), tmp_path / f"{len(processes)}.jsonl")
        environment = {"WEBHOOK_SECRET": secret, "PORT": str(shop.port), "PYTHONIOENCODING": "utf-8"}
        with shop.output.open("w") as output:
            processes.append(subprocess.Popen(command(f"shop.{language}", tmp_path), env=environment, stdout=output))
        wait_for(lambda: shop.answer({}, b"") == 401)
        return shop

    yield start
    for process in processes:
        process.kill()
        process.wait()


SECRET, BODY = signatures.new_secret(), '{"id":7,"data":{"remarks":"चाय ☕"}}'.encode()


def signed(secret: str = SECRET, age: int = 0, body: bytes = BODY) -> dict[str, str]:
    at = datetime.fromtimestamp(time.time() - age, UTC)
    return signatures.headers([secret], "evt_7", at, body)


def test_it_accepts_what_is_signed_intact_and_recent(open_shop):
    shop = open_shop(SECRET)
    other = signed(signatures.new_secret())["webhook-signature"]
    several = signed() | {"webhook-signature": f"{other} v1a,abc {signed()['webhook-signature']}"}
    assert [shop.answer(headers, BODY) for headers in (signed(), several, signed(age=290))] == [204] * 3
    wait_for(lambda: bool(shop.accepted()))
    assert shop.accepted() == [json.loads(BODY)]  # once, because it is one event


def test_it_refuses_everything_else(open_shop):
    shop = open_shop(SECRET)
    good = signed()
    wrong = {
        "forged": signed(signatures.new_secret()),
        "old": signed(age=310),
        "of the future": signed(age=-310),
        "another date": good | {"webhook-timestamp": str(int(good["webhook-timestamp"]) + 1)},
        "no date": good | {"webhook-timestamp": "now"},
        "another event": good | {"webhook-id": "evt_8"},
        "another version": good | {"webhook-signature": good["webhook-signature"].replace("v1,", "v2,")},
        "a part": good | {"webhook-signature": good["webhook-signature"][:-1]},
        "empty": good | {"webhook-signature": ""},
        "not ASCII": good | {"webhook-signature": "v1,\xe9" * 100},
    }
    wrong |= {f"without {name}": {one: good[one] for one in good if one != name} for name in good}
    assert {name: shop.answer(headers, BODY) for name, headers in wrong.items()} == dict.fromkeys(wrong, 401)
    assert shop.answer(good, BODY.replace(b"7", b"8")) == 401
    assert shop.answer(good, json.dumps(json.loads(BODY)).encode()) == 401  # the same, but not as it came
    assert shop.accepted() == []


def test_an_aborted_request_affects_no_other(open_shop):
    shop = open_shop(SECRET)
    with socket.create_connection(("127.0.0.1", shop.port)) as wire:
        wire.sendall(b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 100\r\n\r\nhalf of")
    assert shop.answer(signed(), BODY) == 204


def test_it_does_not_start_without_a_secret(language, tmp_path):
    for secret in ("", "lk_abc"):
        environment = {"WEBHOOK_SECRET": secret, "PORT": str(free_port())}
        started = command(f"shop.{language}", tmp_path)
        assert subprocess.run(started, env=environment, capture_output=True, timeout=20, check=False).returncode == 1


# --- Both, with the worker between -------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(live: Live) -> Live:
    """The shell of a worker that may send to this machine."""
    return Live(live.port, live.environment | {"DEBUG": "on"}, live.codes)


COMMON = """
import json
from decimal import Decimal
from django.core.management import call_command
from transactions import events, webhooks
from transactions.models import Delivery, Outbox
from users import accounts
from users.models import UserProfile
from wallet import payments
boss = UserProfile.objects.filter(is_superuser=True).first() or UserProfile.objects.create_superuser("shopkeeper")
while Outbox.objects.exists():
    events.number()  # what other tests left is not for these webhooks
"""
MADE = """
made = webhooks.create(by=boss.pk, url="http://127.0.0.1:{port}/events", types=["transaction.created"])
print(json.dumps([made.pk, made.secret]))
"""
SENT_AGAIN = """
for delivery in Delivery.objects.filter(webhook={webhook}):
    webhooks.retry(by=boss.pk, delivery_id=delivery.pk)
call_command("work", once=True)
found = Delivery.objects.filter(webhook={webhook}).values_list("status", "attempts", "answer_status")
print(json.dumps(list(found)))
webhooks.change(by=boss.pk, webhook_id={webhook}, is_active=False)
"""
ROTATED = """
made = webhooks.create(by=boss.pk, url="{url}", types=["transaction.created"])
new = webhooks.rotate(by=boss.pk, webhook_id=made.pk)
phone = "+919870000003"
asha = UserProfile.objects.filter(phone_number=phone).first() or accounts.create(phone_number=phone)
payments.credit(user_id=asha.pk, amount=Decimal("5.00"), remarks="चाय ☕")
call_command("work", once=True)
webhooks.change(by=boss.pk, webhook_id=made.pk, is_active=False)
print(json.dumps([made.secret, new.secret]))
"""


def test_a_credit_by_key_reaches_the_shop_once(live, worker, backend, open_shop, language):
    live.log_in(PHONES[language])
    port = free_port()
    webhook, secret = json.loads(worker.shell(COMMON + MADE.format(port=port)))
    shop = open_shop(secret, port)
    payment = [f"pay_sent_{language}", PHONES[language], "99.00"]
    receipt, _ = (json.loads(backend.credit(*payment).stdout) for _ in range(2))
    worker.run(sys.executable, "manage.py", "work", "--once")
    wait_for(lambda: bool(shop.accepted()))
    (event,) = shop.accepted()
    found = event["type"], event["data"]["id"], event["data"]["remarks"]
    assert found == ("transaction.created", receipt["transaction_id"], f"Payment pay_sent_{language}")
    assert json.loads(worker.shell(COMMON + SENT_AGAIN.format(webhook=webhook))) == [["DELIVERED", 1, 204]]
    assert shop.accepted() == [event]


class Delivered(NamedTuple):
    """What a webhook received just after its secret was replaced."""

    headers: dict[str, str]
    body: bytes
    old: str
    new: str


@pytest.fixture(scope="module")
def delivered(worker: Live) -> Delivered:
    with receiver() as server:
        secrets = json.loads(worker.shell(COMMON + ROTATED.format(url=server.url)))
        assert server.events(secrets[0]) == server.events(secrets[1])
    ((headers, body),) = server.requests
    return Delivered(headers, body, *secrets)


def test_the_old_and_the_new_secret_are_both_accepted(delivered, open_shop):
    shops = [open_shop(secret) for secret in (delivered.old, delivered.new, signatures.new_secret())]
    assert [shop.answer(delivered.headers, delivered.body) for shop in shops] == [204, 204, 401]
    wait_for(lambda: bool(shops[0].accepted()))
    assert shops[0].accepted()[0]["data"]["remarks"] == "चाय ☕"


PACKAGE = "standardwebhooks@1.0.0"
VERIFY = """
import { Webhook } from "standardwebhooks";
const [headers, body, ...secrets] = JSON.parse(process.argv[2]);
const found = secrets.map((secret) => {
  try { return new Webhook(secret).verify(body, headers).data.remarks; } catch (error) { return error.message; }
});
console.log(JSON.stringify(found));
"""


def install(folder: Path, attempts: int = 4) -> None:
    """The registry may hang once."""
    command = [program("npm"), "install", "--prefer-offline", "--no-audit", "--no-fund", "--prefix", folder, PACKAGE]
    try:
        subprocess.run(command, check=True, timeout=60)
    except subprocess.SubprocessError:
        if attempts == 1:
            raise
        install(folder, attempts - 1)


def test_the_library_for_node_verifies_it_too(delivered, tmp_path):
    node = program("node")
    install(tmp_path)
    (tmp_path / "verify.mjs").write_text(VERIFY)
    given = [delivered.headers, delivered.body.decode(), delivered.old, delivered.new, signatures.new_secret()]
    done = subprocess.run([node, tmp_path / "verify.mjs", json.dumps(given)], capture_output=True, check=True)
    assert json.loads(done.stdout) == ["चाय ☕", "चाय ☕", "No matching signature found"]
