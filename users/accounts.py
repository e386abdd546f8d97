"""Accounts: create, find by phone, assign a phone, deactivate. API, admin and script all call these."""

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import count
from typing import Any

from django.contrib.admin.models import ADDITION
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError
from django.db.transaction import atomic
from django.dispatch import Signal
from django.shortcuts import get_object_or_404

from lokanetra.prepared import Placeholder, Prepared
from users import audit, phones, tokens
from users.exceptions import LastSuperuser
from users.models import UserProfile, UserQuerySet

logger = logging.getLogger(__name__)

# Sent, with the account as `user`, in the transaction that deactivates it.
deactivated = Signal()

# What one statement takes: SQLite allows few parameters in one.
BATCH = 500
# The first `token_version` of an account that staff created: codes sent to its number before do not log in to it.
MADE_BY_STAFF = 1
# Columns that give power over others.
RIGHTS = {"is_staff", "is_superuser"}
# Only such accounts grant and revoke rights.
ACTIVE_SUPERUSER = {"is_active": True, "is_staff": True, "is_superuser": True}

HOLDER = Prepared(lambda: UserProfile.objects.filter(phone_number=Placeholder("phone_number")))
LOCKED = Prepared(lambda: UserProfile.objects.select_for_update().filter(phone_number=Placeholder("phone_number")))


def create(*, phone_number: str, username: str = "", **fields: Any) -> UserProfile:
    """Create an account with an E.164 number; by default its username is made of the number as shown.

    Raises ValidationError, by field, when the phone or the username is taken.
    """
    if UserProfile.objects.filter(phone_number=phone_number).exists():
        raise ValidationError({"phone_number": "This phone number belongs to another account."})
    if username and UserProfile.objects.filter(username=username).exists():
        raise ValidationError({"username": "This username is taken."})
    user = UserProfile(phone_number=phone_number, username=username or _free_username(phone_number), **fields)
    user.set_unusable_password()
    try:
        user.save()
    except IntegrityError:
        raise ValidationError({"phone_number": "This phone number or username was taken just now."}) from None
    return user


@atomic
def create_by_staff(*, by: UserProfile, **fields: Any) -> UserProfile:
    """`create` for a superuser, with an entry in the log."""
    user = create(token_version=MADE_BY_STAFF, **fields)
    after = {"username": user.username, **fields}
    audit.record(user_id=by.pk, on=user, what="account", flag=ADDITION, before=None, after=after)
    return user


def lock_account_with_phone(phone_number: str) -> UserProfile | None:
    """The account that has an E.164 number, locked until the end of the transaction: ending its logins waits, and then
    ends a new one too."""
    return next(iter(LOCKED(phone_number=phone_number)), None)


def get_or_create_with_phone(phone_number: str) -> UserProfile:
    """The account of an E.164 number, locked, created at its first login. Parallel first logins get the same one."""
    for _ in range(3):  # another login may take the number, or the username, between the query and the insert
        if found := lock_account_with_phone(phone_number):
            return found
        try:
            with atomic():
                return create(phone_number=phone_number)
        except ValidationError:
            continue
    return UserProfile.objects.get(phone_number=phone_number)


def change(user: UserProfile, **fields: Any) -> UserProfile:
    """Set these fields of the account, and no others."""
    for name, value in fields.items():
        setattr(user, name, value)
    user.save(update_fields=list(fields))
    return user


def assign_phone(user: UserProfile, phone_number: str | None) -> None:
    """Give the account another E.164 number and end its logins. Raises ValidationError when it is taken."""
    try:
        with atomic():
            user.phone_number = phone_number
            user.save(update_fields=["phone_number"])
            tokens.end_all(user)
    except IntegrityError:
        raise ValidationError({"phone_number": "This phone number belongs to another account."}) from None


def assign_phones(wanted: Mapping[str, str], *, dry_run: bool = False) -> int:
    """Give each username its E.164 number and end the logins of accounts that change; returns how many. All or nothing.

    Numbers may be swapped. Raises ValidationError, by username, for all that are unknown or whose number is taken.
    """
    with atomic():
        users = _accounts_by(UserProfile.objects.select_for_update(), "username", wanted)
        _check_phones(wanted, users)
        changed = [user for name, user in users.items() if user.phone_number != wanted[name]]
        if not dry_run:
            _rewrite_phones(changed, wanted)
    if changed and not dry_run:
        logger.info("%s accounts were given a phone number", len(changed))
    return len(changed)


