"""`/metrics` counts over all processes, has no personal data, and answers whatever the database does."""

import os
import re
import signal
import time
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest

from lokanetra import metrics
from lokanetra.env import BASE_DIR
from lokanetra.tests.docs import OPERATIONS, section
from lokanetra.tests.live import Live, Postgres, live_server, own_postgres, wait_for
from transactions import figures

TOKEN = "a-token-that-only-prometheus-has"


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(database: Postgres) -> Iterator[Live]:
    with live_server(database.url, workers=2, METRICS_TOKEN=TOKEN) as server:
        yield server


def scraped(server: Live, token: str = TOKEN) -> str:
    connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics", headers={"Authorization": f"Bearer {token}"})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    assert response.status == 200, text
    return text


def value(text: str, name: str, **labels: str) -> float:
    """The sum of the samples with these labels."""
    lines = [line for line in text.splitlines() if re.match(rf"{name}(\{{| )", line)]
    wanted = [line for line in lines if all(f'{label}="{value}"' in line for label, value in labels.items())]
    return sum(float(line.rsplit(" ", 1)[1]) for line in wanted)


@pytest.mark.slow
def test_it_counts_over_all_processes_and_a_dead_process_loses_no_counts(server):
    token = server.log_in("9855000001")
    for number in range(40):
        assert server.post("/wallet/credit/", {"amount": "1.00"}, token, f"key-{number % 20}").status == 200
    assert server.post("/wallet/debit/", {"amount": "1000.00"}, token).code == "insufficient_funds"
    text = scraped(server)
    credit = {"route": "wallet/credit/$", "method": "POST", "status": "200"}
    assert value(text, "lokanetra_request_duration_seconds_count", **credit) == 40
    assert value(text, "lokanetra_payments_total", operation="credit", outcome="done") == 20
    assert value(text, "lokanetra_payments_total", operation="credit", outcome="replayed") == 20
    assert value(text, "lokanetra_refusals_total", code="insufficient_funds") == 1
    before = server.workers()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(before) & set(server.workers()) and server.call("GET", "/readyz").status == 200)
    assert server.post("/wallet/credit/", {"amount": "1.00"}, token).status == 200
    time.sleep(1.5)
    text = scraped(server)
    assert value(text, "lokanetra_request_duration_seconds_count", **credit) == 41
    assert "pid=" not in text
    assert value(text, "lokanetra_slots", state="waited_for") == 0


@pytest.mark.slow
def test_it_reveals_no_personal_data_and_no_invented_path(server):
    token = server.log_in("9855000002")
    server.post("/wallet/credit/", {"amount": "777.77", "remarks": "for a garden"}, token)
    for path in ("/nowhere/9855000002", "/wallet/9855000002/", f"/{token}"):
        server.call("GET", path)
    server.call("BREW", "/wallet/balance/")
    text = scraped(server)
    for secret in ("9855000002", "777.77", "garden", "user_", token, "BREW", TOKEN):
        assert secret not in text
    assert value(text, "lokanetra_refusals_total", route="other", code="not_found") >= 2


@pytest.mark.slow
def test_figures_are_shown_while_the_database_answers_and_counters_always(server, database):
    wait_for(lambda: value(scraped(server), "lokanetra_database_up") == 1)
    assert "lokanetra_events_waiting " in scraped(server)
    with database.hanging():
        for _ in range(4):
            before = time.monotonic()
            text = scraped(server)
            assert time.monotonic() - before < 2
            assert value(text, "lokanetra_request_duration_seconds_count") > 0


@pytest.mark.slow
def test_it_requires_the_token(server):
    for headers in ({}, {"Authorization": "Bearer another"}, {"Authorization": TOKEN}):
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", "/metrics", headers=headers)
        response = connection.getresponse()
        assert (response.status, response.getheader("WWW-Authenticate")) == (401, "Bearer")
        assert b'"code":"not_authenticated"' in response.read()
        connection.close()


def test_without_the_setting_it_is_not_found(client, settings):
    settings.METRICS_TOKEN = None
    assert client.get("/metrics").status_code == 404


def test_in_one_process_it_counts_too(client, settings, monkeypatch):
    settings.METRICS_TOKEN = TOKEN
    monkeypatch.setattr(metrics.figures, "is_running", True)  # another thread has another database here
    client.get("/healthz")
    answer = client.get("/metrics", headers={"Authorization": f"Bearer {TOKEN}"})
    assert answer.status_code == 200
    assert value(answer.content.decode(), "lokanetra_request_duration_seconds_count", method="GET", status="200") >= 1


def test_every_figure_of_the_database_is_described(db, asha):
    never = {"lokanetra_ledger_check_timestamp_seconds", "lokanetra_ledger_check_complaints"}
    assert figures.figures().keys() | never == metrics.FIGURES.keys()


@pytest.mark.parametrize("file", ["dashboard.json", "alerts.yml"])
def test_dashboards_and_alerts_use_existing_metrics(file):
    text = (BASE_DIR / "scripts/grafana" / file).read_text()
    names = {name.removesuffix("_total") for name in re.findall(r"lokanetra_\w+[a-z]", text)}
    known = {metric.name for metric in metrics.registry.collect()} | set(metrics.FIGURES) | {"lokanetra_database_up"}
    series = known | {f"{name}_{part}" for name in known for part in ("count", "bucket", "sum")}
    assert names <= series
    assert file == "alerts.yml" or {name for name in known if not any(name in drawn for drawn in names)} == set()


def test_the_documents_have_every_metric():
    names = {metric.name for metric in metrics.registry.collect()} | set(metrics.FIGURES) | {"lokanetra_database_up"}
    assert set(re.findall(r"^\| `(lokanetra_\w+)`", section(OPERATIONS, "Watching"), re.M)) == {
        name + ("_total" if name in ("lokanetra_refusals", "lokanetra_payments", "lokanetra_retries") else "")
        for name in names
    }
