"""What Swagger says: derived from each endpoint's contract, docstring and serializers, so that it cannot disagree."""

import inspect
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from drf_yasg import openapi
from drf_yasg.inspectors import FieldInspector, SwaggerAutoSchema
from drf_yasg.renderers import ReDocRenderer, SwaggerJSONRenderer, SwaggerUIRenderer
from drf_yasg.views import get_schema_view
from rest_framework import exceptions, serializers
from rest_framework.permissions import AllowAny
from rest_framework_simplejwt.exceptions import InvalidToken

from lokanetra import errors
from lokanetra.endpoints import Contract, File, IdempotencyKeyInvalid, IdempotencyKeyMissing
from lokanetra.parsers import BodyTooLarge, JSONParser, JSONRenderer, ProblemRenderer

INFO = openapi.Info(
    title="Lokanetra",
    default_version="1",
    description=inspect.cleandoc(
        """
        Log in with a one-time password, hold a wallet, and credit, debit and transfer money.

        1. `POST /auth/send-otp/` sends a code to a phone; `POST /auth/verify-otp/` answers it with an access token.
        2. Press **Authorize** and write `Bearer <access>`.
        3. Money is a decimal string with two places, such as `"150.50"`; times are in UTC.
        4. Send an `Idempotency-Key` with each payment: repeated, it moves money once.

        Errors are problem details (RFC 9457); `code` is stable, `detail` is for people.
        """
    ),
)

# What a field looks like, by its name: the same name means the same thing everywhere.
EXAMPLES: dict[str, Any] = {
    "access": "eyJhbGciOiJIUzI1NiJ9.access.signature",
    "amount": "150.50",
    "balance": "849.50",
    "code": "insufficient_funds",
    "count": 1,
    "count_is_exact": False,
    "counterparty": "user_9888888888",
    "created_at": "2026-01-31T09:30:00Z",
    "currency": "INR",
    "date_joined": "2026-01-31T09:30:00Z",
    "detail": "The wallet holds 10.00, 25.00 was asked for.",
    "direction": "OUT",
    "email": "asha@example.com",
    "errors": {"amount": ["The amount must be more than zero."]},
    "expires_in": 300,
    "first_name": "Asha",
    "id": 42,
    "is_active": True,
    "is_staff": False,
    "is_superuser": False,
    "last_name": "Rao",
    "next": None,
    "otp": "042042",
    "phone_number": "9999999999",
    "previous": None,
    "reason": "Reported stolen",
    "receiver": "user_9888888888",
    "receiver_phone_number": "9888888888",
    "refresh": "eyJhbGciOiJIUzI1NiJ9.refresh.signature",
    "remarks": "Lunch",
    "resend_after": 30,
    "sender": "user_9999999999",
    "sender_phone_number": "9999999999",
    "status": "ACTIVE",
    "timestamp": "2026-01-31T09:30:00Z",
    "title": "Bad Request",
    "to_phone_number": "9888888888",
    "transaction_id": 42,
    "transaction_type": "TRANSFER",
    "type": "about:blank",
    "user": "user_9999999999",
    "username": "user_9999999999",
}

# DRF's names for two of its errors are not ours.
CODES = {"invalid": "validation_error", "error": "server_error"}


class ProblemSerializer(serializers.Serializer):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    errors = serializers.DictField(child=serializers.ListField(child=serializers.CharField()), required=False)  # type: ignore[assignment]

    class Meta:
        ref_name = "Problem"


class ExampleInspector(FieldInspector):
    """Gives each property its example, and the pattern that its field reads by."""

    def process_result(self, result: Any, method_name: str, obj: Any, **kwargs: Any) -> Any:
        if isinstance(result, openapi.Schema) and obj.field_name in EXAMPLES:
            result["example"] = EXAMPLES[obj.field_name]
            if getattr(obj, "pattern", None):
                result["pattern"] = obj.pattern
        return result


