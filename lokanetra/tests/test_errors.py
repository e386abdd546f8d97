"""Whatever is sent, the answer is a problem in the API's one form, and never a server error."""

import json
import re
import sqlite3

import psycopg
import pytest
from django.db import (
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    connection,
)
from rest_framework.exceptions import ValidationError
from rest_framework.test import APIClient

pytestmark = pytest.mark.once

PROBLEM = "application/problem+json"
VERIFY = "/auth/verify-otp/"


@pytest.fixture(autouse=True, params=[True, False], ids=["DEBUG", "production"])
def debug(request, settings):
    settings.DEBUG = request.param


def problem(response, status, code):
    """The body of a problem, after checking what all of them have."""
    assert (response.status_code, response["Content-Type"]) == (status, PROBLEM), response.content[:300]
    body = response.json()
    assert set(body) - {"errors", "limit"} == {"type", "title", "status", "detail", "code"}
    assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code)
    assert body["detail"]
    assert "errors" not in body or (code == "validation_error" and body["errors"])
    assert ("limit" in body) == (code == "limit_exceeded")
    for header in ("X-Request-Id", "X-Content-Type-Options", "Referrer-Policy", "Content-Security-Policy"):
        assert header in response, header
    return body


def post(client, raw, path=VERIFY, content_type="application/json", **headers):
    return client.generic("POST", path, raw, content_type=content_type, **headers)


# --- Paths and methods -------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "path", ["/nowhere", "/nowhere/", "/wallet/nowhere/", "/%ff", "/wallet/%00/", "/transactions/x/"]
)
def test_an_unknown_path_is_not_found(nobody, method, path):
    problem(nobody.generic(method, path), 404, "not_found")


@pytest.mark.parametrize(("method", "path"), [("POST", "/wallet/credit"), ("PATCH", "/auth/me")])
def test_a_write_to_a_path_without_its_slash_gets_the_right_path_in_the_error(nobody, method, path):
    assert f"{path}/ " in problem(nobody.generic(method, path, "{}"), 404, "not_found")["detail"]


@pytest.mark.parametrize("path", ["/wallet/balance", "/transactions", "/auth/me"])
def test_a_read_of_a_path_without_its_slash_is_redirected(nobody, path):
    response = nobody.get(f"{path}?page=2")
    assert (response.status_code, response["Location"]) == (301, f"{path}/?page=2")


def test_no_redirect_leads_to_another_host(nobody):
    for path in ("//evil.example", "//evil.example/wallet/balance", "/\\evil.example", "/wallet/balance//evil.example"):
        problem(nobody.get("/", PATH_INFO=path), 404, "not_found")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
def test_an_unknown_method_is_refused_with_the_allowed_ones(nobody, method):
    response = nobody.generic(method, VERIFY)
    problem(response, 405, "method_not_allowed")
    assert response["Allow"] == "POST"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize("path", ["/", "/healthz", "/swagger.json"])
def test_read_only_paths_refuse_writes(method, path):
    response = APIClient(enforce_csrf_checks=True).generic(method, path)
    problem(response, 405, "method_not_allowed")
    assert response["Allow"] == "GET, HEAD"


# --- Bodies ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type", ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "text/plain", ""]
)
def test_another_media_type_is_unsupported(nobody, content_type):
    problem(post(nobody, b'{"phone_number": "9999999999"}', content_type=content_type), 415, "unsupported_media_type")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=utf-8", "APPLICATION/JSON"])
def test_json_is_json_however_it_is_called(nobody, content_type):
    problem(post(nobody, b"{}", content_type=content_type), 400, "validation_error")


def test_a_body_of_64_kib_is_read_and_a_longer_one_is_not(nobody):
    body = json.dumps({"x": ""})
    longest = body.replace('""', f'"{"x" * (64 * 1024 - len(body))}"')
    assert len(longest) == 64 * 1024
    problem(post(nobody, longest), 400, "validation_error")
    problem(post(nobody, longest + " "), 413, "body_too_large")
    problem(post(nobody, b" " * 5_000_000), 413, "body_too_large")


