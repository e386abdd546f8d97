"""API keys of service accounts: machines that make staff calls. Only a hash of each key is kept."""

import hashlib
import hmac
import logging
import secrets
from datetime import timedelta
from ipaddress import ip_network
from typing import Any

from django.contrib.admin.models import ADDITION
from django.contrib.auth.models import Permission
from django.core.exceptions import PermissionDenied, ValidationError
from django.db.models import QuerySet
from django.db.transaction import atomic
from django.utils import timezone
from rest_framework.request import Request
from rest_framework_simplejwt.tokens import Token

from lokanetra.addresses import address_of
from lokanetra.prepared import Placeholder, Prepared
from users import audit
from users.exceptions import TokenNotValid
from users.models import ApiKey, UserProfile
from users.tokens import LoginAuthentication

logger = logging.getLogger(__name__)

MARK = "lk_"
# Ours have about 60 characters.
MAX_KEY_LENGTH = 128
# How exact `last_used_at` is: a busy key is not updated with each request.
LAST_USED_PRECISION = timedelta(minutes=1)
MIN_DAYS, MAX_DAYS = 1, 3650

ACTIVE_KEY = Prepared(
    lambda: ApiKey.objects.select_related("account").filter(
        prefix=Placeholder("prefix"),
        revoked_at=None,
        account__is_active=True,
        account__is_service=True,
        account__is_staff=True,
        account__is_superuser=False,
    )
)


class BearerAuthentication(LoginAuthentication):
    """Access tokens of people, and keys of machines: `Bearer lk_<prefix>_<secret>`, for staff calls alone.

    An invalid key is refused like an invalid token, whatever the reason: wrong, expired, revoked, from another network,
    of an account that is deactivated or a superuser, or sent to a call that is not for staff.
    """

    def accept(self, text: str, request: Request) -> tuple[UserProfile, Token | None]:
        if text.startswith(MARK):
            return account_of(text, request), None
        return super().accept(text, request)


def account_of(text: str, request: Request) -> UserProfile:
    """The service account that the key authenticates. Raises TokenNotValid."""
    key = _find(text)
    if (
        key is None
        or key.expires_at <= timezone.now()
        or not _is_for_staff(request)
        or not _is_from_allowed_network(key, request)
    ):
        raise TokenNotValid
    _update_last_used(key)
    key.account.by_key = True
    return key.account


def _find(text: str) -> ApiKey | None:
    parts = text.split("_", 2)
    if len(text) > MAX_KEY_LENGTH or len(parts) != 3 or not text.isascii() or "\0" in text:
        return None
    found = ACTIVE_KEY(prefix=parts[1])
    return found[0] if found and hmac.compare_digest(found[0].hash, _hash(parts[2])) else None


def _hash(secret: str) -> str:
    """Fast, because 256 random bits cannot be guessed from any hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_for_staff(request: Request) -> bool:
    contract = getattr(request.parser_context["view"], "contract", None)
    return getattr(contract, "is_for_staff", False)


def _is_from_allowed_network(key: ApiKey, request: Request) -> bool:
    if not key.networks:
        return True
    address = address_of(request)
    return address is not None and any(address in ip_network(network) for network in key.networks.split(","))


def _update_last_used(key: ApiKey) -> None:
    now = timezone.now()
    if key.last_used_at is None or now - key.last_used_at >= LAST_USED_PRECISION:
        ApiKey.objects.filter(pk=key.pk).update(last_used_at=now)


# --- Create and revoke ------------------------------------------------------------------------------


def service_account(username: str) -> UserProfile:
    """The service account of this name, created if there is none. Raises ValidationError when a person has the name."""
    found = UserProfile.objects.filter(username=username).first()
    if found is None:
        found = UserProfile(username=username, is_staff=True, is_service=True)
        found.set_unusable_password()
        found.full_clean(exclude=["password"])
        found.save()
    if not found.is_service or found.is_superuser:
        raise ValidationError(f"{username} is not a service account.")
    return found


def grant(account: UserProfile, *permissions: str) -> None:
    """Give the account rights such as `wallet.adjust_wallet`. Raises ValidationError, and gives none, if one is
    unknown."""
    known = {f"{app}.{name}": pk for app, name, pk in _permissions()}
    if unknown := [name for name in permissions if name not in known]:
        raise ValidationError([_unknown_message(name, list(known)) for name in unknown])
    account.user_permissions.add(*(known[name] for name in permissions))


def _permissions() -> Any:
    return Permission.objects.values_list("content_type__app_label", "codename", "pk")


def _unknown_message(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    similar = get_close_matches(name, known, n=3, cutoff=0.4)
    return f"There is no permission {name}." + (f" Similar: {', '.join(similar)}." if similar else "")


@atomic
def create(
    account: UserProfile, *, name: str, days: int = 365, networks: str = "", by: UserProfile | None = None
) -> tuple[ApiKey, str]:
    """Create a key; returns it with its text, which is not stored. `by` is a superuser, None on the command line.

    Raises ValidationError, by field, and PermissionDenied.
    """
    if by and not by.is_superuser:
        raise PermissionDenied
    if not account.is_service or account.is_superuser:
        raise ValidationError({"account": "Only service accounts have keys."})
    if not MIN_DAYS <= days <= MAX_DAYS:
        raise ValidationError({"days": f"A key is valid for {MIN_DAYS} to {MAX_DAYS} days."})
    prefix, secret, now = secrets.token_hex(6), secrets.token_urlsafe(32), timezone.now()
    key = ApiKey(
        account=account,
        name=name,
        prefix=prefix,
        hash=_hash(secret),
        created_at=now,
        created_by=by,
        expires_at=now + timedelta(days=days),
        networks=parse_networks(networks),
    )
    key.full_clean()
    key.save(force_insert=True)
    after = {"name": name, "prefix": prefix, "account": account.username, "networks": key.networks}
    audit.record(user_id=(by or account).pk, on=key, what="key", flag=ADDITION, before=None, after=after)
    return key, f"{MARK}{prefix}_{secret}"


def parse_networks(text: str) -> str:
    """Networks such as `10.0.0.0/8, 192.0.2.7`, as they are stored. Raises ValidationError."""
    try:
        return ",".join(str(ip_network(network.strip())) for network in text.split(",") if network.strip())
    except ValueError as error:
        raise ValidationError({"networks": f"{error}."}) from None


@atomic
def revoke(keys: QuerySet[ApiKey], *, by: UserProfile, reason: str = "") -> int:
    """End these keys at once; returns how many were active. Raises PermissionDenied."""
    if not by.is_superuser:
        raise PermissionDenied
    active = list(keys.select_for_update(of=("self",)).filter(revoked_at=None))
    for key in active:
        ApiKey.objects.filter(pk=key.pk).update(revoked_at=timezone.now())
        audit.record(
            user_id=by.pk, on=key, what="key", before={"revoked": False}, after={"revoked": True}, reason=reason
        )
    return len(active)
