"""What was found, as a table and as data, and which promises it broke."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from scripts.drill.accounting import Reconciliation
from scripts.drill.clients import PAID, Clients
from scripts.drill.health import Health

# Seconds until a server that is alive has said so.
HEALTHZ = 2.0
HEADERS = ["what fails", "first payment, s", "longest without, s", "acknowledged", "lost", "twice", "healthz, s"]
HEADERS += ["other answers"]


@dataclass(frozen=True)
class Window:
    """One scenario, from its fault until everything is whole again; by the clock of `time.monotonic`.

    `since` is when it was prepared: what was acknowledged just before the fault may be lost by it.
    """

    name: str
    title: str
    limit: float
    since: float
    fault: float
    end: float

    def covers(self, moment: float) -> bool:
        return self.fault <= moment <= self.end


def found(window: Window, clients: Clients, healths: list[Health]) -> dict[str, Any]:
    """What the clients of this window saw. Times are seconds."""
    told = [one for one in list(clients.acknowledged) if window.covers(one.answered)]
    moments = [window.fault, *sorted(one.answered for one in told), window.end]
    asked = [took for health in healths for moment, took in list(health.asked) if window.covers(moment)]
    return {
        "scenario": window.name,
        "title": window.title,
        "limit": window.limit,
        "first_write": round(min(one.answered for one in told if one.begun >= window.fault) - window.fault, 2),
        "longest_without": round(max(later - earlier for earlier, later in pairwise(moments)), 2),
        "acknowledged": len(told),
        "contradicted": sum(one.is_contradicted for one in told),
        "answers": Counter(outcome for moment, outcome in list(clients.outcomes) if window.covers(moment)),
        "healthz": round(max(asked), 3),
        "keys": {one.payment.key for one in list(clients.acknowledged) if window.since <= one.answered <= window.end},
    }


def result(scenarios: list[dict[str, Any]], accounts: Reconciliation, clients: Clients, books: dict[str, Any]) -> dict:
    """All of it, each lost or doubled key beside the scenario in which it was acknowledged."""
    for one in scenarios:
        keys = one.pop("keys")
        one |= {"lost": len(accounts.lost & keys), "twice": len(accounts.twice & keys)}
    totals = {name: len(several) for name, several in asdict(accounts).items()}
    return {
        "cores": os.cpu_count(),
        "scenarios": scenarios,
        "total": {"acknowledged": len(clients.acknowledged), **totals},
        "check_ledger": books,
    }


def broken(result: dict[str, Any]) -> list[str]:
    """The promises that were not kept."""
    complaints = [complaint for one in result["scenarios"] for complaint in _complaints(one)]
    complaints += [
        f"all in all, {told}: {result['total'][name]}" for name, told in WRONG.items() if result["total"][name]
    ]
    return complaints + ([] if result["check_ledger"]["ok"] else ["check_ledger: the books do not agree"])


WRONG = {
    "lost": "lost",
    "twice": "done twice",
    "unacknowledged": "done and not acknowledged",
    "wrong": "wallets with a wrong balance",
}


def _complaints(one: dict[str, Any]) -> list[str]:
    limits = {"first_write": one["limit"], "longest_without": one["limit"], "healthz": HEALTHZ}
    limits |= {"lost": 0, "twice": 0, "contradicted": 0}
    return [
        f"{one['title']}: {name.replace('_', ' ')} {one[name]}, at most {most:g}"
        for name, most in limits.items()
        if one[name] > most
    ]


def text(result: dict[str, Any]) -> str:
    """A table in Markdown, fit for the documents."""
    lines = [row(HEADERS), "|" + "---|" * len(HEADERS)]
    lines += [row(_cells(one)) for one in result["scenarios"]]
    total = result["total"]
    lines += [row(["all", "", "", total["acknowledged"], total["lost"], total["twice"], "", ""])]
    return "\n".join(lines)


def short(one: dict[str, Any]) -> str:
    """A line while it goes on."""
    return f"first payment after {one['first_write']} s, {one['acknowledged']} acknowledged: {_answers(one)}"


def row(cells: list[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _cells(one: dict[str, Any]) -> list[Any]:
    times = [f"{one['first_write']:.1f}", f"{one['longest_without']:.1f}"]
    counts = [one[name] for name in ("acknowledged", "lost", "twice")]
    return [one["title"], *times, *counts, f"{one['healthz']:.2f}", _answers(one)]


def _answers(one: dict[str, Any]) -> str:
    """All but those that were paid at once."""
    return ", ".join(f"{count} {outcome}" for outcome, count in one["answers"].most_common() if outcome != PAID)
