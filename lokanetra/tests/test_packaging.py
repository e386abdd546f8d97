"""Two installations are the same: every package is pinned, also indirect ones."""

import os
import subprocess
from importlib.metadata import requires, version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from lokanetra.env import BASE_DIR

pytestmark = pytest.mark.once

FILES = ("requirements-prod.txt", "requirements.txt")
FILES += ("scripts/requirements-bench.txt", "scripts/requirements-drill.txt")
CONSTRAINTS = "scripts/constraints.txt"


def pins(*files: str) -> list[Requirement]:
    lines = [line for file in files for line in (BASE_DIR / file).read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]


def pinned() -> dict[str, str]:
    """The version that each package has in an installation like this one."""
    holding = [pin for pin in pins(CONSTRAINTS) if pin.marker is None or pin.marker.evaluate()]
    return {canonicalize_name(pin.name): str(pin.specifier) for pin in holding}


@pytest.mark.parametrize("file", FILES)
def test_the_constraints_have_every_pin(file):
    wanted = {canonicalize_name(pin.name): str(pin.specifier) for pin in pins(file)}
    assert {name: pinned().get(name) for name in wanted} == wanted


def pull_in(pin: Requirement, found: set[tuple[str, frozenset[str]]]) -> None:
    """Add the package, with its extras, and everything that it requires here."""
    this = canonicalize_name(pin.name), frozenset(pin.extras)
    if this in found:
        return
    found.add(this)
    for other in map(Requirement, requires(pin.name) or []):
        if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in ("", *pin.extras)):
            pull_in(other, found)


def test_the_constraints_have_all_that_is_pulled_in():
    found: set[tuple[str, frozenset[str]]] = set()
    for pin in pins("requirements-prod.txt", "requirements.txt"):
        pull_in(pin, found)
    installed = {name: f"=={version(name)}" for name, _ in found}
    assert len(installed) > 70
    assert {name: pinned().get(name) for name in installed} == installed


def test_no_constraint_is_for_one_platform_alone_unless_it_says_so():
    assert [pin for pin in pins(CONSTRAINTS) if pin.url or not str(pin.specifier).startswith("==")] == []
    assert {str(pin.marker) for pin in pins(CONSTRAINTS) if pin.name == "colorama"} == {'sys_platform == "win32"'}


@pytest.fixture
def installations(tmp_path):
    """Runs `venv.sh` in a project of nothing but pins, and returns how often it has installed something."""
    (tmp_path / "scripts").mkdir()
    for file in ("requirements.txt", "requirements-prod.txt", CONSTRAINTS, "scripts/venv.sh"):
        (tmp_path / file).write_text((BASE_DIR / file).read_text())
    python = tmp_path / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@" >>calls\n')
    python.chmod(0o755)

    def call() -> int:
        subprocess.run(
            ["bash", "-euc", ". scripts/venv.sh"], cwd=tmp_path, env={"PATH": os.environ["PATH"]}, check=True
        )
        return len((tmp_path / "calls").read_text().splitlines())

    return call


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-prod.txt", CONSTRAINTS])
def test_what_changed_is_installed_once(installations, tmp_path, file):
    assert [installations(), installations()] == [1, 1]
    with (tmp_path / file).open("a") as pins_of:
        pins_of.write("tqdm==4.70.1\n")
    assert [installations(), installations()] == [2, 2]
