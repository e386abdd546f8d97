"""A phone number is one account in any usual spelling, and everything else is refused."""

import re

import phonenumbers
import pytest
from django.core.exceptions import ValidationError
from hypothesis import given, settings
from hypothesis import strategies as st

from users import phones
from users.models import OTP, UserProfile

SPELLINGS = [
    "9999999999",
    "09999999999",
    "919999999999",
    "+919999999999",
    "+91 99999 99999",
    "+91-99999-99999",
    "+91 (0) 99999.99999",
    "00919999999999",
    "0091 99999 99999",
    "(99999) 99999",
    " 99999 99999 ",
    "9-9-9-9-9-9-9-9-9-9",
]

REFUSED = {
    "empty": "",
    "blank": "   ",
    "letters": "98765ABCDE",
    "extension": "9999999999 ext 5",
    "short extension": "9999999999x5",
    "URI parameter": "9999999999;phone-context=+1",
    "URI": "tel:+919999999999",
    "Devanagari digits": "९९९९९९९९९९",
    "fullwidth digits": "９９９９９９９９９９",
    "fullwidth plus": "＋919999999999",
    "two plus signs": "++919999999999",
    "plus inside": "+91+9999999999",
    "plus at the end": "919999999999+",
    "space before the plus": " +919999999999",
    "NUL": "9999999999\0",
    "line feed": "9999999999\n",
    "line feed before": "\n9999999999",
    "tab": "99999\t99999",
    "no-break space": "99999\xa099999",
    "ideographic space after": "9999999999\u3000",
    "slash": "99999/99999",
    "comma": "9999999999,8888888888",
    "punctuation alone": "( ) - .",
    "plus alone": "+",
    "no number of the country": "1234567890",
    "no number of any country": "+999999999999",
    "zero after the plus": "+0919999999999",
    "landline": "08022223333",
    "landline abroad": "+4930123456",
    "toll-free": "18001801407",
    "too short": "999999999",
    "too long": "99999999999",
    "endless": "9" * 40,
    "spread over 33 characters": "9999999999" + " " * 23,
}

SEPARATORS = " ().-"
NUMBERS = ["6000000000", "7777777777", "8123456789", "9876543210", "9999999999"]


@st.composite
def spelled(draw: st.DrawFn) -> tuple[str, str]:
    """A number's E.164 form and one of its spellings."""
    number = draw(st.sampled_from(NUMBERS))
    plus, prefix = draw(st.sampled_from([("", ""), ("", "0"), ("", "91"), ("", "0091"), ("+", "91"), ("+", "910")]))
    gap = st.text(SEPARATORS, max_size=1)
    return f"+91{number}", plus + "".join(draw(gap) + digit for digit in prefix + number) + draw(gap)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_usual_spelling_is_one_number(spelling):
    e164 = phones.parse(spelling)
    assert e164 == "+919999999999"
    assert phones.show(e164) == "9999999999"


@pytest.mark.parametrize(
    ("spelling", "e164"), [("+1 (415) 555-2671", "+14155552671"), ("0065 9123 4567", "+6591234567")]
)
def test_a_foreign_number_is_shown_with_its_country(spelling, e164):
    assert phones.parse(spelling) == e164
    assert phones.show(e164) == e164


def test_home_is_where_the_settings_say(settings):
    settings.PHONE_REGION = "US"
    assert phones.parse("415-555-2671") == "+14155552671"
    assert phones.show("+14155552671") == "4155552671"
    assert phones.show("+919999999999") == "+919999999999"


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_anything_else_is_no_phone_number(text):
    with pytest.raises(ValidationError):
        phones.parse(text)


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_nothing_is_sent_to_what_is_no_phone_number(db, nobody, text):
    assert_refused(nobody.post("/auth/send-otp/", {"phone_number": text}))


@pytest.mark.parametrize("value", [9999999999, 1.5, True, None, [], ["9999999999"], {"phone_number": "9999999999"}])
def test_a_phone_number_is_text(db, nobody, value):
    assert_refused(nobody.post("/auth/send-otp/", {"phone_number": value}))


def test_a_phone_number_is_required(db, nobody):
    assert_refused(nobody.post("/auth/send-otp/", {}))


def test_it_is_one_account_whatever_the_spelling(db, nobody):
    for sent_as, verified_as in zip(SPELLINGS, reversed(SPELLINGS), strict=True):
        sent = nobody.post("/auth/send-otp/", {"phone_number": sent_as}).json()
        assert sent["phone_number"] == "9999999999"
        login = nobody.post("/auth/verify-otp/", {"phone_number": verified_as, "otp": sent["otp"]})
        assert login.json()["user"]["phone_number"] == "9999999999"
    assert UserProfile.objects.get().phone_number == "+919999999999"


@settings(derandomize=True, deadline=None)
@given(spelled())
def test_separators_and_prefixes_change_nothing(number):
    e164, spelling = number
    assert phones.parse(spelling) == e164


@settings(derandomize=True, deadline=None)
@given(spelled(), st.characters(exclude_characters=f"0123456789{SEPARATORS}"), st.data())
def test_one_foreign_character_anywhere_spoils_a_number(number, character, data):
    spelling = number[1]
    place = data.draw(st.integers(min_value=1 if character == "+" else 0, max_value=len(spelling)))
    with pytest.raises(ValidationError):
        phones.parse(spelling[:place] + character + spelling[place:])


@settings(derandomize=True, deadline=None)
@given(st.text() | st.text("0123456789 ().-+", max_size=20) | st.from_regex(r"\+?[0-9]{8,13}", fullmatch=True))
def test_any_text_is_a_number_or_refused(text):
    try:
        e164 = phones.parse(text)
    except ValidationError:
        return
    assert re.fullmatch(r"\+[1-9][0-9]{6,14}", e164)
    assert phones.parse(e164) == phones.parse(phones.show(e164)) == e164


@pytest.mark.parametrize("country", sorted(phonenumbers.SUPPORTED_REGIONS))
def test_the_country_of_a_number_is_the_one_that_has_it(country):
    number = phonenumbers.example_number_for_type(country, phonenumbers.PhoneNumberType.MOBILE)
    e164 = number and phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    assert not e164 or phones.region(e164) == phonenumbers.region_code_for_number(number)


def assert_refused(response):
    problem = response.json()
    assert (response.status_code, problem["code"]) == (400, "validation_error")
    assert set(problem["errors"]) == {"phone_number"}
    assert not OTP.objects.exists()
