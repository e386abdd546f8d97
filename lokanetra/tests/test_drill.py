"""The drill fits its documentation, and fails where a payment was lost, done twice or answered wrongly."""

import itertools
import re
import subprocess
from collections import Counter
from pathlib import Path

import pytest
import yaml

from lokanetra.env import BASE_DIR
from lokanetra.tests.docs import OPERATIONS, section
from scripts.drill import clients, cluster, report
from scripts.drill.__main__ import arguments
from scripts.drill.accounting import Reconciliation, reconcile
from scripts.drill.clients import CLIENTS, Acknowledged, Clients, Payment
from scripts.drill.health import Health
from scripts.drill.report import Window
from scripts.drill.scenarios import SCENARIOS, SILENT

SCRIPT = BASE_DIR / "scripts" / "drill.sh"


@pytest.fixture(scope="module")
def usage() -> str:
    return subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def described() -> str:
    return section(OPERATIONS, "Beyond one machine")


@pytest.fixture(scope="module")
def patroni() -> dict:
    node = cluster.Node("lokanetra-1", "10.99.7.11", Path("/nowhere"), Path("/nowhere"))
    return yaml.safe_load(cluster.configuration(node, "secret"))


def test_help_names_every_option_and_every_scenario(usage):
    options = {option for action in arguments()._actions for option in action.option_strings}
    assert set(re.findall(r"--[a-z-]+", usage)) == options | {"--help"}
    assert f"some of: {' '.join(SCENARIOS)}\n" in usage
    assert re.findall(r"^  ([a-z]+)  ", usage, re.MULTILINE) == list(SCENARIOS)
    assert f"{SILENT:.0f} s where" in usage


@pytest.mark.parametrize("wrong", ["--only=kill,nothing", "--fast", "--json", "kill"])
def test_an_invalid_option_is_refused(wrong, capsys):
    with pytest.raises(SystemExit) as ended:
        arguments().parse_args([wrong])
    assert (ended.value.code, "error: " in capsys.readouterr().err) == (2, True)


def test_the_documents_list_every_scenario_and_no_other(described):
    table = described[described.index("| what fails") :]
    documented = [row.split(" | ")[0].strip("| ") for row in table.splitlines()[2:] if row.startswith("|")]
    assert documented == [one.title for one in SCENARIOS.values() for _ in range(one.times)] + ["all"]


def test_the_documents_have_the_settings_of_patroni_that_the_drill_has(described, patroni):
    wanted = patroni["bootstrap"]["dcs"]
    wanted |= wanted["postgresql"] | wanted["postgresql"]["parameters"]
    documented = dict(re.findall(r"^\| `(\w+)` \| `(\w+)` \|", described, re.MULTILINE))
    assert len(documented) >= 8
    assert documented == {name: yaml.safe_dump(wanted[name]).split()[0] for name in documented}


def test_patroni_keeps_the_times_that_the_drill_gives_it(patroni):
    """It would replace invalid ones."""
    dcs = patroni["bootstrap"]["dcs"]
    assert dcs["ttl"] >= 20 and dcs["retry_timeout"] >= 3
    assert dcs["loop_wait"] + 2 * dcs["retry_timeout"] <= dcs["ttl"]
    assert dcs["ttl"] < SILENT


# --- What clients do -------------------------------------------------------------------------------------


