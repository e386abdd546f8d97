"""A login is a row: its tokens are valid while it lasts, a refresh token once, and nobody can forge one."""

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import jwt
import pytest
from django.apps import apps
from django.conf import settings as configured
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from rest_framework.response import Response
from rest_framework.test import APIClient, APIRequestFactory
from rest_framework.views import APIView

from lokanetra.tests.live import at_once
from lokanetra.tests.test_access import TABLE, numbered
from users import accounts, tokens
from users.models import Login

pytestmark = pytest.mark.django_db

CLAIMS = {"token_type", "exp", "iat", "jti", "iss", "aud", "user_id", "sid", "token_version"}
NOT_VALID = (401, "token_not_valid")
REUSED = (401, "token_reused")


def refresh(token: Any) -> Any:
    return APIClient().post("/auth/token/refresh/", {"refresh": token})


def bearer(token: str) -> APIClient:
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {token}")


def me(access: str) -> Any:
    return bearer(access).get("/auth/me/")


def problem(response: Any) -> tuple[int, str]:
    return response.status_code, response.json()["code"]


def claims(token: str) -> dict[str, Any]:
    return jwt.decode(token, options={"verify_signature": False})


def signed(payload: dict[str, Any], key: str | None = None, algorithm: str = "HS256", **changes: Any) -> str:
    """A token with these claims changed; a claim of None is left out."""
    changed = {name: value for name, value in (payload | changes).items() if value is not None}
    return jwt.encode(changed, configured.JWT_SIGNING_KEY if key is None else key, algorithm)


def encoded(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).rstrip(b"=").decode()


def with_header(token: str, header: bytes) -> str:
    return ".".join([encoded(header), *token.split(".")[1:]])


def test_a_refresh_token_gives_a_new_pair(asha):
    old = tokens.issue(asha)
    answer = refresh(old["refresh"])
    new = answer.json()
    assert answer.status_code == 200
    assert set(new) == {"access", "refresh"}
    assert {*new.values()}.isdisjoint(old.values())
    assert me(new["access"]).json()["id"] == asha.pk
    assert refresh(new["refresh"]).status_code == 200
    assert Login.objects.count() == 1


@pytest.mark.parametrize("seconds", [0, 9, 10])
def test_a_token_used_again_within_ten_seconds_is_refused_and_the_login_lives(asha, clock, seconds):
    old = tokens.issue(asha)["refresh"]
    new = refresh(old).json()["refresh"]
    clock.forward(seconds=seconds)
    assert problem(refresh(old)) == REUSED
    assert refresh(new).status_code == 200


def test_a_token_used_again_later_ends_the_login(asha, clock):
    old, other_login = tokens.issue(asha)["refresh"], tokens.issue(asha)["refresh"]
    new = refresh(old).json()["refresh"]
    clock.forward(seconds=11)
    assert problem(refresh(old)) == REUSED
    assert problem(refresh(new)) == NOT_VALID
    assert problem(refresh(old)) == NOT_VALID
    assert refresh(other_login).status_code == 200


def test_a_token_from_before_the_last_refresh_ends_the_login_at_once(asha, clock):
    oldest = tokens.issue(asha)["refresh"]
    newest = refresh(refresh(oldest).json()["refresh"]).json()["refresh"]
    assert problem(refresh(oldest)) == REUSED
    assert problem(refresh(newest)) == NOT_VALID


def test_logging_out_ends_the_login_of_the_refresh_token(asha):
    pair, other_login = tokens.issue(asha), tokens.issue(asha)
    for _ in range(2):
        answer = bearer(pair["access"]).post("/auth/logout/", {"refresh": pair["refresh"]})
        assert (answer.status_code, answer.content) == (204, b"")
    assert problem(refresh(pair["refresh"])) == NOT_VALID
    assert me(pair["access"]).status_code == 200
    assert refresh(other_login["refresh"]).status_code == 200


