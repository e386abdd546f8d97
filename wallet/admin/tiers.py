"""Tiers in the console: superusers edit them, others see them."""

from decimal import Decimal
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.models import ADDITION, DELETION
from django.db import IntegrityError
from django.db.models import Count, OuterRef, PositiveIntegerField, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.forms import ModelForm
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from unfold.decorators import display

from lokanetra.actions import current_account
from lokanetra.admin import ConsoleAdmin, link_to
from lokanetra.plurals import how_many, verb
from users import audit
from wallet.console import money
from wallet.forms import AmountWidget, CountFormField
from wallet.limits import NAMES
from wallet.models import Tier, Wallet
from wallet.money import MoneyField, show

# The limits as columns: a number of payments, and formatted amounts.
SHOWN = [name if name == "daily_count" else f"shown_{name}" for name in NAMES]


@admin.register(Tier)
class TierAdmin(ConsoleAdmin):
    formfield_overrides = {
        MoneyField: {"widget": AmountWidget},
        PositiveIntegerField: {"form_class": CountFormField, "widget": AmountWidget({"inputmode": "numeric"})},
    }
    list_display = ("name", *SHOWN, "wallets")
    fieldsets = ((None, {"fields": ("name", *NAMES, "wallets"), "description": "In rupees. Empty is no limit."}),)
    readonly_fields = ("wallets", *(name for name in SHOWN if name not in NAMES))
    sortable_by = ("name",)
    search_fields = ("name",)
    ordering = ("name",)
    shown_max_amount = money("max_amount")
    shown_max_balance = money("max_balance")
    shown_daily_out = money("daily_out")
    shown_monthly_out = money("monthly_out")
    shown_monthly_in = money("monthly_in")

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Editors see the form's fields, others formatted amounts."""
        if self.has_change_permission(request, obj):
            return super().get_fieldsets(request, obj)
        return [(None, {"fields": ("name", *SHOWN, "wallets"), "description": "Empty is no limit."})]

    def get_queryset(self, request: HttpRequest) -> QuerySet:
        having = Wallet.objects.filter(tier=OuterRef("pk")).order_by().values("tier").values(count=Count("pk"))
        return super().get_queryset(request).annotate(count=Coalesce(Subquery(having), 0))

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        return rows.filter(name__icontains=text)

    @display(description="wallets")
    def wallets(self, tier: Any) -> str:
        if not tier.pk:
            return "0"
        page = f"{reverse('admin:wallet_wallet_changelist')}?tier__id__exact={tier.pk}"
        return link_to(page, f"{tier.count:,}")

    def has_add_permission(self, request: HttpRequest) -> bool:
        return request.user.is_superuser

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.is_superuser

    has_delete_permission = has_change_permission

    def changeform_view(
        self, request: HttpRequest, object_id: str | None = None, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        try:
            return super().changeform_view(request, object_id, form_url, extra_context)
        except IntegrityError:
            self.message_user(request, "This name was taken just now.", messages.ERROR)
            return HttpResponseRedirect(request.path)

    def delete_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        """Refused while wallets have the tier: they would lose their limits."""
        tier: Any = self.get_object(request, object_id)
        if tier and tier.count and self.has_delete_permission(request):
            return self._refused(request, tier, f"{how_many(tier.count, 'wallet')} {verb(tier.count, 'has', 'have')}")
        try:
            return super().delete_view(request, object_id, extra_context)
        except IntegrityError:
            return self._refused(request, tier, "a wallet has")

    def _refused(self, request: HttpRequest, tier: Tier, who: str) -> HttpResponse:
        text = f"The tier {tier} cannot be deleted while {who} it: give them another first."
        self.message_user(request, text, messages.ERROR)
        return HttpResponseRedirect(reverse("admin:wallet_tier_change", args=[tier.pk]))

    def construct_change_message(self, request: HttpRequest, form: ModelForm, formsets: Any, add: bool = False) -> Any:
        changed = ["name", *NAMES] if add else form.changed_data
        before = None if add else {name: _log_value(form.initial[name]) for name in changed}
        return {"before": before, "after": {name: _log_value(form.cleaned_data[name]) for name in changed}}

    def log_addition(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        audit.record(user_id=current_account(request).pk, on=obj, what="tier", flag=ADDITION, **message)

    def log_change(self, request: HttpRequest, obj: Any, message: Any) -> Any:
        if message["after"]:
            audit.record(user_id=current_account(request).pk, on=obj, what="tier", **message)

    def log_deletions(self, request: HttpRequest, queryset: Any) -> Any:
        for tier in queryset:
            before = {name: _log_value(getattr(tier, name)) for name in ("name", *NAMES)}
            audit.record(
                user_id=current_account(request).pk, on=tier, what="tier", flag=DELETION, before=before, after=None
            )


def _log_value(value: Any) -> Any:
    """A field as the log keeps it."""
    if value is None:
        return "no limit"
    return show(value) if isinstance(value, Decimal) else value
