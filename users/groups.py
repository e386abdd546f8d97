"""Groups to begin with. Superusers change them as they like: a group that is there is left alone."""

from typing import Any

from django.contrib.auth.models import Group, Permission

VIEW = [
    "users.view_userprofile",
    "users.view_login",
    "users.view_otp",
    "wallet.view_wallet",
    "wallet.view_ledgercheck",
    "transactions.view_transaction",
    "transactions.view_dayvolume",
    "admin.view_logentry",
]
GROUPS = {
    "Support": VIEW,
    "Operations": [*VIEW, "wallet.change_wallet", "users.change_userprofile"],
    "Finance": [*VIEW, "wallet.adjust_wallet", "transactions.export_transaction"],
}


def create(using: str = "default", **kwargs: Any) -> None:
    """Make the groups that are missing. Called after each migration, when there are permissions to give."""
    for name, rights in GROUPS.items():
        group, is_new = Group.objects.using(using).get_or_create(name=name)
        if is_new:
            group.permissions.set(_permissions(rights, using))


def _permissions(rights: list[str], using: str) -> list[Permission]:
    found = Permission.objects.using(using).select_related("content_type")
    wanted = set(rights)
    return [one for one in found if f"{one.content_type.app_label}.{one.codename}" in wanted]
