"""What `/swagger.json` says is complete, valid and what the URLconf and the contracts say."""

import logging
import re
import warnings

import pytest
from swagger_spec_validator.validator20 import validate_spec

from lokanetra.tests.test_access import TABLE, route_of, routes

PAGES = {"/", "/swagger/", "/redoc/", "/swagger.json"}
CALLS = {(method, path): (body, statuses) for method, path, body, statuses in TABLE if path not in PAGES}


@pytest.fixture
def spec(client):
    return client.get("/swagger.json").json()


@pytest.fixture
def operations(spec):
    """By method and path as the table has them; a path is the same whatever its parameter is called."""
    tables = {nameless(path): path for _, path in CALLS}
    return {
        (method.upper(), tables.get(nameless(path), path)): operation
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def nameless(path):
    return re.sub(r"\{\w+\}", "{}", path)


def followed(spec, schema):
    """The schema that a reference leads to."""
    return spec["definitions"][schema["$ref"].rsplit("/", 1)[1]] if "$ref" in schema else schema


def leaves(spec, schema, path=""):
    """Every property that has no properties of its own, by its path."""
    schema = followed(spec, schema)
    if schema.get("type") == "array":
        yield from leaves(spec, schema["items"], f"{path}[]")
    elif "properties" in schema:
        for name, inner in schema["properties"].items():
            yield from leaves(spec, inner, f"{path}.{name}")
    else:
        yield path, schema


@pytest.mark.parametrize("accept", [None, "*/*", "text/html", "application/openapi+json", "application/x-yaml", ""])
def test_it_is_json_whatever_is_accepted(client, accept):
    response = client.get("/swagger.json", **({} if accept is None else {"HTTP_ACCEPT": accept}))
    assert (response.status_code, response["Content-Type"].split(";")[0]) == (200, "application/json")
    assert response.json()["swagger"] == "2.0"


def test_it_is_valid_and_built_without_a_warning(client, caplog):
    with caplog.at_level(logging.WARNING), warnings.catch_warnings():
        warnings.simplefilter("error")
        spec = client.get("/swagger.json").json()
    assert [record.getMessage() for record in caplog.records] == []
    validate_spec(spec)
    assert spec.get("basePath", "/") == "/"


def test_every_call_is_in_it_and_no_other(operations):
    assert sorted(operations) == sorted(CALLS)


def test_every_operation_has_a_summary_and_an_id_of_its_own(operations):
    summaries = [operation["summary"] for operation in operations.values()]
    assert all(summaries)
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_an_operation_shows_its_body_its_answer_and_who_may_call_it(spec, operations, call):
    operation, (body, statuses) = operations[call], CALLS[call]
    kind = "text/csv" if call[1].endswith("export/") else "application/json"
    kinds = set() if "204" in operation["responses"] else {kind}
    assert set(operation.get("produces", spec["produces"])) == kinds | {"application/problem+json"}
    assert operation["security"] == ([] if statuses[0] < 400 else [{"Bearer": []}])
    bodies = [parameter for parameter in operation.get("parameters", []) if parameter["in"] == "body"]
    assert bool(bodies) == bool(body)
    if body:
        assert operation.get("consumes", spec["consumes"]) == ["application/json"]
        assert set(body) <= set(followed(spec, bodies[0]["schema"])["properties"])
        assert followed(spec, bodies[0]["schema"])["additionalProperties"] is False
        assert [path for path, leaf in leaves(spec, bodies[0]["schema"]) if "example" not in leaf] == []
    ((status, success),) = [found for found in operation["responses"].items() if found[0] < "400"]
    assert int(status) in statuses
    if kind == "text/csv":
        assert success["schema"] == {"type": "file"}
    elif status != "204":
        assert [path for path, leaf in leaves(spec, success["schema"]) if "example" not in leaf] == []
    assert set(success.get("examples", {})) == ({kind} if status != "204" else set())


@pytest.mark.parametrize(("method", "path", "body", "statuses"), [row for row in TABLE if row[1] not in PAGES])
def test_every_status_of_the_table_and_of_the_contract_is_told(spec, operations, method, path, body, statuses):
    responses = operations[method, path]["responses"]
    assert {str(status) for status in statuses} <= set(responses)
    (handler,) = [found for verb, route, found in routes() if (verb, route) == (method, route_of(path))]
    for error in handler.contract.errors:
        assert f"`{error.default_code}`: {error.default_detail}" in responses[str(error.status_code)]["description"]
    always = {"throttled": 429, "server_error": 500, "server_busy": 503} | (
        {"validation_error": 400, "parse_error": 400, "body_too_large": 413, "unsupported_media_type": 415}
        if body
        else {}
    )
    for code, status in (always | ({"not_authenticated": 401} if statuses[0] == 401 else {})).items():
        assert f"`{code}`" in responses[str(status)]["description"]
    for status in set(responses) - {"200", "201", "204"}:
        example = responses[status]["examples"]["application/problem+json"]
        assert example["status"] == int(status)
        assert followed(spec, responses[status]["schema"])["required"] == ["type", "title", "status", "detail", "code"]


def test_the_examples_are_those_of_a_real_answer(spec, operations, asha, as_user):
    """An answer has the fields that the example shows, of the kinds that it shows."""
    for path in ("/wallet/balance/", "/auth/me/", "/transactions/"):
        example = operations["GET", path]["responses"]["200"]["examples"]["application/json"]
        answer = as_user(asha).get(path).json()
        assert set(answer) == set(example)
        if "results" in answer:
            assert set(answer["results"][0]) == set(example["results"][0])


def test_money_calls_take_an_idempotency_key(operations):
    with_key = {
        call
        for call, operation in operations.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    }
    assert with_key == {call for call in CALLS if re.search("/(credit|debit|transfer|reverse)/$", call[1])}


@pytest.mark.parametrize("path", ["/swagger/", "/redoc/"])
def test_the_pages_are_html_that_names_no_other_host(client, path):
    for accept in ("text/html", "*/*", "application/json"):
        response = client.get(path, HTTP_ACCEPT=accept)
        assert (response.status_code, response["Content-Type"].split(";")[0]) == (200, "text/html")
    page = response.content.decode()
    assert re.findall(r"""(?:src|href|action)\s*=\s*["']?\s*(?:https?:)?//[^"'\s>]*""", page) == []
    assert "/swagger.json" in page


def test_the_root_leads_to_the_documentation(client):
    assert client.get("/")["Location"] == "/swagger/"


READ = ["9999999999", "09999999999", "+91 99999 99999", "0091 99999-99999", "(099999) 99999", "+290 51234", "51234"]
REFUSED = ["+0", "+0 99999 99999", "0", "", "()()", "+", "+91", "....", "99999 9999x", "(+91) 99999.99999"]


def test_the_pattern_of_a_phone_number_is_close_to_what_is_read(spec):
    pattern = spec["definitions"]["Phone"]["properties"]["phone_number"]["pattern"]
    assert [text for text in READ if not re.search(pattern, text)] == []
    assert [text for text in REFUSED if re.search(pattern, text)] == []
