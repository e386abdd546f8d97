"""The Swagger documentation, derived from each endpoint's contract, docstring and serializers, so that they agree."""

import inspect
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

import uritemplate
from django.conf import settings
from drf_yasg import openapi
from drf_yasg.generators import OpenAPISchemaGenerator
from drf_yasg.inspectors import FieldInspector, SwaggerAutoSchema
from drf_yasg.renderers import ReDocRenderer, SwaggerJSONRenderer, SwaggerUIRenderer
from drf_yasg.views import get_schema_view
from rest_framework import exceptions, serializers
from rest_framework.permissions import AllowAny
from rest_framework_simplejwt.exceptions import InvalidToken

from lokanetra import errors
from lokanetra.endpoints import JSON, Contract, File, IdempotencyKeyInvalid, IdempotencyKeyMissing
from lokanetra.filters import Id
from lokanetra.parsers import BodyTooLarge, JSONParser, JSONRenderer, ProblemRenderer
from transactions.serializers import StaffEntrySerializer
from wallet.limits import NAMES
from wallet.serializers import QuantityField

INFO = openapi.Info(
    title="Lokanetra",
    default_version="1",
    description=inspect.cleandoc(
        f"""
        Log in with a one-time password, own a wallet, and credit, debit, transfer, hold, request and refund money.

        1. `POST /auth/send-otp/` sends a code to a phone; `POST /auth/verify-otp/` exchanges it for an access token.
        2. Press **Authorize** and write `Bearer <access>`.
        3. Money is a decimal string with two places, such as `"150.50"`; times are in UTC. A date
           alone, and a time without a zone, is in {settings.TIME_ZONE}.
        4. Send an `Idempotency-Key` with each payment, hold, request and refund: repeated, it is done once. A key
           belongs to one request of its user, over all calls.
        5. `POST /wallet/holds/` sets money aside for a payee, who captures it, in full or in parts, or voids it; it
           expires by itself.
        6. `POST /wallet/requests/` asks another user for money, who pays or declines.
        7. A received transfer can be refunded, in full or in parts: `POST /transactions/{{id}}/refund/`.
        8. `GET /wallet/limits/` shows what the wallet may still pay and receive; `GET /transactions/statement/` its
           balances and transactions in a month.
        9. Programs of staff follow changes by `GET /transactions/events/`, or receive them by webhooks.

        Errors are problem details (RFC 9457); `code` is stable, `detail` is for people.
        """
    ),
)