@pytest.mark.parametrize(
    "raw",
    [
        b"[" * 20_000,
        b"[" * 20_000 + b"]" * 20_000,
        b'{"x":' * 5_000 + b"1" + b"}" * 5_000,
        b'{"x": [' + b"[" * 20_000 + b"]" * 20_000 + b"]}",
        b'{"otp": "111111", "otp": "222222"}',
        b'{"x": {"y": 1, "y": 1}}',
        b"[]",
        b'["otp"]',
        b'"text"',
        b"1",
        b"1.5",
        b"null",
        b"true",
        b'{"otp": "\xff"}',
        b'{"\xc3\x28": 1}',
        b"\xef\xbb\xbf{}",
        '{"otp": "1"}'.encode("utf-16"),
        b"\x00",
        b'{"otp": "\x00"}',
        b'{"otp": "\\ud800"}',
        b'{"\\udfff": 1}',
        b'{"x": [{"\\ud800x": 1}]}',
        b'{"x": NaN}',
        b'{"x": Infinity}',
        b'{"x": -Infinity}',
        b'{"x": ' + b"9" * 5_000 + b"}",
        b'{"x": 1,}',
        b"{'x': 1}",
        b"{",
        b" ",
        b"\r\n",
    ],
    ids=lambda raw: repr(raw[:24]),
)
def test_what_is_no_json_object_cannot_be_parsed(nobody, raw):
    problem(post(nobody, raw), 400, "parse_error")


@pytest.mark.parametrize("depth", [10, 300, 900, 950, 980, 1000, 1100])
def test_nesting_is_ignored_or_refused_but_never_breaks(nobody, depth):
    for value in ("[" * depth + "]" * depth, '{"x":' * depth + "1" + "}" * depth):
        response = post(nobody, f'{{"otp": {value}}}')
        problem(response, 400, "parse_error" if "errors" not in response.json() else "validation_error")


@pytest.mark.parametrize("raw", [b"", b"{}"])
def test_an_empty_body_lacks_its_fields(nobody, raw):
    assert set(problem(post(nobody, raw), 400, "validation_error")["errors"]) == {"phone_number", "otp"}


@pytest.mark.parametrize(
    "value",
    [
        None, True, 1, 1.5, "", " ", "\0", "9999999999\0", [], ["9999999999"], {}, {"x": 1}, "x" * 60_000, 10**4000,
        1e300, "\u202e9999999999", "９９９９９９９９９９", "😀" * 10, "+", "tel:+919999999999;ext=1",
    ],
    ids=lambda value: repr(value)[:24],
)  # fmt: skip
@pytest.mark.parametrize("field", ["phone_number", "otp"])
def test_a_value_that_cannot_be_read_names_its_field(nobody, field, value):
    body = {"phone_number": "9999999999", "otp": "000000"} | {field: value}
    errors = problem(post(nobody, json.dumps(body)), 400, "validation_error")["errors"]
    assert set(errors) == {field}
    assert all(isinstance(message, str) for message in errors[field])


def test_the_limits_of_numbers_are_those_of_amounts(asha, as_user):
    for amount in ("1e400", "-1e400", "1e-400", "9" * 4000, "1." + "0" * 4000, "1E999999999", "-0", "0.0"):
        raw = f'{{"amount": {amount}}}'
        body = problem(post(as_user(asha), raw, "/wallet/debit/"), 400, "validation_error")
        assert set(body["errors"]) == {"amount"}, amount


@pytest.mark.parametrize(
    "raw, refusal",
    [
        (b"", None),
        (b"{}", None),
        (b'{"refresh": "x"}', (400, "validation_error")),
        (b"[" * 20_000, (400, "parse_error")),
        (b"\xff", (400, "parse_error")),
        (b"x" * 70_000, (413, "body_too_large")),
    ],
)
def test_a_call_that_takes_no_fields_is_given_none(asha, as_user, raw, refusal):
    answer = post(as_user(asha), raw, "/auth/logout-all/")
    if refusal:
        problem(answer, *refusal)
    else:
        assert answer.status_code == 204


