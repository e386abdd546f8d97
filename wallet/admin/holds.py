"""Holds in the console, with actions to capture and to void."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from unfold.decorators import action, display

from lokanetra.actions import ActionForm, action_page, current_account, visible_or_404
from lokanetra.admin import TIME, link, short_time
from transactions.models import Transaction
from wallet import holds
from wallet.console import ExpiringAdmin, money, owner, owner_link
from wallet.forms import CaptureForm
from wallet.models import Hold
from wallet.money import rupees

# Captures on the page of a hold.
NEWEST = 50


@admin.register(Hold)
class HoldAdmin(ExpiringAdmin):
    list_display = (
        "id",
        "paid_by",
        "paid_to",
        "shown_amount",
        "shown_remaining",
        "shown_status",
        "created",
        "expires",
    )
    fields = (
        "paid_by",
        "paid_to",
        "shown_amount",
        "shown_captured",
        "shown_remaining",
        "shown_status",
        "remarks",
        "created",
        "expires",
        "ended",
    )
    search_fields = ("payer__user__username", "payee__user__username")
    actions_detail = ("capture", "void")

    @display(description="payee")
    def paid_to(self, hold: Hold) -> str:
        return owner_link(hold.payee)

    shown_amount = money("amount")
    shown_captured = money("captured")
    shown_remaining = money("remaining")

    @display(
        description="status",
        label={"OPEN": "info", "CAPTURED": "success", "VOIDED": "warning", "EXPIRED": "danger"},
    )
    def shown_status(self, hold: Hold) -> str:
        return hold.state

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        hold = self.get_object(request, object_id)
        may_see = hold and request.user.has_perm("transactions.view_transaction")
        tables = [_captures(hold)] if may_see else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "tables": tables})

    @action(description="Capture", icon="done_all", permissions=["adjust"])
    def capture(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(rest: str, **capture: Any) -> str:
            is_final, by = rest == CaptureForm.FREE, current_account(request).pk
            receipt = holds.capture(user_id=by, hold_id=int(object_id), as_staff=True, final=is_final, **capture)
            return f"Transaction {receipt.transaction.pk}: {rupees(receipt.transaction.amount)} is captured."

        return self._answer(request, object_id, "Capture", CaptureForm, do)

    @action(description="Void", icon="cancel", permissions=["adjust"])
    def void(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(**void: Any) -> str:
            hold = holds.void(user_id=current_account(request).pk, hold_id=int(object_id), as_staff=True, **void)
            return f"Hold {hold.pk} is voided."

        return self._answer(request, object_id, "Void", ActionForm, do)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list:
        hold = self.get_object(request, object_id)
        is_open = hold and hold.state == Hold.Status.OPEN
        return super().get_actions_detail(request, object_id) if is_open else []

    def _answer(
        self, request: HttpRequest, object_id: str, title: str, form: type[ActionForm], do: Any
    ) -> HttpResponse:
        hold = visible_or_404(self, request, object_id)
        facts = {"Hold": hold, "From": owner(hold.payer), "To": owner(hold.payee), "Status": hold.state}
        facts |= {"Set aside": rupees(hold.amount), "Remaining": rupees(hold.remaining)}
        back = reverse("admin:wallet_hold_change", args=[hold.pk])
        return action_page(request, self, hold, title=title, facts=facts, form_class=form, do=do, back=back)


def _captures(hold: Hold) -> dict[str, Any]:
    rows = Transaction.objects.filter(hold=hold).select_related("initiated_by").order_by("-pk")[:NEWEST]
    cells = [[link(row, row.pk), short_time(row.timestamp), row.initiated_by, rupees(row.amount)] for row in rows]
    return {"title": "Captures", "headers": ["id", TIME, "by", "amount"], "rows": cells}
