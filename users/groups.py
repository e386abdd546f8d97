"""Groups to begin with. From then on they are the superusers': none is changed, or made again when it was deleted."""

from typing import Any

from django.contrib.auth.models import Group, Permission
from django.db.transaction import atomic

VIEW = [
    "users.view_userprofile",
    "users.view_login",
    "users.view_otp",
    "wallet.view_wallet",
    "wallet.view_hold",
    "wallet.view_paymentrequest",
    "wallet.view_tier",
    "wallet.view_ledgercheck",
    "transactions.view_transaction",
    "transactions.view_dayvolume",
    "transactions.view_event",
    "admin.view_logentry",
]
GROUPS = {
    "Support": VIEW,
    "Operations": [*VIEW, "wallet.change_wallet", "users.change_userprofile"],
    "Finance": [*VIEW, "wallet.adjust_wallet", "transactions.export_transaction"],
}


def create(using: str = "default", **kwargs: Any) -> None:
    """Make the groups, where there are none. Called after each migration, when there are permissions to give."""
    if Group.objects.using(using).exists():
        return
    with atomic(using):
        for name, rights in GROUPS.items():
            Group.objects.using(using).create(name=name).permissions.set(_permissions(rights, using))


def _permissions(rights: list[str], using: str) -> list[Permission]:
    found = Permission.objects.using(using).select_related("content_type")
    wanted = set(rights)
    return [one for one in found if f"{one.content_type.app_label}.{one.codename}" in wanted]
