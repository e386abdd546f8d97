"""The documents are right: each thing has one home in their tables, and what they link to and name exists."""

import os
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest
from django.core.management import get_commands
from drf_yasg.generators import OpenAPISchemaGenerator
from rest_framework.exceptions import APIException

from lokanetra import schema, urls  # noqa: F401  (with the map of the API, every error is defined)
from lokanetra.env import BASE_DIR
from lokanetra.errors import STATUS_CODES
from lokanetra.tests.docs import (
    API,
    DOCUMENTS,
    OPERATIONS,
    README,
    first_cells,
    named_in,
    prose,
    read,
    section,
    settings_listed,
)

pytestmark = pytest.mark.once

APPS = ("lokanetra", "users", "wallet", "transactions")
LONGEST_README = 180  # lines: readable in ten minutes, with pictures and commands
OF_SERVERS = {"HOST", "PORT", "WORKERS", "DRAIN_SECONDS"}  # read by scripts, and not by settings.py
# Files that the reader has or creates, following our examples.
OF_THE_READER = {".env", "phones.csv"}

# What people open in a browser: no calls of the API.
PAGES = ("/admin/", "/swagger/", "/redoc/", "/swagger.json")

# A row describes what its first cell names, if the cell has nothing else.
IS_NAMES = re.compile(r"(`[^`]+`(, | |$))+")

documents = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
guides = pytest.mark.parametrize("document", DOCUMENTS[1:], ids=lambda path: path.name)


# --- One home for each thing -------------------------------------------------------------------------


def all_below(kind: type) -> list[type]:
    return [kind, *(found for child in kind.__subclasses__() for found in all_below(child))]


def error_codes() -> dict[str, str]:
    ours = [kind for kind in all_below(APIException) if kind.__module__.split(".")[0] in APPS]
    raised = {kind.default_code: str(kind.status_code) for kind in ours if "default_code" in vars(kind)}
    answered = {code: str(status) for status, (code, _) in STATUS_CODES.items()}
    return raised | answered | {"parse_error": "400"}


def environment() -> set[str]:
    return OF_SERVERS | set(re.findall(r'env\.\w+\(\s*"(\w+)"', (BASE_DIR / "lokanetra/settings.py").read_text()))


def commands() -> set[str]:
    return {name for name, app in get_commands().items() if app in APPS}


def scripts() -> set[str]:
    """What people start; files that are only sourced are not executable."""
    files = [*(BASE_DIR / "scripts").rglob("*.sh"), *(BASE_DIR / "scripts").glob("*.py")]
    return {str(file.relative_to(BASE_DIR)) for file in files if file.suffix == ".py" or os.access(file, os.X_OK)}


def calls() -> Iterator[tuple[str, str]]:
    for path, item in OpenAPISchemaGenerator(schema.INFO).get_schema(None, public=True).paths.items():
        yield from ((method.upper(), path) for method, _ in item.operations)


def test_every_error_code_is_in_the_table_and_no_other():
    assert dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", section(API, "Errors"), re.MULTILINE)) == error_codes()


def test_every_setting_is_in_the_table_and_no_other():
    assert settings_listed() == environment()


def test_every_command_and_script_is_in_the_table_and_no_other():
    assert set(named_in(first_cells(section(OPERATIONS, "Commands and scripts")))) == commands() | scripts()


def calls_in(cell: str) -> Iterator[tuple[str, str]]:
    """The calls of a cell: a path without a method takes that of the previous path, and `.../last/` its beginning."""
    methods, path, waiting = ["GET"], "", []
    for name in named_in([cell]):
        method, place = re.fullmatch("([A-Z]*) ?(.*)", name).groups()
        waiting += [method] if method else []
        if place:
            methods, waiting = waiting or methods, []
            path = re.sub(r"[^/]+/$", place.removeprefix(".../"), path) if place.startswith("...") else place
            yield from ((method, path) for method in methods)


def test_every_call_is_in_the_table_once_and_no_other():
    cells = first_cells(section(API, "Endpoints"))
    listed = [call for cell in cells for call in calls_in(cell) if "?" not in call[1]]
    assert sorted(listed) == sorted({*calls(), *(("GET", page) for page in PAGES)})


