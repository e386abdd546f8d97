"""The collection for Postman and similar tools covers the whole API, and passes on a fresh server."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lokanetra.env import BASE_DIR
from lokanetra.tests.docs import API, section
from lokanetra.tests.live import development_server, program

FOLDER = BASE_DIR / "scripts" / "postman"
COLLECTION, ENVIRONMENT = (FOLDER / f"lokanetra.postman_{kind}.json" for kind in ("collection", "environment"))
NEWMAN = "newman@6.2.2"


def requests() -> Iterator[dict[str, Any]]:
    for folder in json.loads(COLLECTION.read_text(encoding="utf-8"))["item"]:
        yield from folder["item"]


def script(item: dict[str, Any]) -> str:
    (test,) = [event for event in item["event"] if event["listen"] == "test"]
    return "\n".join(test["script"]["exec"])


def operation(item: dict[str, Any]) -> tuple[str, str]:
    path = item["request"]["url"]["raw"].removeprefix("{{base_url}}").partition("?")[0]
    return item["request"]["method"].lower(), re.sub(r"{{\w+}}", "{}", path)


def test_it_covers_every_operation_of_the_documentation_and_no_other(client):
    paths = client.get("/swagger.json").json()["paths"]
    documented = {
        (method, re.sub(r"{\w+}", "{}", path))
        for path, methods in paths.items()
        for method in methods
        if method != "parameters"
    }
    assert {operation(item) for item in requests()} == documented


def test_every_request_says_what_it_is_for_and_checks_status_and_body():
    for item in requests():
        assert item["request"]["description"], item["name"]
        assert re.search(r"have\.status\(\d{3}\)", script(item)), item["name"]
        assert script(item).count("pm.test(") > 1, item["name"]


def test_the_environment_names_what_the_collection_uses_and_keeps_and_no_more():
    values = {value["key"]: value["value"] for value in json.loads(ENVIRONMENT.read_text(encoding="utf-8"))["values"]}
    text = COLLECTION.read_text(encoding="utf-8")
    used = set(re.findall(r"{{(\w+)}}", text))
    kept = set(re.findall(r'environment\.set\(\\"(\w+)', text))
    given = {name for name, value in values.items() if value}
    assert given == {"base_url", "admin_phone"} == used - kept
    assert set(values) == used == given | kept


def test_the_documents_run_the_newman_that_is_tested():
    assert f"npx {NEWMAN} run " in section(API, "Postman and its like")


@pytest.mark.slow
def test_it_runs_green_twice_against_a_fresh_server(tmp_path: Path):
    npx = program("npx")
    with development_server(tmp_path) as server:
        server.create_superuser("admin", "correct horse", "9000000001")
        for run in ("first", "second"):
            report = tmp_path / f"{run}.json"
            command = [npx, "--yes", NEWMAN, "run", COLLECTION, "--environment", ENVIRONMENT]
            command += ["--env-var", f"base_url=http://{server.address}"]
            command += ["--reporters", "json", "--reporter-json-export", report]
            subprocess.run(command, check=False, timeout=300)
            check(json.loads(report.read_text())["run"])


def check(run: dict[str, Any]) -> None:
    items = list(requests())
    assert [failure["error"]["message"] for failure in run["failures"]] == []
    assert run["stats"]["requests"]["total"] == len(items)
    assert run["stats"]["assertions"]["total"] == sum(script(item).count("pm.test(") for item in items)
    print(run["stats"]["requests"]["total"], "requests,", run["stats"]["assertions"]["total"], "assertions")  # noqa: T201
