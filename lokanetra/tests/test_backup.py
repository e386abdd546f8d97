"""The documented backup: made while payments continue, restored elsewhere, and served again."""

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import psycopg
import pytest
from django.db import connection

from lokanetra.env import BASE_DIR
from lokanetra.tests.docs import OPERATIONS, section
from lokanetra.tests.live import Answer, Live, Postgres, free_port, program, wait_for

# A folder to work in, and the variables there.
Place = tuple[Path, dict[str, str]]
FORGERY = """
from django.db import DatabaseError, connection
for forgery in ("UPDATE transactions_transaction SET amount = 1", "DELETE FROM transactions_transaction"):
    try:
        connection.cursor().execute(forgery)
        print("done")
    except DatabaseError:
        print("refused")
"""


def blocks(vendor: str) -> list[str]:
    """The commands in the documents: for a backup, and for restoring it."""
    found = re.findall(r"```bash\n(.*?)```", section(OPERATIONS, "Backup and restore"), re.DOTALL)
    return found[:2] if vendor == "postgresql" else found[2:]


def run(script: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run commands from the documents, as if the product and its database were in this folder."""
    script = script.replace("python manage.py", f"{sys.executable} {BASE_DIR}/manage.py")
    command = ["bash", "-euo", "pipefail", "-c", script]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


class Payer(threading.Thread):
    """Pays with new keys until it is stopped."""

    def __init__(self, live: Live, token: str) -> None:
        super().__init__()
        self.live, self.token, self.stopped = live, token, threading.Event()
        self.paid: dict[str, int] = {}

    def run(self) -> None:
        for number in count():
            if self.stopped.is_set():
                return
            key = f"backup-{self.token[-8:]}-{number}"
            self.paid[key] = pay(self.live, self.token, key).body["transaction_id"]


def pay(live: Live, token: str, key: str) -> Answer:
    return live.post("/wallet/debit/", {"amount": "0.01"}, token, key)


@dataclass
class Restored:
    """A server on the restored database, what each token had paid before the backup, and a second restore."""

    server: Live
    paid: dict[str, dict[str, int]]
    again: subprocess.CompletedProcess[str]


@pytest.fixture(scope="module")
def payers(live: Live) -> Iterator[list[Payer]]:
    """They pay before, during and after the backup."""
    payers = [Payer(live, live.new_account(f"98222222{number:02}")) for number in range(2)]
    for payer in payers:
        payer.start()
    wait_for(lambda: all(len(payer.paid) > 9 for payer in payers))
    yield payers
    for payer in payers:
        payer.stopped.set()
        payer.join()


@pytest.fixture(scope="module")
def databases(live: Live, tmp_path_factory, request: pytest.FixtureRequest) -> Iterator[tuple[Place, Place]]:
    """The live server's, and a new one."""
    folder = tmp_path_factory.mktemp("restored")
    if connection.vendor == "sqlite":
        program("sqlite3")
        old = Path(live.environment["DATABASE_URL"].removeprefix("sqlite:///")).parent
        yield (old, live.environment), (folder, live.environment | {"DATABASE_URL": f"sqlite:///{folder}/db.sqlite3"})
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    programs = Path(os.readlink(f"/proc/{postgres.pid()}/exe")).parent  # of the server's own version
    owner = {"DATABASE_URL": live.owner_url, "PATH": f"{programs}:{live.environment['PATH']}"}
    environment = live.environment | owner
    with psycopg.connect(postgres.url, autocommit=True) as session:
        session.execute("CREATE DATABASE restored")
        url = postgres.url.replace("/postgres?", "/restored?")
        yield (folder, environment), (folder, environment | {"DATABASE_URL": url})
        session.execute("DROP DATABASE restored")


@pytest.fixture(scope="module")
def restored(payers: list[Payer], databases: tuple[Place, Place]) -> Iterator[Restored]:
    old, new = databases
    backup, restoring = blocks(connection.vendor)
    before = {payer.token: dict(payer.paid) for payer in payers}
    run(backup, *old).check_returncode()
    wait_for(lambda: all(len(payer.paid) > len(before[payer.token]) for payer in payers))
    if old[0] != new[0]:
        shutil.move(old[0] / "wallet.sqlite3", new[0])
    run(restoring, *new).check_returncode()
    server = Live(free_port(), new[1], {})
    server.environment["PORT"] = str(server.port)
    server.start()
    yield Restored(server, before, run(restoring, *new))
    server.stop()


def test_every_earlier_payment_and_its_key_are_restored(restored):
    for token, paid in restored.paid.items():
        answers = [pay(restored.server, token, key) for key in paid]
        assert [answer.body["transaction_id"] for answer in answers] == list(paid.values())
        assert {answer.headers.get("idempotent-replayed") for answer in answers} == {"true"}


def test_the_books_agree_and_payments_go_on(restored):
    assert [pay(restored.server, token, "after").status for token in restored.paid] == [200, 200]
    assert restored.server.check_ledger()["ok"]


def test_the_database_guards_the_ledger_again(restored):
    assert restored.server.shell(FORGERY).split() == ["refused"] * 2


def test_nothing_is_restored_over_an_existing_database(restored):
    assert restored.again.returncode != 0
    assert "already exists" in restored.again.stderr
