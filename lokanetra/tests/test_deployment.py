"""The files of `scripts/deploy/` are right: their settings, paths and commands exist, and their own tools accept them.
Two servers behind nginx are restarted, and no request fails."""

import datetime
import re
import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from glob import glob
from http.client import HTTPSConnection
from pathlib import Path
from ssl import _create_unverified_context

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from django.core.management import get_commands

from lokanetra.env import BASE_DIR
from lokanetra.tests.docs import settings_listed
from lokanetra.tests.live import Live, Postgres, free_port, live_server, own_postgres, program, wait_for

DEPLOY = BASE_DIR / "scripts" / "deploy"
HOME = "/srv/lokanetra"
UNITS = ("lokanetra@.service", "lokanetra-worker.service")
OF_SCRIPTS = {"HOST", "PORT", "WORKERS", "DRAIN_SECONDS"}
PYTHON = {"VIRTUAL_ENV", "PATH", "PYTHONUNBUFFERED"}


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


def compose() -> dict:
    return yaml.safe_load(text("compose.yaml"))["services"]


def ours() -> dict[str, dict]:
    return {name: service for name, service in compose().items() if service["image"] == "lokanetra"}


# --- Settings --------------------------------------------------------------------------------------------


def test_the_example_has_every_setting_of_production_and_no_other():
    named = re.findall(r"^#?(\w+)=", (BASE_DIR / ".env.example").read_text(), re.MULTILINE)
    assert sorted(named) == sorted(settings_listed() - OF_SCRIPTS - {"DEBUG", "OTP_ECHO"})


def test_each_file_sets_what_the_product_reads():
    in_image = set(re.findall(r"(\w+)=", " ".join(re.findall(r"^ENV (.*)$", text("Dockerfile"), re.MULTILINE))))
    in_units = {name for unit in UNITS for name in re.findall(r"^Environment=(\w+)=", text(unit), re.MULTILINE)}
    in_compose = {name for service in ours().values() for name in service["environment"]}
    assert (in_image - PYTHON) | in_units | in_compose <= settings_listed()


def test_no_secret_is_in_the_image():
    assert not re.search("SECRET|PASSWORD|TOKEN|DATABASE_URL", text("Dockerfile"))
    first, *_ = (line for line in text("Dockerfile.dockerignore").splitlines() if not line.startswith("#"))
    assert first == "*"
    assert "**/.env*" in text("Dockerfile.dockerignore").splitlines()


# --- Paths, commands, images -----------------------------------------------------------------------------


def test_the_files_of_the_image_exist():
    copied = re.findall(r"^COPY (?!--from)(\S+) ", text("Dockerfile"), re.MULTILINE)
    kept = re.findall(r"^!(\S+)$", text("Dockerfile.dockerignore"), re.MULTILINE)
    assert [path for path in copied + kept if not glob(path, root_dir=BASE_DIR)] == []
    assert {path.split("/")[0] for path in copied} <= {".", *(path.split("/")[0] for path in kept)}


def test_every_script_and_command_exists():
    files = [path.read_text() for path in DEPLOY.iterdir()]
    scripts = {name for content in files for name in re.findall(r"scripts/[\w/]+\.sh", content)}
    assert {"scripts/serve.sh", "scripts/worker.sh"} <= scripts
    assert [name for name in scripts if not (BASE_DIR / name).stat().st_mode & 0o100] == []
    commands = {name for content in files for name in re.findall(r"manage\.py (\w+)", content)}
    assert {"migrate", "collectstatic"} <= commands <= set(get_commands())


def test_every_image_has_a_version():
    images = re.findall(r"^FROM (\S+)", text("Dockerfile"), re.MULTILINE)
    images += [service["image"] for service in compose().values() if service not in ours().values()]
    assert len(images) == 4
    assert [image for image in images if not re.search(r":\d+(\.\d+)*(-[a-z-]+)?$", image)] == []


def test_the_server_is_the_image_s_first_process_and_not_root():
    lines = text("Dockerfile").splitlines()
    assert lines[-1] == 'CMD ["scripts/serve.sh"]'
    assert [line for line in lines if line.startswith("USER")] == ["USER 10001"]
    assert "/healthz" in lines[-2]


def test_servers_wait_for_the_migration_and_connect_as_another_role():
    database, migrate = compose()["database"], compose()["migrate"]
    assert "healthcheck" in database
    assert migrate["depends_on"] == {"database": {"condition": "service_healthy"}}
    assert "://lokanetra:" in migrate["environment"]["DATABASE_URL"]
    for name in ours().keys() - {"migrate"}:
        service = compose()[name]
        assert service["depends_on"]["migrate"] == {"condition": "service_completed_successfully"}
        assert "://lokanetra_server:" in service["environment"]["DATABASE_URL"]
    assert "CREATE ROLE lokanetra_server LOGIN" in text("roles.sql")


def test_nginx_has_the_ports_of_both_servers():
    upstream = re.findall(r"server 127\.0\.0\.1:(\d+)", text("nginx.conf"))
    published = [port for service in ours().values() for port in service.get("ports", [])]
    assert [f"127.0.0.1:{port}:8000" for port in upstream] == published


# --- Their own tools -------------------------------------------------------------------------------------


