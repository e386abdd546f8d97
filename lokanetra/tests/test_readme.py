"""README says what is so: every error code, every setting and every route stands in its tables."""

import re

from drf_yasg.generators import OpenAPISchemaGenerator
from rest_framework.exceptions import APIException

from lokanetra import schema, urls  # noqa: F401  (with the map of the API, every error is defined)
from lokanetra.env import BASE_DIR
from lokanetra.errors import STATUS_CODES

README = (BASE_DIR / "README.md").read_text()
APPS = ("lokanetra", "users", "wallet", "transactions")


def section(title: str) -> str:
    return re.search(rf"\n## {title}\n(.*?)\n## ", README, re.DOTALL)[1]


def all_below(kind: type) -> list[type]:
    return [kind, *(found for child in kind.__subclasses__() for found in all_below(child))]


def test_every_error_code_is_in_the_table_and_no_other():
    listed = dict(re.findall(r"^\| `(\w+)` \| (\d+) \|", section("Errors"), re.MULTILINE))
    ours = [kind for kind in all_below(APIException) if kind.__module__.split(".")[0] in APPS]
    raised = {kind.default_code: str(kind.status_code) for kind in ours if "default_code" in vars(kind)}
    answered = {code: str(status) for status, (code, _) in STATUS_CODES.items()}
    assert listed == raised | answered | {"parse_error": "400"}


def settings_listed() -> set[str]:
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section("Settings"), re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`(\w+)`", row)}


def test_every_setting_is_in_the_table_and_no_other():
    read = set(re.findall(r'env\.\w+\(\s*"(\w+)"', (BASE_DIR / "lokanetra" / "settings.py").read_text()))
    assert settings_listed() == read | {"HOST", "PORT", "WORKERS", "DRAIN_SECONDS"}


def test_every_call_is_in_the_table():
    table = section("Endpoints")
    for path, item in OpenAPISchemaGenerator(schema.INFO).get_schema(None, public=True).paths.items():
        last = path.rstrip("/").rpartition("/")[2]
        for method, _ in item.operations:
            named = re.search(rf"`{method.upper()}`? (`[A-Z]+ )?{re.escape(path)}`", table)
            assert named or f"`.../{last}/`" in table or f"`{path}`" in table, f"{method} {path}"