class EndpointSchema(SwaggerAutoSchema):
    """One operation, as its contract has it."""

    field_inspectors = [ExampleInspector, *SwaggerAutoSchema.field_inspectors]

    @property
    def contract(self) -> Contract:
        return self.handler.contract

    @property
    def handler(self) -> Any:
        return getattr(self.view, self.view.action)

    def get_summary_and_description(self) -> tuple[str, str]:
        summary, _, description = (inspect.getdoc(self.handler) or "").partition("\n")
        return summary.rstrip("."), description.strip()

    def get_tags(self, operation_keys: Any = None) -> list[str]:
        app = self.path.split("/")[1]
        return [app if app in ("auth", "wallet", "transactions") else "health"]

    def get_security(self) -> list[dict[str, list[str]]]:
        return [] if self.contract.is_public else [{"Bearer": []}]

    def get_consumes(self) -> list[str]:
        return [JSONParser.media_type]

    def get_produces(self) -> list[str]:
        """None is promised for an answer without a body."""
        streams = self.contract.streams
        own = streams.media_type if streams else JSONRenderer.media_type
        return [own, ProblemRenderer.media_type] if streams or self.contract.gives else [ProblemRenderer.media_type]

    def get_request_body_parameters(self, consumes: Any) -> list[openapi.Parameter]:
        if self.contract.takes is None:
            return []
        schema = self.serializer_to_schema(self.contract.takes())
        openapi.resolve_ref(schema, self.components)["additionalProperties"] = False
        return [self.make_body_parameter(schema)]

    def get_query_parameters(self) -> list[openapi.Parameter]:
        filters = self.contract.filters.base_filters if self.contract.filters else {}
        found = [_filter_parameter(name, field) for name, field in filters.items()]
        pages = getattr(self.contract.pages, "parameters", {})
        return found + [_query(name, kind, text) for name, (kind, text) in pages.items()]

    def add_manual_parameters(self, parameters: list[openapi.Parameter]) -> list[openapi.Parameter]:
        if not self.contract.money:
            return parameters
        text = (
            "Repeated with the same request it returns the first receipt and moves nothing; 1 to 255 ASCII characters."
        )
        return [*parameters, openapi.Parameter("Idempotency-Key", openapi.IN_HEADER, text, type=openapi.TYPE_STRING)]

    def get_responses(self) -> openapi.Responses:
        by_status = defaultdict(list)
        for error in self._errors():
            by_status[error.status_code].append(error)
        refused = {status: self._problem(status, found) for status, found in sorted(by_status.items())}
        return openapi.Responses({self.contract.status: self._success(), **refused})

    def _success(self) -> openapi.Response:
        gives = answer_of(self.contract)
        if self.contract.streams:
            return _file(self.contract.streams)
        if gives is None:
            return openapi.Response("Done.")
        examples = {JSONRenderer.media_type: example_of(gives())}
        return openapi.Response("Done.", schema=self.serializer_to_schema(gives()), examples=examples)

    def _problem(self, status: int, found: list[Any]) -> openapi.Response:
        told = [(CODES.get(error.default_code, error.default_code), str(error.default_detail)) for error in found]
        description = "\n".join(f"- `{code}`: {detail}" for code, detail in told)
        code, detail = told[0]
        examples = {ProblemRenderer.media_type: errors.body(status, code, detail)}
        schema = self.serializer_to_schema(ProblemSerializer())
        return openapi.Response(description, schema=schema, examples=examples)

    def _errors(self) -> Iterable[Any]:
        """The endpoint's own errors, and those that follow from its kind."""
        contract = self.contract
        if self.method in ("POST", "PATCH"):
            yield from (
                exceptions.ValidationError,
                exceptions.ParseError,
                BodyTooLarge,
                exceptions.UnsupportedMediaType,
            )
        elif contract.parameters:
            yield exceptions.ValidationError
        if contract.money:
            yield from (IdempotencyKeyInvalid, IdempotencyKeyMissing)
        if not contract.is_public:
            yield from (exceptions.NotAuthenticated, InvalidToken)
        if contract.is_for_staff:
            yield exceptions.PermissionDenied
        if "{" in self.path or "page" in getattr(contract.pages, "parameters", {}):
            yield exceptions.NotFound
        yield from contract.errors
        yield from (exceptions.Throttled, exceptions.APIException, errors.ServerBusy)


@cache
def answer_of(contract: Contract) -> type[serializers.BaseSerializer] | None:
    """The serializer of the whole answer: where there are pages, of a page."""
    if contract.gives is None or contract.pages is None:
        return contract.gives
    name = contract.gives.__name__.replace("Serializer", "PageSerializer")
    return type(name, (serializers.Serializer,), contract.pages.serializer(contract.gives))


def example_of(field: Any) -> Any:
    if isinstance(field, serializers.ListSerializer):
        return [example_of(field.child)]
    if isinstance(field, serializers.Serializer):
        return {name: example_of(child) for name, child in field.fields.items() if name != "count_is_exact"}
    return EXAMPLES.get(field.field_name)


def _file(streams: File) -> openapi.Response:
    row = example_of(streams.columns())
    example = f"{','.join(row)}\r\n{','.join(map(str, row.values()))}\r\n"
    return openapi.Response(
        "A file.", schema=openapi.Schema(type=openapi.TYPE_FILE), examples={streams.media_type: example}
    )


def _query(name: str, kind: str, description: str, **more: Any) -> openapi.Parameter:
    return openapi.Parameter(name, openapi.IN_QUERY, description, type=kind, **more)


def _filter_parameter(name: str, found: Any) -> openapi.Parameter:
    choices = [str(value) for value, _ in found.extra.get("choices", []) if value]
    text = found.label or (inspect.getdoc(type(found)) or "").splitlines()[0]
    return _query(name, openapi.TYPE_STRING, text, **({"enum": choices} if choices else {}))


Schema = get_schema_view(INFO, public=True, authentication_classes=[], permission_classes=[AllowAny])


class SchemaJSON(Schema):  # type: ignore[misc, valid-type]
    http_method_names = ["get", "head"]
    renderer_classes = [SwaggerJSONRenderer]
    throttle_classes = ()


class Swagger(SchemaJSON):
    renderer_classes = [SwaggerUIRenderer, SwaggerJSONRenderer]


class ReDoc(SchemaJSON):
    renderer_classes = [ReDocRenderer, SwaggerJSONRenderer]
