"""`/swagger.json` is complete and valid, and agrees with the URLconf and the contracts."""

import logging
import re
import warnings
from decimal import Decimal

import pytest
from drf_yasg.utils import get_serializer_ref_name
from rest_framework.serializers import ChoiceField, DateTimeField, Serializer
from swagger_spec_validator.validator20 import validate_spec

from lokanetra.parsers import Day
from lokanetra.schema import ProblemSerializer, answer_of
from lokanetra.tests.documented import documentation, matches, resolved
from lokanetra.tests.test_access import TABLE, route_of, routes
from transactions import webhooks
from wallet import holds, requests
from wallet.money import AmountField
from wallet.serializers import QuantityField

pytestmark = pytest.mark.once

PAGES = {"/", "/swagger/", "/redoc/", "/swagger.json", "/metrics"}
CALLS = {(method, path): (body, statuses) for method, path, body, statuses in TABLE if path not in PAGES}


@pytest.fixture
def spec():
    return documentation()


@pytest.fixture
def operations(spec):
    """By method and path as in the table; the names of path parameters do not matter."""
    tables = {nameless(path): path for _, path in CALLS}
    return {
        (method.upper(), tables.get(nameless(path), path)): operation
        for path, item in spec["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }


def nameless(path):
    return re.sub(r"\{\w+\}", "{}", path)


def leaves(spec, schema, path=""):
    """Every property that has no properties of its own, by its path."""
    schema = resolved(spec, schema)
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


def test_every_operation_has_a_summary_and_a_unique_id(operations):
    summaries = [operation["summary"] for operation in operations.values()]
    assert all(summaries)
    ids = [operation["operationId"] for operation in operations.values()]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_an_operation_shows_its_body_its_answer_and_who_may_call_it(spec, operations, call):
    operation, (body, statuses) = operations[call], CALLS[call]
    kind = "text/csv" if call[1].endswith("export/") else "application/json"
    kinds = set() if "204" in operation["responses"] else {kind}
    if call[1].endswith("statement/"):
        kinds |= {"text/csv", "application/pdf"}
    assert set(operation.get("produces", spec["produces"])) == kinds | {"application/problem+json"}
    assert operation["security"] == ([] if statuses[0] < 400 else [{"Bearer": []}])
    bodies = [parameter for parameter in operation.get("parameters", []) if parameter["in"] == "body"]
    assert bool(bodies) == bool(body)
    if body:
        assert operation.get("consumes", spec["consumes"]) == ["application/json"]
        assert set(body) <= set(resolved(spec, bodies[0]["schema"])["properties"])
        assert resolved(spec, bodies[0]["schema"])["additionalProperties"] is False
        assert [path for path, leaf in leaves(spec, bodies[0]["schema"]) if "example" not in leaf] == []
    ((status, success),) = [found for found in operation["responses"].items() if found[0] < "400"]
    assert int(status) in statuses
    if kind == "text/csv":
        assert success["schema"] == {"type": "file"}
    elif status != "204":
        assert [path for path, leaf in leaves(spec, success["schema"]) if "example" not in leaf] == []
    assert set(success.get("examples", {})) == ({kind} if status != "204" else set())


@pytest.mark.parametrize(("method", "path", "body", "statuses"), [row for row in TABLE if row[1] not in PAGES])
def test_every_status_of_the_table_and_of_the_contract_is_documented(spec, operations, method, path, body, statuses):
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
        assert resolved(spec, responses[status]["schema"])["required"] == ["type", "title", "status", "detail", "code"]


def test_the_examples_are_those_of_a_real_answer(spec, operations, asha, ravi, as_user):
    """An answer has the fields that the example shows, of the kinds that it shows."""
    holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(10))
    requests.ask(user_id=asha.pk, to=ravi.phone_number, amount=Decimal(10))
    lists = ("/wallet/holds/", "/wallet/requests/", "/transactions/", "/transactions/statement/")
    for path in ("/wallet/balance/", "/wallet/limits/", "/auth/me/", *lists):
        example = operations["GET", path]["responses"]["200"]["examples"]["application/json"]
        answer = as_user(asha).get(path).json()
        assert set(answer) == set(example)
        if "results" in answer:
            assert set(answer["results"][0]) == set(example["results"][0])


def test_the_examples_of_events_and_webhooks_are_those_of_a_real_answer(operations, asha, boss, as_user):
    webhook = webhooks.create(by=boss.pk, url="https://example.com/", types=["hold.opened"])
    webhooks.test(by=boss.pk, webhook_id=webhook.pk)
    for path in ("events", "webhooks", "webhooks/deliveries"):
        example = operations["GET", f"/transactions/{path}/"]["responses"]["200"]["examples"]["application/json"]
        answer = as_user(boss).get(f"/transactions/{path}/").json()
        assert set(answer) == set(example)
        assert set(answer["results"][-1]) == set(example["results"][0])
        if path == "events":
            (payment,) = [event for event in answer["results"] if event["type"] == example["results"][0]["type"]]
            assert set(payment["data"]) == set(example["results"][0]["data"])


def test_money_calls_take_an_idempotency_key(operations):
    with_key = {
        call
        for call, operation in operations.items()
        if any(parameter["name"] == "Idempotency-Key" for parameter in operation.get("parameters", []))
    }
    names = "credit|debit|transfer|reverse|refund|holds|capture|void|requests|pay|decline|cancel"
    moving = re.compile(f"POST .*/({names})/$")
    assert with_key == {call for call in CALLS if moving.match(" ".join(call))}


def test_every_example_of_a_field_fits_its_schema(spec):
    for name, definition in spec["definitions"].items():
        for field, schema in definition["properties"].items():
            if "example" in schema:
                assert matches(spec, schema, schema["example"]), f"{name}.{field}"


def test_every_example_of_an_answer_fits_its_schema(spec, operations):
    for call, operation in operations.items():
        for status, response in operation["responses"].items():
            for kind, example in response.get("examples", {}).items():
                assert kind == "text/csv" or matches(spec, response["schema"], example), (call, status, example)


def test_an_answer_that_contradicts_the_documentation_fails(spec, operations, asha, as_user, monkeypatch):
    receipt = spec["definitions"]["Receipt"]
    good = operations["POST", "/wallet/credit/"]["responses"]["200"]["examples"]["application/json"]
    assert matches(spec, receipt, good)
    for wrong in ({"amount": None}, {"amount": 150.5}, {"transaction_type": "GIFT"}, {"timestamp": "now"}, {"more": 1}):
        assert not matches(spec, receipt, good | wrong), wrong
    assert not matches(spec, receipt, {name: good[name] for name in good if name != "hold"})
    refused = operations["POST", "/wallet/credit/"]["responses"]["403"]
    problem = refused["examples"]["application/problem+json"]
    assert matches(spec, refused["schema"], problem)
    assert not matches(spec, refused["schema"], problem | {"code": "hold_closed"})
    monkeypatch.setitem(documentation()["definitions"]["BalanceAt"]["properties"]["tier"], "x-nullable", False)
    with pytest.raises(AssertionError, match="tier"):
        as_user(asha).get("/wallet/balance/")


def test_a_refusal_by_a_limit_is_documented(spec, asha, as_user, settings):
    settings.WALLET_MAX_AMOUNT = Decimal(1)
    body = as_user(asha).post("/wallet/debit/", {"amount": "2.00"}).json()
    assert set(body["limit"]) == {"name", "limit", "remaining", "resets_at"}
    assert matches(spec, spec["definitions"]["Problem"], body)


def test_an_example_is_an_answer_of_its_own_call(operations):
    def example(method, path, status="200"):
        return operations[method, path]["responses"][status]["examples"]["application/json"]

    capture = example("POST", "/wallet/holds/{hold}/capture/")
    assert (capture["transaction_type"], capture["hold"], capture["reverses"]) == ("TRANSFER", 7, None)
    refund = example("POST", "/transactions/{received}/refund/")
    assert (refund["reverses"], refund["sender"], refund["receiver"]) == (42, "user_9888888888", "user_9999999999")
    assert example("POST", "/wallet/credit/")["sender"] is None
    assert example("POST", "/wallet/debit/")["receiver"] is None
    assert example("POST", "/wallet/holds/", "201")["status"] == "OPEN"
    assert example("POST", "/wallet/holds/{hold}/void/")["status"] == "VOIDED"
    assert example("POST", "/wallet/requests/", "201")["status"] == "PENDING"
    assert example("POST", "/wallet/requests/{request}/decline/")["status"] == "DECLINED"
    assert example("POST", "/wallet/requests/{own_request}/cancel/")["status"] == "CANCELLED"
    paid = example("POST", "/wallet/requests/{request}/pay/")
    assert (paid["amount"], paid["sender"], paid["receiver"]) == ("75.00", "user_9888888888", "user_9999999999")
    assert example("POST", "/wallet/admin/wallets/{wallet}/freeze/")["status"] == "FROZEN"
    balance = example("GET", "/wallet/balance/")
    assert Decimal(balance["balance"]) - Decimal(balance["held"]) == Decimal(balance["available"])
    (limit,) = example("GET", "/wallet/limits/")["limits"]
    assert Decimal(limit["limit"]) - Decimal(limit["used"]) == Decimal(limit["remaining"])


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


# --- What a client in another language is generated from ---------------------------------------------

# Fields that an answer has only in some cases. All others are always there.
SOMETIMES = {"Sent": {"otp"}, "BalanceAt": {"at"}, "Problem": {"errors", "limit"}}
KINDS = {"transaction_type", "direction", "status", "type", "name"}


def serializers_in(serializer):
    """The serializer and those nested in it, each with its definition's name."""
    serializer = getattr(serializer, "child", serializer)
    if isinstance(serializer, Serializer):
        yield get_serializer_ref_name(serializer), serializer
        for field in serializer.fields.values():
            yield from serializers_in(field)


def answers():
    contracts = [handler.contract for _, _, handler in routes() if hasattr(handler, "contract")]
    given = [answer_of(contract) for contract in contracts]
    return dict(pair for gives in [*given, ProblemSerializer] if gives for pair in serializers_in(gives()))


def bodies():
    taken = [handler.contract.takes for _, _, handler in routes() if hasattr(handler, "contract")]
    return dict(pair for takes in taken if takes for pair in serializers_in(takes()))


def fields_of(serializers):
    return [(name, field) for name, serializer in serializers.items() for field in serializer.fields.values()]


def may_be_null(serializer, field):
    """Whether a column on the path to the field's value is nullable."""
    model = getattr(getattr(serializer, "Meta", None), "model", None)
    for part in field.source.split("."):
        column = next((column for column in model._meta.fields if part in (column.name, column.attname)), None)
        if column is None or column.null:
            return column is not None
        model = column.related_model
    return False


def test_each_definition_is_of_a_body_or_of_an_answer(spec):
    assert not set(bodies()) & set(answers())
    assert set(spec["definitions"]) == set(bodies()) | set(answers())


def test_a_field_is_nullable_where_the_serializer_or_the_column_is(spec):
    for name, field in fields_of(answers() | bodies()):
        documented = spec["definitions"][name]["properties"][field.field_name]
        assert documented.get("x-nullable", False) == field.allow_null, (name, field.field_name)
    for name, field in fields_of(answers()):
        is_of_a_model = hasattr(getattr(field.parent, "Meta", None), "model") and field.source != "*"
        assert field.allow_null or not (is_of_a_model and may_be_null(field.parent, field)), (name, field.field_name)


def test_what_an_answer_always_has_is_required_and_nothing_is_read_only(spec):
    for name in answers():
        definition = spec["definitions"][name]
        sometimes = SOMETIMES.get(name, {"count_is_exact"} & set(definition["properties"]))
        assert set(definition["properties"]) - set(definition["required"]) == sometimes, name
        assert not any("readOnly" in shown for shown in definition["properties"].values()), name


def test_a_body_is_required_where_a_field_of_it_is(spec, operations):
    for (method, path), operation in operations.items():
        for parameter in operation.get("parameters", []):
            if parameter["in"] == "body":
                (handler,) = [found for verb, route, found in routes() if (verb, route) == (method, route_of(path))]
                is_partial = method == "PATCH" and not handler.contract.full_body
                fields = handler.contract.takes().fields.items()
                needed = [] if is_partial else [name for name, field in fields if field.required]
                assert resolved(spec, parameter["schema"]).get("required", []) == needed
                assert parameter["required"] == bool(needed)


def test_fields_with_a_few_possible_values_have_an_enum(spec, operations):
    for name, field in fields_of(answers() | bodies()):
        documented = spec["definitions"][name]["properties"][field.field_name]
        if isinstance(field, ChoiceField):
            assert documented["enum"] == list(field.choices), (name, field.field_name)
        is_exempt = field.field_name not in KINDS or name in ("Problem", "Tier")
        assert "enum" in documented or is_exempt, (name, field.field_name)
    for call, operation in operations.items():
        for parameter in operation.get("parameters", []):
            assert "enum" in parameter or parameter["name"] not in {*KINDS, "ordering", "format"}, call


def test_money_is_a_string_with_its_pattern_and_a_time_is_one(spec):
    shapes = {
        AmountField: {"type": "string", "pattern": AmountField.pattern},
        DateTimeField: {"type": "string", "format": "date-time"},
        Day: {"type": "string", "format": "date"},
        QuantityField: {"x-oneOf": [{"type": "string", "pattern": AmountField.pattern}, {"type": "integer"}]},
    }
    seen = set()
    for name, field in fields_of(answers() | bodies()):
        documented = spec["definitions"][name]["properties"][field.field_name]
        for kind in shapes:
            if isinstance(field, kind):
                seen.add(kind)
                assert documented | shapes[kind] == documented, (name, field.field_name)
    assert seen == set(shapes)


def test_path_parameters_are_whole_numbers(spec):
    for path, item in spec["paths"].items():
        documented = {parameter["name"]: parameter["type"] for parameter in item.get("parameters", [])}
        assert documented == dict.fromkeys(re.findall(r"{(\w+)}", path), "integer"), path


def test_a_refusal_is_a_problem_with_one_of_the_documented_codes(spec, operations):
    for call, operation in operations.items():
        for status, response in operation["responses"].items():
            if status >= "400":
                assert response["schema"]["allOf"] == [{"$ref": "#/definitions/Problem"}]
                codes = response["schema"]["properties"]["code"]["enum"]
                assert codes == list(dict.fromkeys(re.findall("^- `(.*?)`", response["description"], re.MULTILINE)))
                assert codes, (call, status)


def test_operation_ids_are_made_of_the_words_of_the_path(operations):
    for (_, path), operation in operations.items():
        words = re.findall("[a-z]+", re.sub(r"{\w+}", "", path))
        name = operation["operationId"]
        assert re.fullmatch("[a-z]+(_[a-z]+)*", name)
        assert name.split("_")[: len(words)] == words
