"""Checks all answers that tests get against the documentation."""

import re
from functools import cache
from typing import Any

from django.test import override_settings
from jsonschema import Draft4Validator
from rest_framework.test import APIClient

Schema = dict[str, Any]


def resolved(spec: Schema, schema: Schema) -> Schema:
    """The schema with its references resolved and `allOf` merged."""
    if "$ref" in schema:
        return spec["definitions"][schema["$ref"].rsplit("/", 1)[1]]
    for part in schema.get("allOf", []):
        whole = resolved(spec, part)
        schema = whole | schema | {"properties": whole["properties"] | schema["properties"]}
    return schema


def matches(spec: Schema, schema: Schema, shown: Any) -> bool:
    """Whether the data matches the schema. Null is allowed only where `x-nullable` says so, and unknown fields are
    not."""
    schema = resolved(spec, schema)
    if shown is None:
        return schema.get("x-nullable", False)
    if schema.get("type") == "array":
        return all(matches(spec, schema["items"], item) for item in shown)
    if "properties" in schema:
        known, needed = schema["properties"], set(schema.get("required", ()))
        return needed <= set(shown) <= set(known) and all(matches(spec, known[name], shown[name]) for name in shown)
    return Draft4Validator(schema, format_checker=Draft4Validator.FORMAT_CHECKER).is_valid(shown)


@cache
def documentation() -> Schema:
    with override_settings(ALLOWED_HOSTS=["testserver"], FORCE_SCRIPT_NAME=None):  # a test may have changed them
        return APIClient().get("/swagger.json").json()


@cache
def documented(method: str, path: str) -> Schema | None:
    """The answers of a call, by status; None if there is no such call."""
    for known, item in documentation()["paths"].items():
        if method in item and re.fullmatch(re.sub(r"{\w+}", "[0-9]{1,18}", known), path):
            return item[method]["responses"]
    return None


class DocumentedClient(APIClient):
    """Fails on an answer that is not documented."""

    def request(self, **kwargs: Any) -> Any:
        response = super().request(**kwargs)
        answers = documented(kwargs["REQUEST_METHOD"].lower(), kwargs["PATH_INFO"])
        if answers and "json" in response.get("Content-Type", ""):
            assert str(response.status_code) in answers, response.content
            schema = answers[str(response.status_code)]["schema"]
            assert matches(documentation(), schema, response.json()), response.content
        return response
