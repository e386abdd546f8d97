"""The log says what happened, without anybody's phone, code or token."""

import json
import logging
import os
import sys
import time
from decimal import Decimal
from http.client import HTTPConnection
from io import StringIO
from select import select
from threading import Event, Thread

import pytest
from django.db import IntegrityError
from django.db.transaction import atomic
from django.test import Client

from lokanetra import logs
from lokanetra.logs import JSONFormatter, NonBlockingHandler, ReadableFormatter, mask
from lokanetra.tests.live import Answer, Live, wait_for
from transactions.models import Transaction

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    "text, masked",
    [
        ("code sent to +919999999999", "code sent to …99"),
        ("Key (phone_number)=(+919999999999) already exists", "Key (phone_number)=(…99) already exists"),
        ("phone=9999999999&page=1", "phone=…99&page=1"),
        ("Authorization: Bearer eyJhbGciOiJIUzI1NiJ9.eyJ1c2VyX2lkIjoiMSJ9.c2ln", "Authorization: Bearer [token]"),
        ("key lk_0123456789ab_Zm9v-YmFy_1 of nightly", "key [token] of nightly"),
        ("secret=whsec_MfKQ9r8+GKYqrTwjUPD8/ILPZIo2LaLaSw== is new", "secret=[token] is new"),
        ("transaction 123456 of 1000000.00 at 2026-01-31", "transaction 123456 of 1000000.00 at 2026-01-31"),
        ("request 3c92282ddc494c4cb7ba05922a72a957", "request 3c92282ddc494c4cb7ba05922a72a957"),
        (
            "server_busy: it broke a rule\nDETAIL:  Failing row contains (1, gift\n\nfor Asha).",
            "server_busy: it broke a rule",
        ),
    ],
)
def test_phones_and_tokens_are_masked_and_nothing_else(text, masked):
    assert mask(text) == masked


def test_a_traceback_is_masked_too():
    try:
        raise ValueError("no such phone: +919999999999")
    except ValueError:
        record = logging.LogRecord("users", logging.ERROR, "", 0, "failed for %s", ("9999999999",), sys.exc_info())
    line = JSONFormatter().format(record)
    assert "9999999" not in line
    assert json.loads(line)["message"] == "failed for …99"
    assert "ValueError" in json.loads(line)["exception"]


def test_a_row_that_the_database_refused_is_not_logged(asha):
    row = Transaction.objects.get(receiver=asha.wallet)
    row.pk, row.amount, row.remarks = None, Decimal(-1), "a gift\n\nfor her birthday"
    try:
        with atomic():
            row.save()
    except IntegrityError:
        record = logging.LogRecord(
            "wallet", logging.ERROR, "", 0, "it failed: %s", (sys.exc_info()[1],), sys.exc_info()
        )
    for formatter in (JSONFormatter(), ReadableFormatter()):
        line = formatter.format(record)
        assert "gift" not in line and "birthday" not in line
        assert line.count("IntegrityError") >= 1
        assert "transactions_transaction_amount_positive" in line and "The above exception" in line


def log_with(live: Live, *ids: str) -> str:
    """The log, when it has the lines of the requests with these ids."""
    wait_for(lambda: all(f'"request_id":"{request}","method"' in live.output.read_text() for request in ids))
    return live.output.read_text()


def test_a_client_error_logs_no_traceback_and_only_json(live: Live):
    token = live.log_in("9833333333")
    written = len(live.output.read_text())
    fields = "&".join(f"a{number}=1" for number in range(1500))
    ids = {"bad-host": ("/swagger/", "9833333333"), "many-fields": (f"/transactions/?{fields}", "127.0.0.1")}
    for request, (path, host) in ids.items():
        connection = HTTPConnection("127.0.0.1", live.port, timeout=30)
        headers = {"Host": host, "Authorization": f"Bearer {token}", "X-Request-Id": request}
        connection.request("GET", path, headers=headers)
        assert connection.getresponse().status == 400
        connection.close()
    lines = [json.loads(line) for line in log_with(live, *ids)[written:].splitlines()]
    assert [line["level"] for line in lines if line["logger"].startswith("django.security")] == ["ERROR"]
    assert not [line for line in lines if "exception" in line]


def request_id_of(answer: Answer) -> str:
    return {name.lower(): value for name, value in answer.headers.items()}["x-request-id"]


def test_a_production_log_is_json_lines_without_secrets(live: Live):
    phone = "9833333333"
    token = live.log_in(phone)
    code = live.codes[phone]
    paid = live.call("POST", "/wallet/credit/", {"amount": "10.00"}, token)
    answers = [
        paid,
        live.call("GET", f"/transactions/?phone={phone}", token=token),
        live.post("/auth/verify-otp/", {"phone_number": phone, "otp": code}),
        live.call("GET", f"/nowhere/{phone}/{token}/", token=token),
    ]
    text = log_with(live, *map(request_id_of, answers))
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    # A random request id may contain the digits of a code.
    values = [str(value) for line in lines for name, value in line.items() if name not in ("request_id", "time")]
    assert [value for value in values if code in value] == []
    assert [secret for secret in (phone, f"+91{phone}", token) if secret in text] == []
    assert [line for line in text.splitlines() if "Traceback" in line] == []
    requests = {line["request_id"]: line for line in lines if line["logger"] == "lokanetra.requests"}
    request = requests[request_id_of(paid)]
    assert request | {"time": "", "milliseconds": 0, "user": 0, "request_id": ""} == {
        "time": "",
        "level": "INFO",
        "logger": "lokanetra.requests",
        "message": "POST 200",
        "request_id": "",
        "method": "POST",
        "route": "wallet/credit/$",
        "status": 200,
        "milliseconds": 0,
        "user": 0,
        "address": "127.0.0.1",
        "transaction": paid.body["transaction_id"],
    }
    assert any(line["message"] == "login of …33 failed" for line in lines)


