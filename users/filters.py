"""Filters of staff's list of accounts, and phone numbers in filters and forms."""

from typing import Any

import django_filters
from django import forms

from lokanetra.filters import Flag, Ordering, Search
from users import phones
from users.models import UserProfile, UserQuerySet


class PhoneFormField(forms.CharField):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)

    def to_python(self, value: Any) -> str | None:
        text = super().to_python(value)
        return phones.parse(text) if text else text


class Phone(django_filters.Filter):
    """A phone number in any usual spelling."""

    field_class = PhoneFormField


class UserFilter(django_filters.FilterSet):
    search = Search(
        method="by_text", label="How a username, phone number or name begins, or the last digits of a phone."
    )
    is_active = Flag(field_name="is_active")
    is_staff = Flag(field_name="is_staff")
    ordering = Ordering(fields=["id", "username", "date_joined"])

    class Meta:
        model = UserProfile
        fields: list[str] = []

    def by_text(self, rows: UserQuerySet, name: str, value: Any) -> UserQuerySet:
        return rows.search(value)
