"""Mutation tests: makes small changes to the modules that guard money and logins, and lists those that no test notices.

Only copies of the tree are changed. Equivalent changes are listed in `mutate.toml` with the reason. Texts, annotations
and assertions are not changed.

mutmut skips decorated functions, which all services are; cosmic-ray does not remove statements, arguments or calls of a
chain, which is how a rule gets lost. So this script makes the changes itself.
"""

import ast
import os
import random
import re
import shutil
import subprocess
import sys
import time
import tomllib
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from difflib import ndiff
from importlib.util import cache_from_source
from itertools import accumulate
from pathlib import Path
from queue import Queue
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
EQUIVALENT = ROOT / "scripts/mutate.toml"
MIN_SCORE = 95  # per cent
JOBS = os.cpu_count() or 1
SUMMARY = "Makes small changes to the modules that guard money and logins, and lists those that no test notices."
IGNORED = (".git", ".venv", ".drill", ".static", ".hypothesis", ".*_cache", "__pycache__", "*.sqlite3*")

# The tests of each module, the fastest first: most changes are noticed at once.
NAMES = "transfer credit_and_debit holds limits refunds reversal requests idempotency by_phone own_wallet races times "
NAMES += "console_actions hold_console expire_holds faults"
WALLET = [f"wallet/tests/test_{name}.py" for name in NAMES.split()] + ["transactions/tests/test_event_feed.py"]
TESTS = {"wallet/ledger.py": WALLET, "wallet/rules.py": [*WALLET, "users/tests/test_tokens.py"]}
TESTS |= {f"wallet/{name}.py": [f"wallet/tests/test_{name}.py", *WALLET] for name in ("holds", "refunds", "limits")}
TESTS["users/otp.py"] = [f"users/tests/test_{name}.py" for name in ("otp", "codes_change_hands", "upkeep")]
TESTS["users/tokens.py"] = ["users/tests/test_tokens.py"]
TESTS["users/permissions.py"] = ["lokanetra/tests/test_access.py", "users/tests/test_groups.py"]

PAIRS: list[tuple[type, type]] = [
    (ast.Eq, ast.NotEq),
    (ast.Lt, ast.LtE),
    (ast.Gt, ast.GtE),
    (ast.Is, ast.IsNot),
    (ast.In, ast.NotIn),
]
PAIRS += [(ast.Add, ast.Sub), (ast.Mult, ast.FloorDiv), (ast.BitOr, ast.BitAnd)]
OPPOSITE: dict[type, type] = {old: new for pair in PAIRS for old, new in (pair, pair[::-1])} | {ast.Pow: ast.Mult}


class Mutant(NamedTuple):
    """A changed module. `within` is the function or class that is changed."""

    module: str
    within: str
    was: str
    becomes: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.within}\n  - {self.was}\n  + {self.becomes}"


def mutants(module: str, source: str) -> list[Mutant]:
    """All changes of a module, in the order of its lines."""
    raw = source.encode()
    starts = [0, *accumulate(map(len, raw.splitlines(keepends=True)))]
    edits = {edit: getattr(top, "name", "") for top in ast.parse(source).body for edit in _edits(top, raw, starts)}
    return [_mutant(module, within, raw, *edit) for edit, within in sorted(edits.items())]


def _mutant(module: str, within: str, raw: bytes, start: int, end: int, new: str) -> Mutant:
    text = (raw[:start] + new.encode() + raw[end:]).decode()
    diff = list(ndiff(raw.decode().splitlines(), text.splitlines()))
    was, becomes = (" ".join(line[2:].strip() for line in diff if line[0] == sign) for sign in "-+")
    return Mutant(module, within, was, becomes, raw[:start].count(b"\n") + 1, text)


def _edits(node: Any, raw: bytes, starts: list[int]) -> Iterator[tuple[int, int, str]]:
    """Edits as start byte, end byte and replacement."""

    def span(part: Any) -> tuple[int, int]:
        return starts[part.lineno - 1] + part.col_offset, starts[part.end_lineno - 1] + part.end_col_offset

    if isinstance(node, (ast.Assert, ast.JoinedStr)):
        return
    yield from ((*span(node), new) for new in _replacements(node))
    for decorator in getattr(node, "decorator_list", []):
        yield span(decorator)[0] - 1, span(decorator)[1], ""
    for keyword in getattr(node, "keywords", []):
        yield span(keyword)[0], re.compile(rb"\s*,?").match(raw, span(keyword)[1]).end(), ""  # type: ignore[union-attr]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Call):
        yield span(node.func.value)[1], span(node)[1], ""
    for condition in [getattr(node, "test", None), *getattr(node, "ifs", [])]:
        if isinstance(condition, (ast.Name, ast.Attribute, ast.Call, ast.NamedExpr)):
            yield *span(condition), f"not ({ast.unparse(condition)})"
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and name not in ("annotation", "returns"):
                yield from _edits(child, raw, starts)


