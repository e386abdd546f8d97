"""The metrics for Prometheus at `/metrics`, over all processes of the server. Nothing is counted without
`METRICS_TOKEN`.

Requests are counted where they are logged, by routes, statuses and codes, of which there are few. Labels contain no
paths and no personal data. A thread of its own queries the database, so that no scrape waits for it.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from threading import Event, Lock, Thread
from typing import Any

from django.conf import settings
from django.db import Error, connection
from django.http import Http404, HttpRequest, HttpResponse
from django.utils.crypto import constant_time_compare
from django.utils.decorators import method_decorator
from django.views.decorators.csrf import csrf_exempt
from django.views.generic import View
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.multiprocess import MultiProcessCollector

from lokanetra.errors import STATUS_CODES

# Upper bounds in seconds; a payment that waits for locks takes up to nine.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0)
METHODS = ("GET", "HEAD", "POST", "PATCH", "OPTIONS")
# Paths without a route, and unused methods: clients can invent any number of them.
OTHER = "other"

# Seconds: between two queries of the database, how long figures are valid while it does not answer, and how long the
# queries go on after a scrape.
EVERY, COUNTS_FOR, SCRAPED = 5.0, 30.0, 120.0

logger = logging.getLogger(__name__)

registry = CollectorRegistry()
requests = Histogram(
    "lokanetra_request_duration_seconds",
    "How long requests took, by route, method and status.",
    ["route", "method", "status"],
    buckets=BUCKETS,
    registry=registry,
)
refusals = Counter(
    "lokanetra_refusals", "Requests that were refused, by route and the code of the problem.", ["route", "code"],
    registry=registry,
)  # fmt: skip
payments = Counter(
    "lokanetra_payments",
    "Calls that move or set aside money, by operation and outcome: done, replayed, or the code of the refusal.",
    ["operation", "outcome"],
    registry=registry,
)
retries = Counter("lokanetra_retries", "Operations that were retried, by reason.", ["reason"], registry=registry)
slots = Gauge(
    "lokanetra_slots",
    "Slots of the server's processes, by kind and state: busy, or waited for.",
    ["kind", "state"],
    multiprocess_mode="livesum",
    registry=registry,
)


def enabled() -> bool:
    return settings.METRICS_TOKEN is not None


# --- Counting ----------------------------------------------------------------------------------------

# Finding the counters of a request takes longer than counting it.
known_counters: dict[tuple, list[Any]] = {}


def count_request(request: HttpRequest, response: Any, seconds: float) -> None:
    """Called once for each request."""
    match, outcome = request.resolver_match, _outcome(response)
    key = (match.route if match else None, request.method, response.status_code, outcome)
    counters = known_counters.get(key) or known_counters.setdefault(key, _counters(request, *key))
    counters[0](seconds)
    for counter in counters[1:]:
        counter()


def count_refusal(status: int) -> None:
    """Count a request that was refused before Django saw it."""
    if enabled():
        refusals.labels(OTHER, STATUS_CODES[status][0]).inc()


def count_retry(reason: str) -> None:
    if enabled():
        retries.labels(reason).inc()


def _outcome(response: Any) -> str:
    if response.status_code >= 400:
        data = getattr(response, "data", None)
        code = data.get("code") if isinstance(data, dict) else None
        return code or STATUS_CODES.get(response.status_code, STATUS_CODES[500])[0]
    return "replayed" if response.has_header("Idempotent-Replayed") else "done"


def _counters(request: HttpRequest, route: str | None, method: str | None, status: int, outcome: str) -> list[Any]:
    path = OTHER if route is None else route
    counters: list[Any] = [requests.labels(path, method if method in METHODS else OTHER, str(status)).observe]
    if status >= 400:
        counters.append(refusals.labels(path, outcome).inc)
    if operation := _operation(request):
        counters.append(payments.labels(operation, outcome).inc)
    return counters


def _operation(request: HttpRequest) -> str | None:
    """The name of the method that handles a money call."""
    view: Any = request.resolver_match and request.resolver_match.func
    name = getattr(view, "actions", {}).get((request.method or "").lower())
    contract = getattr(getattr(view.cls, name), "contract", None) if name else None
    return name if contract and contract.money else None


# --- Figures from the database -----------------------------------------------------------------------


class Figures:
    """A thread queries them repeatedly while somebody scrapes."""

    def __init__(self) -> None:
        self.starting, self.updated = Lock(), Event()
        self.is_running = False
        # Returns them by name; set by the app that has the queries. Raises database errors.
        self.query: Callable[[], dict[str, float]] = dict
        self.values: dict[str, float] = {}
        self.updated_at = self.scraped_at = float("-inf")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.scraped_at = time.monotonic()
        self._start()
        self.updated.wait(1.0)
        is_up = time.monotonic() - self.updated_at < COUNTS_FOR
        yield GaugeMetricFamily("lokanetra_database_up", "Whether the database answered just now.", float(is_up))
        for name, help in FIGURES.items():
            if is_up and name in self.values:
                yield GaugeMetricFamily(name, help, self.values[name])

    def _start(self) -> None:
        with self.starting:
            if not self.is_running:
                self.is_running = True
                Thread(target=self._keep_querying, name="figures", daemon=True).start()

    def _keep_querying(self) -> None:
        while time.monotonic() - self.scraped_at < SCRAPED:
            self._update()
            self.updated.set()
            time.sleep(EVERY)
        with self.starting:
            self.is_running = False
        self.updated.clear()
        connection.close()

    def _update(self) -> None:
        try:
            connection.close_if_unusable_or_obsolete()
            self.values, self.updated_at = self.query(), time.monotonic()
        except Error:
            connection.close()
        except Exception:
            logger.exception("querying the figures failed")


FIGURES = {
    "lokanetra_events_waiting": "Events that are not yet numbered and queued for webhooks, up to 10,000.",
    "lokanetra_deliveries_waiting": "Deliveries to webhooks that are due or scheduled, up to 10,000.",
    "lokanetra_deliveries_failed": "Deliveries that were given up and are still stored, up to 10,000.",
    "lokanetra_webhooks_switched_off": "Webhooks that were switched off after days of failed deliveries.",
    "lokanetra_ledger_check_timestamp_seconds": "When the whole ledger was last checked, as Unix time.",
    "lokanetra_ledger_check_complaints": "The number of disagreements then found.",
    "lokanetra_money_held_rupees": "The money that open holds set aside.",
    "lokanetra_open_holds": "The number of open holds.",
}
figures = Figures()


# --- The page ----------------------------------------------------------------------------------------


@method_decorator(csrf_exempt, name="dispatch")
class Page(View):
    """All metrics as text, for callers with the token; 404 where no token is set."""

    http_method_names = ["get", "head"]

    def get(self, request: HttpRequest) -> HttpResponse:
        if not enabled():
            raise Http404
        if not constant_time_compare(request.headers.get("Authorization", ""), f"Bearer {settings.METRICS_TOKEN}"):
            return HttpResponse(status=401, headers={"WWW-Authenticate": "Bearer"})
        return HttpResponse(text(), content_type="text/plain; version=0.0.4; charset=utf-8")


def text() -> bytes:
    scraped: Any = CollectorRegistry()
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        MultiProcessCollector(scraped)
    else:
        scraped.register(registry)
    scraped.register(figures)
    return generate_latest(scraped)
