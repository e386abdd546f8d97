"""What one endpoint takes, gives and refuses, declared once: the view enforces it and the documentation shows it.

    @action(detail=False, methods=["post"])
    @endpoint(takes=TransferSerializer, gives=ReceiptSerializer, money=True, errors=[InsufficientFunds])
    def transfer(self, request, **payment):
        ...

The handler is called with the validated body as keyword arguments, or with the query parameters as `query` validates
them; its result is serialized by `gives`. With `pages` it is filtered and paged first; `load_related` then joins other
tables for the rows of the page only, because the database would plan a join for all of them. With `streams` instead of
`gives`, all filtered rows become one file; with `files`, the parameter `format` chooses one for the handler's result.
Money calls receive their idempotency `key`. Unknown fields and query parameters are refused by name.

DRF's own `permission_classes`, `serializer_class`, `queryset` and their getters are not used: the contract replaces
them, and a method without one is refused when its class is created. Serializers are created once and shared by all
requests, so they have neither a context nor fields that need one.
"""

import re
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property, partial, wraps
from typing import Any, ClassVar, Protocol, TypeVar

from django.conf import settings
from django.db import Error
from django.http import Http404, QueryDict
from django.http.response import HttpResponseBase
from django_filters import FilterSet
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.fields import empty
from rest_framework.parsers import BaseParser
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.serializers import BaseSerializer, Serializer
from rest_framework.viewsets import ViewSet

from lokanetra.errors import Problem
from lokanetra.pagination import FeedPages, KeysetPages, NumberedPages
from lokanetra.parsers import AlwaysJSON, JSONResponse, body_of
from lokanetra.replica import Reader
from lokanetra.shapes import Shape

Instance = TypeVar("Instance")

NO_PARAMETERS = QueryDict()
KEY_HEADER = "HTTP_IDEMPOTENCY_KEY"
JSON = "json"
PRINTABLE_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class IdempotencyKeyMissing(Problem):
    """Raised when a money call has no `Idempotency-Key` and `IDEMPOTENCY_REQUIRED` is on."""

    status_code = 400
    default_code = "idempotency_key_missing"
    default_detail = "Send an Idempotency-Key header: it makes a repeat of this call safe."


class IdempotencyKeyInvalid(Problem):
    """Raised when the header is empty, too long or not printable ASCII, or when the key is elsewhere."""

    status_code = 400
    default_code = "idempotency_key_invalid"
    default_detail = "An Idempotency-Key is 1 to 255 printable ASCII characters, in a header of exactly that name."