def _replacements(node: ast.AST) -> Iterator[str]:
    """The replacements for a whole node."""
    match node:
        case ast.Compare(ops=[op]):
            yield ast.unparse(ast.Compare(node.left, [OPPOSITE[type(op)]()], node.comparators))
        case ast.BoolOp(op, values):
            for value in values:
                rest = [operand for operand in values if operand is not value]
                yield f"({ast.unparse(ast.BoolOp(op, rest) if rest[1:] else rest[0])})"
        case ast.BinOp(left, op, right) if type(op) in OPPOSITE:
            yield f"({ast.unparse(ast.BinOp(left, OPPOSITE[type(op)](), right))})"
        case ast.AugAssign(target, op, value) if type(op) in OPPOSITE:
            yield ast.unparse(ast.AugAssign(target, OPPOSITE[type(op)](), value))
        case ast.UnaryOp(op=ast.Not()):
            yield f"({ast.unparse(node.operand)})"
        case ast.Constant(value=bool(value)):
            yield str(not value)
        case ast.Constant(value=int(value)):
            yield str(value + 1)
    is_set = isinstance(node, ast.Assign) and isinstance(node.targets[0], (ast.Attribute, ast.Subscript))
    if (
        isinstance(node, (ast.Raise, ast.AugAssign))
        or is_set
        or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
    ):
        yield "pass"


def equivalent() -> list[tuple[str, ...]]:
    listed = tomllib.loads(EQUIVALENT.read_text()).get("equal", [])
    return [(row["module"], row["within"], row["was"], row["becomes"]) for row in listed]


def chosen(module: str, options: Namespace) -> list[Mutant]:
    found = [mutant for mutant in mutants(module, (ROOT / module).read_text()) if mutant[:4] not in equivalent()]
    sample = found if options.all else random.Random(options.seed).sample(found, min(options.most, len(found)))
    return sorted(sample, key=lambda mutant: (mutant.line, mutant.becomes))


def passes(folder: str, tests: list[str], seconds: float | None = None, database: str = "sqlite") -> bool:
    """Whether the tests pass. Those that take far longer than they should do not."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "pytest_django.plugin",
        "-p",
        "no:cacheprovider",
        *tests,
    ]
    # Other plug-ins take as long to load as a change takes to be noticed.
    own = {"TEST_DATABASE": database, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    environ = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"} | own
    try:
        return not subprocess.run(command, cwd=folder, env=environ, capture_output=True, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        return False


def survives(mutant: Mutant, folder: str, seconds: float) -> bool:
    file = Path(folder, mutant.module)
    original = file.read_text()
    Path(cache_from_source(str(file))).unlink(missing_ok=True)  # a stale one is recognised only by second and size
    file.write_text(mutant.text)
    try:
        # Locks are noticed on PostgreSQL alone, which takes longer.
        return all(passes(folder, TESTS[mutant.module], seconds, database) for database in ("sqlite", "postgresql"))
    finally:
        file.write_text(original)


def survivors(module: str, found: list[Mutant]) -> list[Mutant]:
    alive: list[Mutant] = []
    with ExitStack() as stack, ThreadPoolExecutor(JOBS) as jobs:
        folders = Queue[str]()
        for _ in range(JOBS):
            folders.put(stack.enter_context(copied()))
        patience = seconds_to_pass(module, folders)
        outcomes = jobs.map(lambda mutant: survives_in_one_of(mutant, folders, patience), found)
        for count, (mutant, survived) in enumerate(zip(found, outcomes, strict=True), 1):
            if survived:
                alive += [mutant]
                print(f"\n{mutant}", flush=True)
            print(f"\r{module}: {count} of {len(found)}, {len(alive)} alive ", end="", file=sys.stderr, flush=True)
    print(f"\n{module}: {len(found) - len(alive)} of {len(found)} noticed", flush=True)
    return alive


@contextmanager
def copied() -> Iterator[str]:
    """A copy of the tree, for as long as it is used."""
    with TemporaryDirectory(prefix="lokanetra-mutate-") as folder:
        shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*IGNORED), dirs_exist_ok=True)
        yield folder


def seconds_to_pass(module: str, folders: "Queue[str]") -> float:
    """How long a module's tests may take; they pass as it is."""
    folder, began = folders.get(), time.monotonic()
    if not passes(folder, TESTS[module]):
        sys.exit(f"mutate.py: the tests of {module} fail as it is")
    folders.put(folder)
    return 60 + 5 * (time.monotonic() - began)


def survives_in_one_of(mutant: Mutant, folders: "Queue[str]", seconds: float) -> bool:
    folder = folders.get()
    try:
        return survives(mutant, folder, seconds)
    finally:
        folders.put(folder)


def arguments() -> ArgumentParser:
    parser = ArgumentParser("mutate.py", description=f"{SUMMARY} Ends with status 1 below {MIN_SCORE} %.")
    parser.add_argument(
        "--module", action="append", choices=TESTS, metavar="FILE", help=f"of {', '.join(TESTS)}; all by default"
    )
    parser.add_argument("--most", type=int, default=40, help="changes of a module, drawn by the seed (%(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="%(default)s by default")
    parser.add_argument("--all", action="store_true", help="every change: this takes hours")
    return parser


def main() -> None:
    options = arguments().parse_args()
    print("every change" if options.all else f"at most {options.most} changes of a module, seed {options.seed}")
    found = {module: chosen(module, options) for module in options.module or TESTS}
    tried = sum(map(len, found.values()))
    alive = sum(len(survivors(module, some)) for module, some in found.items())
    score = 100 * (tried - alive) / tried
    print(f"score: {score:.1f} %")
    sys.exit(score < MIN_SCORE)


if __name__ == "__main__":
    main()
