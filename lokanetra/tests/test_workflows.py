"""What runs by itself: each workflow can be read and writes nothing, and one tries the next releases."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lokanetra.env import BASE_DIR
from lokanetra.tests.test_packaging import pins

WORKFLOWS = sorted((BASE_DIR / ".github" / "workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in yaml.safe_load(path.read_text())["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_each_can_be_read_and_writes_nothing(path):
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"]) for step in steps(path) if "uses" in step)


def test_the_suite_runs_against_what_comes_next():
    *_, install, suite = [step["run"] for step in steps(BASE_DIR / ".github/workflows/next.yml") if "run" in step]
    pinned = {pin.name.lower() for pin in pins("requirements-prod.txt")}
    upgraded = {Requirement(name.strip('"')).name.lower() for name in install.split("--upgrade", 1)[1].split()}
    assert "--pre" in install
    assert {"django", "djangorestframework", "psycopg", "granian"} <= upgraded <= pinned
    assert "./scripts/test.sh" in suite.split()
    for test in re.findall(r"--deselect (\S+)::(\S+)", suite):
        assert f"def {test[1]}(" in (BASE_DIR / test[0]).read_text()