# Examples of fields: by call and name, by serializer and name, or by name alone where it means the same everywhere.
EXAMPLES: dict[str, Any] = {
    "access": "eyJhbGciOiJIUzI1NiJ9.access.signature",
    "amount": "150.50",
    "answer": "thanks",
    "answer_status": 200,
    "at": "2026-01-31T18:29:59.999999Z",
    "attempts": 1,
    "available": "749.50",
    "balance": "849.50",
    "captured": "0.00",
    "closed_at": None,
    "closing_balance": "849.50",
    "code": "insufficient_funds",
    "count": 1,
    "count_is_exact": False,
    "counterparty": "user_9888888888",
    "created_at": "2026-01-31T09:30:00Z",
    "currency": "INR",
    "daily_count": 20,
    "daily_out": None,
    "date_joined": "2026-01-31T09:30:00Z",
    "detail": "The wallet holds 10.00, 25.00 was asked for.",
    "direction": "OUT",
    "email": "asha@example.com",
    "event": 314,
    "end_date": "2026-01-31",
    "errors": {"amount": ["The amount must be more than zero."]},
    "expires_at": "2026-02-07T09:30:00Z",
    "expires_in": 300,
    "failing_since": None,
    "final": False,
    "first_name": "Asha",
    "from_phone_number": "9888888888",
    "held": "100.00",
    "hold": None,
    "id": 42,
    "is_active": True,
    "is_staff": False,
    "is_superuser": False,
    "last_name": "Rao",
    "limit": "10000.00",
    "max_amount": "5000.00",
    "max_balance": "10000.00",
    "monthly_in": "10000.00",
    "monthly_out": "10000.00",
    "next": None,
    "next_at": None,
    "opening_balance": "1000.00",
    "otp": "042042",
    "payee": "user_9888888888",
    "payee_phone_number": "9888888888",
    "payer": "user_9999999999",
    "payer_phone_number": "9999999999",
    "phone_number": "9999999999",
    "previous": None,
    "reason": "Reported stolen",
    "receiver": "user_9888888888",
    "receiver_phone_number": "9888888888",
    "refresh": "eyJhbGciOiJIUzI1NiJ9.refresh.signature",
    "refunded": "50.50",
    "remaining": "9749.50",
    "remarks": "Lunch",
    "requester": "user_9999999999",
    "requester_phone_number": "9999999999",
    "resend_after": 30,
    "resets_at": "2026-01-31T18:30:00Z",
    "retried": 3,
    "reverses": None,
    "seconds": 0.128,
    "secret": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "sender": "user_9999999999",
    "sender_phone_number": "9999999999",
    "sent_at": "2026-01-31T09:30:01Z",
    "start_date": "2026-01-01",
    "switched_off_at": None,
    "tier": "Small",
    "timestamp": "2026-01-31T09:30:00Z",
    "title": "Bad Request",
    "to_phone_number": "9888888888",
    "total_in": "0.00",
    "total_out": "150.50",
    "transaction": None,
    "transaction_id": 42,
    "transaction_type": "TRANSFER",
    "type": "about:blank",
    "types": ["transaction.created", "hold.expired"],
    "url": "https://example.com/events",
    "used": "250.50",
    "user": "user_9999999999",
    "username": "user_9999999999",
    "webhook": 2,
    # Names that mean something else in one serializer.
    "BrokenLimit.name": "monthly_out",
    "Delivery.id": 271,
    "Delivery.status": "DELIVERED",
    "Delivery.type": "transaction.created",
    "Event.id": 314,
    "Event.type": "transaction.created",
    "Hold.amount": "100.00",
    "Hold.id": 7,
    "Hold.remaining": "100.00",
    "Hold.remarks": "A room",
    "Hold.status": "OPEN",
    "HoldRequest.amount": "100.00",
    "HoldRequest.expires_in": 604800,
    "HoldRequest.remarks": "A room",
    "Ask.amount": "75.00",
    "Ask.expires_in": 604800,
    "Ask.remarks": "Tickets",
    "PaymentRequest.amount": "75.00",
    "PaymentRequest.direction": "IN",
    "PaymentRequest.id": 12,
    "PaymentRequest.payer": "user_9888888888",
    "PaymentRequest.remarks": "Tickets",
    "PaymentRequest.status": "PENDING",
    "StaffPaymentRequest.payer_phone_number": "9888888888",
    "Capture.amount": "60.00",
    "Limit.name": "monthly_out",
    "Problem.status": 400,
    "Refund.amount": "50.50",
    "Refund.remarks": "One came cold",
    "Reversal.remarks": "Wrong number",
    "Status.status": "ok",
    "Tier.id": 3,
    "Tier.name": "Small",
    "TierChange.reason": "Identified",
    "Wallet.id": 5,
    "Wallet.status": "ACTIVE",
    "Balance.status": "ACTIVE",
    "Webhook.id": 2,
    # The items of a list.
    "ListField.": "transaction.created",
    # Answers of a call that differ from others with the same serializer.
    "cancel.closed_at": "2026-01-31T12:00:00Z",
    "cancel.status": "CANCELLED",
    "capture.amount": "60.00",
    "capture.balance": "60.00",
    "capture.hold": 7,
    "capture.remarks": "A room",
    "credit.receiver": "user_9999999999",
    "credit.sender": None,
    "credit.transaction_type": "CREDIT",
    "debit.receiver": None,
    "debit.transaction_type": "DEBIT",
    "decline.closed_at": "2026-01-31T12:00:00Z",
    "decline.direction": "OUT",
    "decline.status": "DECLINED",
    "freeze.status": "FROZEN",
    "pay.amount": "75.00",
    "pay.balance": "100.00",
    "pay.receiver": "user_9999999999",
    "pay.remarks": "Tickets",
    "pay.sender": "user_9888888888",
    "refund.amount": "50.50",
    "refund.balance": "100.00",
    "refund.receiver": "user_9999999999",
    "refund.remarks": "One came cold",
    "refund.reverses": 42,
    "refund.sender": "user_9888888888",
    "refund.transaction_id": 43,
    "retry.answer": "moved away",
    "retry.answer_status": 503,
    "retry.attempts": 0,
    "retry.next_at": "2026-01-31T12:00:00Z",
    "retry.status": "PENDING",
    "reverse.balance": "1000.00",
    "reverse.receiver": "user_9999999999",
    "reverse.remarks": "Wrong number",
    "reverse.reverses": 42,
    "reverse.sender": "user_9888888888",
    "reverse.transaction_id": 43,
    "test.answer": "",
    "test.answer_status": None,
    "test.attempts": 0,
    "test.event": None,
    "test.next_at": "2026-01-31T09:30:00Z",
    "test.seconds": None,
    "test.sent_at": None,
    "test.status": "PENDING",
    "test.type": "webhook.test",
    "void.closed_at": "2026-01-31T12:00:00Z",
    "void.direction": "IN",
    "void.remaining": "0.00",
    "void.status": "VOIDED",
}

