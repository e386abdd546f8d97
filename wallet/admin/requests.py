"""Requests for money in the console: read-only."""

from django.contrib import admin
from unfold.decorators import display

from lokanetra.admin import link
from wallet.console import ExpiringAdmin, money, owner_link
from wallet.models import PaymentRequest


@admin.register(PaymentRequest)
class PaymentRequestAdmin(ExpiringAdmin):
    list_display = ("id", "asked_by", "paid_by", "shown_amount", "shown_status", "created", "expires")
    fields = (
        "asked_by",
        "paid_by",
        "shown_amount",
        "shown_status",
        "remarks",
        "created",
        "expires",
        "ended",
        "paid_with",
    )
    search_fields = ("requester__user__username", "payer__user__username")

    shown_amount = money("amount")

    @display(description="requester")
    def asked_by(self, payment_request: PaymentRequest) -> str:
        return owner_link(payment_request.requester)

    @display(
        description="status",
        label={
            "PENDING": "info",
            "PAID": "success",
            "DECLINED": "warning",
            "CANCELLED": "warning",
            "EXPIRED": "danger",
        },
    )
    def shown_status(self, payment_request: PaymentRequest) -> str:
        return payment_request.state

    @display(description="paid with transaction")
    def paid_with(self, payment_request: PaymentRequest) -> str | None:
        return (
            link(payment_request.transaction, payment_request.transaction_id) if payment_request.transaction else None
        )
