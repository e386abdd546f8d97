"""When an external service hangs, requests that do not need it are answered, and others are refused soon."""

import resource
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import psycopg
import pytest

from lokanetra.tests.live import SERVING, Answer, Live, Postgres, live_server, own_postgres, wait_for

pytestmark = pytest.mark.slow

# Seconds, far more than an answer takes and far less than any time-out.
SOON = 1.5


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    """One that these tests may stop."""
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def small(database: Postgres) -> Iterator[Live]:
    """A server with one worker, whose gateway accepts connections and does not answer."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as gateway:
        url = f"json://127.0.0.1:{gateway.getsockname()[1]}/{{phone}}"
        with live_server(database.url, workers=1, OTP_SMS_URL=url) as server:
            yield server


@pytest.fixture(scope="module")
def token(small: Live) -> str:
    """For an account with a thousand rupees."""
    return small.new_account("9800000001")


@pytest.fixture
def pay(small: Live, token: str) -> Callable[[], Answer]:
    return lambda: small.post("/wallet/debit/", {"amount": "0.01"}, token)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    before = time.monotonic()
    return call(), time.monotonic() - before


def is_busy(answer: Answer) -> bool:
    return (answer.status, answer.code, "retry-after" in answer.headers) == (503, "server_busy", True)


# --- The gateway -----------------------------------------------------------------------------------------


def test_a_hanging_gateway_delays_no_payment_and_no_health_check(small, pay):
    def send(number: int) -> Answer:
        return small.post("/auth/send-otp/", {"phone_number": f"98111000{number:02}"})

    with ThreadPoolExecutor(30) as strangers:
        sending = strangers.map(send, range(30))
        time.sleep(0.5)
        for call in (pay, lambda: small.call("GET", "/healthz"), lambda: small.call("GET", "/readyz")):
            answer, seconds = timed(call)
            assert (answer.status, seconds < SOON) == (200, True)
        assert {answer.code for answer in sending} == {"sms_unavailable"}


# --- Clients ---------------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def many_files() -> None:
    """Some of these tests have about as many clients as the usual limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextmanager
def half(server: Live, count: int, text: bytes) -> Iterator[list[socket.socket]]:
    """So many clients that have sent only this part of a request."""
    with ExitStack() as stack:
        clients = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), timeout=30))
            client.sendall(text)
            clients.append(client)
        yield clients


HEAD = b"POST /wallet/debit/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
HALF_BODY = HEAD + b"Content-Length: 100\r\n\r\n{"


@pytest.mark.parametrize("text", [HALF_BODY, HEAD], ids=["bodies", "heads"])
@pytest.mark.parametrize("count", [200, 1000])
def test_unfinished_requests_delay_nobody_however_many_they_are(small, pay, text, count):
    with half(small, count, text):
        for call in (pay, lambda: small.call("GET", "/healthz"), lambda: small.call("GET", "/readyz")):
            answer, seconds = timed(call)
            assert (answer.status, seconds < SOON) == (200, True)


def test_a_body_that_does_not_come_is_given_up_with_a_clear_error(small):
    with half(small, 1, HALF_BODY) as (client,):
        text, seconds = timed(lambda: client.recv(65536).decode())
    assert text.startswith("HTTP/1.1 408 ")
    assert '"code":"request_timeout"' in text
    assert "x-request-id: " in text
    assert 8 < seconds < 15


# --- The database ----------------------------------------------------------------------------------------


def test_a_hanging_database_is_reported_soon_and_used_again_afterwards(small, pay, database):
    assert pay().status == 200
    with database.hanging():
        time.sleep(1.1)  # connections are idle for long enough to be checked first
        for _ in range(2):
            answer, seconds = timed(pay)
            assert (is_busy(answer), seconds < 5) == (True, True)
        answer, seconds = timed(lambda: small.call("GET", "/readyz"))
        assert (is_busy(answer), seconds < 2) == (True, True)
        answer, seconds = timed(lambda: small.call("GET", "/healthz"))
        assert (answer.status, seconds < SOON) == (200, True)
    wait_for(lambda: small.call("GET", "/readyz").status == 200)
    assert pay().status == 200


def test_a_payment_on_a_connection_that_went_silent_is_given_up_in_time(small, pay, database):
    """It is waiting for a lock when the database stops, so its connection is not checked."""
    with psycopg.connect(database.url) as other:
        other.execute("SELECT * FROM wallet_wallet FOR UPDATE")
        answers: list[tuple[Answer, float]] = []
        payment = threading.Thread(target=lambda: answers.append(timed(pay)))
        payment.start()
        time.sleep(0.5)
        with database.hanging():
            payment.join(timeout=25)
    ((answer, seconds),) = answers
    assert is_busy(answer)
    assert seconds < 16


def test_connections_that_died_between_two_requests_cause_no_refusal(small, pay, database, token):
    for _ in range(4):
        assert pay().status == 200
    end_sessions(database)
    calls = [pay, lambda: small.call("GET", "/wallet/balance/", token=token), lambda: small.call("GET", "/readyz")]
    assert [call().status for call in calls * 5] == [200] * 15


def test_sessions_that_end_under_load_lose_no_payment(small, database, token):
    """What broke before COMMIT was sent is retried once; what broke while committing has an unknown outcome.

    A request is cut off at most once: sessions are ended again only when each client has had an answer since.
    """
    over = threading.Event()
    codes: list[list[str | None]] = [[] for _ in range(4)]

    def client(own: list[str | None]) -> None:
        while not over.is_set():
            own.append(small.post("/wallet/debit/", {"amount": "0.01"}, token).code)

    def answered_since(before: list[int]) -> bool:
        return all(len(own) >= count + 2 for own, count in zip(codes, before, strict=True))

    with ThreadPoolExecutor(4) as clients:
        clients.map(client, codes)
        for _ in range(8):
            before = [len(own) for own in codes]
            wait_for(lambda before=before: answered_since(before))
            end_sessions(database)
        over.set()
    assert {code for own in codes for code in own} <= {None, "outcome_unknown"}


def ask(database: Postgres, *statements: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as session:
        for statement in statements:
            session.execute(statement)


def end_sessions(database: Postgres) -> None:
    ask(database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")


def test_a_read_only_database_is_busy_and_not_ready_and_no_money_moves(small, pay, database, token):
    before = small.balance(token)
    ask(database, f"ALTER ROLE {SERVING} SET default_transaction_read_only = on")
    end_sessions(database)
    try:
        assert is_busy(pay())
        assert is_busy(small.post("/auth/verify-otp/", {"phone_number": "9811100099", "otp": "123456"}))
        answer = small.call("GET", "/readyz")
        assert is_busy(answer)
        assert "read-only" in answer.body["detail"]
        assert small.balance(token) == before
    finally:
        ask(database, f"ALTER ROLE {SERVING} RESET default_transaction_read_only")
    assert pay().status == 200  # also on sessions that were read-only
    wait_for(lambda: small.call("GET", "/readyz").status == 200)


def test_a_migration_that_changes_a_column_causes_no_refusal(small, pay, database, token):
    calls = [pay, lambda: small.call("GET", "/wallet/balance/", token=token)]
    for width in (151, 150):
        assert [call().status for call in calls * 5] == [200] * 10
        ask(database, f"ALTER TABLE users_userprofile ALTER first_name TYPE varchar({width})")
        assert [call().status for call in calls * 5] == [200] * 10


def test_the_books_agree_after_all_that(small, pay):
    assert small.check_ledger()["ok"]