@pytest.mark.parametrize("empty", [{}, []])
def test_a_validation_error_without_a_field_is_still_one(asha, as_user, empty, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValidationError(empty)

    monkeypatch.setattr("users.accounts.change", refuse)
    problem(as_user(asha).patch("/auth/me/", {"first_name": "Asha"}), 400, "validation_error")


# --- Faults ------------------------------------------------------------------------------------------


def test_an_unexpected_exception_is_a_server_error_that_reveals_nothing(asha, as_user):
    def broken(*args, **kwargs):
        raise KeyError("secret of the server")

    client = as_user(asha)
    client.raise_request_exception = False
    for accept in ("application/json", "text/html"):
        with connection.execute_wrapper(broken):
            response = client.get("/wallet/balance/", HTTP_ACCEPT=accept)
        problem(response, 500, "server_error")
        assert b"secret" not in response.content


@pytest.mark.parametrize("fault", [OperationalError("gone"), InterfaceError("connection already closed")])
def test_a_database_that_is_lost_is_busy(asha, as_user, fault):
    def lost(*args, **kwargs):
        raise fault

    client = as_user(asha)
    with connection.execute_wrapper(lost):
        response = client.get("/wallet/balance/")
    problem(response, 503, "server_busy")
    assert int(response["Retry-After"]) >= 1


def test_a_page_without_its_database_says_so(boss, client):
    client.force_login(boss)

    def lost(*args, **kwargs):
        raise OperationalError("gone")

    with connection.execute_wrapper(lost):
        response = client.get("/admin/")
    assert (response.status_code, response["Retry-After"]) == (503, "1")
    assert b"does not answer" in response.content


def by_sqlite(kind: str) -> OperationalError:
    fault = OperationalError(kind)
    fault.__cause__ = cause = sqlite3.OperationalError(kind)
    cause.sqlite_errorname = kind
    return fault


def by_postgres(kind: type[psycopg.Error], wrapped: type[Exception] = OperationalError) -> Exception:
    fault = wrapped("cached plan must not change result type")
    fault.__cause__ = kind()
    return fault


UNAVAILABLE = [
    OperationalError("gone"),
    InterfaceError("connection already closed"),
    *map(by_sqlite, ("SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT", "SQLITE_READONLY", "SQLITE_FULL", "SQLITE_CANTOPEN")),
    by_postgres(psycopg.OperationalError),
    by_postgres(psycopg.errors.AdminShutdown),
    by_postgres(psycopg.errors.TooManyConnections),
    by_postgres(psycopg.errors.QueryCanceled),
    by_postgres(psycopg.errors.ReadOnlySqlTransaction, InternalError),
    by_postgres(psycopg.errors.FeatureNotSupported, NotSupportedError),
]
BUGS = [
    by_sqlite("SQLITE_ERROR"),  # no such column
    by_postgres(psycopg.errors.UndefinedColumn, ProgrammingError),
    by_postgres(psycopg.errors.InFailedSqlTransaction, InternalError),
    ProgrammingError("a bug"),
]


@pytest.mark.parametrize("fault", UNAVAILABLE, ids=lambda fault: str(type(fault.__cause__).__name__) + str(fault))
def test_an_unavailable_database_does_not_promise_that_nothing_changed(asha, as_user, fault, monkeypatch):
    monkeypatch.setattr(connection, "close", lambda: None)
    answer = raised_by_profile(asha, as_user, fault)
    problem(answer, 503, "server_busy")
    assert "changed" not in answer.json()["detail"]


@pytest.mark.parametrize("fault", BUGS, ids=lambda fault: str(type(fault.__cause__).__name__) + str(fault))
def test_a_bug_is_not_blamed_on_the_database(asha, as_user, fault):
    problem(raised_by_profile(asha, as_user, fault), 500, "server_error")


def raised_by_profile(user, as_user, fault):
    """The answer to a profile change whose statement fails with this fault."""
    client = as_user(user)
    client.raise_request_exception = False

    def fail(execute, sql, *how):
        if sql.startswith("UPDATE"):
            raise fault
        return execute(sql, *how)

    with connection.execute_wrapper(fail):
        return client.patch("/auth/me/", {"first_name": "Asha"})


# --- Headers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "accept", ["text/html", "application/xml", "*/*;q=0", "image/png, text/*;q=0.5", ";;;", "", "\xff"]
)
def test_accept_is_ignored(asha, as_user, accept):
    client = as_user(asha)
    for path in (
        "/wallet/balance/",
        "/wallet/balance/?format=xml",
        "/healthz?format=html",
        "/transactions/",
    ):
        response = client.get(path, HTTP_ACCEPT=accept)
        assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    problem(client.get("/nowhere/?format=xml", HTTP_ACCEPT=accept), 404, "not_found")
    problem(client.get("/transactions/0/?format=xml", HTTP_ACCEPT=accept), 404, "not_found")


@pytest.mark.parametrize("path", ["/admin/nowhere/", "/swagger/nowhere", "/static/nowhere.css"])
def test_pages_keep_their_own_errors(boss, client, path):
    client.force_login(boss)
    response = client.get(path)
    assert (response.status_code, response["Content-Type"].split(";")[0]) == (404, "text/html")