def test_nobody_logs_somebody_else_out(asha, ravi):
    pair, thief = tokens.issue(asha), tokens.issue(ravi)
    assert problem(bearer(thief["access"]).post("/auth/logout/", {"refresh": pair["refresh"]})) == NOT_VALID
    assert problem(APIClient().post("/auth/logout/", {"refresh": pair["refresh"]})) == (401, "not_authenticated")
    assert refresh(pair["refresh"]).status_code == 200


def test_logging_out_everywhere_ends_every_token_of_the_user(asha, ravi):
    pairs, other = [tokens.issue(asha) for _ in range(2)], tokens.issue(ravi)
    assert bearer(pairs[0]["access"]).post("/auth/logout-all/").status_code == 204
    for pair in pairs:
        assert problem(me(pair["access"])) == NOT_VALID
        assert problem(refresh(pair["refresh"])) == NOT_VALID
    assert me(other["access"]).status_code == 200
    assert refresh(other["refresh"]).status_code == 200
    asha.refresh_from_db()
    assert me(tokens.issue(asha)["access"]).status_code == 200


def test_logging_out_everywhere_ends_the_open_logins_of_the_user_on_record(asha, ravi):
    ended, _, _ = tokens.issue(asha), tokens.issue(asha), tokens.issue(ravi)
    tokens.end(ended["refresh"], asha)
    times = Login.objects.order_by("pk").values_list("ended_at", flat=True)
    before = times[0]
    tokens.end_all(asha)
    first, second, third = times.all()
    assert (first, third) == (before, None)
    assert second > before


@pytest.mark.parametrize(
    "change",
    [lambda user: accounts.set_active(user, False), lambda user: accounts.assign_phone(user, "+919111111111")],
    ids=["deactivation", "a new phone"],
)
def test_the_logins_of_an_account_end_at_the_next_request(asha, change):
    pair = tokens.issue(asha)
    assert me(pair["access"]).status_code == 200
    change(asha)
    assert problem(me(pair["access"])) == NOT_VALID
    assert problem(refresh(pair["refresh"])) == NOT_VALID
    accounts.set_active(asha, True)
    assert problem(me(pair["access"])) == NOT_VALID


def test_an_account_that_is_merely_marked_inactive_is_refused_too(asha):
    pair = tokens.issue(asha)
    accounts.change(asha, is_active=False)
    assert problem(me(pair["access"])) == NOT_VALID
    assert problem(refresh(pair["refresh"])) == NOT_VALID


def test_a_login_ends_after_thirty_days_whatever_the_refreshing(asha, clock):
    pair = tokens.issue(asha)
    for days in [6, 6, 6, 6, 5.99]:
        clock.forward(days=days)
        pair = refresh(pair["refresh"]).json()
    clock.forward(days=0.01)
    assert problem(refresh(pair["refresh"])) == NOT_VALID


def test_no_refresh_token_outlives_its_login(asha):
    pair = tokens.issue(asha)
    born = timezone.now() - timedelta(days=29)
    Login.objects.update(created_at=born)
    renewed = claims(refresh(pair["refresh"]).json()["refresh"])
    assert renewed["exp"] == int((born + timedelta(days=30)).timestamp())


def test_tokens_live_ten_minutes_and_seven_days(asha):
    lives = {kind: claims(token)["exp"] - claims(token)["iat"] for kind, token in tokens.issue(asha).items()}
    assert lives == {"access": pytest.approx(600, abs=1), "refresh": 7 * 24 * 3600}  # issued as a second begins


def test_a_token_is_of_one_kind(asha):
    pair = tokens.issue(asha)
    assert problem(me(pair["refresh"])) == NOT_VALID
    assert problem(refresh(pair["access"])) == NOT_VALID
    assert problem(bearer(pair["access"]).post("/auth/logout/", {"refresh": pair["access"]})) == NOT_VALID


