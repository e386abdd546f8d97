"""One-time passwords: issue and verify. Every number of the policy is at the top, with its reason.

A code is bound to the account that had the number when it was requested, and is invalid once that changes: `_bindings`.
Counts are committed rows, changed by one statement before anything is compared: each parallel attempt counts.
"""

import hashlib
import hmac
import logging
import secrets
import sys
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.transaction import atomic
from django.utils import timezone

from lokanetra.prepared import Later, insert, rows_of
from users import accounts, limits, phones, sms, tokens
from users.exceptions import OTPInvalid, SMSUnavailable
from users.limits import Hit, Limit
from users.models import OTP, Login, UserProfile

logger = logging.getLogger(__name__)

# Six digits are what people can carry from one app to another in their head; the limits below make them enough.
DIGITS = 6
# Long enough for a slow carrier, short enough that a code seen over a shoulder is soon worthless.
LIFETIME = timedelta(minutes=5)
# Four typing mistakes are forgiven; a guesser gets five in a million.
MAX_ATTEMPTS = 5
# The wait between two codes doubles with each one sent in the window of SENDS_PER_CALLER, up to this.
MAX_COOLDOWN = timedelta(minutes=5)

# The binding of a code that was requested while no account had the number.
NOBODY = "nobody"

UNLIMITED = sys.maxsize
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# Nobody needs six codes in ten minutes, nor eleven in a day. Keyed by the address too, so that a stranger who asks
# for codes uses up his own sends and not those of the number's owner.
SENDS_PER_CALLER = Limit("otp_send_caller", 5, timedelta(minutes=10))
SENDS_PER_CALLER_AND_DAY = Limit("otp_send_caller_day", 10, DAY)
# From all addresses together: no phone gets more messages in a day.
SENDS_PER_PHONE = Limit("otp_send_phone", 20, DAY)
# Wrong codes for one phone from one address in an hour, and for all phones from one address in ten minutes.
FAILURES_PER_CALLER = Limit("otp_fail_caller", 20, HOUR)
FAILURES_PER_ADDRESS = Limit("otp_fail_address", 100, timedelta(minutes=10))
# No limits, but counts of the day: many codes sent and few verified are a sign of SMS pumping.
SENT, VERIFIED = Limit("otp_sent", UNLIMITED, DAY), Limit("otp_verified", UNLIMITED, DAY)

DELIVERED = "UPDATE users_otp SET sent_at = %s WHERE id = %s RETURNING id"
TRY = """
    UPDATE users_otp SET attempts = attempts + 1
    WHERE id = (SELECT id FROM users_otp WHERE phone_number = %s AND sent_at IS NOT NULL ORDER BY id DESC LIMIT 1)
    AND attempts < %s AND used_at IS NULL AND expires_at > %s RETURNING id, salt, code_hash
"""
# What a code is compared with where there is none: a missing one must not answer sooner than a wrong one.
NONE = (0, "0" * 32, "0" * 64)
USE = "UPDATE users_otp SET used_at = %s WHERE id = %s AND used_at IS NULL RETURNING id"


@dataclass(frozen=True)
class Sent:
    """`code` is None unless it is echoed. Times are in seconds."""

    phone: str
    code: str | None
    expires_in: int
    resend_after: int


def send(*, phone_number: str, address: str) -> Sent:
    """Send a new code to an E.164 number; once it is delivered, earlier codes are invalid.

    Raises ValidationError for a region that gets no codes, TooManyRequests, and SMSUnavailable, after which
    everything is as before.
    """
    _check_region(phone_number)
    caller = f"{phone_number} {address}"
    code = f"{secrets.randbelow(10**DIGITS):0{DIGITS}}"
    with atomic():  # one commit for all that must be stored before the gateway is called
        holder = accounts.HOLDER.later(phone_number=phone_number)
        hits = limits.consume(_send_limits(phone_number, address, caller))
        cooldown = _cooldown(caller)
        limits.start_cooldown(caller, cooldown, hits)
        otp = _store(phone_number, code, _bindings(*holder.result)[0])
        hits.append(limits.count(SENT, "all"))  # the last, because all others wait for it
    try:
        _deliver(phone_number, code)
    except SMSUnavailable:
        otp.delete()
        limits.restore(hits)
        limits.end_cooldown(caller)
        raise
    rows_of(DELIVERED, [_now(), otp.pk])
    logger.info("code sent to …%s", phone_number[-2:])
    shown = code if settings.OTP_ECHO else None
    return Sent(phones.show(phone_number), shown, int(LIFETIME.total_seconds()), cooldown)


def verify(*, phone_number: str, code: str, address: str) -> tuple[UserProfile, dict[str, str]]:
    """Log in with a code. Returns the account, created at its first login, and its tokens. A code works once.

    Raises OTPInvalid, and TooManyRequests when the caller failed too often.
    """
    with atomic():  # one commit: a wrong code counts, and a right one counts no longer
        holder = accounts.HOLDER.later(phone_number=phone_number)
        tried = Later(TRY, [phone_number, MAX_ATTEMPTS, _now()], list)
        attempt = limits.consume([(FAILURES_PER_CALLER, f"{phone_number} {address}"), (FAILURES_PER_ADDRESS, address)])
        user = _redeem(tried.result, _bindings(*holder.result), phone_number, code)
        login = _log_in(user, attempt) if user else None
    if login is None:
        logger.info("login of …%s failed", phone_number[-2:])
        raise OTPInvalid
    logger.info("login of user %s", login.user_id)
    return login.user, tokens.first_pair(login)


