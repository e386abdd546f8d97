"""Requests per second with a thousand wallets, compared with the same work without the product."""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lokanetra.tests.live import Live, live_server, own_postgres
from scripts.bench import MEMBERS, PHONES, cost, report
from scripts.bench.load import Callers, Failed, Round, call, pgbench
from scripts.bench.logins import Logins

NAMES = ("transfer", "floor", "hot", "credit", "balance", "reference", "history", "login", "cost")
COMPARED = {"transfer": "floor", "hot": "transfer", "balance": "reference"}
HOT_CONNECTIONS = 32
# One more than cores: while one waits for the database, another works.
WORKERS = (os.cpu_count() or 1) + 1
# A phone gets five codes in ten minutes: with this many phones for each second of logins none reaches that.
PHONES_PER_SECOND = 200

Plan = dict[str, Callable[[int], Round]]


def measure(options: Namespace) -> dict[str, Any]:
    logins = Logins()
    with product(options.sqlite, OTP_SMS_URL=logins.gateway) as callers:
        live, end = callers.live, MEMBERS + options.rounds * options.seconds * PHONES_PER_SECOND
        call(live, f"make({end})")
        idle = cost.memory(live)
        with _reference(live) as reference:
            plan = _plan(callers, reference)
            phones = cycle(str(PHONES + n) for n in range(MEMBERS + 1, end + 1))
            plan["login"] = partial(logins.run, live.port, phones)
            wanted = {name: run for name, run in plan.items() if name in (options.only or NAMES)}
            found = _compared(run_rounds(wanted, options))
        if not live.check_ledger()["ok"]:
            raise Failed("afterwards the books do not agree")
        result = report.result(live, options, found)
        if "cost" in (options.only or NAMES):
            result["cost"] = cost.summary(live, idle, options.rounds)
        return result


@contextmanager
def product(sqlite: bool = False, **settings: str) -> Iterator[Callers]:
    """The production server with a new, empty database."""
    with ExitStack() as stack:
        folder = stack.enter_context(TemporaryDirectory(prefix="lokanetra-bench-"))
        url = f"sqlite:///{folder}/db.sqlite3" if sqlite else stack.enter_context(own_postgres()).url
        yield Callers(stack.enter_context(live_server(url, workers=WORKERS, **settings)), Path(folder))


def run_rounds(plan: Plan, options: Namespace) -> dict[str, Any]:
    """Warm up each for a second, then measure in rounds, so that other load of the machine affects all alike."""
    found: dict[str, list[Round]] = {name: [] for name in plan}
    for run in plan.values():
        run(1)
    for number in range(1, options.rounds + 1):
        for name, run in plan.items():
            found[name].append(run(options.seconds))
            print(f"round {number} of {options.rounds}: {name} {found[name][-1].rate:.0f}/s", file=sys.stderr)
    return {name: report.summary(rounds) for name, rounds in found.items()}


@contextmanager
def _reference(live: Live) -> Iterator[Live]:
    server = cost.second_server(live, DJANGO_SETTINGS_MODULE="scripts.bench.reference_settings")
    try:
        server.start()
        yield server
    finally:
        server.stop()


def _plan(callers: Callers, reference: Live) -> Plan:
    url = callers.live.environment["DATABASE_URL"]
    return {
        "transfer": partial(callers.send, "transfer"),
        **({} if url.startswith("sqlite") else {"floor": partial(pgbench, url)}),
        "hot": partial(callers.send, "hot", connections=HOT_CONNECTIONS),
        "credit": partial(callers.send, "credit"),
        "balance": partial(callers.send, "/wallet/balance/"),
        "reference": partial(callers.send, "/reference/", port=reference.port),
        "history": partial(callers.send, "/transactions/", who="reader"),
    }


def _compared(found: dict[str, Any]) -> dict[str, Any]:
    for name, other in COMPARED.items():
        if name in found and other in found:
            found[name] |= {"compared": other, "ratio": round(found[name]["rate"] / found[other]["rate"], 3)}
    return found