STRANGE_HOSTS = ("evil.example", "testserver.evil.example", "test server", "testserver@evil.example", "localhost\0")


@pytest.mark.parametrize("path", ["/", "/nowhere", "/wallet/balance/", "/swagger.json"])
def test_a_strange_host_is_refused(nobody, path):
    for host in STRANGE_HOSTS:
        problem(nobody.get(path, HTTP_HOST=host), 400, "validation_error")


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_checks_accept_any_host(db, nobody, path):
    for host in (*STRANGE_HOSTS, "10.1.2.3", "10.1.2.3:8000", "[fe80::1]"):
        assert nobody.get(path, HTTP_HOST=host).json() == {"status": "ok"}


REACHED = [
    ("GET", "/", 302), ("GET", "/healthz", 200), ("GET", "/swagger.json", 200), ("GET", "/swagger/", 200),
    ("GET", "/wallet/balance", 301), ("GET", "/wallet/balance/", 401), ("GET", "/auth/send-otp/", 405),
    ("POST", "/auth/verify-otp/", 400), ("GET", "/nowhere", 404), ("GET", "/admin/", 302),
    ("GET", "/transactions/", 401),
]  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(("method", "path", "status"), REACHED)
def test_every_response_has_the_id_of_its_request_and_the_common_headers(nobody, method, path, status):
    response = nobody.generic(method, path, HTTP_X_REQUEST_ID="a-Client_1.id")
    assert response.status_code == status
    assert response["X-Request-Id"] == "a-Client_1.id"
    assert response["X-Content-Type-Options"] == "nosniff"
    assert response["Referrer-Policy"] == "same-origin"
    assert (response["X-Frame-Options"], response["Cross-Origin-Opener-Policy"]) == ("DENY", "same-origin")
    assert "Strict-Transport-Security" not in response
    assert "frame-ancestors 'none'" in response["Content-Security-Policy"]
    if path.startswith(("/auth/", "/wallet/", "/transactions/")):
        assert response["Cache-Control"] == "no-store"


@pytest.mark.django_db
def test_over_https_every_response_asks_to_stay_there(nobody, settings):
    settings.SECURE_HSTS_SECONDS = 60
    for method, path, _ in REACHED:
        assert nobody.generic(method, path, secure=True)["Strict-Transport-Security"] == "max-age=60", path
        assert "Strict-Transport-Security" not in nobody.generic(method, path), path


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("path", "cookie", "is_for_browser"),
    [("/wallet/balance/", "", False), ("/wallet/balance/", "a=b", True), ("/admin/login/", "", True)],
)
def test_only_pages_and_calls_with_a_cookie_have_a_session(nobody, path, cookie, is_for_browser):
    given = {"HTTP_COOKIE": cookie} if cookie else {}
    request = nobody.get(path, **given).wsgi_request
    assert hasattr(request, "session") == is_for_browser


@pytest.mark.parametrize(
    "given", ["", "two words", "x" * 65, "line\nfeed", "line\r\nSet-Cookie: x=1", "<b>", "é", "a/b"]
)
def test_an_invalid_id_is_replaced(nobody, given):
    for path in ("/healthz", "/nowhere"):
        assert re.fullmatch("[0-9a-f]{32}", nobody.get(path, HTTP_X_REQUEST_ID=given)["X-Request-Id"])


def test_an_id_of_64_characters_is_kept_also_when_the_host_or_the_view_fails(asha, as_user):
    given, client = "x" * 64, as_user(asha)
    assert client.get("/healthz", HTTP_HOST="evil.example", HTTP_X_REQUEST_ID=given)["X-Request-Id"] == given
    client.raise_request_exception = False
    with connection.execute_wrapper(lambda *args: {}["nothing"]):
        response = client.get("/wallet/balance/", HTTP_X_REQUEST_ID=given)
    assert (response.status_code, response["X-Request-Id"]) == (500, given)


def test_a_browser_of_an_allowed_origin_reads_errors_too(settings):
    settings.CORS_ALLOWED_ORIGINS = ["https://app.example"]
    client = APIClient(HTTP_ORIGIN="https://app.example")
    for path, status in (("/healthz", 200), ("/nowhere", 404), ("/wallet/balance/", 401)):
        response = client.get(path)
        assert (response.status_code, response["Access-Control-Allow-Origin"]) == (status, "https://app.example")
