"""The documents, by name, and functions that read their sections and tables, for the tests of documents."""

import re
from pathlib import Path

from lokanetra.env import BASE_DIR

README = BASE_DIR / "README.md"
API, OPERATIONS, ARCHITECTURE, BENCHMARKS, SECURITY = GUIDES = tuple(
    BASE_DIR / "scripts" / "docs" / f"{name}.md"
    for name in ("api", "operations", "architecture", "benchmarks", "security")
)
POLICIES = tuple(BASE_DIR / ".github" / f"{name}.md" for name in ("CONTRIBUTING", "SECURITY"))
DOCUMENTS = (README, *GUIDES, *POLICIES)


def read(document: Path) -> str:
    return document.read_text(encoding="utf-8")


def section(document: Path, title: str) -> str:
    """The text under a heading, up to the next one that is not deeper."""
    pattern = rf"^(##+) {re.escape(title)}\n(.*?)(?=^(?!\1#)##|\Z)"
    found = re.search(pattern, read(document), re.DOTALL | re.MULTILINE)
    assert found, f"{document.name} has no section {title}"
    return found[2]


def prose(document: Path) -> str:
    """The document without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", read(document), flags=re.DOTALL | re.MULTILINE)


def first_cells(markdown: str) -> list[str]:
    """The first column of all tables, including their headings."""
    return re.findall(r"^\| (.*?) \|", markdown, re.MULTILINE)


def named_in(cells: list[str]) -> list[str]:
    """What these cells name in backticks."""
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def settings_listed() -> set[str]:
    return set(named_in(first_cells(section(OPERATIONS, "Settings"))))