def test_clients_pay_each_other_and_themselves_each_payment_with_a_key_of_its_own():
    paid = [one for number in range(CLIENTS) for one in itertools.islice(clients._payments(number), 60)]
    assert len({one.key for one in paid}) == len(paid)
    assert Counter(one.is_credit for one in paid) == {True: len(paid) // 3, False: len(paid) * 2 // 3}
    assert {one.to for one in paid if not one.is_credit} == set(range(CLIENTS))
    assert min(one.amount for one in paid) > 0


class Answering(Clients):
    """Returns these answers in turn, instead of calling a server."""

    def __init__(self, *answers: str) -> None:
        super().__init__([1, 2])
        self.answers, self.asked = iter(answers), []

    def _send(self, payment: Payment, port: int) -> str:
        answer = next(self.answers, None)
        if answer is None:
            raise StopIteration
        self.asked.append((payment.key, port))
        return answer


@pytest.mark.parametrize(
    ("answers", "is_contradicted"),
    [
        (["200"], False),
        (["503 server_busy", "200"], False),
        (["503 server_busy", "no server", "200 replayed"], True),
        (["503 outcome_unknown", "200 replayed"], False),
        (["broken off", "503 server_busy", "200 replayed"], False),
    ],
)
def test_a_client_retries_at_the_other_server_with_the_same_key_and_notes_wrong_answers(
    monkeypatch, answers, is_contradicted
):
    monkeypatch.setattr(clients, "RETRY_PAUSE", 0)
    several = Answering(*answers)
    with pytest.raises(StopIteration):
        several.pay(0)
    assert several.asked == [("drill-0-1", (1, 2)[turn % 2]) for turn in range(len(answers))]
    assert [one.is_contradicted for one in several.acknowledged] == [is_contradicted]


# --- The report ------------------------------------------------------------------------------------------

CREDIT, TRANSFER = Payment("a", 0, 0, 500), Payment("b", 0, 1, 200)
BEFORE, AFTER = {0: 1000, 1: 1000}, {0: 1300, 1: 1200}


def books(**wrong: set) -> Reconciliation:
    nothing: dict[str, frozenset] = dict.fromkeys(("lost", "twice", "unacknowledged", "wrong"), frozenset())
    return Reconciliation(**nothing | {name: frozenset(found) for name, found in wrong.items()})


@pytest.mark.parametrize(
    ("ledger", "after", "found"),
    [
        ([CREDIT, TRANSFER], AFTER, books()),
        ([TRANSFER], {0: 800, 1: 1200}, books(lost={"a"}, wrong={0})),
        ([CREDIT, TRANSFER, TRANSFER], {0: 1100, 1: 1400}, books(twice={"b"}, wrong={0, 1})),
        ([CREDIT, TRANSFER, Payment("b", 1, 0, 200)], AFTER, books(twice={"b"})),
        ([CREDIT, Payment("b", 0, 1, 201)], {0: 1299, 1: 1201}, books(lost={"b"}, wrong={0, 1})),
        ([CREDIT, TRANSFER, Payment("c", 0, 0, 1)], {0: 1301, 1: 1200}, books(unacknowledged={"c"}, wrong={0})),
        ([CREDIT, TRANSFER], {0: 1300}, books(wrong={1})),
        ([CREDIT, TRANSFER], AFTER | {2: 5}, books(wrong={2})),
    ],
    ids=[
        "all well",
        "lost",
        "twice",
        "twice, reversed",
        "another amount",
        "not acknowledged",
        "no wallet",
        "new money",
    ],
)
def test_the_ledger_is_compared_with_the_acknowledged_payments(ledger, after, found):
    assert reconcile([CREDIT, TRANSFER], ledger, BEFORE, after) == found


def found_by(*, healthz: float = 0.1, first: float = 3.0, is_contradicted: bool = False) -> dict:
    several = Clients([])
    several.acknowledged = [
        Acknowledged(Payment("early", 0, 0, 1), 90.0, 97.0, False),
        Acknowledged(Payment("before", 0, 0, 1), 98.0, 99.0, False),
        Acknowledged(CREDIT, 99.0, 100.5, False),  # sent before the fault
        Acknowledged(TRANSFER, 101.0, 100.0 + first, is_contradicted),
    ]
    several.outcomes = [(100.5, "200"), (101.0, "503 server_busy"), (100.0 + first, "200")]
    health = Health(1, answers=[(99.0, 9.0), (101.0, healthz)])
    return report.found(Window("kill", "primary killed", 15.0, 98.0, 100.0, 103.0 + first), several, [health])


def result(scenario: dict, accounts: Reconciliation, ok: bool = True) -> dict:
    return report.result([scenario], accounts, Clients([]), {"ok": ok})


def test_the_measurements_start_with_the_fault():
    found = found_by()
    assert (found["first_write"], found["longest_without"], found["healthz"]) == (3.0, 3.0, 0.1)
    assert (found["acknowledged"], found["answers"]) == (2, {"200": 2, "503 server_busy": 1})


@pytest.mark.parametrize(
    ("scenario", "accounts", "ok", "complaints"),
    [
        ({}, {}, True, []),
        ({"first": 16.0}, {}, True, ["primary killed: first write", "primary killed: longest without"]),
        ({"healthz": 2.5}, {}, True, ["primary killed: healthz"]),
        ({"is_contradicted": True}, {}, True, ["primary killed: contradicted"]),
        ({}, {"lost": {"b"}}, True, ["primary killed: lost", "in total, lost"]),
        ({}, {"twice": {"a"}}, True, ["primary killed: twice", "in total, done twice"]),
        ({}, {"lost": {"before"}}, True, ["primary killed: lost", "in total, lost"]),
        ({}, {"lost": {"early"}}, True, ["in total, lost"]),
        ({}, {"unacknowledged": {"x"}}, True, ["in total, done and not acknowledged"]),
        ({}, {"wrong": {3}}, True, ["in total, wallets with a wrong balance"]),
        ({}, {}, False, ["check_ledger"]),
    ],
)
def test_each_promise_that_is_broken_is_named(scenario, accounts, ok, complaints):
    found = report.broken(result(found_by(**scenario), books(**accounts), ok))
    assert len(found) == len(complaints)
    assert all(one.startswith(what) for one, what in zip(found, complaints, strict=True)), found


def test_the_table_has_what_was_not_paid_at_once():
    lines = report.text(result(found_by(), books(lost={"b"}))).splitlines()
    assert lines[2] == "| primary killed | 3.0 | 3.0 | 2 | 1 | 0 | 0.10 | 1 503 server_busy |"
    assert len({line.count("|") for line in lines}) == 1
