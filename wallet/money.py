"""What an amount is: rupees as `Decimal` in Python, whole paise in the database, a string with two places in JSON."""

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from rest_framework import serializers

DECIMAL_PLACES = 2
# 18 digits of paise fit a 64-bit integer with room for sums.
MAX_DIGITS = 18
PAISA = Decimal("0.01")
RUPEES_END = Decimal(10 ** (MAX_DIGITS - DECIMAL_PLACES))
PAISE = 10**DECIMAL_PLACES

SPELLING = re.compile(r"(0|[1-9][0-9]{0,11})(\.[0-9]{1,2})?", re.ASCII)
# Where whole rupees have commas: before the last three digits, and before every two digits to the left of these.
THOUSANDS = re.compile(r"(?<=\d)(?=(\d\d)*\d{3}$)")
INVALID = 'Write an amount such as "150.50": digits, and at most two after the point.'
NOT_POSITIVE = "The amount must be more than zero."


def parse(text: str) -> Decimal:
    """Rupees from their one spelling: no sign, exponent, space or leading zero. Raises ValidationError."""
    if not SPELLING.fullmatch(text):
        raise ValidationError(INVALID, code="invalid")
    return Decimal(text).quantize(PAISA)


def check_positive(amount: Decimal) -> None:
    """Raises ValidationError for zero and less."""
    if amount <= 0:
        raise ValidationError(NOT_POSITIVE, code="not_positive")


def show(amount: Decimal) -> str:
    text = str(amount)  # has two places if the amount has: faster than formatting
    return text if text[-3:-2] == "." else f"{amount:.2f}"


def rupees(amount: Decimal) -> str:
    """In the Indian format: ₹ 1,23,456.78, in groups of two digits above the last three. Other currencies than rupees
    show their code."""
    sign = "₹" if settings.WALLET_CURRENCY == "INR" else settings.WALLET_CURRENCY
    whole, paise = show(abs(amount)).split(".")
    return f"{'−' if amount < 0 else ''}{sign} {THOUSANDS.sub(',', whole)}.{paise}"  # noqa: RUF001


def from_paise(paise: int | Decimal) -> Decimal:
    """Paise, as the database stores them, in rupees."""
    return paise * PAISA


def to_paise(amount: Decimal) -> int:
    """Rupees in paise, as the database stores them. Raises ValidationError for fractions of a paisa or out of range."""
    paise = int(amount * PAISE) if -RUPEES_END < amount < RUPEES_END else None
    if paise is None or from_paise(paise) != amount:
        raise ValidationError(f"{amount} is no amount in whole paise.", code="invalid")
    return paise


class MoneyField(models.DecimalField):
    """Rupees in Python, a BIGINT of paise in the database.

    A decimal column would be a float on SQLite, and could be NaN on PostgreSQL. Anything finer than a paisa, not
    finite or out of range raises ValidationError instead of being rounded. Arithmetic belongs to Python, on a
    locked row: in SQL the column counts paise, so `F("balance") + 1` would add one paisa.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs |= {"max_digits": MAX_DIGITS, "decimal_places": DECIMAL_PLACES}
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    def get_internal_type(self) -> str:
        return "BigIntegerField"

    def formfield(self, **kwargs: Any) -> Any:
        return models.Field.formfield(self, **{"form_class": AmountFormField, **kwargs})

    def db_check(self, connection: Any) -> str | None:
        """SQLite stores values of any type in any column; other databases check the type."""
        if connection.vendor != "sqlite":
            return super().db_check(connection)
        return f"typeof({connection.ops.quote_name(self.column)}) IN ('integer', 'null')"

    def from_db_value(self, value: int | Decimal | None, expression: Any, connection: Any) -> Decimal | None:
        return None if value is None else from_paise(value)

    def get_prep_value(self, value: Any) -> Any:
        value = models.Field.get_prep_value(self, value)
        return value if value is None or hasattr(value, "as_sql") else to_paise(self.to_python(value))

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return value if prepared else self.get_prep_value(value)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return self.get_db_prep_value(value, connection)


class AmountField(serializers.Field):
    """More than zero rupees: a string, or a JSON number read digit for digit. Shown with two places."""

    pattern = f"^{SPELLING.pattern}$"
    default_error_messages = {"invalid": INVALID, "not_positive": NOT_POSITIVE}
    to_representation = staticmethod(show)  # type: ignore[assignment]

    def to_internal_value(self, data: Any) -> Decimal:
        if isinstance(data, bool) or not isinstance(data, (str, int, Decimal)):
            self.fail("invalid")
        amount = parse(str(data))
        if amount <= 0:
            self.fail("not_positive")
        return amount


class AmountFormField(forms.CharField):
    """An amount in a query string or a form; zero is allowed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(strip=False, **kwargs)

    def to_python(self, value: Any) -> Any:
        text = super().to_python(value)
        return parse(text) if text else None

    def display_value(self, value: str) -> str:
        """What was filled in, formatted."""
        return rupees(parse(value))
