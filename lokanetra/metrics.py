"""What Prometheus is told at `/metrics`, over all processes of the server. Nothing is counted without `METRICS_TOKEN`.

Requests are counted where they are logged, by routes, statuses and codes, of which there are few: no path, name, phone
or amount of one person is among them. The database is asked beside the requests, so that no scrape waits for it.
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

# Seconds, above which a request falls into the next bucket; a payment that waits for locks takes up to nine.
BUCKETS = (0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 3.0, 10.0)
METHODS = ("GET", "HEAD", "POST", "PATCH", "OPTIONS")
# What no route was found for, and methods that nobody needs: anybody may make up as many as he likes.
OTHER = "other"

# Seconds: how old the figures of the database may be, how long they count while it does not answer, and for how long
# they are asked for after a scrape.
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
retries = Counter(
    "lokanetra_retries", "Operations that were begun anew, by what was in their way.", ["reason"], registry=registry
)
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

# To find the counters of a request takes longer than to count it.
found: dict[tuple, list[Any]] = {}


def count_request(request: HttpRequest, response: Any, seconds: float) -> None:
    """Called once for each request."""
    match, outcome = request.resolver_match, _outcome(response)
    key = (match.route if match else None, request.method, response.status_code, outcome)
    counters = found.get(key) or found.setdefault(key, _counters(request, *key))
    counters[0](seconds)
    for counter in counters[1:]:
        counter()


def count_refusal(status: int) -> None:
    """A request that nobody worked on."""
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
    """The name of the method that a money call is answered by."""
    view: Any = request.resolver_match and request.resolver_match.func
    name = getattr(view, "actions", {}).get((request.method or "").lower())
    contract = getattr(getattr(view.cls, name), "contract", None) if name else None
    return name if contract and contract.money else None


# --- What the database knows -------------------------------------------------------------------------


class Figures:
    """Asked again and again by a thread while somebody scrapes."""

    def __init__(self) -> None:
        self.starting, self.asked = Lock(), Event()
        self.is_running = False
        # Asks for them, by name; set where the queries are known. Raises database errors.
        self.query: Callable[[], dict[str, float]] = dict
        self.values: dict[str, float] = {}
        self.asked_at = self.scraped_at = float("-inf")

    def collect(self) -> Iterator[GaugeMetricFamily]:
        self.scraped_at = time.monotonic()
        self._start()
        self.asked.wait(1.0)
        is_up = time.monotonic() - self.asked_at < COUNTS_FOR
        yield GaugeMetricFamily("lokanetra_database_up", "Whether the database answered just now.", float(is_up))
        for name, help in FIGURES.items():
            if is_up and name in self.values:
                yield GaugeMetricFamily(name, help, self.values[name])

    def _start(self) -> None:
        with self.starting:
            if not self.is_running:
                self.is_running = True
                Thread(target=self._keep_asking, name="figures", daemon=True).start()

    def _keep_asking(self) -> None:
        while time.monotonic() - self.scraped_at < SCRAPED:
            self._ask()
            self.asked.set()
            time.sleep(EVERY)
        with self.starting:
            self.is_running = False
        self.asked.clear()
        connection.close()

    def _ask(self) -> None:
        try:
            connection.close_if_unusable_or_obsolete()
            self.values, self.asked_at = self.query(), time.monotonic()
        except Error:
            connection.close()
        except Exception:
            logger.exception("the figures of the database could not be had")


FIGURES = {
    "lokanetra_events_waiting": "Events that were not numbered and given to webhooks yet, up to 10,000.",
    "lokanetra_deliveries_waiting": "Deliveries to webhooks that are due or to come, up to 10,000.",
    "lokanetra_deliveries_failed": "Deliveries that were given up and are still there, up to 10,000.",
    "lokanetra_webhooks_switched_off": "Webhooks that took nothing for days.",
    "lokanetra_ledger_check_timestamp_seconds": "When the books were last proved whole, as Unix time.",
    "lokanetra_ledger_check_complaints": "What disagreed then.",
    "lokanetra_money_held_rupees": "What all open holds set aside.",
    "lokanetra_open_holds": "How many holds are open.",
}
figures = Figures()


# --- The page ----------------------------------------------------------------------------------------


@method_decorator(csrf_exempt, name="dispatch")
class Page(View):
    """All of it as text, for who has the token. Not there where nobody has one."""

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
