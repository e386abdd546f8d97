"""Texts with deceptive characters are refused wherever they are entered; every language can be written."""

import re
from itertools import product

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.test import Client
from rest_framework import serializers

from lokanetra import texts
from lokanetra.parsers import Text
from lokanetra.tests.test_access import routes
from lokanetra.tests.test_errors import problem
from transactions.models import Transaction
from users.models import UserProfile

pytestmark = pytest.mark.once

BAD = {
    **{f"direction U+{code:04X}": f"a{chr(code)}b" for code in [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]},
    **{f"control U+{code:04X}": f"a{chr(code)}b" for code in [0, 1, 7, 8, 9, 11, 12, 27, 31, 127, 128, 133, 159]},
    "a carriage return alone": "pay 1\rpay 9",
    "line separator": "a\u2028b",
    "paragraph separator": "a\u2029b",
    "zero width space": "a\u200bb",
    "word joiner": "a\u2060b",
    "byte order mark": "a\ufeffb",
    "soft hyphen": "a\u00adb",
    "annotation": "a\ufff9b",
    "a tag without a flag": "a\U000e0061b",
    "noncharacter": "a\ufffeb",
    "noncharacter in the middle": "a\ufdd0b",
    "noncharacter at the end": "a\U0010ffffb",
}
GOOD = {
    "English": "Lunch - 5% off, \"thanks\" & <b>'bye'</b>",
    "Hindi with a joiner": "क्‍ष और क्‌ष",
    "Malayalam": "അവന്‍",
    "Urdu with marks of a direction": "کرایہ \u200f50\u200e",
    "combining marks": "e\u0301 q\u0323\u0307",
    "emoji": "\U0001f600\u2764\ufe0f",
    "a family": "\U0001f468\u200d\U0001f469\u200d\U0001f467",
    "a flag": "\U0001f1ee\U0001f1f3",
    "the flag of Scotland": "\U0001f3f4\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",
    "an emoji of tomorrow": "\U0001fae9",
    "no-break space": "50\u00a0000",
    "private use": "\uf8ff",
}
LINES = "first\nsecond\r\nthird"


@pytest.mark.parametrize("rule", [texts.one_line, texts.lines])
@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_deceptive_characters_are_refused(text, rule):
    with pytest.raises(ValidationError, match=r"Leave out the character U\+"):
        rule(text)


@pytest.mark.parametrize("rule", [texts.one_line, texts.lines])
@pytest.mark.parametrize("text", GOOD.values(), ids=GOOD)
def test_characters_that_languages_need_are_allowed(text, rule):
    rule(text)


def test_a_lone_surrogate_is_refused():
    with pytest.raises(ValidationError):
        texts.lines("a\ud800b")


def test_line_breaks_are_only_for_texts_of_several_lines():
    texts.lines(LINES)
    for line_break in ("\n", "\r\n"):
        with pytest.raises(ValidationError):
            texts.one_line(f"a{line_break}b")


def test_every_text_of_the_api_has_a_rule_except_those_with_a_parser():
    taken = {view.contract.takes for _, _, view in routes() if getattr(view, "contract", None) and view.contract.takes}
    fields = [item for serializer in taken for item in serializer().fields.items()]
    strings = [item for item in fields if isinstance(item[1], serializers.CharField)]
    free = {name for name, field in strings if not (isinstance(field, Text) and field.rule)}
    assert free == {"phone_number", "from_phone_number", "to_phone_number", "otp", "refresh"}


# --- The API -------------------------------------------------------------------------------------------

# Method, path, body, and the text's field.
PAYMENT = {"amount": "1.00"}
API = [
    ("POST", "/wallet/credit/", PAYMENT, "remarks"),
    ("POST", "/wallet/debit/", PAYMENT, "remarks"),
    ("POST", "/wallet/transfer/", PAYMENT | {"to_phone_number": "9888888888"}, "remarks"),
    ("POST", "/wallet/admin/wallets/{wallet}/credit/", PAYMENT, "remarks"),
    ("POST", "/wallet/admin/wallets/{wallet}/debit/", PAYMENT, "remarks"),
    ("POST", "/wallet/admin/wallets/{wallet}/freeze/", {}, "reason"),
    ("POST", "/wallet/admin/wallets/{wallet}/unfreeze/", {}, "reason"),
    ("POST", "/transactions/{transaction}/reverse/", {}, "remarks"),
    *product(["PATCH"], ["/auth/me/", "/auth/admin/users/{user}/"], [{}], ["first_name", "last_name"]),
    *product(["POST"], ["/auth/admin/users/"], [{"phone_number": "9777777777"}], ["first_name", "last_name"]),
]
IDS = [f"{path} {field}" for _, path, _, field in API]


