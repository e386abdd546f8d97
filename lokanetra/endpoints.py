"""What one endpoint takes, gives and refuses, said once: the view obeys it and the documentation shows it.

    @action(detail=False, methods=["post"])
    @endpoint(takes=TransferSerializer, gives=ReceiptSerializer, money=True, errors=[InsufficientFunds])
    def transfer(self, request, **payment):
        ...

The handler is called with the validated body as keyword arguments; what it returns is serialized by `gives`,
and where `pages` is named, filtered and paged before; `reads` joins what other tables tell of the rows once they are
known, for the database plans a join for all of them. Where `streams` is named instead of `gives`, all the filtered
rows become one file. Money calls are given their idempotency `key`.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any, ClassVar, Protocol

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.http import Http404
from django.http.response import HttpResponseBase
from django_filters import FilterSet
from rest_framework.authentication import BaseAuthentication, SessionAuthentication
from rest_framework.exceptions import APIException, ValidationError
from rest_framework.permissions import AllowAny, BasePermission, IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import BaseSerializer
from rest_framework.viewsets import ViewSet

from lokanetra.errors import Problem
from lokanetra.pagination import KeysetPages, NumberedPages

PRINTABLE_KEY = re.compile(r"[\x20-\x7e]{1,255}")


class IdempotencyKeyMissing(Problem):
    """Raised when a money call has no `Idempotency-Key` and `IDEMPOTENCY_REQUIRED` is on."""

    status_code = 400
    default_code = "idempotency_key_missing"
    default_detail = "Send an Idempotency-Key header: it makes a repeat of this call safe."


class IdempotencyKeyInvalid(Problem):
    """Raised when the header is there but empty, too long or not printable ASCII."""

    status_code = 400
    default_code = "idempotency_key_invalid"
    default_detail = "An Idempotency-Key is 1 to 255 printable ASCII characters."


class File(Protocol):
    """Makes rows a file, which is sent while it is made."""

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
    pages: type[KeysetPages] | type[NumberedPages] | None = None
    reads: Callable[[Any], Any] | None = None
    streams: File | None = None
    money: bool = False

    @property
    def is_public(self) -> bool:
        return self.allow is AllowAny

    @property
    def is_for_staff(self) -> bool:
        return getattr(self.allow, "for_staff", False)

    @property
    def looks_up_itself(self) -> bool:
        """A payment of one's own: its service reads the account in the query that locks the wallet."""
        return self.money and not self.is_for_staff

    def read(self, request: Request) -> dict[str, Any]:
        """What the handler is called with."""
        arguments = self._body(request) if self.takes else {}
        if self.money:
            arguments["key"] = idempotency_key(request)
        if self.looks_up_itself:
            arguments["token_version"] = request.user.token_version  # type: ignore[union-attr]
        return arguments

    def answer(self, request: Request, result: Any) -> HttpResponseBase:
        """The response for what the handler returned."""
        if self.streams:
            return self.streams.answer(request, self.filtered(request, result))
        if self.gives is None:
            return Response(status=self.status)
        if self.pages:
            return self._page(request, result)
        replayed = {"Idempotent-Replayed": "true"} if getattr(result, "replayed", False) else None
        return Response(self._shows.to_representation(result), status=self.status, headers=replayed)

    def _body(self, request: Request) -> dict[str, Any]:
        reads = self._reads_some if request.method == "PATCH" else self._reads
        return reads.run_validation(request.data)

    # Serializers are made once and shared, for making one takes longer than using it: they keep nothing of a request.

    @cached_property
    def _shows(self) -> Any:
        assert self.gives
        return self.gives()

    @cached_property
    def _reads(self) -> Any:
        assert self.takes
        return self.takes()

    @cached_property
    def _reads_some(self) -> Any:
        assert self.takes
        return self.takes(partial=True)

    def _page(self, request: Request, rows: Any) -> Response:
        assert self.pages
        paginator = self.pages()
        page = self._completed(paginator.paginate_queryset(self.filtered(request, rows), request))
        return paginator.get_paginated_response([self._shows.to_representation(row) for row in page])

    def _completed(self, page: Any) -> Any:
        """The rows of a page, with what other tables tell of them."""
        if self.reads is None:
            return page
        ids = list(page.values_list("pk", flat=True))
        found = self.reads(page.model.objects.all()).in_bulk(ids)
        return [found[pk] for pk in ids if pk in found]

    def filtered(self, request: Request, rows: Any) -> Any:
        """`rows` is a queryset, or a list of disjoint ones: the filters apply to each."""
        if self.filters is None or self.filters.base_filters.keys().isdisjoint(request.query_params):
            return rows
        if isinstance(rows, list):
            return [self.filtered(request, side) for side in rows]
        filterset = self.filters(data=request.query_params, queryset=rows, request=request)
        if not filterset.is_valid():
            raise ValidationError(filterset.errors)
        return filterset.qs


def endpoint(**terms: Any) -> Callable[[Callable[..., Any]], Callable[..., HttpResponseBase]]:
    """Puts a viewset's method under a `Contract` of these terms."""
    contract = Contract(**terms)

    def decorate(method: Callable[..., Any]) -> Callable[..., HttpResponseBase]:
        @wraps(method)
        def view(self: ViewSet, request: Request, **path: Any) -> HttpResponseBase:
            result = method(self, request, **path, **contract.read(request))
            return contract.answer(request, result)

        view.contract = contract  # type: ignore[attr-defined]
        return view

    return decorate


class Endpoints(ViewSet):
    """A viewset whose methods are endpoints: who may call one stands in its contract."""

    http_method_names = ["get", "head", "post", "patch"]  # OPTIONS is answered before, to browsers of allowed origins

    def contract(self) -> Contract | None:
        """The terms of the method called; None for a method that is not allowed here, which anybody may be told."""
        name = self.action_map.get((self.request.method or "").lower(), "")
        return getattr(getattr(self, name, None), "contract", None)

    def get_permissions(self) -> list[BasePermission]:
        contract = self.contract()
        return [contract.allow()] if contract else []

    def get_authenticators(self) -> list[BaseAuthentication]:
        contract = self.contract()
        if contract is None or contract.is_public:
            return []  # a stale token must not stand in the way of a new login
        session: list[BaseAuthentication] = [SessionAuthentication()] if contract.is_for_staff else []
        return [*super().get_authenticators(), *session]

    def handle_exception(self, exc: Exception) -> Response:
        """Who is out is told that before anything else, also where the service did not come to look."""
        contract = self.contract()
        if contract and contract.looks_up_itself and self.request.auth and is_refusal(exc):
            try:
                self.request.authenticators[0].check(self.request.auth)  # type: ignore[index, union-attr]
            except (APIException, OperationalError, InterfaceError) as out:
                exc = out
        return super().handle_exception(exc)


def is_refusal(exc: Exception) -> bool:
    """Is it the caller's mistake, or ours?"""
    return isinstance(exc, Http404) or (isinstance(exc, APIException) and exc.status_code < 500)


def idempotency_key(request: Request) -> str | None:
    """The key of a money call, bare or quoted. An unreadable one is an error and never taken as absent."""
    header = request.headers.get("Idempotency-Key")
    if header is None:
        if settings.IDEMPOTENCY_REQUIRED:
            raise IdempotencyKeyMissing
        return None
    quoted = len(header) >= 2 and header[0] == header[-1] == '"'
    key = header[1:-1] if quoted else header
    if not PRINTABLE_KEY.fullmatch(key):
        raise IdempotencyKeyInvalid
    return key