class File(Protocol):
    """Turns rows into a file, which is sent while it is generated."""

    media_type: ClassVar[str]

    @property
    def columns(self) -> type[BaseSerializer]: ...

    def answer(self, request: Request, rows: Any) -> HttpResponseBase: ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Contract:
    """The terms of one endpoint."""

    gives: type[BaseSerializer] | None = None
    takes: type[BaseSerializer] | None = None
    status: int = 200
    allow: type[BasePermission] = IsAuthenticated
    errors: Sequence[type[APIException]] = ()
    filters: type[FilterSet] | None = None
    pages: type[KeysetPages] | type[NumberedPages] | type[FeedPages] | None = None
    load_related: Callable[[Any], Any] | None = None
    streams: File | None = None
    files: Mapping[str, File] = field(default_factory=dict)
    query: type[BaseSerializer] | None = None
    money: bool = False
    # The pages may be seconds old, so they are read from a replica where there is one.
    allow_stale: bool = False
    # For PATCH: whether all fields of the body are required.
    full_body: bool = False
    # The service reads the account in the query that locks its wallet; until then the token is trusted.
    account_checked_in_service: bool = False

    @cached_property
    def is_public(self) -> bool:
        return self.allow is AllowAny

    @cached_property
    def is_for_staff(self) -> bool:
        return getattr(self.allow, "for_staff", False)

    @property
    def ignored_parameters(self) -> frozenset[str]:
        """An endpoint with a single format accepts `format`, and ignores it."""
        return frozenset() if self.filters or self.pages or self.files else frozenset({"format"})

    @cached_property
    def parameters(self) -> frozenset[str]:
        """The query parameters that a call accepts."""
        own = [*self._query.fields, *(["format"] if self.files else [])]
        return frozenset((*own, *getattr(self.filters, "base_filters", ()), *getattr(self.pages, "parameters", ())))

    def read(self, request: Request) -> dict[str, Any]:
        """The keyword arguments of the handler."""
        parameters = parameters_of(request)
        if self.parameters and parameters:
            refuse_parameters(parameters, self.parameters | self.ignored_parameters)
        arguments = self._body(request) if request.method in ("POST", "PATCH") else self._query_arguments(parameters)
        if self.money:
            arguments["key"] = idempotency_key(request)
        if self.account_checked_in_service:
            arguments["token_version"] = request.user.token_version  # type: ignore[union-attr]
        return arguments

    def answer(self, request: Request, result: Any) -> HttpResponseBase:
        """The response for what the handler returned."""
        if self.streams:
            return self.streams.answer(request, self.filtered(request, result))
        if self.files and (file := self._file(request.query_params)):
            return file.answer(request, result)
        if self.gives is None:
            return JSONResponse(status=self.status)
        if self.pages:
            return self._page(self.pages, request, result)
        replayed = {"Idempotent-Replayed": "true"} if getattr(result, "replayed", False) else None
        return JSONResponse(self._output(result), self.status, replayed)

    def _body(self, request: Request) -> dict[str, Any]:
        serializer = self._partial_input if request.method == "PATCH" and not self.full_body else self._input
        given = body_of(request)
        refuse_unknown(given, serializer.fields.fields)
        return serializer.to_internal_value(given)  # without validators of the whole, of which there are none

    def _query_arguments(self, parameters: QueryDict) -> dict[str, Any]:
        if self.query is None or not (parameters or self._validates_empty):
            return {}
        self._file(parameters)
        names = self._query.fields.keys() & parameters.keys()
        return self._query.run_validation({name: parameters[name] for name in names})

    def _file(self, parameters: QueryDict) -> File | None:
        """The file that the caller wants; None for JSON. Raises ValidationError."""
        name = parameters.get("format", JSON) if self.files else JSON
        if name != JSON and name not in self.files:
            raise ValidationError({"format": [f"Choose one of {', '.join([JSON, *self.files])}."]})
        return self.files.get(name)

    # Serializers are created once, because creating one takes longer than using it. They keep no state of a request.

    @cached_property
    def _output(self) -> Any:
        return Shape((self.gives or Serializer)())

    @cached_property
    def _query(self) -> Any:
        return (self.query or Serializer)()

    @cached_property
    def _validates_empty(self) -> bool:
        """Whether validating no parameters at all gives errors or defaults."""
        return any(field.required or field.default is not empty for field in self._query.fields.values())

    @cached_property
    def _input(self) -> Any:
        return (self.takes or Serializer)()

    @cached_property
    def _partial_input(self) -> Any:
        return (self.takes or Serializer)(partial=True)

    def _page(self, pages: Callable[[], Any], request: Request, rows: Any) -> JSONResponse:
        read = partial(self._read_page, pages, request, rows)
        return Reader()(read) if self.allow_stale else read()

    def _read_page(self, pages: Callable[[], Any], request: Request, rows: Any) -> JSONResponse:
        paginator = pages()
        page = self._with_related(paginator.paginate_queryset(self.filtered(request, rows), request))
        return paginator.get_paginated_response([self._output(row) for row in page])

    def _with_related(self, page: Any) -> Any:
        """The rows of a page, joined with the other tables that they need."""
        if self.load_related is None:
            return page
        ids = list(page.values_list("pk", flat=True))
        found = self.load_related(page.model.objects.all()).in_bulk(ids)
        return [found[pk] for pk in ids if pk in found]

    def filtered(self, request: Request, rows: Any) -> Any:
        """`rows` is a queryset or a list of disjoint ones; the filters apply to each."""
        if self.filters is None or self.filters.base_filters.keys().isdisjoint(request.query_params):
            return rows
        if hasattr(rows, "sides"):
            rows = rows.sides()
        if isinstance(rows, list):
            return [self.filtered(request, side) for side in rows]
        filterset = self.filters(data=request.query_params, queryset=rows, request=request)
        if not filterset.is_valid():
            raise ValidationError(filterset.errors)
        return filterset.qs


def endpoint(**terms: Any) -> Callable[[Callable[..., Any]], Callable[..., HttpResponseBase]]:
    """Gives a viewset's method a `Contract` with these terms."""
    contract = Contract(**terms)

    def decorate(method: Callable[..., Any]) -> Callable[..., HttpResponseBase]:
        @wraps(method)
        def view(self: ViewSet, request: Request, **path: Any) -> HttpResponseBase:
            result = method(self, request, **path, **contract.read(request))
            return contract.answer(request, result)

        view.contract = contract  # type: ignore[attr-defined]
        return view

    return decorate


@cache
def shared_instance(kind: type[Instance]) -> Instance:
    """The only instance of a class whose instances keep no state of a request."""
    return kind()


