"""A client in TypeScript, generated from `/swagger.json`: it compiles in the strictest mode, and pays."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lokanetra.env import BASE_DIR
from lokanetra.tests.docs import API, section
from lokanetra.tests.live import Live, program

pytestmark = pytest.mark.slow

SOURCES = ("package.json", "package-lock.json", "tsconfig.json", "flow.ts")


def test_the_documents_run_all_of_its_scripts():
    scripts = json.loads((BASE_DIR / "scripts" / "client" / "package.json").read_text(encoding="utf-8"))["scripts"]
    commands = " && ".join(["cd scripts/client", "npm ci", *(f"npm run {name}" for name in scripts)])
    assert commands in section(API, "A client in TypeScript")


def npm(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [program("npm"), *arguments]
    return subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )


def install(folder: Path, attempts: int = 4) -> None:
    """The registry may hang once."""
    try:
        npm(folder, "ci", "--prefer-offline", "--no-audit", "--no-fund").check_returncode()
    except subprocess.SubprocessError:
        if attempts == 1:
            raise
        install(folder, attempts - 1)


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program("npx")
    folder = tmp_path_factory.mktemp("client")
    for name in SOURCES:
        shutil.copy(BASE_DIR / "scripts" / "client" / name, folder)
    install(folder)
    return folder


def complaints(folder: Path, url: str) -> str:
    """What the compiler says about the flow with the types of this documentation."""
    generated = npm(folder, "run", "generate", LOKANETRA_URL=url)
    assert generated.returncode == 0, generated.stdout + generated.stderr
    return "".join(re.findall(r"^.*error TS.*\n", npm(folder, "run", "compile").stdout, re.MULTILINE))


def test_it_compiles_and_pays(live: Live, installed: Path):
    url = f"http://127.0.0.1:{live.port}"
    errors = complaints(installed, url)
    assert errors == "", errors
    environment = os.environ | {"LOKANETRA_URL": url, "PHONES": "9870000011 9870000012"}
    flow = [program("node"), installed / "built" / "flow.js"]
    with subprocess.Popen(
        flow, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as process:
        output = "".join(answered(live, process))
    assert process.returncode == 0, output
    steps = ["pay", "list", "refusals", "hold", "request", "statement"]
    assert re.findall(r"^done: (\w+)$", output, re.MULTILINE) == steps
    assert live.check_ledger()["ok"]


def answered(live: Live, process: subprocess.Popen[str]) -> Iterator[str]:
    """The lines that it prints, while each code that it asks for is sent to it."""
    assert process.stdin and process.stdout
    for line in process.stdout:
        yield line
        if asked := re.fullmatch(r"code of (\d+)\?\n", line):
            process.stdin.write(f"{live.codes[asked[1]]}\n")
            process.stdin.flush()


def receipt(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["definitions"]["Receipt"]


def refusal(spec: dict[str, Any]) -> dict[str, Any]:
    return spec["paths"]["/wallet/transfer/"]["post"]["responses"]["400"]["schema"]


# Mistakes in the documentation, by the part of the flow that then does not compile.
MISTAKES: dict[str, Callable[[dict[str, Any]], Any]] = {
    'Schemas["Receipt"]["remarks"]': lambda spec: receipt(spec)["required"].remove("remarks"),
    'Schemas["Receipt"]["hold"]': lambda spec: receipt(spec)["properties"]["hold"].pop("x-nullable"),
    'Schemas["Receipt"]["transaction_type"]': lambda spec: receipt(spec)["properties"]["transaction_type"].pop("enum"),
    'Schemas["Receipt"]["amount"]': lambda spec: receipt(spec)["properties"]["amount"].update(type="number"),
    "string extends TransferRefusal": lambda spec: refusal(spec)["properties"]["code"].pop("enum"),
    'paths["/wallet/holds/{id}/"]': lambda spec: spec["paths"]["/wallet/holds/{id}/"]["parameters"][0].update(
        type="string"
    ),
    'GET("/transactions/statement/")': lambda spec: spec["paths"].pop("/transactions/statement/"),
}


def test_it_does_not_compile_against_a_wrong_documentation(live: Live, installed: Path, tmp_path: Path):
    spec = live.call("GET", "/swagger.json").body
    for make_mistake in MISTAKES.values():
        make_mistake(spec)
    (tmp_path / "swagger.json").write_text(json.dumps(spec), encoding="utf-8")
    numbers = re.findall(r"^flow\.ts\((\d+),", complaints(installed, str(tmp_path)), re.MULTILINE)
    lines = (installed / "flow.ts").read_text(encoding="utf-8").splitlines()
    wrong = {lines[int(number) - 1] for number in numbers}
    assert [part for part in MISTAKES if not any(part in line for line in wrong)] == []
