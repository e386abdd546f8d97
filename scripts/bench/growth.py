"""Whether payments and lists stay fast when the ledger grows: the same calls on a small and a large one."""

from argparse import Namespace
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from scripts.bench import PHONES, report
from scripts.bench.load import Callers
from scripts.bench.loader import load
from scripts.bench.throughput import Plan, product, run_rounds

# Wallets and rows.
SMALL = (1_000, 10_000)
# The first wallet's history in the small ledger has a hundred pages of ten.
HISTORY = "/transactions/?page_size=10"
ADMIN_LIST = "/transactions/admin-list/"
LISTS = {
    "admin list": ADMIN_LIST,
    "admin list of a phone": f"{ADMIN_LIST}?sender_phone={PHONES + 1}",
    "admin list of a type": f"{ADMIN_LIST}?type=CREDIT",
    "admin list of an amount": f"{ADMIN_LIST}?min_amount=500.00&max_amount=501.00",
    "admin list by amount": f"{ADMIN_LIST}?ordering=-amount",
    "search, last digits": f"{ADMIN_LIST}?search={str(PHONES + 1)[-4:]}",
}


def measure(options: Namespace) -> dict[str, Any]:
    sizes = {"small": SMALL, "large": (options.large_wallets, options.large_rows)}
    with ExitStack() as stack:
        callers = {size: stack.enter_context(_loaded(*numbers)) for size, numbers in sizes.items()}
        plans = {size: _plan(group) for size, group in callers.items()}
        found = run_rounds({f"{name}, {size}": plans[size][name] for name in plans["small"] for size in sizes}, options)
        measurements = {name: _compared(found[f"{name}, small"], found[f"{name}, large"]) for name in plans["small"]}
        named = {size: {"wallets": wallets, "rows": rows} for size, (wallets, rows) in sizes.items()}
        return report.result(callers["large"].live, options, measurements) | {"sizes": named}


@contextmanager
def _loaded(wallets: int, rows: int) -> Iterator[Callers]:
    """Both sizes run at once, so that other load of the machine affects both."""
    with product() as callers:
        load(callers.live.owner_url, wallets, rows)
        yield callers


def _plan(callers: Callers) -> Plan:
    """One caller at a time, to measure latency and not throughput."""
    alone = partial(partial, callers.send, connections=1)
    return {
        "transfer": alone("transfer"),
        "balance": alone("/wallet/balance/"),
        "history, first page": alone(HISTORY, who="reader"),
        "history, hundredth page": alone(_hundredth_page(callers), who="reader"),
        **{name: alone(path, who="staff") for name, path in LISTS.items()},
    }


def _hundredth_page(callers: Callers) -> str:
    path = HISTORY
    for _ in range(99):
        following = callers.live.call("GET", path, token=callers.token("reader")).body["next"]
        path = "/" + following.split("/", 3)[3]
    return path


def _compared(small: dict[str, Any], large: dict[str, Any]) -> dict[str, Any]:
    return {"small": small, "large": large, "ratio": round(large["p50"] / small["p50"], 2)}
