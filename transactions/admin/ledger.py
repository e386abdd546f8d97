"""The ledger in the console: read-only, with search and export."""

from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect
from django.urls import reverse
from unfold.contrib.filters.admin import TextFilter
from unfold.decorators import action, display

from lokanetra.actions import action_page, current_account, visible_or_404
from lokanetra.admin import TIME, MomentRangeFilter, exact_time
from lokanetra.errors import Problem
from transactions.exports import LEDGER
from transactions.filters import of_matching_accounts, within_newest
from transactions.models import Transaction
from transactions.permissions import MayExport
from wallet import refunds
from wallet.console import MoneyAdmin, money, owner, owner_link
from wallet.filters import AmountRangeFilter
from wallet.forms import ReversalForm
from wallet.money import rupees

COLOURS = {"CREDIT": "success", "DEBIT": "warning", "TRANSFER": "info"}


class WalletFilter(TextFilter):
    """The rows of one wallet, by its number."""

    title = parameter_name = "wallet"

    def queryset(self, request: HttpRequest, rows: QuerySet) -> QuerySet:
        number = self.value()
        if not number:
            return rows
        if not (number.isascii() and number.isdecimal() and len(number) < 19):
            raise IncorrectLookupParameters
        return rows.filter(Q(sender=number) | Q(receiver=number))


@admin.register(Transaction)
class TransactionAdmin(MoneyAdmin):
    list_display = ("id", "type", "paid_by", "paid_to", "shown_amount", "remarks", "time")
    fields = (
        "transaction_type",
        "paid_by",
        "paid_to",
        "shown_amount",
        "paid_from",
        "paid_into",
        "remarks",
        "time",
        "initiated_by",
        "hold",
        "reverses",
        "shown_given_back",
    )
    list_filter = ("transaction_type", WalletFilter, ("amount", AmountRangeFilter), ("timestamp", MomentRangeFilter))
    sortable_by = ("id", "shown_amount", "time")  # the columns with an index
    search_fields = ("sender__user__username", "receiver__user__username")
    search_help_text = "How a username or phone number of either side begins, or the last digits of a phone."
    actions_detail = ("reverse",)
    actions_list = ("export",)

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        """Names are prefetched for one page only: a join keeps the database from using its indexes."""
        return super().get_queryset(request).prefetch_related("sender__user", "receiver__user")

    @display(description="type", label=COLOURS)
    def type(self, row: Transaction) -> str:
        return row.transaction_type

    @display(description=TIME, ordering="timestamp")
    def time(self, row: Transaction) -> str:
        return exact_time(row.timestamp)

    @display(description="sender")
    def paid_by(self, row: Transaction) -> str:
        return owner_link(row.sender)

    @display(description="receiver")
    def paid_to(self, row: Transaction) -> str:
        return owner_link(row.receiver)

    @action(description="Export CSV", icon="download", url_path="export", permissions=["export"])
    def export(self, request: HttpRequest) -> HttpResponseBase:
        """All rows of the list, with its filters, search and order."""
        try:
            return LEDGER.answer(request, self.get_changelist_instance(request).queryset.up_to_now().for_staff())
        except (IncorrectLookupParameters, Problem) as refusal:
            self.message_user(request, str(refusal) or "A filter cannot be read.", messages.ERROR)
            return redirect("admin:transactions_transaction_changelist")

    def has_export_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm(MayExport.right)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        page = super().changelist_view(request, extra_context)
        for button in getattr(page, "context_data", {}).get("actions_list", []):
            button["path"] += f"?{request.GET.urlencode()}"
        return page

    def search(self, rows: Any, text: str) -> QuerySet:
        return rows.filter(of_matching_accounts(text, within_newest(rows)))

    shown_amount = money("amount", ordering="amount")
    paid_from = money("sender_balance")
    paid_into = money("receiver_balance")
    shown_given_back = money("given_back")

    @action(description="Reverse", icon="undo", permissions=["adjust"])
    def reverse(self, request: HttpRequest, object_id: str) -> HttpResponse:
        row = visible_or_404(self, request, object_id)

        def do(reason: str, **part: Any) -> str:
            reversal = refunds.reverse(
                user_id=current_account(request).pk, transaction_id=row.pk, remarks=reason, **part
            ).transaction
            return f"{rupees(reversal.amount)} of transaction {row.pk} is given back by transaction {reversal.pk}."

        facts = {"Transaction": row, "From": owner(row.sender), "To": owner(row.receiver), "Moved": rupees(row.amount)}
        facts["Given back"] = rupees(row.given_back)
        back = reverse("admin:transactions_transaction_change", args=[row.pk])
        return action_page(request, self, row, title="Reverse", facts=facts, form_class=ReversalForm, do=do, back=back)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list:
        row = self.get_object(request, object_id)
        is_final = row is None or row.reverses_id or row.given_back == row.amount
        return [] if is_final else super().get_actions_detail(request, object_id)
