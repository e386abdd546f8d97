"""The groups of a new installation. From then on superusers manage them: none is changed or recreated here."""

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
    """Create the groups, if there are none. Called after each migration, when the permissions exist."""
    if Group.objects.using(using).exists():
        return
    with atomic(using):
        for name, rights in GROUPS.items():
            Group.objects.using(using).create(name=name).permissions.set(_permissions(rights, using))


def _permissions(rights: list[str], using: str) -> list[Permission]:
    found = Permission.objects.using(using).select_related("content_type")
    wanted = set(rights)
    return [permission for permission in found if _full_name(permission) in wanted]


def _full_name(permission: Permission) -> str:
    return f"{permission.content_type.app_label}.{permission.codename}"