# Fields that an answer has only in some cases.
ONLY_SOMETIMES = ("count_is_exact", "at")

# Our codes for two of DRF's errors.
CODES = {"invalid": "validation_error", "error": "server_error"}


class BrokenLimitSerializer(serializers.Serializer):
    """The fields of `limits.Limit.data`."""

    name = serializers.ChoiceField(choices=NAMES)
    limit = QuantityField()
    remaining = QuantityField()
    resets_at = serializers.DateTimeField(allow_null=True)


class ProblemSerializer(serializers.Serializer):
    type = serializers.CharField()
    title = serializers.CharField()
    status = serializers.IntegerField()
    detail = serializers.CharField()
    code = serializers.CharField()
    errors = serializers.DictField(  # type: ignore[assignment]
        child=serializers.ListField(child=serializers.CharField()), required=False, help_text="For `validation_error`."
    )
    limit = BrokenLimitSerializer(required=False, help_text="For `limit_exceeded`.")

    class Meta:
        ref_name = "Problem"


class ExampleInspector(FieldInspector):
    """Adds to each property its example, and the attributes that its field declares: a pattern, or several types."""

    def process_result(self, result: Any, method_name: str, obj: Any, **kwargs: Any) -> Any:
        if isinstance(result, openapi.Schema) and (name := example_name(obj)):
            result["example"] = EXAMPLES[name]
            if getattr(obj, "pattern", None):
                result["pattern"] = obj.pattern
            result.update(getattr(obj, "swagger", {}))
            if "x-oneOf" in result:
                del result["type"]
        return result


class AnswerInspector(FieldInspector):
    """Marks the fields that an answer always has as required: serializers know only what bodies require."""

    def process_result(self, result: Any, method_name: str, obj: Any, **kwargs: Any) -> Any:
        if isinstance(result, openapi.SchemaRef) and not self._is_body(obj):
            schema = openapi.resolve_ref(result, self.components)
            schema["required"] = always_there(obj)
            for shown in schema["properties"].values():
                shown.pop("readOnly", None)  # the whole answer is
        return result

    def _is_body(self, serializer: Any) -> bool:
        return type(serializer) is getattr(self.view, self.view.action).contract.takes