def test_each_of_them_has_one_home_in_all_documents():
    known = error_codes().keys() | environment() | commands() | scripts()
    cells = [cell for document in DOCUMENTS for cell in first_cells(read(document)) if IS_NAMES.fullmatch(cell)]
    homes = Counter(named_in(cells))
    assert {name: homes[name] for name in known if homes[name] != 1} == {}


def test_calls_have_one_table():
    assert [doc.name for doc in DOCUMENTS if re.search(r"^\| `(GET|POST|PATCH)\b", read(doc), re.MULTILINE)] == [
        API.name
    ]


# --- Links -------------------------------------------------------------------------------------------


def headings(document: Path, level: str = "#+") -> list[str]:
    return re.findall(rf"^{level} (.+)$", prose(document), re.MULTILINE)


def anchor(heading: str) -> str:
    """As on GitHub."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_no_two_headings_of_a_document_have_one_anchor():
    assert [doc.name for doc in DOCUMENTS if len(headings(doc)) != len({*map(anchor, headings(doc))})] == []


def links(document: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", prose(document))
    return [link for link in found if not re.match(r"https?://", link)]


def is_broken(document: Path, link: str) -> bool:
    path, _, place = link.partition("#")
    target = document.parent / path if path else document
    return not target.exists() or bool(place and place not in map(anchor, headings(target)))


@documents
def test_every_link_leads_somewhere(document):
    assert [link for link in links(document) if is_broken(document, link)] == []


@pytest.mark.parametrize("link", ["#nowhere", "nothing.md", "scripts/docs/api.md#nowhere"])
def test_a_broken_link_is_found(link):
    assert is_broken(README, link)
    assert not is_broken(README, "scripts/docs/api.md#errors")


@guides
def test_it_begins_with_two_lines_on_what_it_is_and_lists_its_sections(document):
    title, about, sections = read(document).split("\n\n", 3)[:3]
    assert title.startswith("# ")
    assert len(about.splitlines()) == 2
    assert set(re.findall(r"\]\(#([\w-]+)\)", sections)) >= {anchor(name) for name in headings(document, "##")}


def test_every_guide_is_found_from_the_readme():
    assert {(README.parent / link.partition("#")[0]).resolve() for link in links(README)} >= set(DOCUMENTS) - {README}


def test_the_readme_is_read_in_ten_minutes():
    assert len(read(README).splitlines()) < LONGEST_README


# --- Names -------------------------------------------------------------------------------------------


@cache
def files() -> frozenset[str]:
    """The files of the repository, including new ones, and their folders with a slash at the end."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    found = subprocess.run(listing, cwd=BASE_DIR, capture_output=True, text=True, check=True).stdout.splitlines()
    there = [name for name in found if (BASE_DIR / name).exists()]
    return frozenset([*there, *(f"{folder}/" for name in there for folder in Path(name).parents)])


def exists(name: str) -> bool:
    """A path, of a folder too, starts at the top and may have `*` in it; a bare name may be that of any file."""
    name = name.removeprefix("./").removesuffix("/")
    return any(
        fnmatch(file, name) or file.startswith(f"{name}/") or ("/" not in name and Path(file).name == name)
        for file in files()
    )


def files_named(document: Path) -> set[str]:
    """Files in backticks, by their endings, and everything below `scripts/`."""
    endings = r"[\w./*@-]+\.(?:py|sh|md|txt|toml|ini|yml|yaml|json|conf|sql|service|example)|[\w./-]+/"
    quoted = {
        name
        for name in named_in([prose(document)])
        if re.fullmatch(endings, name) and not name.startswith(("/", "..."))
    }
    return quoted | set(re.findall(r"(?<![\w/.-])(?:\./)?scripts/[\w./*-]*[\w/*]", read(document)))


@documents
def test_every_named_file_exists(document):
    examples = set(re.findall(r"^`(\w+\.\w+)` ", read(document), re.MULTILINE))
    assert [name for name in sorted(files_named(document) - examples - OF_THE_READER) if not exists(name)] == []


@documents
def test_every_named_command_exists(document):
    assert set(re.findall(r"manage\.py ([a-z_]+)", read(document))) <= get_commands().keys()


def test_a_missing_file_is_noticed():
    assert not exists("wallet/services.py")
    assert not exists("services.py")
    assert exists("wallet/ledger.py")
    assert exists("*/exceptions.py")
