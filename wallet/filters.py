"""Filters of lists of wallets, holds and requests, and of amounts."""

from typing import Any

import django_filters
from unfold.contrib.filters.admin import RangeNumericFilter

from lokanetra.admin import StrictRange
from lokanetra.filters import Choice, Ordering, Search
from wallet.models import ExpiringQuerySet, Hold, PaymentRequest, Wallet, WalletQuerySet
from wallet.money import AmountFormField


class Amount(django_filters.Filter):
    """An amount as the API spells it."""

    field_class = AmountFormField


class AmountRangeFilter(StrictRange, RangeNumericFilter):
    """From one amount to another, both included, in a list of the console."""

    def read(self, text: str | None) -> Any:
        amount = AmountFormField(required=False).to_python(text)
        return None if amount is None else (amount, amount)


class WalletFilter(django_filters.FilterSet):
    search = Search(method="by_text", label="How a username or phone number begins, or the last digits of a phone.")
    status = Choice(field_name="status", choices=Wallet.Status.choices)
    min_balance = Amount(field_name="balance", lookup_expr="gte")
    max_balance = Amount(field_name="balance", lookup_expr="lte")
    ordering = Ordering(fields=["balance", "created_at"])

    class Meta:
        model = Wallet
        fields: list[str] = []

    def by_text(self, rows: WalletQuerySet, name: str, value: Any) -> WalletQuerySet:
        return rows.matching(value)


class StatusFilter(django_filters.FilterSet):
    """By the present status of holds and requests, which expire without a change of their rows."""

    def with_status(self, rows: ExpiringQuerySet, name: str, value: Any) -> ExpiringQuerySet:
        return rows.with_status(value)


class OneSideFilter(StatusFilter):
    """For querysets of one side, as `visible_to` returns them."""

    direction = Choice(field_name="direction", choices=[("IN", "IN"), ("OUT", "OUT")])


class BothSidesFilter(StatusFilter):
    search = Search(
        method="by_text", label="How a username or phone number of either side begins, or the last digits of a phone."
    )

    def by_text(self, rows: ExpiringQuerySet, name: str, value: Any) -> ExpiringQuerySet:
        return rows.matching(value)


class HoldFilter(OneSideFilter):
    status = Choice(method="with_status", choices=Hold.Status.choices)


class StaffHoldFilter(BothSidesFilter):
    status = Choice(method="with_status", choices=Hold.Status.choices)


class PaymentRequestFilter(OneSideFilter):
    status = Choice(method="with_status", choices=PaymentRequest.Status.choices)


class StaffPaymentRequestFilter(BothSidesFilter):
    status = Choice(method="with_status", choices=PaymentRequest.Status.choices)