FORGED: dict[str, Callable[[str], str]] = {
    "no algorithm": lambda token: signed(claims(token), "", "none"),
    "no algorithm, our signature": lambda token: with_header(token, b'{"alg":"none","typ":"JWT"}'),
    "another algorithm": lambda token: signed(claims(token), algorithm="HS512"),
    "another key": lambda token: signed(claims(token), "another key that is as long as a key has to be"),
    "empty key": lambda token: signed(claims(token), "\0"),
    "no signature": lambda token: token.rpartition(".")[0] + ".",
    "signature of another": lambda token: f"{token[:-4]}{'AAAA' if token[-4:] != 'AAAA' else 'BBBB'}",
    "other claims": lambda token: ".".join([token.split(".")[0], encoded(b'{"user_id":"1"}'), token.split(".")[2]]),
    "wrong issuer": lambda token: signed(claims(token), iss="somebody"),
    "no issuer": lambda token: signed(claims(token), iss=None),
    "wrong audience": lambda token: signed(claims(token), aud="somebody"),
    "no audience": lambda token: signed(claims(token), aud=None),
    "expired": lambda token: signed(claims(token), exp=claims(token)["iat"] - 1),
    "no expiry": lambda token: signed(claims(token), exp=None),
    "no kind": lambda token: signed(claims(token), token_type=None),
    "no id": lambda token: signed(claims(token), jti=None),
    "no user": lambda token: signed(claims(token), user_id=None),
    "unknown user": lambda token: signed(claims(token), user_id="999999999"),
    "garbage": lambda token: "garbage",
    "three dots": lambda token: "...",
    "garbage in three parts": lambda token: "a.b.c",
    "huge": lambda token: token + "A" * 20_000,
    "huge claims": lambda token: signed(claims(token), padding="A" * 20_000),
    "deeply nested header": lambda token: with_header(token, b'{"alg":' + b"[" * 20_000),
    "nested as deeply as fits": lambda token: f"{encoded(b'[' * 600)}.e30.AAAA",
    "header that is no object": lambda token: with_header(token, b"[]"),
    "header that is no text": lambda token: with_header(token, b"\xff\xfe"),
    "algorithm that is no text": lambda token: with_header(token, b'{"alg":{}}'),
    "key id that is no text": lambda token: with_header(token, b'{"alg":"HS256","kid":[]}'),
    "two spaces": lambda token: f"{token[:20]} {token[20:40]} {token[40:]}",
    "non-ASCII": lambda token: f"{token}é",
    "all non-ASCII": lambda token: "éÿ.éÿ.éÿ",
    "NUL": lambda token: f"{token}\x01",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
def test_a_forged_token_is_refused(asha, forge):
    pair = tokens.issue(asha)
    for path in ("/auth/me/", "/wallet/balance/"):
        assert problem(bearer(forge(pair["access"])).get(path)) == NOT_VALID
    assert problem(refresh(forge(pair["refresh"]))) == NOT_VALID
    assert problem(bearer(pair["access"]).post("/auth/logout/", {"refresh": forge(pair["refresh"])})) == NOT_VALID
    assert me(pair["access"]).status_code == refresh(pair["refresh"]).status_code == 200


def test_a_token_is_no_longer_valid_in_the_second_in_which_it_expires(asha, monkeypatch):
    access = tokens.issue(asha)["access"]
    end = claims(access)["exp"]
    for moment, status in ((end - 0.001, 200), (end, 401)):
        monkeypatch.setattr(tokens, "time", lambda moment=moment: moment)
        assert me(access).status_code == status


@pytest.mark.parametrize("version", [None, -1, 1])
def test_a_token_of_another_version_of_the_account_is_refused(asha, version):
    pair = tokens.issue(asha)
    assert problem(me(signed(claims(pair["access"]), token_version=version))) == NOT_VALID
    assert problem(refresh(signed(claims(pair["refresh"]), token_version=version))) == NOT_VALID


@pytest.mark.parametrize("changes", [{"sid": None}, {"sid": 999_999_999}, {"jti": "0" * 32}])
def test_a_refresh_token_of_no_login_gives_nothing(asha, changes):
    forged = signed(claims(tokens.issue(asha)["refresh"]), **changes)
    assert refresh(forged).status_code == 401


def test_a_refresh_token_of_another_users_login_gives_nothing(asha, ravi):
    pair, other = tokens.issue(asha), claims(tokens.issue(ravi)["refresh"])
    assert problem(refresh(signed(other, sid=claims(pair["refresh"])["sid"]))) == NOT_VALID
    assert refresh(pair["refresh"]).status_code == 200


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Bearer", "token_not_valid"),
        ("Bearer ", "token_not_valid"),
        ("Bearer a b", "token_not_valid"),
        ("Bearer a  b", "token_not_valid"),
        ("Bearer Bearer", "token_not_valid"),
        ("Token abc", "not_authenticated"),
        ("Basic YTpi", "not_authenticated"),
        ("é", "not_authenticated"),
        (" ", "not_authenticated"),
        ("", "not_authenticated"),
    ],
)
def test_a_header_without_a_token_of_ours_is_refused(db, header, code):
    refused = APIClient(HTTP_AUTHORIZATION=header).get("/auth/me/")
    assert problem(refused) == (401, code)
    assert refused["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("value", ["", None, 1, True, [], {}])
def test_a_refresh_token_is_text(db, value):
    assert problem(refresh(value)) == (400, "validation_error")


def test_claims_say_no_more_than_they_must(asha):
    pair = tokens.issue(asha)
    login = Login.objects.get()
    for kind, token in pair.items():
        found = claims(token)
        assert set(found) == CLAIMS
        assert (found["token_type"], found["user_id"], found["sid"]) == (kind, str(asha.pk), login.pk)
        assert (found["iss"], found["aud"], found["token_version"]) == ("lokanetra", "lokanetra", 0)
        assert asha.phone not in json.dumps(found)


def test_no_token_is_stored(asha):
    first = tokens.issue(asha)
    pairs = [first, refresh(first["refresh"]).json()]
    stored = [str(value) for model in apps.get_models() for row in model.objects.values_list() for value in row]
    assert claims(pairs[1]["refresh"])["jti"] in stored
    for token in [token for pair in pairs for token in pair.values()]:
        assert not [value for value in stored if token in value or token.rpartition(".")[2] in value]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/auth/send-otp/", {"phone_number": "9999999999"}, 201),
        ("/auth/verify-otp/", {"phone_number": "9999999999", "otp": "123456"}, 400),
    ],
)
@pytest.mark.parametrize("header", ["Bearer stale", "Bearer a  b", "é"])
def test_a_stale_header_does_not_stop_a_new_login(db, header, path, body, status):
    assert APIClient(HTTP_AUTHORIZATION=header).post(path, body).status_code == status