@pytest.fixture
def call(boss, asha, ravi, as_user, settings):
    settings.WALLET_SELF_CREDIT = True
    things = {"wallet": asha.wallet.pk, "user": asha.pk, "transaction": Transaction.objects.get().pk}

    def send(method, path, body):
        own = path.startswith(("/auth/me", "/wallet/c", "/wallet/d", "/wallet/t"))
        return getattr(as_user(asha if own else boss), method.lower())(path.format(**things), body)

    return send


@pytest.mark.parametrize("text", ["a\u202eb", "a\u2066b", "a\x1bb", "a\u2028b"], ids=ascii)
@pytest.mark.parametrize(("method", "path", "body", "field"), API, ids=IDS)
def test_the_api_names_the_deceptive_field(call, method, path, body, field, text, ledger):
    before = ledger()
    refusal = problem(call(method, path, body | {field: text}), 400, "validation_error")
    assert list(refusal["errors"]) == [field]
    assert f"U+{ord(text[1]):04X}" in refusal["detail"]
    assert ledger() == before


@pytest.mark.parametrize(("method", "path", "body", "field"), API, ids=IDS)
def test_the_api_accepts_hindi_and_emoji_unchanged(call, method, path, body, field):
    text = GOOD["Hindi with a joiner"] + GOOD["a family"]
    answer = call(method, path, body | {field: text})
    assert answer.status_code in (200, 201), answer.content
    assert answer.json().get(field, text) == text


@pytest.mark.parametrize(("method", "path", "body", "field"), API, ids=IDS)
def test_remarks_and_reasons_may_have_line_breaks_and_names_may_not(call, method, path, body, field):
    answer = call(method, path, body | {field: LINES})
    assert answer.status_code == (400 if field.endswith("_name") else 200)


@pytest.mark.parametrize("field", ["username", "email", "phone_number"])
def test_usernames_emails_and_phones_have_no_such_characters(call, field):
    account = {"phone_number": "9777777777", "username": "maya", "email": "maya@example.com"}
    for sign in ("\u202e", "\u200d", "\x01", "\n"):
        deceptive = account | {field: f"{account[field][:2]}{sign}{account[field][2:]}"}
        assert field in problem(call("POST", "/auth/admin/users/", deceptive), 400, "validation_error")["errors"]
    quoted = account | {"email": '"\x01"@example.com'}
    assert "email" in problem(call("POST", "/auth/admin/users/", quoted), 400, "validation_error")["errors"]


# --- The console, and the shell --------------------------------------------------------------------------

DECEPTIVE = ["a\u202eb", "a\x1bb", "a\u2066b"]


@pytest.fixture
def console(boss):
    client = Client()
    client.force_login(boss)
    return client


@pytest.mark.parametrize("text", DECEPTIVE, ids=ascii)
@pytest.mark.parametrize("action", ["credit", "debit", "freeze"])
def test_the_console_refuses_a_deceptive_reason(console, asha, action, text):
    path = f"/admin/wallet/wallet/{asha.wallet.pk}/{action}/"
    key = re.search(r'name="key" value="([0-9a-f]{32})"', console.get(path).content.decode())[1]
    data = {"key": key, "amount": "1.00", "confirmed": ""}
    refused = console.post(path, data | {"reason": text})
    assert list(refused.context["form"].errors) == ["reason"]
    assert console.post(path, data | {"reason": LINES + GOOD["Hindi with a joiner"]}).status_code == 302


@pytest.mark.parametrize("text", DECEPTIVE, ids=ascii)
@pytest.mark.parametrize("field", ["username", "first_name", "last_name", "email"])
def test_the_console_refuses_deceptive_changes_of_an_account(console, asha, field, text):
    data = {"username": "asha", "phone_number": asha.phone, "is_active": "on"}
    page = console.post(f"/admin/users/userprofile/{asha.pk}/change/", data | {field: text})
    assert list(page.context["adminform"].form.errors) == [field]


def test_names_in_the_console_may_be_of_any_language(console, asha):
    names = {"first_name": GOOD["Hindi with a joiner"], "last_name": GOOD["Malayalam"]}
    data = {"username": "asha", "phone_number": asha.phone, "is_active": "on"}
    assert console.post(f"/admin/users/userprofile/{asha.pk}/change/", data | names).status_code == 302
    asha.refresh_from_db()
    assert {name: getattr(asha, name) for name in names} == names


@pytest.mark.parametrize("text", DECEPTIVE, ids=ascii)
def test_the_console_refuses_new_deceptive_names(console, text):
    page = console.post("/admin/users/userprofile/add/", {"username": text, "usable_password": "false"})
    assert list(page.context["adminform"].form.errors) == ["username"]
    page = console.post("/admin/auth/group/add/", {"name": text})
    assert list(page.context["adminform"].form.errors) == ["name"]


@pytest.mark.parametrize("text", DECEPTIVE, ids=ascii)
def test_createsuperuser_refuses_deceptive_names(db, text):
    with pytest.raises(CommandError, match="valid username"):
        call_command("createsuperuser", "--no-input", "--username", text, "--email", "a@example.com")
    assert not UserProfile.objects.exists()
