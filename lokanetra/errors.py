"""One error body for the whole API: RFC 9457 problem details with a stable `code`.

`handler` converts what a view raises, `from_status` what Django itself answers outside of views.
The rules themselves are in each app's `exceptions.py`.
"""

import logging
from collections.abc import Mapping
from http import HTTPStatus
from math import ceil
from typing import Any

from django.core.exceptions import PermissionDenied
from django.core.exceptions import ValidationError as DjangoValidationError
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import is_valid_path
from rest_framework import exceptions

from lokanetra import database
from lokanetra.parsers import JSONRenderer, JSONResponse, ProblemRenderer

logger = logging.getLogger(__name__)

STATUS_CODES = {
    400: ("validation_error", "The request cannot be read."),
    401: ("not_authenticated", "Log in first."),
    403: ("permission_denied", "You may not do this."),
    404: ("not_found", "Nothing is here."),
    405: ("method_not_allowed", "This method is not allowed here."),
    408: ("request_timeout", "The body did not arrive in time. Nothing was changed."),
    413: ("body_too_large", "The body is too large."),
    415: ("unsupported_media_type", "Send JSON, as application/json."),
    500: ("server_error", "Something went wrong on our side. It was logged."),
    503: ("server_busy", "Nothing was changed. Try again in a moment."),
}


class Problem(exceptions.APIException):
    """A broken rule of the API. Subclasses set `status_code`, `default_code` and `default_detail`; further members of
    the problem are in `extra`."""

    extra: Mapping[str, Any] = {}


class ServerBusy(Problem):
    """Raised when the database is lost, starting or overloaded; nothing was changed."""

    status_code = 503
    default_code, default_detail = STATUS_CODES[503]


def body(status: int, code: str, detail: str, errors: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The problem as a dictionary, with `errors` only if there are any."""
    title = HTTPStatus(status).phrase
    problem = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code}
    return problem | ({"errors": errors} if errors else {})


def handler(exc: Exception, context: dict[str, Any]) -> JSONResponse | None:
    """DRF's exception handler: None for a bug, which is not an API error."""
    fault, exc = exc, _as_api_exception(exc)
    if not isinstance(exc, exceptions.APIException):
        return None
    if exc.status_code == 503:
        logger.error("%s: %s", exc.default_code, fault.__cause__ or fault)
    return JSONResponse(_body_of(exc), exc.status_code, _headers_of(exc), ProblemRenderer)


def from_status(request: HttpRequest, response: HttpResponse) -> HttpResponse:
    """Replaces the page of Django's answer with a problem. The headers stay."""
    code, detail = STATUS_CODES.get(response.status_code, ("server_error", STATUS_CODES[500][1]))
    if response.status_code == 404 and is_valid_path(f"{request.path_info}/"):
        detail = f"Nothing is here, but there is {request.path}/ with a slash at the end."
    response.content = JSONRenderer().render(body(response.status_code, code, detail))
    response["Content-Type"] = ProblemRenderer.media_type
    response["Content-Length"] = str(len(response.content))
    return response


def _as_api_exception(exc: Exception) -> Exception:
    if isinstance(exc, Http404):
        return exceptions.NotFound(STATUS_CODES[404][1])
    if isinstance(exc, PermissionDenied):
        return exceptions.PermissionDenied()
    if isinstance(exc, DjangoValidationError):
        return exceptions.ValidationError(exc.message_dict if hasattr(exc, "error_dict") else exc.messages)
    if database.is_away(exc):  # only operations that are all or nothing can promise more
        return ServerBusy("The database does not answer. Try again in a moment.")
    return exc


def _body_of(exc: exceptions.APIException) -> dict[str, Any]:
    if isinstance(exc, exceptions.ValidationError):
        errors = _by_field(exc.detail)
        details = [f"{field}: {message}" for field, messages in errors.items() for message in messages]
        return body(400, "validation_error", details[0] if details else STATUS_CODES[400][1], errors)
    if exc.status_code in (404, 405, 415):
        code, detail = STATUS_CODES[exc.status_code]
        own = getattr(exc.detail, "code", code)
        return body(exc.status_code, own if isinstance(exc, Problem) else code, str(exc.detail) or detail)
    problem = body(exc.status_code, getattr(exc.detail, "code", exc.default_code), str(exc.detail))
    return problem | getattr(exc, "extra", {})


def _by_field(detail: Any) -> dict[str, list[str]]:
    """DRF nests errors in lists and dictionaries; here they are flat: messages by field."""
    if isinstance(detail, dict):
        return {str(field): _flat(messages) for field, messages in detail.items()}
    return {"non_field_errors": _flat(detail)}


def _flat(messages: Any) -> list[str]:
    if isinstance(messages, dict):
        messages = list(messages.values())
    if isinstance(messages, (list, tuple)):
        return [text for message in messages for text in _flat(message)]
    return [str(messages)]


def _headers_of(exc: exceptions.APIException) -> dict[str, str]:
    headers = {}
    if challenge := getattr(exc, "auth_header", None):
        headers["WWW-Authenticate"] = challenge
    if exc.status_code in (429, 503):
        headers["Retry-After"] = str(max(1, ceil(getattr(exc, "wait", None) or 0)))
    return headers