def test_a_stale_header_does_not_stop_refreshing(asha):
    pair = tokens.issue(asha)
    stale = bearer(signed(claims(pair["access"]), exp=1))
    assert stale.post("/auth/token/refresh/", {"refresh": pair["refresh"]}).status_code == 200


@pytest.mark.django_db(transaction=True)
def test_of_eight_refreshes_at_once_one_wins_and_goes_on(asha):
    token = tokens.issue(asha)["refresh"]

    def attempt() -> Any:
        try:
            return refresh(token)
        finally:
            connection.close()

    answers = sorted(at_once(*[attempt] * 8), key=lambda answer: answer.status_code)
    assert [answer.status_code for answer in answers] == [200] + [401] * 7
    assert [problem(answer) for answer in answers[1:]] == [REUSED] * 7
    assert refresh(answers[0].json()["refresh"]).status_code == 200


PAYMENTS = ("/wallet/credit/", "/wallet/debit/", "/wallet/transfer/")
BODIES = ({"amount": "1.00", "to_phone_number": "9888888888"}, {"amount": "x"}, {}, [])


@pytest.mark.parametrize("path", PAYMENTS)
@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize("out", ["deactivated", "logged out"])
def test_who_is_logged_out_pays_nothing_and_gets_401_before_anything_else(asha, ravi, as_user, ledger, path, body, out):
    client, before = as_user(asha), ledger()
    if out == "deactivated":
        accounts.set_active(asha, False)
    else:
        tokens.end_all(asha)
    response = client.post(path, body, format="json", HTTP_IDEMPOTENCY_KEY="lunch")
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")
    assert ledger() == before


