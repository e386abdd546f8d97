"""JSON in requests and answers: strict parsing, and one media type for answers."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, ClassVar

import orjson
from django.conf import settings
from django.http import HttpResponse
from django.utils import timezone
from rest_framework import exceptions, serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.parsers import BaseParser
from rest_framework.renderers import BaseRenderer
from rest_framework.request import Request

from lokanetra import days, texts


class BodyTooLarge(exceptions.APIException):
    """Raised when a body is longer than any request needs."""

    status_code = 413
    default_code = "body_too_large"
    default_detail = "The body is larger than 64 KiB."


class JSONParser(BaseParser):
    """One JSON object in UTF-8. Refuses what is ambiguous: duplicate keys, NaN, lone surrogates.

    A number with a decimal point becomes a `Decimal`, digit for digit.
    """

    media_type = "application/json"

    def parse(self, stream: Any, media_type: Any = None, parser_context: Any = None) -> dict[str, Any]:
        raw = stream.read(settings.MAX_BODY_BYTES + 1)
        if len(raw) > settings.MAX_BODY_BYTES:
            raise BodyTooLarge
        return self._object(raw)

    def _object(self, raw: bytes) -> dict[str, Any]:
        try:
            data = STRICT.decode(raw.decode("utf-8"))
            if rb"\u" in raw:  # only such an escape can be a lone surrogate
                json.dumps(data, ensure_ascii=False, default=str).encode("utf-8")
        except RecursionError:
            raise exceptions.ParseError("The JSON is nested too deeply.") from None
        except ValueError as error:  # JSON, UTF-8 and surrogate errors, and integers that are too long
            raise exceptions.ParseError(f"The body is not valid JSON: {_first_line(error)}") from None
        if not isinstance(data, dict):
            raise exceptions.ParseError("The body must be a JSON object.")
        return data


class JSONRenderer(BaseRenderer):
    media_type = "application/json"
    format = "json"
    charset = None

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return b"" if data is None else orjson.dumps(data, default=str)


class ProblemRenderer(JSONRenderer):
    media_type = "application/problem+json"


class JSONResponse(HttpResponse):
    """An answer of the API. `data` is the content before it became JSON; None means no body."""

    def __init__(
        self,
        data: Any = None,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        renderer: type[JSONRenderer] = JSONRenderer,
    ) -> None:
        self.data = data
        super().__init__(renderer().render(data), renderer.media_type, status, headers=headers)
        if data is None:
            del self["Content-Type"]


def body_of(request: Request) -> dict[str, Any]:
    """The fields of the request; empty without a body. Raises ParseError, UnsupportedMediaType, BodyTooLarge."""
    if request.META.get("CONTENT_LENGTH", "0") in ("", "0"):
        return {}
    given = (request.content_type or "").partition(";")[0].strip().lower()
    if given != JSONParser.media_type:
        raise exceptions.UnsupportedMediaType(request.content_type)
    return JSONParser().parse(request._request)


class AlwaysJSON(BaseContentNegotiation):
    """`Accept` is ignored: every answer is JSON, so there is no 406."""

    def select_parser(self, request: Any, parsers: Any) -> Any:
        given = (request.content_type or "").split(";")[0].strip().lower()
        return next((parser for parser in parsers if parser.media_type == given), None)

    def select_renderer(self, request: Any, renderers: Any, format_suffix: Any = None) -> Any:
        return renderers[0], renderers[0].media_type


class Text(serializers.CharField):
    """A JSON string, without conversion from other types; one line of visible characters, unless another `rule`, or
    None, is given."""

    def __init__(self, *, rule: Callable[[str], None] | None = texts.one_line, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rule = rule

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            self.fail("invalid")
        text = super().to_internal_value(data)
        if self.rule:
            self.rule(text)
        return text


class TrueOrFalse(serializers.BooleanField):
    """A JSON boolean, without conversion from other types."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid", input=data)
        return data


class WholeNumber(serializers.IntegerField):
    """A JSON number without a fraction, without conversion from other types."""

    def to_internal_value(self, data: Any) -> int:
        if not isinstance(data, int) or isinstance(data, bool):
            self.fail("invalid")
        return data


class UTCDateTimeField(serializers.DateTimeField):
    """A time in UTC, whatever `TIME_ZONE` is."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(default_timezone=UTC, **kwargs)

    def to_representation(self, value: datetime) -> str:
        """As Django REST framework writes it, but without looking up a format and a zone for each of a page's times.
        `isoformat` takes three times as long."""
        return orjson.dumps(value.astimezone(UTC), option=orjson.OPT_UTC_Z)[1:-1].decode()


class Past(serializers.Field):
    """A moment that is not in the future: a time, or the end of a day, which for today is now."""

    default_error_messages = {
        "invalid": "Write a date (2026-01-31) or a time (2026-01-31T09:30:00Z).",
        "future": "This is in the future.",
    }

    def to_internal_value(self, data: str) -> datetime:
        try:
            first, last = days.parse_span(data)
        except ValueError:
            self.fail("invalid")
        now = timezone.now()
        if first > now:
            self.fail("future")
        return min(last, now)


class Day(serializers.Field):
    """A day, such as 2026-01-31."""

    swagger: ClassVar[dict[str, str]] = {"format": "date"}

    default_error_messages = {"invalid": "Write a date (2026-01-31)."}
    parse = staticmethod(days.parse_day)

    def to_internal_value(self, data: str) -> date:
        try:
            return self.parse(data)
        except ValueError:
            self.fail("invalid")

    def to_representation(self, value: date) -> str:
        return value.isoformat()


class Month(Day):
    """A month, such as 2026-01."""

    swagger: ClassVar[dict[str, str]] = {}

    default_error_messages = {"invalid": "Write a month (2026-01)."}
    parse = staticmethod(days.parse_month)


def _exact(literal: str) -> Decimal | float:
    """An exponent stays a float, which no amount accepts."""
    return float(literal) if "e" in literal.lower() else Decimal(literal)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        raise ValueError("a key occurs twice")
    return result


STRICT = json.JSONDecoder(parse_float=_exact, parse_constant=_refuse_constant, object_pairs_hook=_without_duplicates)


def _first_line(error: ValueError) -> str:
    if isinstance(error, UnicodeError):
        return "it is not UTF-8"
    return str(error).splitlines()[0]
