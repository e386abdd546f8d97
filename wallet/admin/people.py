"""One person on one page of the console: the account with its wallet, limits, holds, transactions and logins, and the
actions on them, as far as the user may see and do them."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.urls import reverse

from lokanetra.admin import TIME, change_page, link, short_time
from users.admin import UserProfileAdmin
from users.models import Login, UserProfile
from wallet import limits
from wallet.admin.wallets import FROM_PERSON
from wallet.console import NEWEST, tables
from wallet.limits import Limit, Quantity
from wallet.models import Tier, Wallet
from wallet.money import rupees

admin.site.unregister(UserProfile)


@admin.register(UserProfile)
class PersonAdmin(UserProfileAdmin):
    """The form of the account, below what `users` must not know about."""

    change_form_outer_before_template = "admin/person.html"

    def change_view(self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None) -> Any:
        person = self.get_object(request, object_id)
        context = self._context(request, person) if person and self.has_view_permission(request, person) else {}
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), **context})

    def _context(self, request: HttpRequest, person: UserProfile) -> dict[str, Any]:
        wallets: Any = self.admin_site.get_model_admin(Wallet)
        may_see = wallets.has_view_permission(request)
        wallet = Wallet.objects.for_staff().get(user=person)
        actions = wallets.get_actions_detail(request, wallet.pk) if may_see else []
        return {
            "cards": [_account(person), *(_money(wallet) if may_see else [])],
            "buttons": [_button(wallet, action) for action in actions] + self._field_buttons(request, person),
            "tables": list(_tables(request, wallet, may_see)),
        }

    def _field_buttons(self, request: HttpRequest, person: UserProfile) -> list[dict[str, str]]:
        """Links to the fields of the form that are changed most often."""
        if not self.has_change_permission(request, person):
            return []
        active = ("Deactivate", "person_off") if person.is_active else ("Activate", "person_check")
        fields = {"#id_phone_number": ("Change phone", "call"), "#id_is_active": active}
        return [{"title": title, "icon": icon, "href": href} for href, (title, icon) in fields.items()]


def _button(wallet: Wallet, action: Any) -> dict[str, str]:
    page = reverse(f"admin:{action.action_name}", args=[wallet.pk])
    return {"title": action.description, "icon": action.icon, "href": f"{page}?{FROM_PERSON}"}


# --- Cards ---------------------------------------------------------------------------------------------


def _account(person: UserProfile) -> dict[str, str]:
    states = [person.username, "active" if person.is_active else "deactivated"]
    states += [name for name, has in (("staff", person.is_staff), ("machine", person.is_service)) if has]
    title = person.get_full_name() or person.username
    return {"title": title, "value": person.phone or "no phone", "note": ", ".join(states)}


def _money(wallet: Wallet) -> Iterator[dict[str, str]]:
    state = f"{wallet.status.lower()}, {f'tier {wallet.tier}' if wallet.tier else 'no tier'}"
    yield {"title": "Balance", "value": rupees(wallet.balance), "note": state, "href": change_page(wallet)}
    yield {"title": "Available", "value": rupees(wallet.available), "note": f"{rupees(wallet.held_now)} held"}


# --- Tables --------------------------------------------------------------------------------------------


def _tables(request: HttpRequest, wallet: Wallet, may_see_wallet: bool) -> Iterator[dict[str, Any]]:
    may = request.user.has_perm
    if may_see_wallet:
        yield _limits(wallet)
    yield from tables(wallet, may)
    if may("users.view_login"):
        yield _logins(wallet.user)


def _limits(wallet: Wallet) -> dict[str, Any]:
    rows = [_limit(limit) for limit in limits.overview(wallet)["limits"]]
    return {"title": "Limits", "headers": ["limit", "at most", "used", "left", "resets"], "rows": rows}


def _limit(limit: Limit) -> list[Any]:
    field: Any = Tier._meta.get_field(limit.name)
    counts = limit.name != "max_amount"
    used = [_quantity(limit.used), _quantity(limit.remaining)] if counts else ["", ""]
    return [
        field.help_text.rstrip("."),
        _quantity(limit.limit),
        *used,
        short_time(limit.resets_at) if limit.resets_at else "",
    ]


def _quantity(quantity: Quantity) -> str:
    return f"{quantity:,}" if isinstance(quantity, int) else rupees(quantity)


def _logins(person: UserProfile) -> dict[str, Any]:
    rows = [
        [
            link(login, short_time(login.created_at)),
            *(short_time(at) if at else "" for at in (login.rotated_at, login.ended_at)),
        ]
        for login in Login.objects.filter(user=person).order_by("-pk")[:NEWEST]
    ]
    return {"title": "Last logins", "headers": [TIME, "last used", "ended"], "rows": rows}