# --- Users and addresses --------------------------------------------------------------------------------


@pytest.fixture
def logged_fields(caplog):
    """The fields of the last request's log line."""
    caplog.set_level("INFO", "lokanetra.requests")
    return lambda: [record for record in caplog.records if record.name == "lokanetra.requests"][-1].fields


def test_a_request_is_logged_with_the_address_of_its_client(settings, nobody, logged_fields):
    settings.REST_FRAMEWORK = settings.REST_FRAMEWORK | {"NUM_PROXIES": 1}
    nobody.get("/healthz", HTTP_X_FORWARDED_FOR="192.0.2.1, 203.0.113.8:5000")
    assert logged_fields()["address"] == "203.0.113.8"


def test_a_request_of_the_console_is_logged_with_its_user(boss, logged_fields):
    console = Client()
    console.force_login(boss)
    console.get("/admin/")
    assert logged_fields()["user"] == boss.pk
    console.get("/auth/admin/users/")
    assert logged_fields()["user"] == boss.pk


def test_logging_the_user_makes_no_query(boss, logged_fields, django_assert_num_queries):
    console = Client()
    console.force_login(boss)
    with django_assert_num_queries(0):
        console.get("/healthz")
    assert logged_fields()["user"] is None


def test_a_hanging_collector_blocks_nobody_and_later_gets_the_number_of_lost_lines():
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        handler = NonBlockingHandler(stream)
        started = time.monotonic()
        for number in range(2000):
            handler.emit(logging.makeLogRecord({"msg": f"line {number} {'.' * 100}"}))
        assert time.monotonic() - started < 2
        assert handler.lost > 1000
        taken, lost = os.read(reading, 1_000_000), handler.lost
        handler.emit(logging.makeLogRecord({"msg": "again"}))
        assert os.read(reading, 1_000_000).decode().splitlines() == [f"{lost} lines lost", "again"]
    assert taken.decode().splitlines()[0].startswith("line 0 ")
    os.close(reading)


# --- Batches ---------------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    """A handler that writes in batches, but only when `flush` is called, and the end at which its lines arrive."""
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        handler = NonBlockingHandler(stream)
        handler.batched = True
        yield handler, reading
    os.close(reading)


def line(text, *values):
    return logging.makeLogRecord({"msg": text, "args": values, "levelname": "INFO"})


def test_a_batch_is_written_in_order_and_says_what_was_true_when_it_was_logged(pipe):
    handler, reading = pipe
    changing = ["first"]
    handler.emit(line("%s", changing))
    changing[0] = "changed"
    handler.emit(line("%d %%", 2))
    assert select([reading], [], [], 0)[0] == []
    handler.flush()
    assert os.read(reading, 4096).decode() == "['first']\n2 %\n"
    handler.flush()
    assert select([reading], [], [], 0)[0] == []


def test_a_large_batch_is_written_in_whole_lines_that_a_pipe_takes_at_once(pipe):
    handler, _ = pipe
    texts = [f"{number} {'é' * 150}" for number in range(100)] + ["x" * 5000, "last"]
    for text in texts:
        handler.emit(line(text))
    found = list(logs._parts(handler._lines()))
    assert [text for part in found for text in part] == [f"{text}\n" for text in texts]
    assert all(len("".join(part).encode()) <= logs.MAX_PART for part in found if len(part) > 1)
    assert len(found) == 11


class HangingDisk(StringIO):
    def __init__(self):
        super().__init__()
        self.hangs, self.continues = Event(), Event()

    def write(self, text):
        self.hangs.set()
        self.continues.wait(20)
        return super().write(text)


def test_while_a_disk_hangs_nobody_waits_for_it_and_only_so_many_lines_do(monkeypatch):
    monkeypatch.setattr(logs, "MAX_WAITING", 3)
    disk = HangingDisk()
    handler = NonBlockingHandler(disk)
    handler.batched = True
    handler.handle(line("first"))
    writer = Thread(target=handler.flush)
    writer.start()
    assert disk.hangs.wait(10)
    for number in range(5):
        handler.handle(line(str(number)))
    assert writer.is_alive()
    disk.continues.set()
    writer.join()
    handler.flush()
    assert disk.getvalue().splitlines() == ["first", "2 lines lost", "0", "1", "2"]


def test_a_line_that_cannot_be_formatted_or_written_stops_no_other(pipe):
    handler, reading = pipe
    handler.emit(line("before"))
    handler.emit(line("%d", "no number"))
    handler.waiting.append(line("%d", "not even this"))
    handler.emit(line("after"))
    handler.flush()
    assert os.read(reading, 4096).decode() == "before\nafter\n"
    handler.stream.close()
    handler.emit(line("too late"))
    handler.flush()
    assert handler.lost == 1


def test_writing_a_line_may_log_another(pipe):
    handler, reading = pipe

    class Chatty:
        def __str__(self):
            handler.emit(line("inner"))
            return "outer"

    handler.batched = False
    handler.emit(line("%s", Chatty()))
    assert sorted(os.read(reading, 4096).decode().splitlines()) == ["inner", "outer"]


def test_a_thread_writes_the_batches():
    reading, writing = os.pipe()
    with open(writing, "w") as stream:
        handler = NonBlockingHandler(stream)
        handler.write_in_batches()
        handler.emit(line("soon"))
        assert select([reading], [], [], 10)[0] and os.read(reading, 4096).decode() == "soon\n"
    os.close(reading)
