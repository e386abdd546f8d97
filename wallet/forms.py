"""The forms of staff's actions on wallets, and widgets for the limits of a tier."""

import re
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminTextInputWidget

from lokanetra.actions import ActionForm
from wallet.models import Tier
from wallet.money import AmountFormField, check_positive


class AmountWidget(UnfoldAdminTextInputWidget):
    """A text input, because browsers' number inputs accept exponents."""

    def __init__(self, attrs: dict[str, Any] | None = None) -> None:
        super().__init__(attrs={"inputmode": "decimal", "autocomplete": "off", **(attrs or {})})


class CountFormField(forms.IntegerField):
    """A number of payments: digits alone."""

    def to_python(self, value: Any) -> Any:
        if value and not re.fullmatch("[0-9]{1,9}", str(value)):
            raise ValidationError("Write a number such as 20: digits, and at most nine.")
        return super().to_python(value)


class AdjustmentForm(ActionForm):
    amount = AmountFormField(label="Amount (rupees)", validators=[check_positive], widget=AmountWidget)
    field_order = ("amount", "reason", "key")


class PartForm(ActionForm):
    """An optional amount: by default all that is left."""

    amount = AmountFormField(
        label="Amount (rupees)",
        validators=[check_positive],
        widget=AmountWidget({"placeholder": "all that is left"}),
        required=False,
    )


class ReversalForm(PartForm):
    field_order = ("amount", "reason", "key")


class CaptureForm(PartForm):
    FREE, HELD = "free", "held"
    rest = forms.ChoiceField(
        label="What remains then",
        choices=[(FREE, "is free again"), (HELD, "stays held")],
        widget=UnfoldAdminSelectWidget,
    )
    field_order = ("amount", "rest", "reason", "key")


class TierChoiceForm(ActionForm):
    tier = forms.ModelChoiceField(
        Tier.objects.all(),
        required=False,
        empty_label="none: the limits of this server",
        widget=UnfoldAdminSelectWidget,
    )
    field_order = ("tier", "reason", "key")
