"""Filters that refuse values which they cannot read, where the stock ones would ignore them."""

from datetime import datetime
from typing import Any

import django_filters
from django import forms
from django.core.exceptions import ValidationError
from django.db.models import QuerySet
from django_filters.fields import BaseCSVField

from lokanetra import days


class ChoiceField(forms.ChoiceField):
    def to_python(self, value: Any) -> str:
        text = super().to_python(value)
        if not text.isascii():  # some letters of other scripts have an ASCII letter as upper case
            return text
        known: Any = self.choices
        return next((choice for choice, _ in known if choice.upper() == text.upper()), text)


class Choice(django_filters.Filter):
    """One of these choices, in any case."""

    field_class = ChoiceField


class Flag(Choice):
    """`true` or `false`, in any case."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=[("true", "true"), ("false", "false")], **kwargs)

    def filter(self, rows: QuerySet, value: str) -> QuerySet:
        return rows.filter(**{self.field_name: value == "true"}) if value else rows


class IdField(forms.RegexField):
    default_error_messages = {"invalid": "Write an id, a whole number."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(r"\A[0-9]{1,18}\Z", **kwargs)


class Id(django_filters.Filter):
    """The id of an object."""

    field_class = IdField


class Search(django_filters.CharFilter):
    """A text, no longer than the longest stored one: a hundred thousand words would overload the database."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(max_length=255, **kwargs)


class OrderingField(BaseCSVField):
    def clean(self, value: Any) -> Any:
        if value and not all(value):
            raise ValidationError("A field's name is missing.")
        return super().clean(value)


class Ordering(django_filters.OrderingFilter):
    """By one of these fields, `-` for descending; equal rows are in the order of their ids."""

    base_field_class = OrderingField

    def filter(self, rows: QuerySet, value: Any) -> QuerySet:
        if not value:
            return rows
        sign = "-" if value[-1].startswith("-") else ""
        return rows.order_by(*(self.get_ordering_value(name) for name in value), f"{sign}pk")


class Moment(forms.Field):
    """A date or a time, as its first and last instant."""

    def to_python(self, value: str | None) -> tuple[datetime, datetime] | None:
        if not value:
            return None
        try:
            return days.parse_span(value)
        except ValueError:
            raise ValidationError("Write a date (2026-01-31) or a time (2026-01-31T09:30:00Z).") from None


class Since(django_filters.Filter):
    """From a date or time on."""

    field_class = Moment

    def filter(self, rows: QuerySet, value: tuple[datetime, datetime] | None) -> QuerySet:
        return rows.filter(**{f"{self.field_name}__gte": value[0]}) if value else rows


class Until(django_filters.Filter):
    """Up to and including a date or time."""

    field_class = Moment

    def filter(self, rows: QuerySet, value: tuple[datetime, datetime] | None) -> QuerySet:
        return rows.filter(**{f"{self.field_name}__lte": value[1]}) if value else rows