class ConsoleSession(SessionAuthentication):
    """A session of the console. Its CSRF token is read from the header or a form: DRF would read the body too early."""

    def enforce_csrf(self, request: Request) -> None:
        super().enforce_csrf(request._request)  # type: ignore[arg-type]


ROUTED = ("list", "create", "retrieve", "update", "partial_update", "destroy")


class Endpoints(ViewSet):
    """A viewset whose methods are endpoints: the contract says who may call one."""

    http_method_names = ["get", "head", "post", "patch"]  # OPTIONS is answered earlier, for allowed origins

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Raises TypeError for a method that requests can reach but that has no contract: it would be open to all."""
        super().__init_subclass__(**kwargs)
        extra: Any = cls.get_extra_actions()
        reached = [name for action in extra for name in action.mapping.values()]
        reached += [name for name in ROUTED if hasattr(cls, name)]
        without = [name for name in reached if not hasattr(getattr(cls, name), "contract")]
        if without:
            raise TypeError(f"{cls.__name__}.{without[0]} has no @endpoint, which says who may call it")

    @cached_property
    def contract(self) -> Contract | None:
        """The contract of the method called; None for a method that is not allowed, which anybody may learn."""
        name = self.action_map.get((self.request.method or "").lower())
        return getattr(self, name).contract if name else None

    def get_parsers(self) -> list[BaseParser]:
        return []  # `Contract.read` parses the body

    def get_permissions(self) -> list[BasePermission]:
        return [shared_instance(self.contract.allow)] if self.contract else []

    def get_authenticators(self) -> list[BaseAuthentication]:
        if self.contract is None or self.contract.is_public:
            return []  # an expired token must not prevent a new login
        kinds = [*self.authentication_classes, *([ConsoleSession] if self.contract.is_for_staff else [])]
        return [shared_instance(kind) for kind in kinds]

    def get_content_negotiator(self) -> AlwaysJSON:
        return shared_instance(AlwaysJSON)

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Without DRF's versions and negotiation: there are no versions, and all answers are JSON."""
        self.perform_authentication(request)
        self.check_permissions(request)
        self.check_throttles(request)

    @property
    def default_response_headers(self) -> dict[str, str]:
        return {}

    def http_method_not_allowed(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.headers = {"Allow": ", ".join(self.allowed_methods)}
        return super().http_method_not_allowed(request, *args, **kwargs)

    def handle_exception(self, exc: Exception) -> Any:
        """A caller whose token is no longer valid gets that error first, even if the service refused earlier."""
        contract = self.contract
        if contract and contract.account_checked_in_service and self.request.auth and is_refusal(exc):
            try:
                self.request.successful_authenticator.check(self.request.auth)  # type: ignore[union-attr]
            except (APIException, Error) as out:
                exc = out
        return super().handle_exception(exc)


def is_refusal(exc: Exception) -> bool:
    """Whether it is the caller's mistake and not ours."""
    return isinstance(exc, Http404) or (isinstance(exc, APIException) and exc.status_code < 500)


def parameters_of(request: Request) -> QueryDict:
    """The query parameters, parsed only where there are any."""
    return request.query_params if request.META.get("QUERY_STRING") else NO_PARAMETERS


def refuse_unknown(given: Iterable[str], known: Container[str]) -> None:
    """A misspelt field would be ignored, and the call would do something else. Raises ValidationError."""
    unknown = [name for name in given if name not in known]
    if unknown:
        raise ValidationError({name: ["This is not known here."] for name in unknown})


def refuse_parameters(given: QueryDict, known: Container[str]) -> None:
    """The same for query parameters. One given twice is refused too: only one value would count."""
    refuse_unknown(given, known)
    repeated = [name for name, values in given.lists() if len(values) > 1]
    if repeated:
        raise ValidationError({name: ["This is there more than once."] for name in repeated})


def idempotency_key(request: Request) -> str | None:
    """The key of a money call, bare or quoted. An unreadable key, and one under another name or in the query string,
    is an error and never treated as absent."""
    headers = [name for name in request.META if "IDEMPOT" in name and name.startswith("HTTP_")]
    if headers not in ([], [KEY_HEADER]) or any("idempot" in name.lower() for name in parameters_of(request)):
        raise IdempotencyKeyInvalid("The key of a payment belongs into the header Idempotency-Key, and there alone.")
    if not headers:
        if settings.IDEMPOTENCY_REQUIRED:
            raise IdempotencyKeyMissing
        return None
    header = request.META[KEY_HEADER]
    quoted = len(header) >= 2 and header[0] == header[-1] == '"'
    key = header[1:-1] if quoted else header
    if not PRINTABLE_KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key
