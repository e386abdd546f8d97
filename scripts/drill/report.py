"""The result as a table and as data, and the promises that were broken."""

import os
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any

from scripts.drill.accounting import Reconciliation
from scripts.drill.clients import PAID, Clients
from scripts.drill.health import Health

# Seconds in which a live server must answer its health check.
HEALTHZ = 2.0
HEADERS = ["what fails", "first payment, s", "longest without, s", "acknowledged", "lost", "twice", "healthz, s"]
HEADERS += ["other answers"]


@dataclass(frozen=True)
class Window:
    """One scenario, from its fault until everything has recovered, in times of `time.monotonic`.

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
    """What clients experienced in this window. Times are seconds."""
    paid = [answer for answer in list(clients.acknowledged) if window.covers(answer.answered)]
    moments = [window.fault, *sorted(answer.answered for answer in paid), window.end]
    polls = [took for health in healths for moment, took in list(health.answers) if window.covers(moment)]
    return {
        "scenario": window.name,
        "title": window.title,
        "limit": window.limit,
        "first_write": round(min(answer.answered for answer in paid if answer.begun >= window.fault) - window.fault, 2),
        "longest_without": round(max(later - earlier for earlier, later in pairwise(moments)), 2),
        "acknowledged": len(paid),
        "contradicted": sum(answer.is_contradicted for answer in paid),
        "answers": Counter(outcome for moment, outcome in list(clients.outcomes) if window.covers(moment)),
        "healthz": round(max(polls), 3),
        "keys": {
            answer.payment.key for answer in list(clients.acknowledged) if window.since <= answer.answered <= window.end
        },
    }


def result(
    scenarios: list[dict[str, Any]], reconciliation: Reconciliation, clients: Clients, books: dict[str, Any]
) -> dict:
    """All results, with lost and doubled keys counted in the scenario in which they were acknowledged."""
    for scenario in scenarios:
        keys = scenario.pop("keys")
        scenario |= {"lost": len(reconciliation.lost & keys), "twice": len(reconciliation.twice & keys)}
    totals = {name: len(keys) for name, keys in asdict(reconciliation).items()}
    return {
        "cores": os.cpu_count(),
        "scenarios": scenarios,
        "total": {"acknowledged": len(clients.acknowledged), **totals},
        "check_ledger": books,
    }


def broken(result: dict[str, Any]) -> list[str]:
    """The promises that were not kept."""
    complaints = [complaint for scenario in result["scenarios"] for complaint in _complaints(scenario)]
    complaints += [
        f"in total, {description}: {result['total'][name]}"
        for name, description in WRONG.items()
        if result["total"][name]
    ]
    return complaints + ([] if result["check_ledger"]["ok"] else ["check_ledger: the books do not agree"])


WRONG = {
    "lost": "lost",
    "twice": "done twice",
    "unacknowledged": "done and not acknowledged",
    "wrong": "wallets with a wrong balance",
}


def _complaints(scenario: dict[str, Any]) -> list[str]:
    limits = {"first_write": scenario["limit"], "longest_without": scenario["limit"], "healthz": HEALTHZ}
    limits |= {"lost": 0, "twice": 0, "contradicted": 0}
    return [
        f"{scenario['title']}: {name.replace('_', ' ')} {scenario[name]}, at most {most:g}"
        for name, most in limits.items()
        if scenario[name] > most
    ]


def text(result: dict[str, Any]) -> str:
    """A table in Markdown, as in the documentation."""
    lines = [row(HEADERS), "|" + "---|" * len(HEADERS)]
    lines += [row(_cells(scenario)) for scenario in result["scenarios"]]
    total = result["total"]
    lines += [row(["all", "", "", total["acknowledged"], total["lost"], total["twice"], "", ""])]
    return "\n".join(lines)


def short(scenario: dict[str, Any]) -> str:
    """One line of progress."""
    first, count = scenario["first_write"], scenario["acknowledged"]
    return f"first payment after {first} s, {count} acknowledged: {_answers(scenario)}"


def row(cells: list[Any]) -> str:
    return f"| {' | '.join(str(cell) for cell in cells)} |"


def _cells(scenario: dict[str, Any]) -> list[Any]:
    times = [f"{scenario['first_write']:.1f}", f"{scenario['longest_without']:.1f}"]
    counts = [scenario[name] for name in ("acknowledged", "lost", "twice")]
    return [scenario["title"], *times, *counts, f"{scenario['healthz']:.2f}", _answers(scenario)]


def _answers(scenario: dict[str, Any]) -> str:
    """All outcomes except payments that succeeded at once."""
    return ", ".join(f"{count} {outcome}" for outcome, count in scenario["answers"].most_common() if outcome != PAID)