def _check_phones(wanted: Mapping[str, str], users: Mapping[str, UserProfile]) -> None:
    owners = _accounts_by(UserProfile.objects.all(), "phone_number", wanted.values())
    wrong = {}
    for name, phone in wanted.items():
        owner = owners.get(phone)
        if name not in users:
            wrong[name] = "There is no such user."
        elif users[name].is_service:
            wrong[name] = "A service account has no phone number."
        elif owner and owner.username not in wanted:
            wrong[name] = "This phone number belongs to another account."
    if wrong:
        raise ValidationError(wrong)


def _rewrite_phones(users: list[UserProfile], wanted: Mapping[str, str]) -> None:
    for batch in _in_batches(users):
        UserProfile.objects.filter(pk__in=[user.pk for user in batch]).update(phone_number=None)  # or a swap collides
        tokens.end_all(*batch)
    for user in users:
        user.phone_number = wanted[user.username]
    try:
        UserProfile.objects.bulk_update(users, ["phone_number"], batch_size=BATCH)
    except IntegrityError:
        raise ValidationError("One of these phone numbers was taken just now.") from None


def _accounts_by(rows: UserQuerySet, column: str, values: Iterable[str]) -> dict[str, UserProfile]:
    """The accounts with these values of the column, by value."""
    found = [row for batch in _in_batches(list(values)) for row in rows.filter(**{f"{column}__in": batch})]
    return {getattr(row, column): row for row in found}


def _in_batches(items: list[Any]) -> Iterator[list[Any]]:
    return (items[start : start + BATCH] for start in range(0, len(items), BATCH))


def set_active(user: UserProfile, active: bool) -> None:
    """Deactivate an account, effective at its next request, or reactivate it."""
    with atomic():
        was_active, user.is_active = user.is_active, active
        user.save(update_fields=["is_active"])
        if not active:
            tokens.end_all(user)
        if was_active and not active:
            deactivated.send(UserProfile, user=user)


@atomic
def administer(*, by: UserProfile, user_id: int, **changes: Any) -> UserProfile:
    """Change another account as staff: `phone_number` (E.164), `is_active`, rights, names. All of it or nothing.

    Only superusers change accounts with rights, and only they grant rights. Raises Http404, PermissionDenied,
    ValidationError when the phone is taken, and LastSuperuser.
    """
    revoked = [name for name in ACTIVE_SUPERUSER if not changes.get(name, True)]
    superusers = _lock_active_superusers() if revoked else []
    user = get_object_or_404(UserProfile.objects.select_for_update(), pk=user_id)
    if not by.is_superuser and (user.is_staff or user.is_superuser or RIGHTS & set(changes)):
        raise PermissionDenied
    if superusers == [user.pk]:
        raise LastSuperuser(revoked[0])
    _check_service(user, changes)
    before = {name: getattr(user, name) for name in changes}
    if "phone_number" in changes:
        assign_phone(user, changes["phone_number"])
    if "is_active" in changes:
        set_active(user, changes["is_active"])
    if changes:
        change(user, **changes)
        audit.record(user_id=by.pk, on=user, what="account", before=before, after=changes)
    return user


def _check_service(user: UserProfile, changes: Mapping[str, Any]) -> None:
    """A machine does not log in by phone, and none of its keys may have all rights."""
    wrong = [name for name in ("phone_number", "is_superuser") if user.is_service and changes.get(name)]
    if wrong:
        raise ValidationError(dict.fromkeys(wrong, "A service account has none."))


def _lock_active_superusers() -> list[int]:
    """Their ids, locked in one order: of two superusers who deactivate each other at once, one remains."""
    found = UserProfile.objects.select_for_update().filter(**ACTIVE_SUPERUSER)
    return list(found.order_by("pk").values_list("pk", flat=True))


def _free_username(phone_number: str) -> str:
    name = f"user_{phones.show(phone_number)}"
    taken = set(UserProfile.objects.filter(username__startswith=name).values_list("username", flat=True))
    return next(free for n in count(1) if (free := name if n == 1 else f"{name}_{n}") not in taken)
