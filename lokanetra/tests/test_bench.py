"""The benchmarks match the product: what they write agrees with the books, and their references do what they claim."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date

import pytest
from rest_framework.test import APIClient

from lokanetra.env import BASE_DIR
from scripts.bench import HERE
from scripts.bench.__main__ import arguments
from scripts.bench.load import call, pgbench
from scripts.bench.loader import load
from scripts.bench.throughput import COMPARED, NAMES, product
from users.models import UserProfile

SCRIPT = BASE_DIR / "scripts" / "bench.sh"


@pytest.fixture(scope="module")
def usage() -> str:
    return subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout


def test_help_names_every_option_and_every_measurement(usage: str):
    options = {option for action in arguments()._actions for option in action.option_strings}
    assert set(re.findall(r"--[a-z-]+", usage)) == options | {"--help"}
    assert " ".join(NAMES) in usage
    assert {*COMPARED, *COMPARED.values()} <= set(NAMES)


def test_the_loader_knows_the_product_s_day_without_being_told_its_settings():
    code = "import scripts.bench.loader; from lokanetra import days; print(days.today())"
    environment = {"PATH": os.environ["PATH"]}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=BASE_DIR, env=environment, capture_output=True, text=True, check=True)
    assert date.fromisoformat(done.stdout.strip())


def test_every_file_that_is_named_is_there():
    named = re.findall(r"scripts/[\w./-]+\.\w+", SCRIPT.read_text())
    named += [f"scripts/bench/{name}" for name in re.findall(r'HERE / "([\w.]+)"', (HERE / "load.py").read_text())]
    assert {"scripts/requirements-bench.txt", "scripts/bench/load.lua", "scripts/bench/floor.sql"} <= set(named)
    assert [name for name in named if not (BASE_DIR / name).is_file()] == []


@pytest.mark.parametrize(
    "wrong", ["--rounds=0", "--seconds=9999", "--only=transfer,nothing", "--large-rows=1", "--fast"]
)
def test_an_invalid_option_is_refused(wrong: str):
    with pytest.raises(SystemExit):
        arguments().parse_args([wrong])


def test_the_reference_is_a_balance_without_a_query(
    settings, asha: UserProfile, as_user: Callable[..., APIClient], nobody: APIClient, django_assert_num_queries
):
    settings.ROOT_URLCONF = "scripts.bench.reference_urls"
    client = as_user(asha)
    balance = client.get("/wallet/balance/").json()
    with django_assert_num_queries(0):
        reference = client.get("/reference/")
        refused = nobody.get("/reference/")
        forged = nobody.get("/reference/", HTTP_AUTHORIZATION="Bearer a.b.c")
    assert (reference.status_code, reference.json().keys()) == (200, balance.keys())
    assert (refused.status_code, forged.status_code) == (401, 401)


@pytest.mark.slow
def test_the_floor_writes_what_a_transfer_writes():
    with product() as callers:
        live = callers.live
        call(live, "make(1000)")
        before = live.check_ledger()
        floor = pgbench(live.environment["DATABASE_URL"], 1)
        after = live.check_ledger()
        newest = live.call("GET", "/transactions/admin-list/?type=TRANSFER", token=callers.token("staff")).body
    assert before["ok"] and after["ok"], (before, after)
    assert after["sum_of_balances"] == before["sum_of_balances"]
    assert floor.rate > 0 and newest["results"][0]["amount"] == "1.00"


@pytest.mark.slow
def test_a_loaded_ledger_agrees_and_goes_on():
    with product() as callers:
        live = callers.live
        load(live.owner_url, 1_000, 10_000)
        token = callers.token("reader")
        paid = live.post("/wallet/transfer/", {"to_phone_number": "9000000500", "amount": "1.00"}, token)
        report = live.check_ledger()
    assert (paid.status, paid.body["transaction_id"]) == (200, 10_001)
    assert report["ok"] and report["wallets"] == 1_001, report  # with the one of the staff