class EndpointSchema(SwaggerAutoSchema):
    """One operation, from its contract."""

    field_inspectors = [AnswerInspector, ExampleInspector, *SwaggerAutoSchema.field_inspectors]

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
        """An answer without a body has no media type."""
        streams = self.contract.streams
        own = streams.media_type if streams else JSONRenderer.media_type
        kinds = [own] if streams or self.contract.gives else []
        return [*kinds, *(file.media_type for file in self.contract.files.values()), ProblemRenderer.media_type]

    def get_request_body_parameters(self, consumes: Any) -> list[openapi.Parameter]:
        if self.contract.takes is None:
            return []
        schema = self.serializer_to_schema(self.contract.takes())
        body = openapi.resolve_ref(schema, self.components)
        body["additionalProperties"] = False
        if self.method == "PATCH" and not self.contract.full_body:
            body.pop("required", None)
        parameter = self.make_body_parameter(schema)
        parameter["required"] = "required" in body
        return [parameter]

    def get_query_parameters(self) -> list[openapi.Parameter]:
        filters = self.contract.filters.base_filters if self.contract.filters else {}
        found = [_filter_parameter(name, field) for name, field in filters.items()]
        query: Any = self.contract.query() if self.contract.query else serializers.Serializer()
        found += [_query(name, openapi.TYPE_STRING, field.help_text) for name, field in query.fields.items()]
        if self.contract.files:
            found += [_query("format", openapi.TYPE_STRING, "`json` by default.", enum=[JSON, *self.contract.files])]
        pages = getattr(self.contract.pages, "parameters", {})
        return found + [_query(name, kind, text) for name, (kind, text) in pages.items()]

    def add_manual_parameters(self, parameters: list[openapi.Parameter]) -> list[openapi.Parameter]:
        if not self.contract.money:
            return parameters
        text = (
            "Repeated with the same request, it returns the first result and does nothing; 1 to 255 ASCII characters."
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
        examples = {JSONRenderer.media_type: example_of(gives(), self.view.action)}
        return openapi.Response("Done.", schema=self.serializer_to_schema(gives()), examples=examples)

    def _problem(self, status: int, found: list[Any]) -> openapi.Response:
        problems = [(CODES.get(error.default_code, error.default_code), str(error.default_detail)) for error in found]
        description = "\n".join(f"- `{code}`: {detail}" for code, detail in problems)
        code, detail = problems[0]
        examples = {ProblemRenderer.media_type: errors.body(status, code, detail)}
        schema = self._problem_with(list(dict.fromkeys(code for code, _ in problems)))
        return openapi.Response(description, schema=schema, examples=examples)

    def _problem_with(self, codes: list[str]) -> openapi.Schema:
        """A problem with one of these codes."""
        code = openapi.Schema(type=openapi.TYPE_STRING, enum=codes, example=codes[0])
        return openapi.Schema(
            type=openapi.TYPE_OBJECT,
            all_of=[self.serializer_to_schema(ProblemSerializer())],
            properties={"code": code},
        )

    def _errors(self) -> Iterable[Any]:
        """The endpoint's own errors, and those that follow from its contract."""
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


def always_there(serializer: Any) -> list[str]:
    """The fields of an answer, except those that its class declares as optional."""
    declared = serializer._declared_fields
    return [name for name in serializer.fields if name not in declared or not _may_be_missing(declared[name])]


def _may_be_missing(field: serializers.Field) -> bool:
    return not field.required and not field.read_only and field.default is serializers.empty


def answer_of(contract: Contract) -> type[serializers.BaseSerializer] | None:
    """The serializer of the whole answer: of a page where there are pages."""
    if contract.gives is None or contract.pages is None:
        return contract.gives
    row: Any = contract.gives
    pages: Any = contract.pages
    return page_of(row, pages)


@cache
def page_of(row: type[serializers.BaseSerializer], pages: Any) -> type[serializers.Serializer]:
    """One class for all calls with such pages, because a name must be unique in the documentation."""
    name = row.__name__.replace("Serializer", "PageSerializer")
    return type(name, (serializers.Serializer,), pages.serializer(row))


def example_of(field: Any, call: str = "") -> Any:
    """The example of a field, for this call if it has its own."""
    if isinstance(field, serializers.ListSerializer):
        return [example_of(field.child, call)]
    if isinstance(field, serializers.Serializer):
        return {name: example_of(child, call) for name, child in field.fields.items() if name not in ONLY_SOMETIMES}
    return EXAMPLES.get(example_name(field, call))


def example_name(field: Any, call: str = "") -> str:
    """The name of the field's example; empty where there is none."""
    kinds = [kind.__name__.removesuffix("Serializer") for kind in type(field.parent).__mro__]
    names = [*(f"{owner}.{field.field_name}" for owner in (call, *kinds)), str(field.field_name)]
    return next((name for name in names if name in EXAMPLES), "")


# The event of a payment has what staff see of its row.
EXAMPLES["data"] = example_of(StaffEntrySerializer())


def _file(streams: File) -> openapi.Response:
    row = example_of(streams.columns())
    cells = ["" if value is None else str(value) for value in row.values()]
    example = f"{','.join(row)}\r\n{','.join(cells)}\r\n"
    return openapi.Response(
        "A file.", schema=openapi.Schema(type=openapi.TYPE_FILE), examples={streams.media_type: example}
    )


def _query(name: str, kind: str, description: str, **more: Any) -> openapi.Parameter:
    return openapi.Parameter(name, openapi.IN_QUERY, description, type=kind, **more)


def _filter_parameter(name: str, found: Any) -> openapi.Parameter:
    choices = [str(value) for value, _ in found.extra.get("choices", []) if value]
    text = found.label or (inspect.getdoc(type(found)) or "").splitlines()[0]
    kind = openapi.TYPE_INTEGER if isinstance(found, Id) else openapi.TYPE_STRING
    return _query(name, kind, text, **({"enum": choices} if choices else {}))


class Generator(OpenAPISchemaGenerator):
    """Documents every path parameter as an id."""

    def get_path_parameters(self, path: str, view_cls: type) -> list[openapi.Parameter]:
        return [
            openapi.Parameter(name, openapi.IN_PATH, required=True, type=openapi.TYPE_INTEGER, minimum=1)
            for name in sorted(uritemplate.variables(path))
        ]


Schema = get_schema_view(
    INFO, public=True, generator_class=Generator, authentication_classes=[], permission_classes=[AllowAny]
)


class SchemaJSON(Schema):  # type: ignore[misc, valid-type]
    http_method_names = ["get", "head"]
    renderer_classes = [SwaggerJSONRenderer]
    throttle_classes = ()


class Swagger(SchemaJSON):
    renderer_classes = [SwaggerUIRenderer, SwaggerJSONRenderer]


class ReDoc(SchemaJSON):
    renderer_classes = [ReDocRenderer, SwaggerJSONRenderer]
