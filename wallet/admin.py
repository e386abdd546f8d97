"""Wallets in the console: to find and look at. What changes one is a page of its own, and an operation of money."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import action, display

from lokanetra.actions import ActionForm, acting, answer, existing
from lokanetra.admin import MomentRangeFilter, ReadOnlyAdmin
from lokanetra.plurals import verb
from transactions.models import Transaction
from wallet import payments, status
from wallet.filters import AmountRangeFilter
from wallet.forms import AdjustmentForm
from wallet.models import LedgerCheck, Wallet
from wallet.money import show
from wallet.permissions import MayAdjust, MayChange

Service = Callable[..., Any]

# Transactions on the page of a wallet.
NEWEST = 10
LINK = '<a href="{}" class="text-primary-600 dark:text-primary-500">{}</a>'


@admin.register(Wallet)
class WalletAdmin(ReadOnlyAdmin):
    list_display = ("user", "shown_phone", "balance", "shown_status", "created_at", "transactions")
    fields = ("user", "shown_phone", "balance", "shown_status", "created_at")
    list_filter = ("status", ("balance", AmountRangeFilter), ("created_at", MomentRangeFilter))
    list_filter_submit = True
    list_select_related = ("user",)
    search_fields = ("user__username", "user__phone_number")
    search_help_text = "How a username or phone number begins, or the last digits of a phone."
    ordering = ("-id",)
    change_form_after_template = "admin/newest.html"
    actions_detail = ("credit", "debit", "freeze", "unfreeze")

    @display(description="phone")
    def shown_phone(self, wallet: Wallet) -> str | None:
        return wallet.user.phone

    @display(description="status", ordering="status", label={"ACTIVE": "success", "FROZEN": "danger"})
    def shown_status(self, wallet: Wallet) -> str:
        return wallet.status

    @display(description="transactions")
    def transactions(self, wallet: Wallet) -> str:
        return format_html(LINK, history_of(wallet), "show")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        wallet = self.get_object(request, object_id)
        may_see = wallet and request.user.has_perm("transactions.view_transaction")
        newest = {"newest": _table(wallet), "every": history_of(wallet)} if may_see else {}
        return super().change_view(request, object_id, form_url, (extra_context or {}) | newest)

    @action(description="Credit", icon="add", permissions=["adjust"])
    def credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._adjust(request, object_id, "Credit", payments.credit)

    @action(description="Debit", icon="remove", permissions=["adjust"])
    def debit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._adjust(request, object_id, "Debit", payments.debit)

    @action(description="Freeze", icon="lock", permissions=["freeze"])
    def freeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._set_status(request, object_id, "Freeze", status.freeze)

    @action(description="Unfreeze", icon="lock_open", permissions=["freeze"])
    def unfreeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._set_status(request, object_id, "Unfreeze", status.unfreeze)

    def has_adjust_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(MayAdjust.right)

    def has_freeze_permission(self, request: HttpRequest, object_id: Any = None) -> bool:
        return request.user.has_perm(MayChange.right)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list:
        wallet = self.get_object(request, object_id)
        idle = "unfreeze" if wallet and not wallet.is_frozen else "freeze"
        return [deed for deed in super().get_actions_detail(request, object_id) if deed.path != idle]

    def _adjust(self, request: HttpRequest, object_id: str, title: str, service: Service) -> HttpResponse:
        def do(reason: str, **payment: Any) -> str:
            receipt = service(user_id=acting(request).pk, wallet_id=int(object_id), remarks=reason, **payment)
            return f"Transaction {receipt.transaction.pk}: the wallet holds {show(receipt.balance)}."

        return self._answer(request, object_id, title, AdjustmentForm, do)

    def _set_status(
        self, request: HttpRequest, object_id: str, title: str, service: Callable[..., Any]
    ) -> HttpResponse:
        def do(reason: str, key: str) -> str:
            wallet = service(user_id=acting(request).pk, wallet_id=int(object_id), reason=reason)
            return f"The wallet is {wallet.status.lower()}."

        return self._answer(request, object_id, title, ActionForm, do)

    def _answer(
        self, request: HttpRequest, object_id: str, title: str, form: type[ActionForm], do: Any
    ) -> HttpResponse:
        wallet = existing(self, request, object_id)
        facts = {"Wallet": wallet.user, "Phone": wallet.user.phone or "none", "Balance": show(wallet.balance)}
        facts["Status"] = wallet.status
        back = reverse("admin:wallet_wallet_change", args=[wallet.pk])
        return answer(request, self, wallet, title=title, facts=facts, form_class=form, do=do, back=back)


def history_of(wallet: Wallet) -> str:
    """The list of the wallet's transactions."""
    return f"{reverse('admin:transactions_transaction_changelist')}?wallet={wallet.pk}"


def _table(wallet: Wallet) -> dict[str, Any]:
    rows = Transaction.objects.newest_of(wallet, NEWEST)
    return {"headers": ["id", "time (UTC)", "other side", "amount", "balance"], "rows": [_cells(row) for row in rows]}


def _cells(row: Any) -> list[Any]:
    out = row.direction == "OUT"
    page = reverse("admin:transactions_transaction_change", args=[row.pk])
    amount = f"{'−' if out else '+'}{show(row.amount)}"  # noqa: RUF001
    return [
        format_html(LINK, page, row.pk),
        f"{row.timestamp:%d %b %Y %H:%M}",
        row.counterparty or "outside",
        amount,
        show(row.balance),
    ]


@admin.register(LedgerCheck)
class LedgerCheckAdmin(ReadOnlyAdmin):
    list_display = ("ended_at", "wallets", "verdict")
    fields = ("ended_at", "wallets", "complaints")
    ordering = ("-id",)

    @display(description="result", label={"agree": "success"})
    def verdict(self, check: LedgerCheck) -> str:
        disagree = verb(check.complaints, "disagrees", "disagree")
        return f"{check.complaints:,} {disagree}" if check.complaints else "agree"
