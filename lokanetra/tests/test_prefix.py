"""The product works below a path prefix, from a setting or from the proxy, which is trusted if the prefix is valid."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import pytest
from django.test import Client
from django.urls import get_script_prefix

from lokanetra.tests.live import Live, live_server
from wallet import payments

pytestmark = pytest.mark.once

LINK = re.compile(r"""(?<![\w:.-])(?:href|src|action|data-[a-z-]*url)=["']([^"']*)["']""")
NOT_OURS = ("#", "?", "../", "data:", "https://", "javascript:")
CONSOLE = [
    "/admin/", "/admin/users/userprofile/", "/admin/users/userprofile/add/", "/admin/users/userprofile/{pk}/change/",
    "/admin/users/userprofile/{pk}/password/", "/admin/wallet/wallet/", "/admin/wallet/wallet/{wallet}/change/",
    "/admin/wallet/wallet/{wallet}/credit/", "/admin/transactions/transaction/", "/admin/users/otp/",
    "/admin/users/login/", "/admin/auth/group/", "/admin/wallet/ledgercheck/", "/admin/admin/logentry/",
]  # fmt: skip


@pytest.fixture(params=["setting, stripped", "setting, left", "header, stripped", "header, left"])
def proxy(request, settings):
    """Keyword arguments of a client, and the beginning of the paths that reach the server."""
    how, what = request.param.split(", ")
    settings.ALLOWED_HOSTS = ["pay.example.com"]
    common = {"SERVER_NAME": "pay.example.com", "HTTP_HOST": "pay.example.com:8443"}
    if how == "setting":
        settings.FORCE_SCRIPT_NAME = "/pay"
    else:
        settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
        common["HTTP_X_FORWARDED_PREFIX"] = "/pay"
    return common, "" if what == "stripped" else "/pay"


@pytest.fixture
def get(proxy):
    common, sent = proxy
    client = Client(**common)
    return lambda path, **more: client.get(sent + path, **more)


@pytest.fixture
def console(proxy, boss):
    common, sent = proxy
    client = Client(**common)
    client.force_login(boss)
    return lambda path, **more: client.get(sent + path, **more)


def strangers(page: str) -> list[str]:
    """Links that leave the prefix."""
    return [link for link in LINK.findall(page) if link and not link.startswith((*NOT_OURS, "/pay/"))]


def test_pages_of_a_list_are_found_below_it(get, asha, ravi, as_user, wallet_moves):
    token = as_user(asha)._credentials["HTTP_AUTHORIZATION"]
    page = get("/transactions/?page_size=1", HTTP_AUTHORIZATION=token).json()
    assert page["next"].startswith("http://pay.example.com:8443/pay/transactions/?")
    assert "cursor=" in page["next"]
    following = get("/transactions/" + page["next"].partition("/transactions/")[2], HTTP_AUTHORIZATION=token).json()
    assert following["previous"].startswith("http://pay.example.com:8443/pay/transactions/?")


def test_numbered_pages_too(get, asha, ravi, boss, as_user):
    token = as_user(boss)._credentials["HTTP_AUTHORIZATION"]
    page = get("/auth/admin/users/?page_size=1", HTTP_AUTHORIZATION=token).json()
    assert page["next"] == "http://pay.example.com:8443/pay/auth/admin/users/?page=2&page_size=1"


@pytest.fixture
def wallet_moves(asha, ravi):
    for _ in range(3):
        payments.debit(user_id=asha.pk, amount=Decimal("1.00"))


@pytest.mark.parametrize(
    ("path", "location"),
    [
        ("/", "/pay/swagger/"),
        ("/transactions?page=1", "/pay/transactions/?page=1"),
        ("/admin", "/pay/admin/"),
        ("/admin/wallet/wallet/", "/pay/admin/login/?next=/pay/admin/wallet/wallet/"),
    ],
)
@pytest.mark.django_db
def test_redirects_stay_below_it(get, path, location):
    answer = get(path)
    assert (answer.status_code in (301, 302), answer["Location"]) == (True, location)


def test_https_redirects_stay_below_it_and_skip_health_checks(get, settings, db):
    settings.SECURE_SSL_REDIRECT = True
    assert get("/wallet/balance/")["Location"] == "https://pay.example.com:8443/pay/wallet/balance/"
    assert [get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]


def test_a_log_in_leads_to_the_console_and_its_cookies_belong_to_it(proxy, boss):
    common, sent = proxy
    client = Client(enforce_csrf_checks=True, **common)
    client.get(f"{sent}/admin/login/")
    form = {"username": "boss", "password": "correct horse", "csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    page = client.post(f"{sent}/admin/login/", form, HTTP_ORIGIN="http://pay.example.com:8443")
    assert (page.status_code, page["Location"]) == (302, "/pay/admin/")
    assert {name: cookie["path"] for name, cookie in page.cookies.items()} == {
        "csrftoken": "/pay/",
        "sessionid": "/pay/",
    }


def test_the_documentation_calls_what_is_below_it(get):
    spec = get("/swagger.json").json()
    assert (spec["host"], spec["basePath"]) == ("pay.example.com:8443", "/pay")
    for path in ("/swagger/", "/redoc/"):
        page = get(path)
        assert page["Content-Security-Policy"].startswith("default-src 'self'")
        text = page.content.decode()
        assert strangers(text) == []
        assert re.search(r"""["']/pay/swagger.json["']""", text)


def test_every_link_of_the_console_stays_below_it(console, asha, boss):
    names = {"pk": asha.pk, "wallet": asha.wallet.pk}
    for path in CONSOLE:
        page = console(path.format(**names))
        assert page.status_code == 200, path
        assert strangers(page.content.decode()) == [], path
    assert 'href="/pay/swagger/"' in console("/admin/").content.decode()


def test_static_files_are_served_below_it(proxy, console):
    common, sent = proxy
    page = console("/admin/").content.decode()
    files = {link for link in LINK.findall(page) if "/static/" in link}
    assert len(files) > 3
    for file in files:
        assert Client(**common).head(sent + file.removeprefix("/pay")).status_code == 200, file


def test_an_error_names_the_path_below_it(proxy):
    common, sent = proxy
    answer = Client(**common).post(f"{sent}/wallet/credit", {}, "application/json")
    assert answer.json()["detail"] == "Nothing is here, but there is /pay/wallet/credit/ with a slash at the end."


def test_the_prefix_does_not_leak_into_the_next_request(get, client):
    get("/swagger.json")
    assert get_script_prefix() == "/"


def test_money_moves_below_it(proxy, asha, as_user):
    common, sent = proxy
    client = as_user(asha)
    for header in ("HTTP_X_FORWARDED_PREFIX", "HTTP_HOST", "SERVER_NAME"):
        client.defaults |= {header: common[header]} if header in common else {}
    answer = client.post(f"{sent}/wallet/debit/", {"amount": "10.00"})
    assert (answer.status_code, answer.json()["balance"]) == (200, "990.00")
    assert client.get(f"{sent}/wallet/balance/")["Cache-Control"] == "no-store"


# --- What is trusted -------------------------------------------------------------------------------------


JUNK = [
    "", "/", "//", "//evil.example", "/pay//evil", "/pay\r\nSet-Cookie: a=b", "https://evil.example", "evil.example",
    "/../", "/pay/..", "/pay/../admin", "/.", "/.well-known", "/pay?x=1", "/pay#x", "/pay, /other", "/pay;x", "/%2e%2e",
    "/a b", "/pây", "\\evil", "/\\evil", "/<script>", "/'", '/"',
]  # fmt: skip


@pytest.mark.parametrize("junk", JUNK)
def test_invalid_prefixes_are_ignored(settings, client, junk):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    assert client.get("/", HTTP_X_FORWARDED_PREFIX=junk)["Location"] == "/swagger/"
    assert client.get("/swagger.json", HTTP_X_FORWARDED_PREFIX=junk).json()["basePath"] == "/"


@pytest.mark.parametrize("prefix", ["/pay", "/pay/", "/a/b", "/a-b_c.d~e", "/9"])
def test_a_valid_prefix_is_trusted_behind_a_proxy(settings, client, prefix):
    assert client.get("/", HTTP_X_FORWARDED_PREFIX=prefix)["Location"] == "/swagger/"
    assert client.get(f"{prefix.rstrip('/')}/swagger.json", HTTP_X_FORWARDED_PREFIX=prefix).status_code == 404
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    assert client.get("/", HTTP_X_FORWARDED_PREFIX=prefix)["Location"] == f"{prefix.rstrip('/')}/swagger/"


def test_the_setting_overrides_the_header(settings, client):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    settings.FORCE_SCRIPT_NAME = "/pay"
    assert client.get("/", HTTP_X_FORWARDED_PREFIX="/other")["Location"] == "/pay/swagger/"


def test_a_prefix_that_equals_one_of_our_paths_is_stripped_by_the_proxy(settings, asha, as_user):
    settings.FORCE_SCRIPT_NAME = "/wallet"
    assert as_user(asha).get("/wallet/balance/").status_code == 200
    assert as_user(asha).get("/wallet/balance")["Location"] == "/wallet/wallet/balance/"


@pytest.mark.parametrize("path", ["/payments/", "/pa", "/paywallet/balance/"])
def test_a_path_that_only_starts_like_it_is_not_stripped(settings, client, path):
    settings.FORCE_SCRIPT_NAME = "/pay"
    assert client.get(path).status_code == 404


@pytest.mark.parametrize("path", ["/pay", "/pay/"])
def test_the_prefix_itself_leads_to_the_documentation(settings, client, path):
    settings.FORCE_SCRIPT_NAME = "/pay"
    assert client.get(path)["Location"] == "/pay/swagger/"


# --- Behind a real proxy ---------------------------------------------------------------------------------


@contextmanager
def proxy_server(port: int, prefix: str) -> Iterator[int]:
    """A proxy that serves the server on `port` under the prefix, which it strips and sends along. Yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name: self.headers[name] for name in self.headers if not name.startswith("X-Forwarded")}
            headers |= {
                "X-Forwarded-For": f"{self.client_address[0]}:{self.client_address[1]}",
                "X-Forwarded-Prefix": prefix,
                "X-Forwarded-Proto": "http",
            }
            upstream = HTTPConnection("127.0.0.1", port, timeout=30)
            upstream.request(self.command, self.path.removeprefix(prefix), body, headers)
            answer = upstream.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            upstream.close()

        do_POST = do_GET

        def log_message(self, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.mark.once
def test_the_production_server_works_behind_a_proxy(tmp_path):
    with (
        live_server(f"sqlite:///{tmp_path}/db.sqlite3", workers=1, NUM_PROXIES="1") as server,
        proxy_server(server.port, "/pay") as port,
    ):
        outside = Live(port, server.environment, server.codes)
        assert raw(port, "/pay/")[1]["Location"] == "/pay/swagger/"
        assert raw(port, "/pay/admin/")[1]["Location"] == "/pay/admin/login/?next=/pay/admin/"
        login = raw(port, "/pay/admin/login/")[2]
        assert strangers(login) == []
        for link in {link for link in LINK.findall(login) if "/static/" in link}:
            assert raw(port, link)[0] == 200, link
        assert outside.call("GET", "/pay/swagger.json").body["basePath"] == "/pay"
        assert outside.call("GET", "/pay/swagger.json").body["host"] == f"127.0.0.1:{port}"
        token = log_in_behind(outside)
        for amount in ("1.00", "2.00"):
            outside.post("/pay/wallet/credit/", {"amount": amount}, token)
        page = outside.call("GET", "/pay/transactions/?page_size=1", token=token).body
        assert page["next"].startswith(f"http://127.0.0.1:{port}/pay/transactions/?")
        following = outside.call("GET", page["next"].partition(str(port))[2], token=token).body
        assert following["results"][0]["amount"] == "1.00"


def log_in_behind(outside: Live) -> str:
    assert outside.post("/pay/auth/send-otp/", {"phone_number": "9855555555"}).status == 201
    body = {"phone_number": "9855555555", "otp": outside.codes["9855555555"]}
    return outside.post("/pay/auth/verify-otp/", body).body["access"]


def raw(port: int, path: str) -> tuple[int, Any, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read().decode(errors="replace")
    connection.close()
    return found
