"""What `check_ledger` found, in the console."""

from django.contrib import admin
from unfold.decorators import display

from lokanetra.admin import ReadOnlyAdmin
from lokanetra.plurals import verb
from wallet.models import LedgerCheck


@admin.register(LedgerCheck)
class LedgerCheckAdmin(ReadOnlyAdmin):
    list_display = ("ended_at", "wallets", "verdict")
    fields = ("ended_at", "wallets", "complaints")
    ordering = ("-id",)

    @display(description="result", label={"agree": "success"})
    def verdict(self, check: LedgerCheck) -> str:
        disagree = verb(check.complaints, "disagrees", "disagree")
        return f"{check.complaints:,} {disagree}" if check.complaints else "agree"