PROTECTED = [row[:3] for row in TABLE if row[3][0] == 401]


@pytest.mark.parametrize(("method", "path", "body"), PROTECTED, ids=[" ".join(row[:2]) for row in PROTECTED])
@pytest.mark.parametrize("out", ["deactivated", "logged out"])
def test_who_is_logged_out_is_refused_everywhere(boss, as_user, method, path, body, out):
    """Each call of the API that needs a login, whoever may call it and wherever the account is checked."""
    client = as_user(boss)
    accounts.change(boss, is_active=False) if out == "deactivated" else tokens.end_all(boss)
    response = client.generic(method, numbered(path), json.dumps(body or {}), content_type="application/json")
    assert (response.status_code, response.json()["code"]) == (401, "token_not_valid")


@pytest.mark.parametrize("path", PAYMENTS)
def test_who_is_merely_marked_inactive_gets_no_first_receipt(asha, ravi, as_user, path):
    client, body = as_user(asha), BODIES[0] if path == "/wallet/transfer/" else {"amount": "1.00"}
    pay = lambda: client.post(path, body, format="json", HTTP_IDEMPOTENCY_KEY="lunch")  # noqa: E731
    assert pay().status_code == 200
    accounts.change(asha, is_active=False)
    assert problem(pay()) == NOT_VALID


def test_a_token_that_was_used_before_ends_with_its_time(asha, as_user, monkeypatch):
    client = as_user(asha)
    assert client.get("/wallet/balance/").status_code == 200
    later = tokens.time() + 601
    monkeypatch.setattr(tokens, "time", lambda: later)
    assert client.get("/wallet/balance/").status_code == 401


def test_a_view_that_is_not_ours_checks_the_account(asha, ravi):
    class Stock(APIView):
        def get(self, request):
            return Response({"name": request.user.get_username()})

    def ask(user):
        return APIRequestFactory().get("/", HTTP_AUTHORIZATION=f"Bearer {tokens.issue(user)['access']}")

    assert Stock.as_view()(ask(asha)).data == {"name": "user_9999999999"}
    request = ask(ravi)
    tokens.end_all(ravi)
    assert Stock.as_view()(request).status_code == 401


def test_who_is_logged_out_gets_no_first_receipt_either(asha, as_user):
    client, payment = as_user(asha), {"amount": "1.00"}
    assert client.post("/wallet/debit/", payment, HTTP_IDEMPOTENCY_KEY="bus").status_code == 200
    tokens.end_all(asha)
    assert client.post("/wallet/debit/", payment, HTTP_IDEMPOTENCY_KEY="bus").status_code == 401


def test_a_payment_looks_its_account_up_with_the_lock_and_not_before(asha, as_user):
    client = as_user(asha)
    client.post("/wallet/debit/", {"amount": "1.00"})
    with CaptureQueriesContext(connection) as queries:
        assert client.post("/wallet/debit/", {"amount": "1.00"}).status_code == 200
    asked = [query["sql"].split()[0] for query in queries if "SAVEPOINT" not in query["sql"]]
    written = ["WITH"] if connection.vendor == "postgresql" else ["UPDATE", "INSERT", "INSERT"]
    assert [verb for verb in asked if verb not in ("BEGIN", "COMMIT")] == ["SELECT", *written]
