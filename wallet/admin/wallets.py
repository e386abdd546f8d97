"""Wallets in the console, with their holds, requests, limits and counts."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from unfold.decorators import action, display

from lokanetra import days
from lokanetra.actions import ActionForm, action_page, current_account, visible_or_404
from lokanetra.admin import MomentRangeFilter, change_page, link_to, short_time
from wallet import limits, payments, status
from wallet.console import MoneyAdmin, history_url, money, owner_link, tables
from wallet.filters import AmountRangeFilter
from wallet.forms import AdjustmentForm, TierChoiceForm
from wallet.models import Wallet
from wallet.money import rupees

Service = Callable[..., Any]

# The parameter that makes an action return to the page of the person.
FROM_PERSON = "from_person"


@admin.register(Wallet)
class WalletAdmin(MoneyAdmin):
    list_display = (
        "id",
        "whose",
        "shown_balance",
        "shown_held",
        "shown_available",
        "shown_status",
        "tier",
        "created",
        "transactions",
    )
    fieldsets = (
        (None, {"fields": ("user", "shown_phone", "shown_status", "tier", "created_at")}),
        ("Money", {"fields": ("shown_balance", "shown_held", "shown_available")}),
        (
            "Today and this month",
            {"fields": ("paid_today", "payments_today", "paid_this_month", "received")},
        ),
    )
    list_filter = ("status", "tier", ("balance", AmountRangeFilter), ("created_at", MomentRangeFilter))
    search_fields = ("user__username", "user__phone_number")
    search_help_text = "How a username or phone number begins, or the last digits of a phone."
    actions_detail = ("credit", "debit", "freeze", "unfreeze", "set_tier")

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        return Wallet.objects.for_staff()

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        """With what is counted today, and in this month."""
        wallet = super().get_object(request, object_id, from_field)
        if wallet:
            limits.roll(wallet, days.today())
        return wallet

    @display(description="user", ordering="user")
    def whose(self, wallet: Wallet) -> str:
        return owner_link(wallet)

    @display(description="phone")
    def shown_phone(self, wallet: Wallet) -> str | None:
        return wallet.user.phone

    @display(description="status", ordering="status", label={"ACTIVE": "success", "FROZEN": "danger"})
    def shown_status(self, wallet: Wallet) -> str:
        return wallet.status

    shown_balance = money("balance", ordering="balance")
    shown_held = money("held_now", "held")
    shown_available = money("available")
    paid_today = money("out_day", "paid today")
    paid_this_month = money("out_month", "paid this month")
    received = money("in_month", "received this month")

    @display(description="payments today")
    def payments_today(self, wallet: Wallet) -> int:
        return wallet.count_day

    @display(description="created", ordering="created_at")
    def created(self, wallet: Wallet) -> str:
        return short_time(wallet.created_at)

    @display(description="transactions")
    def transactions(self, wallet: Wallet) -> str:
        return link_to(history_url(wallet), "show")

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        wallet = self.get_object(request, object_id)
        found = list(tables(wallet, request.user.has_perm)) if wallet else []
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "tables": found})

    @action(description="Credit", icon="add", permissions=["adjust"])
    def credit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._adjust(request, object_id, "Credit", payments.credit)

    @action(description="Debit", icon="remove", permissions=["adjust"])
    def debit(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._adjust(request, object_id, "Debit", payments.debit)

    @action(description="Freeze", icon="lock", permissions=["manage"])
    def freeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._set_status(request, object_id, "Freeze", status.freeze)

    @action(description="Unfreeze", icon="lock_open", permissions=["manage"])
    def unfreeze(self, request: HttpRequest, object_id: str) -> HttpResponse:
        return self._set_status(request, object_id, "Unfreeze", status.unfreeze)

    @action(description="Set tier", icon="speed", permissions=["manage"])
    def set_tier(self, request: HttpRequest, object_id: str) -> HttpResponse:
        def do(tier: Any, reason: str, key: str) -> str:
            status.set_tier(user_id=current_account(request).pk, wallet_id=int(object_id), tier=tier, reason=reason)
            return f"The wallet has the tier {tier}." if tier else "The wallet has no tier."

        return self._answer(request, object_id, "Set tier", TierChoiceForm, do)

    def get_actions_detail(self, request: HttpRequest, object_id: Any) -> list:
        wallet = self.get_object(request, object_id)
        idle = "unfreeze" if wallet and not wallet.is_frozen else "freeze"
        return [found for found in super().get_actions_detail(request, object_id) if found.path != idle]

    def _adjust(self, request: HttpRequest, object_id: str, title: str, service: Service) -> HttpResponse:
        def do(reason: str, **payment: Any) -> str:
            receipt = service(user_id=current_account(request).pk, wallet_id=int(object_id), remarks=reason, **payment)
            return f"Transaction {receipt.transaction.pk}: the wallet holds {rupees(receipt.balance)}."

        return self._answer(request, object_id, title, AdjustmentForm, do)

    def _set_status(
        self, request: HttpRequest, object_id: str, title: str, service: Callable[..., Any]
    ) -> HttpResponse:
        def do(reason: str, key: str) -> str:
            wallet = service(user_id=current_account(request).pk, wallet_id=int(object_id), reason=reason)
            return f"The wallet is {wallet.status.lower()}."

        return self._answer(request, object_id, title, ActionForm, do)

    def _answer(
        self, request: HttpRequest, object_id: str, title: str, form: type[ActionForm], do: Any
    ) -> HttpResponse:
        wallet = visible_or_404(self, request, object_id)
        facts = {"Wallet": wallet.user, "Phone": wallet.user.phone or "none", "Balance": rupees(wallet.balance)}
        facts |= {"Held": rupees(wallet.held_now), "Status": wallet.status, "Tier": wallet.tier or "none"}
        back = change_page(wallet.user if FROM_PERSON in request.GET else wallet)
        now = {"tier": wallet.tier_id}
        return action_page(
            request, self, wallet, title=title, facts=facts, form_class=form, do=do, back=back, initial=now
        )
