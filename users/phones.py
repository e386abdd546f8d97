"""One spelling for a phone number: `parse` reads it, E.164 is stored, `show` prints it."""

import re
from functools import lru_cache
from typing import Any

import phonenumbers
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import CharField, Func, Q, Value
from django.db.models.lookups import Exact
from phonenumbers import PhoneNumberType

# The phone library reads letters as digits, drops extensions and obeys URI parameters: it must not see them.
SPELLING = re.compile(r"\+?[0-9 ().-]{1,32}", re.ASCII)
# What the documentation shows is a little wider than what exists: no country code begins with 0, and no number of any
# country is shorter than five digits.
PATTERN = r"^(\+[ ().-]*[1-9]|[ ().-]*[0-9])([ ().-]*[0-9]){4,}[ ().-]*$"
# Parsing a number takes longer than the query for its account, and the same numbers are parsed again and again.
CACHE_SIZE = 4096
MOBILE = (PhoneNumberType.MOBILE, PhoneNumberType.FIXED_LINE_OR_MOBILE)


def parse(text: str) -> str:
    """The E.164 form of a mobile number in any usual spelling; numbers without a country are of `PHONE_REGION`.

    Raises ValidationError for anything else.
    """
    return _parsed(text, settings.PHONE_REGION)


@lru_cache(CACHE_SIZE)
def _parsed(text: str, home: str) -> str:
    if not SPELLING.fullmatch(text):
        raise ValidationError("A phone number has digits, spaces, ( ) . - and one leading + only.", code="invalid")
    try:
        number = phonenumbers.parse(text, home)
    except phonenumbers.NumberParseException:
        raise ValidationError("This is not a phone number.", code="invalid") from None
    if not phonenumbers.is_valid_number(number):
        raise ValidationError("There is no such phone number.", code="invalid")
    if phonenumbers.number_type(number) not in MOBILE:
        raise ValidationError("This is not a mobile number.", code="invalid")
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)


def show(e164: str) -> str:
    """National digits for the home region, E.164 for any other."""
    return _shown(e164, settings.PHONE_REGION)


@lru_cache(CACHE_SIZE)
def _shown(e164: str, home: str) -> str:
    code = phonenumbers.country_code_for_region(home)
    if phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(code) == (home,):  # the only region with this code
        return e164.removeprefix(f"+{code}")
    number = phonenumbers.parse(e164)
    if phonenumbers.region_code_for_number(number) != home:
        return e164
    return phonenumbers.national_significant_number(number)


def masked(e164: str) -> str:
    """The number as shown, with only its last four digits readable."""
    shown = show(e164)
    return "•" * len(shown[:-4]) + shown[-4:]


def region(e164: str) -> str | None:
    """The country of a number, which has to be read only where several share a code."""
    for end in (2, 3, 4):  # no code is the beginning of another
        if len(sharing := phonenumbers.COUNTRY_CODE_TO_REGION_CODE.get(int(e164[1:end]), ())) == 1:
            return sharing[0]
    return phonenumbers.region_code_for_number(phonenumbers.parse(e164))


class LastFour(Func):
    """The last four digits of a number, which are indexed."""

    template = "RIGHT(%(expressions)s, 4)"
    output_field = CharField()

    def as_sqlite(self, compiler: Any, connection: Any, **context: Any) -> Any:
        return self.as_sql(compiler, connection, template="SUBSTR(%(expressions)s, -4)", **context)


def query(field: str, text: str) -> Q:
    """Rows whose E.164 `field` begins with `text`, as shown or in full, or ends with its four or more digits; none if
    `text` is not part of a number."""
    found = Q(pk__in=[])
    for prefix in e164_prefixes(text):
        found |= Q(**{f"{field}__startswith": prefix})
    digits = re.sub("[^0-9]", "", text)
    if len(digits) < 4 or text.startswith("+") or not SPELLING.fullmatch(text):
        return found
    return found | Q(Exact(LastFour(field), Value(digits[-4:])), **{f"{field}__endswith": digits})


def e164_prefixes(text: str) -> list[str]:
    """The E.164 prefixes of numbers that begin with `text`, as shown or in full."""
    if not SPELLING.fullmatch(text):
        return []
    digits = re.sub("[^0-9]", "", text)
    if not digits or text.startswith("+"):
        return [f"+{digits}"] if digits else []
    home = phonenumbers.country_code_for_region(settings.PHONE_REGION)
    return [f"+{home}{digits.removeprefix('0')}", f"+{digits}"]