def _redeem(tried: list[tuple], bindings: list[str], phone_number: str, code: str) -> UserProfile | None:
    """Use the code up and return its account. None for a wrong code, for a deactivated account, and for one that got
    the number after the code was compared."""
    pk, bound_to = _find_matching(tried, bindings, phone_number, code) or (None, "")
    if pk is None:
        return None
    Later(USE, [_now(), pk], list)  # the attempt has locked it: of parallel uses one wins
    find = accounts.get_or_create_with_phone if bound_to == NOBODY else accounts.lock_account_with_phone
    user = find(phone_number)
    return user if user and user.is_active and bound_to in _bindings(user) else None


def _log_in(user: UserProfile, attempt: list[Hit]) -> Login:
    login = tokens.new_login(user)
    insert(login)
    limits.count(VERIFIED, "all", instead_of=attempt)
    return login


def _find_matching(tried: list[tuple], bindings: list[str], phone_number: str, code: str) -> tuple[int, str] | None:
    """The id and the binding of the code that was tried, if it is this one and has one of these bindings."""
    pk, salt, code_hash = tried[0] if tried else NONE
    hashes = [_hash(phone_number, bound_to, salt, code) for bound_to in bindings]
    matches = [hmac.compare_digest(code_hash, hashed) for hashed in hashes]
    return (pk, bindings[matches.index(True)]) if tried and any(matches) else None


def _bindings(account: UserProfile | None = None) -> list[str]:
    """The bindings of codes that log in to this account; a new code gets the first.

    `token_version` rises with all that ends an account's logins at once: another number, none, deactivation, a log-out
    everywhere. Earlier codes are invalid then, also those not delivered yet. A code for a number without an account
    logs in to the one that a login has created since, but not to one that staff gave the number to.
    """
    if account is None:
        return [NOBODY]
    own = f"{account.pk}.{account.token_version}"
    return [own] if account.token_version >= accounts.MADE_BY_STAFF else [own, NOBODY]


def _store(phone_number: str, code: str, bound_to: str) -> OTP:
    now, salt = timezone.now(), secrets.token_hex(16)
    otp = OTP.build(
        id=None,
        phone_number=phone_number,
        salt=salt,
        code_hash=_hash(phone_number, bound_to, salt, code),
        created_at=now,
        sent_at=None,
        expires_at=now + LIFETIME,
        attempts=0,
        used_at=None,
    )
    insert(otp)
    return otp


def _now() -> Any:
    """As a statement of ours takes it."""
    return connection.ops.adapt_datetimefield_value(timezone.now())


def _hash(phone_number: str, bound_to: str, salt: str, code: str) -> str:
    """Keyed, because all million codes are quickly tried against a hash without a secret."""
    message = f"{phone_number}:{bound_to}:{salt}:{code}".encode()
    return hmac.new(settings.OTP_PEPPER.encode(), message, hashlib.sha256).hexdigest()


def _deliver(phone_number: str, code: str) -> None:
    if not settings.OTP_ECHO:
        minutes = int(LIFETIME.total_seconds() // 60)
        sms.send(to=phone_number, text=settings.OTP_SMS_TEXT.format(code=code, minutes=minutes))


def _check_region(phone_number: str) -> None:
    if phones.region(phone_number) not in settings.OTP_REGIONS:
        raise ValidationError({"phone_number": "Numbers of this country get no codes here."})


def _send_limits(phone_number: str, address: str, caller: str) -> list[tuple[Limit, str]]:
    found = _budget(phone_number)
    if settings.OTP_SENDS_CAPPED:
        found += [(SENDS_PER_CALLER, caller), (SENDS_PER_CALLER_AND_DAY, caller), (SENDS_PER_PHONE, phone_number)]
    if settings.OTP_SENDS_PER_ADDRESS:
        found.append((Limit("otp_send_address", settings.OTP_SENDS_PER_ADDRESS, HOUR), address))
    return found


def _budget(phone_number: str) -> list[tuple[Limit, str]]:
    """The day's budget of messages: all count, and when it is spent, numbers without an account get none."""
    if not settings.OTP_SENDS_PER_DAY:
        return []
    budget = Limit("otp_send_day", settings.OTP_SENDS_PER_DAY, DAY)
    if limits.hits(budget, "all") >= budget.maximum:
        logger.error("the day's budget of %s messages is spent", budget.maximum)
    known = UserProfile.objects.filter(phone_number=phone_number).exists()
    return [(replace(budget, maximum=UNLIMITED) if known else budget, "all")]


def _cooldown(caller: str) -> int:
    """Seconds until the caller may ask for the next code."""
    if not settings.OTP_COOLDOWN:
        return 0
    sent_before = limits.hits(SENDS_PER_CALLER, caller) - 1
    return min(settings.OTP_COOLDOWN * 2 ** max(0, sent_before), int(MAX_COOLDOWN.total_seconds()))
