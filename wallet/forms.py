"""What staff fill in before they touch somebody's wallet."""

from unfold.widgets import UnfoldAdminTextInputWidget

from lokanetra.actions import ActionForm
from wallet.money import AmountFormField, positive


class AdjustmentForm(ActionForm):
    amount = AmountFormField(
        label="Amount (rupees)",
        validators=[positive],
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    field_order = ("amount", "reason", "key")