@pytest.mark.once
@pytest.mark.parametrize("unit", UNITS)
def test_systemd_accepts_the_units(unit, tmp_path):
    placed = tmp_path / unit.replace("@", "@8000")
    known = text(unit).replace(HOME, str(BASE_DIR)).replace("User=lokanetra", "User=root")
    placed.write_text(known)
    verified = subprocess.run([program("systemd-analyze"), "verify", placed], capture_output=True, text=True)
    assert (verified.returncode, [line for line in verified.stderr.splitlines() if placed.name in line]) == (0, [])


@contextmanager
def nginx(folder: Path, port: int, servers: list[int]) -> Iterator[None]:
    """The site of this project at this port, only on this machine."""
    site = text("nginx.conf").replace("listen 80;", f"listen 127.0.0.1:{free_port()};")
    site = site.replace("listen 443", f"listen 127.0.0.1:{port}")
    for there, here in zip(("8000", "8001"), servers, strict=True):
        site = site.replace(f"127.0.0.1:{there} ", f"127.0.0.1:{here} ")
    site = re.sub(r".*listen \[::\].*\n", "", site)
    site = site.replace("/etc/letsencrypt/live/wallet.example.com", str(folder))
    make_certificate(folder)
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    whole = f"user root; daemon off; pid {folder}/pid; events {{}} http {{ access_log off; {paths}\n{site} }}"
    (folder / "nginx.conf").write_text(whole)
    command = [program("nginx", "/usr/sbin/nginx"), "-e", folder / "log", "-c", folder / "nginx.conf"]
    tested = subprocess.run([*command, "-t"], capture_output=True, text=True)
    assert tested.returncode == 0, tested.stderr
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def make_certificate(folder: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "wallet.example.com")])
    now = datetime.datetime.now(datetime.UTC)
    until = now + datetime.timedelta(days=1)
    certificate = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, until)
    signed = certificate.sign(key, hashes.SHA256())
    (folder / "fullchain.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    formats = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "privkey.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, *formats))


class Client(threading.Thread):
    """Pays, or reads the balance, through the proxy until it is stopped, without retries."""

    def __init__(self, port: int, token: str, number: int) -> None:
        super().__init__()
        self.port, self.number, self.stopped = port, number, threading.Event()
        self.headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self.seen: Counter[int | str] = Counter()

    def run(self) -> None:
        connection = HTTPSConnection("127.0.0.1", self.port, timeout=30, context=_create_unverified_context())
        while not self.stopped.is_set():
            try:
                self.seen[self.call(connection)] += 1
            except Exception as fault:  # noqa: BLE001  (whatever it is, the client has seen it)
                self.seen[repr(fault)] += 1
                connection.close()

    def call(self, connection: HTTPSConnection) -> int:
        if self.number % 2:
            connection.request("GET", "/wallet/balance/", headers=self.headers)
        else:
            key = {"Idempotency-Key": f"{self.number}-{self.seen.total()}"}
            connection.request("POST", "/wallet/credit/", '{"amount": "1.00"}', self.headers | key)
        response = connection.getresponse()
        response.read()
        return response.status


@pytest.fixture
def pair(postgres: Postgres) -> Iterator[list[Live]]:
    """Two servers on one database."""
    with live_server(postgres.url, workers=1, DRAIN_SECONDS="2", NUM_PROXIES="1") as first:
        second = Live(free_port(), first.environment.copy(), first.codes)
        second.environment["PORT"] = str(second.port)
        second.start()
        try:
            yield [first, second]
        finally:
            second.stop()


@pytest.mark.slow
def test_two_servers_count_together_by_one_redis():
    port = free_port()
    command = [program("redis-server"), "--bind", "127.0.0.1", "--port", str(port), "--save", ""]
    redis = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    limits = {"API_RATE_LIMIT": "30/day", "OTP_SENDS_PER_ADDRESS": "3", "REDIS_URL": f"redis://127.0.0.1:{port}/0"}
    try:
        wait_for(lambda: socket.create_connection(("127.0.0.1", port)).close() is None)
        with own_postgres() as database, live_server(database.url, workers=2, **limits) as first:
            second = Live(free_port(), first.environment.copy(), first.codes)
            second.environment["PORT"] = str(second.port)
            second.start()
            try:
                token = first.log_in("9877000004")
                calls = [server.call("GET", "/wallet/balance/", token=token).status for server in [first, second] * 20]
                codes = [
                    server.post("/auth/send-otp/", {"phone_number": f"987700001{number}"}).status
                    for number, server in enumerate([second, first, second, first])
                ]
            finally:
                second.stop()
    finally:
        redis.terminate()
        redis.wait()
    assert calls == [200] * 30 + [429] * 10
    assert codes == [201] * 2 + [429] * 2  # the login had the first


@pytest.mark.slow
def test_a_rolling_restart_behind_nginx_fails_no_request(pair, tmp_path):
    port = free_port()
    token = pair[0].new_account("9877000003")
    clients = [Client(port, token, number) for number in range(4)]
    with nginx(tmp_path, port, [server.port for server in pair]):
        wait_for(lambda: HTTPSConnection("127.0.0.1", port, context=_create_unverified_context()).connect() is None)
        for client in clients:
            client.start()
        for server in pair:
            time.sleep(0.5)
            server.process.terminate()
            assert server.process.wait(timeout=15) == 0
            server.output.unlink()
            server.start()
        time.sleep(0.5)
        for client in clients:
            client.stopped.set()
            client.join()
    assert [list(client.seen) for client in clients] == [[200]] * 4
    paid = sum(client.seen.total() for client in clients if client.number % 2 == 0)
    assert pair[0].balance(token) == f"{1000 + paid}.00"
