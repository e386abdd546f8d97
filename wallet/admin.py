"""Wallets in the console: to look at. Money moves through the services alone."""

from django.contrib import admin
from unfold.contrib.filters.admin import RangeNumericFilter
from unfold.decorators import display

from lokanetra.admin import ReadOnlyAdmin
from wallet.models import Wallet


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    list_display = ("user", "shown_phone", "balance", "shown_status", "created_at")
    fields = ("user", "shown_phone", "balance", "status", "created_at")
    list_filter = ("status", ("balance", RangeNumericFilter))
    list_filter_submit = True
    list_select_related = ("user",)
    search_fields = ("user__username", "user__phone_number")
    search_help_text = "How a username or phone number begins."
    ordering = ("-id",)

    @display(description="phone")
    def shown_phone(self, wallet: Wallet) -> str | None:
        return wallet.user.phone

    @display(description="status", ordering="status", label={"ACTIVE": "success", "FROZEN": "danger"})
    def shown_status(self, wallet: Wallet) -> str:
        return wallet.status
