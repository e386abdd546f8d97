"""Pages: by keyset for long histories, by number (with a capped count) for staff lists, and by the last id that was
seen for readers who follow a feed."""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from heapq import merge
from itertools import islice
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import NotFound, ValidationError
from rest_framework.request import Request
from rest_framework.utils.urls import remove_query_param, replace_query_param

from lokanetra.parsers import JSONResponse

DEFAULT_SIZE = 20
MAX_SIZE = 100
# Counting ten million rows takes half a second, and nobody opens page five hundred.
MAX_ROWS = 10_000
# Lists that had more rows than that within the last minute: counting again takes longer than reading the page.
too_long = LocMemCache("too long to count", {"TIMEOUT": 60})
ORDER_AND_PAGE = ("page", "page_size", "ordering")

CURSOR = re.compile(r"([<>])([0-9]{1,18})", re.ASCII)


class KeysetPages:
    """Newest-first pages by id, of one queryset or of disjoint ones merged. No page is slower than the first."""

    parameters = {
        "cursor": ("string", "Where the page begins: taken from `next` or `previous`."),
        "page_size": ("integer", f"Rows on a page, 1 to {MAX_SIZE}, {DEFAULT_SIZE} by default."),
    }

    def paginate_queryset(self, rows: Any, request: Request) -> list[Model]:
        """For a queryset, a list of them, or an object with `sides` and `newest`."""
        self.request = request
        size = page_size(request)
        direction, start = self._cursor()
        if hasattr(rows, "sides"):
            is_first = direction == "<" and start is None
            found = rows.newest(size + 1) if is_first else self._merged(rows.sides(), size + 1, direction, start)
        else:
            found = self._merged(rows if isinstance(rows, list) else [rows], size + 1, direction, start)
        more, self.page = len(found) > size, found[:size]
        if direction == ">":
            self.page.reverse()
        self.has_next = more or direction == ">"
        self.has_previous = start is not None and (more or direction == "<")
        return self.page

    def get_paginated_response(self, data: list) -> JSONResponse:
        return JSONResponse({"next": self._next(), "previous": self._previous(), "results": data})

    @staticmethod
    def serializer(row: type[serializers.BaseSerializer]) -> dict[str, serializers.Field]:
        """The fields of a page, for the documentation."""
        return {
            "next": serializers.URLField(allow_null=True),
            "previous": serializers.URLField(allow_null=True),
            "results": row(many=True),
        }

    @staticmethod
    def _merged(sides: list[QuerySet], limit: int, direction: str, start: int | None) -> list[Model]:
        newest_first = direction == "<"
        if start is not None:
            sides = [side.filter(**{"pk__lt" if newest_first else "pk__gt": start}) for side in sides]
        ordered = [side.order_by("-pk" if newest_first else "pk")[:limit] for side in sides]
        return list(islice(merge(*ordered, key=lambda row: row.pk, reverse=newest_first), limit))

    def _cursor(self) -> tuple[str, int | None]:
        text = self.request.query_params.get("cursor")
        if not text:
            return "<", None
        try:
            found = CURSOR.fullmatch(urlsafe_b64decode(text).decode("ascii"))
        except ValueError:
            found = None
        if found is None or encode_cursor(*found.groups()) != text:  # base64 decoding ignores other characters
            raise ValidationError({"cursor": ["This is not one of our cursors."]})
        return found[1], int(found[2])

    def _next(self) -> str | None:
        return self._link("<", self.page[-1]) if self.page and self.has_next else None

    def _previous(self) -> str | None:
        return self._link(">", self.page[0]) if self.page and self.has_previous else None

    def _link(self, direction: str, row: Model) -> str:
        return replace_query_param(self.request.build_absolute_uri(), "cursor", encode_cursor(direction, row.pk))


