"""What production refuses to start with, or warns about. Bad secrets are refused earlier, by `settings.py`."""

from collections.abc import Sequence
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.db import Error as DatabaseFault
from django.db import connections
from phonenumbers import SUPPORTED_REGIONS


@register
def otp_delivery(**kwargs: Any) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    if settings.OTP_ECHO and not settings.DEBUG:
        hint = "Unset OTP_ECHO: with it anybody logs in as anybody."
        found.append(Error("OTP_ECHO is on while DEBUG is off.", hint=hint, id="lokanetra.E001"))
    if not settings.OTP_ECHO and not settings.OTP_SMS_URL:
        hint = "Set OTP_SMS_URL to the Apprise URL of your SMS gateway, with {phone} where the number goes."
        found.append(Error("Nothing delivers the codes: OTP_SMS_URL is not set.", hint=hint, id="lokanetra.E002"))
    if settings.OTP_SMS_URL and "{phone}" not in settings.OTP_SMS_URL:
        hint = "Write {phone} where the number goes, such as json://host/path/{phone}."
        found.append(Error("OTP_SMS_URL has no {phone} in it.", hint=hint, id="lokanetra.E003"))
    if not _contains_code(settings.OTP_SMS_TEXT):
        hint = "Write {code} where the code goes, {minutes} where its lifetime goes, and no other braces."
        found.append(Error("OTP_SMS_TEXT does not contain the code.", hint=hint, id="lokanetra.E004"))
    return found


def _contains_code(text: str) -> bool:
    try:
        return "123456" in text.format(code="123456", minutes=5)
    except (LookupError, ValueError, AttributeError):
        return False


@register
def regions(**kwargs: Any) -> list[CheckMessage]:
    unknown = {settings.PHONE_REGION, *settings.OTP_REGIONS} - SUPPORTED_REGIONS
    if not unknown:
        return []
    hint = "Write PHONE_REGION and OTP_REGIONS as two capital letters each, such as IN."
    return [Error(f"There is no region {', '.join(sorted(unknown))}.", hint=hint, id="lokanetra.E005")]


@register(deploy=True)
def self_credit(**kwargs: Any) -> list[CheckMessage]:
    if settings.DEBUG or not settings.WALLET_SELF_CREDIT:
        return []
    hint = "Unset WALLET_SELF_CREDIT: with it anybody can create money."
    return [Warning("Users may credit themselves: WALLET_SELF_CREDIT is on.", hint=hint, id="lokanetra.W001")]


# A superuser, the owner of a table, and members of the owner's role can switch its triggers off.
CONTROLS_LEDGER = """
    SELECT rolsuper OR EXISTS (
        SELECT FROM pg_class
        WHERE oid IN (to_regclass('wallet_wallet'), to_regclass('transactions_transaction'))
        AND pg_has_role(rolname, relowner, 'MEMBER')
    ) FROM pg_roles WHERE rolname = coalesce(%s, current_user)
"""


@register(Tags.database, deploy=True)
def database_role(databases: Sequence[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """Runs only where checks may query databases: `check --deploy --database default`."""
    if not any(_controls_ledger(connections[alias]) for alias in databases or []):
        return []
    hint = "Let the server connect as a role that is no superuser and owns no table (manage.py grants ROLE)."
    return [Warning("The database role can switch the ledger's triggers off.", hint=hint, id="lokanetra.W002")]


def _controls_ledger(connection: Any) -> bool:
    """Also False where the database does not answer: it may still be starting."""
    if connection.vendor != "postgresql":
        return False
    try:
        with connection.cursor() as cursor:
            cursor.execute(CONTROLS_LEDGER, [None])
            return bool(cursor.fetchone()[0])
    except DatabaseFault:
        return False


@register(deploy=True)
def rate_limit_alone(**kwargs: Any) -> list[CheckMessage]:
    if settings.API_RATE_LIMIT is None or "redis" in settings.CACHES["default"]["BACKEND"]:
        return []
    hint = "Set REDIS_URL, so that all processes count together."
    return [Info("Each process counts API_RATE_LIMIT separately.", hint=hint, id="lokanetra.I002")]


@register(deploy=True)
def sqlite_in_production(**kwargs: Any) -> list[CheckMessage]:
    if settings.DEBUG or not settings.DATABASES["default"]["ENGINE"].endswith("sqlite3"):
        return []
    hint = "Move to PostgreSQL (DATABASE_URL) before a second machine, or when payments begin to queue."
    return [Info("SQLite is correct here, but it writes one payment at a time.", hint=hint, id="lokanetra.I001")]