class FeedPages:
    """Oldest-first pages by id, for a reader who continues after the last id seen."""

    default_size, max_size, last_id = 100, 1000, 10**18 - 1
    parameters = {
        "after": ("integer", "The last id that was seen; from the first on by default."),
        "page_size": ("integer", f"Rows on a page, 1 to {max_size}, {default_size} by default."),
    }

    def paginate_queryset(self, rows: QuerySet, request: Request) -> list[Model]:
        self.request = request
        size = whole_number(request, "page_size", self.default_size, self.max_size)
        after = whole_number(request, "after", 0, self.last_id, least=0)
        found = list(rows.filter(pk__gt=after).order_by("pk")[: size + 1])
        self.has_next, self.page = len(found) > size, found[:size]
        return self.page

    def get_paginated_response(self, data: list) -> JSONResponse:
        url = self.request.build_absolute_uri()
        following = replace_query_param(url, "after", self.page[-1].pk) if self.has_next else None
        return JSONResponse({"next": following, "results": data})

    @staticmethod
    def serializer(row: type[serializers.BaseSerializer]) -> dict[str, serializers.Field]:
        """The fields of a page, for the documentation."""
        return {"next": serializers.URLField(allow_null=True), "results": row(many=True)}


class NumberedPages:
    """Numbered pages over the first 10,000 rows; above that the count is capped and says so."""

    parameters = {
        "page": ("integer", f"Page number, from 1; page × page_size is at most {MAX_ROWS}."),
        "page_size": ("integer", f"Rows on a page, 1 to {MAX_SIZE}, {DEFAULT_SIZE} by default."),
    }

    def paginate_queryset(self, rows: QuerySet, request: Request) -> QuerySet:
        self.request = request
        size = page_size(request)
        self.number = whole_number(request, "page", 1, MAX_ROWS)
        end = self.number * size
        if end > MAX_ROWS:
            raise ValidationError({"page": [f"Pages end at row {MAX_ROWS}: narrow the filters instead."]})
        self._count(rows)
        if self.number > 1 and end - size >= self.count:
            raise NotFound("There is no such page.")
        self.is_last = end >= self.count or end + size > MAX_ROWS
        return rows[end - size : end]

    def get_paginated_response(self, data: list) -> JSONResponse:
        page = {"count": self.count, "next": self._link(1), "previous": self._link(-1), "results": data}
        return JSONResponse(page if self.count_is_exact else page | {"count_is_exact": False})

    @staticmethod
    def serializer(row: type[serializers.BaseSerializer]) -> dict[str, serializers.Field]:
        """The fields of a page, for the documentation."""
        exact = serializers.BooleanField(required=False, help_text="Only there, and false, when `count` is capped.")
        return {"count": serializers.IntegerField(), "count_is_exact": exact, **KeysetPages.serializer(row)}

    def _count(self, rows: QuerySet) -> None:
        name = self._name()
        found = MAX_ROWS + 1 if name in too_long else capped_count(rows, MAX_ROWS + 1)
        self.count, self.count_is_exact = min(found, MAX_ROWS), found <= MAX_ROWS
        if not self.count_is_exact:
            too_long.add(name, True)

    def _name(self) -> str:
        """Identifies the list, whatever its page and order."""
        filters = sorted(item for item in self.request.query_params.lists() if item[0] not in ORDER_AND_PAGE)
        return hashlib.sha256(f"{self.request.path} {filters}".encode()).hexdigest()

    def _link(self, step: int) -> str | None:
        number = self.number + step
        if number < 1 or (step > 0 and self.is_last):
            return None
        url = self.request.build_absolute_uri()
        return remove_query_param(url, "page") if number == 1 else replace_query_param(url, "page", number)


def capped_count(rows: QuerySet, most: int) -> int:
    """The number of rows, at most `most`."""
    # Without a condition the index of the primary key is enough, and that is in memory.
    found = rows.order_by() if rows.query.where else rows.order_by("-pk")
    return found.values("pk")[:most].count()


def encode_cursor(direction: str, start: object) -> str:
    """The cursor of the rows before (`<`) or after (`>`) an id."""
    return urlsafe_b64encode(f"{direction}{start}".encode()).decode()


def page_size(request: Request) -> int:
    return whole_number(request, "page_size", DEFAULT_SIZE, MAX_SIZE)


def whole_number(request: Request, name: str, default: int, most: int, *, least: int = 1) -> int:
    text = request.query_params.get(name, "") or str(default)
    if not re.fullmatch("[0-9]{1,18}", text, re.ASCII) or not least <= int(text) <= most:
        raise ValidationError({name: [f"This must be a whole number from {least} to {most}."]})
    return int(text)
