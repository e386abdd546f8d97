"""A one-time password logs its phone in once, within five minutes; attempts and sends are limited."""

import hmac
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import apprise
import pytest
from django.apps import apps
from django.conf import settings as configured
from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext
from rest_framework.test import APIClient

from lokanetra.logs import JSONFormatter
from lokanetra.tests.live import at_once
from users import accounts, limits, otp, sms
from users.exceptions import TooManyRequests
from users.models import OTP, Counter, Login, UserProfile
from wallet.models import Wallet

PHONE, OTHER_PHONE = "9999999999", "9888888888"
HERE, ELSEWHERE = "10.0.0.1", "10.0.0.2"

pytestmark = pytest.mark.django_db


def send(phone: Any = PHONE, address: str = HERE) -> Any:
    return APIClient().post("/auth/send-otp/", {"phone_number": phone}, REMOTE_ADDR=address)


def code_for(phone: str = PHONE, address: str = HERE) -> str:
    sent = send(phone, address)
    assert sent.status_code == 201
    return sent.json()["otp"]


def verify(otp: Any, phone: Any = PHONE, address: str = HERE) -> Any:
    return APIClient().post("/auth/verify-otp/", {"phone_number": phone, "otp": otp}, REMOTE_ADDR=address)


def other_than(code: str) -> str:
    return f"{(int(code) + 1) % 1_000_000:06}"


def outcome(response: Any) -> tuple[int, str | None]:
    """Status and error code."""
    return response.status_code, response.json().get("code")


LOGGED_IN = (200, None)
INVALID = (400, "otp_invalid")
THROTTLED = (429, "throttled")
UNAVAILABLE = (503, "sms_unavailable")


@pytest.fixture
def capped(settings):
    """The limits of production without its cool-down, on a clock that tests move."""
    settings.OTP_SENDS_CAPPED = True


@pytest.fixture
def cooling(capped, settings):
    settings.OTP_COOLDOWN = 30


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch):
    """The machine of the tests may have one, or certificates of its own."""
    for name in [name for name in os.environ if name.lower().endswith(("_proxy", "_ca_bundle"))]:
        monkeypatch.delenv(name)


# Apprise sends the message where the URL has options, otherwise we do.
BOTH_WAYS = pytest.mark.parametrize("options", ["", "?method=post"], ids=["ours", "apprise"])


class Gateway:
    """A real SMS gateway on this machine that answers with `status` and records what it receives."""

    def __init__(self) -> None:
        self.status, self.received = 200, []
        self.before_answer: Callable[[], Any] = lambda: None
        gateway = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                gateway.received.append((self.path, body))
                gateway.before_answer()
                self.send_response(gateway.status)
                self.end_headers()

            def log_message(self, *args: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"json://127.0.0.1:{self.server.server_port}/{{phone}}"

    @property
    def codes(self) -> list[str]:
        return [re.search("[0-9]{6}", body.split('"message"')[1])[0] for _, body in self.received]


@pytest.fixture
def gateway(settings) -> Iterator[Gateway]:
    gateway = Gateway()
    settings.OTP_ECHO, settings.OTP_SMS_URL = False, gateway.url
    thread = threading.Thread(target=gateway.server.serve_forever, args=(0.01,))
    thread.start()
    yield gateway
    gateway.server.shutdown()
    thread.join()
    gateway.server.server_close()


def test_the_first_login_makes_the_account_and_its_wallet():
    sent = send("+91 99999 99999")
    assert sent.status_code == 201
    code = sent.json()["otp"]
    assert sent.json() == {"phone_number": PHONE, "otp": code, "expires_in": 300, "resend_after": 0}

    login = verify(code)
    user = UserProfile.objects.get()
    assert login.status_code == 200
    assert set(login.json()) == {"access", "refresh", "user"}
    assert login.json()["user"] == {"id": user.pk, "username": f"user_{PHONE}", "phone_number": PHONE}
    assert not user.has_usable_password()
    client = APIClient(HTTP_AUTHORIZATION=f"Bearer {login.json()['access']}")
    assert client.get("/wallet/balance/").json()["balance"] == "0.00"


def test_sending_alone_makes_no_account():
    code_for()
    assert not UserProfile.objects.exists()


def test_the_next_login_is_to_the_same_account(asha):
    assert [verify(code_for()).json()["user"]["id"] for _ in range(2)] == [asha.pk, asha.pk]
    assert Wallet.objects.count() == 1


def test_a_username_that_is_taken_gets_a_number():
    accounts.create(phone_number="+919111111111", username=f"user_{PHONE}")
    accounts.create(phone_number="+919111111112", username=f"user_{PHONE}_2")
    accounts.create(phone_number="+919111111113", username=f"user_{PHONE}_4")
    assert verify(code_for()).json()["user"]["username"] == f"user_{PHONE}_3"


@pytest.mark.parametrize(("drawn", "code"), [(0, "000000"), (42, "000042"), (999_999, "999999")])
def test_a_code_is_six_digits_drawn_from_a_million(monkeypatch, drawn, code):
    bounds = []
    monkeypatch.setattr("secrets.randbelow", lambda bound: bounds.append(bound) or drawn)
    assert code_for() == code
    assert bounds == [1_000_000]
    assert outcome(verify(code)) == LOGGED_IN


def test_the_code_is_in_no_column_of_any_table(clock, monkeypatch):
    monkeypatch.setattr("secrets.randbelow", lambda bound: 271_828)
    assert verify(code_for()).status_code == 200
    assert send().json()["otp"] == "271828"
    stored = [str(value) for model in apps.get_models() for row in model.objects.values_list() for value in row]
    assert OTP.objects.last().salt in stored
    assert not [value for value in stored if "271828" in value]


@pytest.mark.parametrize("part", ["phone", "salt", "pepper"])
def test_what_is_stored_is_bound_to_phone_salt_and_a_secret(settings, part):
    code = code_for()
    if part == "phone":
        OTP.objects.update(phone_number=f"+91{OTHER_PHONE}")
    elif part == "salt":
        OTP.objects.update(salt="0" * 32)
    else:
        settings.OTP_PEPPER = "another secret"
    assert {outcome(verify(code, phone=phone)) for phone in (PHONE, OTHER_PHONE)} == {INVALID}


def test_the_same_code_is_stored_differently_each_time(monkeypatch):
    monkeypatch.setattr("secrets.randbelow", lambda bound: 271_828)
    for phone in (PHONE, PHONE, OTHER_PHONE):
        code_for(phone)
    assert len(set(OTP.objects.values_list("code_hash", flat=True))) == 3


@pytest.mark.parametrize(("age", "expected"), [(299, LOGGED_IN), (300, INVALID), (301, INVALID)])
def test_a_code_lives_five_minutes(clock, age, expected):
    code = code_for()
    clock.forward(seconds=age)
    assert outcome(verify(code)) == expected


@pytest.mark.parametrize(("tries", "expected"), [(4, LOGGED_IN), (5, INVALID)])
def test_five_wrong_attempts_invalidate_a_code(tries, expected):
    code = code_for()
    assert [outcome(verify(other_than(code))) for _ in range(tries)] == [INVALID] * tries
    assert outcome(verify(code)) == expected


def test_a_new_code_has_its_own_five_attempts():
    code = code_for()
    for _ in range(5):
        verify(other_than(code))
    assert outcome(verify(code_for())) == LOGGED_IN


def test_a_code_works_once():
    code = code_for()
    assert [outcome(verify(code)) for _ in range(2)] == [LOGGED_IN, INVALID]


def test_a_used_code_is_not_looked_at_again():
    code = code_for()
    for _ in range(2):
        verify(code)
    assert OTP.objects.get().attempts == 1


def test_an_attempt_counts_on_the_code_that_it_is_compared_with(monkeypatch):
    codes = iter([111111, 222222])
    monkeypatch.setattr("secrets.randbelow", lambda end: next(codes))
    code_for()
    arrived: list[bool] = []
    compare = otp._find_matching

    def another_arrives(*arguments):
        if not arrived:  # when the try has counted
            arrived.append(True)
            code_for()
        return compare(*arguments)

    monkeypatch.setattr(otp, "_find_matching", another_arrives)
    assert outcome(verify("222222")) == INVALID
    assert list(OTP.objects.order_by("id").values_list("attempts", flat=True)) == [1, 0]
    assert outcome(verify("222222")) == LOGGED_IN


def test_a_new_code_replaces_the_old(monkeypatch):
    drawn = iter([1, 2])
    monkeypatch.setattr("secrets.randbelow", lambda bound: next(drawn))
    old, new = code_for(), code_for()
    assert outcome(verify(old)) == INVALID
    assert outcome(verify(new)) == LOGGED_IN


def test_a_used_code_does_not_reactivate_the_one_before(monkeypatch):
    drawn = iter([1, 2])
    monkeypatch.setattr("secrets.randbelow", lambda bound: next(drawn))
    old, new = code_for(), code_for()
    verify(new)
    assert outcome(verify(old)) == INVALID


def test_a_code_is_of_one_phone(asha, ravi):
    assert outcome(verify(code_for(PHONE), phone=OTHER_PHONE)) == INVALID


def test_a_number_that_was_sent_nothing_learns_nothing_more():
    code = code_for()
    never_sent, wrong = verify(code, phone=OTHER_PHONE), verify(other_than(code))
    assert outcome(never_sent) == INVALID
    assert never_sent.json() == wrong.json()


@pytest.mark.parametrize(
    "otp",
    [
        123456, 123456.0, True, None, [], ["123456"], {"otp": "123456"}, "", "12345", "1234567", " 123456", "123456 ",
        "123456\n", "12345\0", "१२३४५६", "１２３４５６", "12345a", "+12345", "-12345", "1_2345", "12.345",
    ],
)  # fmt: skip
def test_a_code_is_six_ascii_digits_of_text(otp):
    problem = verify(otp)
    assert outcome(problem) == (400, "validation_error")
    assert set(problem.json()["errors"]) == {"otp"}


def test_a_malformed_code_is_no_attempt():
    code = code_for()
    for _ in range(30):
        verify(f"{code}\n")
    assert outcome(verify(code)) == LOGGED_IN


def test_other_countries_get_no_codes_unless_the_settings_say_so(settings):
    refused = send("+14155552671")
    assert outcome(refused) == (400, "validation_error")
    assert set(refused.json()["errors"]) == {"phone_number"}
    assert not OTP.objects.exists()
    settings.OTP_REGIONS = ["IN", "US"]
    login = verify(code_for("+1 415 555 2671"), phone="+14155552671")
    assert login.json()["user"]["username"] == "user_+14155552671"
    assert login.json()["user"]["phone_number"] == "+14155552671"


def test_known_unknown_and_deactivated_numbers_get_the_same(asha, ravi, gateway):
    accounts.set_active(ravi, False)
    answers, statements = [], []
    for phone in (PHONE, OTHER_PHONE, "9777777777"):
        with CaptureQueriesContext(connection) as queries:
            sent = send(phone)
        answers.append((sent.status_code, sent.json() | {"phone_number": None}))
        statements.append([query["sql"].split()[:3] for query in queries if "SAVEPOINT" not in query["sql"]])
    assert answers == [(201, {"phone_number": None, "expires_in": 300, "resend_after": 0})] * 3
    assert statements[0] == statements[1] == statements[2]
    assert len(gateway.received) == 3


def test_a_code_is_compared_in_constant_time_also_where_there_is_none(monkeypatch):
    compared = []
    compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", lambda *sides: compared.append(sides) or compare(*sides))
    assert outcome(verify("042042")) == INVALID
    (stored, guessed) = compared.pop()
    assert (len(stored), len(guessed)) == (64, 64)


def test_a_deactivated_account_does_not_log_in(ravi):
    accounts.set_active(ravi, False)
    assert outcome(verify(code_for(OTHER_PHONE), phone=OTHER_PHONE)) == INVALID
    assert not Login.objects.exists()


# --- How often codes are sent ---------------------------------------------------------------------


def test_a_send_inside_the_cool_down_sends_nothing_and_keeps_the_old_code(cooling, clock):
    code = code_for()
    clock.forward(seconds=29)
    refused = send()
    assert outcome(refused) == THROTTLED
    assert refused["Retry-After"] == "1"
    assert OTP.objects.count() == 1
    assert outcome(verify(code)) == LOGGED_IN


def test_the_cool_down_grows(cooling, clock):
    waits = []
    for _ in range(5):
        sent = send()
        waits.append(sent.json()["resend_after"])
        clock.forward(seconds=waits[-1] - 1)
        assert outcome(send()) == THROTTLED
        clock.forward(seconds=1)
    assert waits == [30, 60, 120, 240, 300]


def test_the_cool_down_is_of_one_phone_and_one_address(cooling, clock):
    code_for()
    assert [send(OTHER_PHONE).status_code, send(PHONE, ELSEWHERE).status_code] == [201, 201]
    assert outcome(send()) == THROTTLED


def test_refused_sends_do_not_use_up_the_caps(cooling, clock):
    code_for()
    for _ in range(20):
        assert outcome(send()) == THROTTLED
    clock.forward(seconds=30)
    assert send().json()["resend_after"] == 60


def test_a_caller_gets_five_codes_in_ten_minutes(capped, clock):
    for _ in range(5):
        code_for()
    clock.forward(seconds=60)
    refused = send()
    assert outcome(refused) == THROTTLED
    assert refused["Retry-After"] == "540"
    assert [send(OTHER_PHONE).status_code, send(PHONE, ELSEWHERE).status_code] == [201, 201]
    clock.forward(seconds=539)
    assert outcome(send()) == THROTTLED
    clock.forward(seconds=1)
    assert send().status_code == 201


def test_who_waits_as_long_as_the_answer_says_gets_a_code(capped, clock):
    for _ in range(5):
        code_for()
    clock.forward(seconds=598.6)
    refused = send()
    assert outcome(refused) == THROTTLED
    clock.forward(seconds=int(refused["Retry-After"]))
    assert send().status_code == 201


def test_a_caller_gets_ten_codes_a_day(capped, clock):
    for _ in range(2):
        for _ in range(5):
            code_for()
        clock.forward(minutes=10)
    refused = send()
    assert outcome(refused) == THROTTLED
    assert refused["Retry-After"] == str(24 * 3600 - 20 * 60)
    assert [send(OTHER_PHONE).status_code, send(PHONE, ELSEWHERE).status_code] == [201, 201]
    clock.forward(seconds=int(refused["Retry-After"]))
    assert send().status_code == 201


def test_a_phone_gets_twenty_codes_a_day_from_wherever(capped, clock):
    for n in range(20):
        code_for(PHONE, f"10.0.1.{n}")
    refused = send(PHONE, "10.0.2.1")
    assert outcome(refused) == THROTTLED
    assert send(OTHER_PHONE, "10.0.1.1").status_code == 201
    clock.forward(seconds=int(refused["Retry-After"]))
    assert send(PHONE, "10.0.2.1").status_code == 201


def test_an_address_gets_so_many_codes_an_hour_for_whatever_phones(settings, clock):
    settings.OTP_SENDS_PER_ADDRESS = 3
    for n in range(3):
        code_for(f"999999999{n}")
    refused = send("9999999993")
    assert outcome(refused) == THROTTLED
    assert refused["Retry-After"] == "3600"
    assert send("9999999993", ELSEWHERE).status_code == 201
    clock.forward(hours=1)
    assert send("9999999993").status_code == 201


def test_another_spelling_of_a_number_resets_no_cap(capped, clock):
    spellings = ["9999999999", "09999999999", "+919999999999", "00919999999999", "99999-99999", "(99999) 99999"]
    assert [send(spelling).status_code for spelling in spellings] == [201] * 5 + [429]


def test_while_developing_codes_are_sent_without_end():
    for _ in range(30):
        code = code_for()
    assert outcome(verify(code)) == LOGGED_IN


# --- How often codes are guessed ------------------------------------------------------------------


@pytest.mark.parametrize("caps", [True, False], ids=["production", "development"])
def test_a_caller_fails_twenty_times_an_hour(settings, clock, caps):
    settings.OTP_SENDS_CAPPED = caps
    assert [outcome(verify("123456")) for _ in range(20)] == [INVALID] * 20
    clock.forward(minutes=1)
    code = code_for()
    refused = verify(code)
    assert outcome(refused) == THROTTLED
    assert refused["Retry-After"] == str(59 * 60)
    assert outcome(verify(code_for(OTHER_PHONE), phone=OTHER_PHONE)) == LOGGED_IN
    assert outcome(verify(code, address=ELSEWHERE)) == LOGGED_IN
    clock.forward(minutes=59)
    assert outcome(verify(code_for())) == LOGGED_IN
    assert not UserProfile.objects.filter(is_active=False).exists()


def test_a_count_restored_twice_is_zero_and_not_less():
    taken = limits.consume([(otp.SENT, "all")])
    for _ in range(2):
        limits.restore(taken)
    assert Counter.objects.get().count == 0


def test_what_one_limit_refuses_counts_towards_none():
    most = limits.Limit("most", 0, otp.DAY)
    with pytest.raises(TooManyRequests):
        limits.consume([(otp.SENT, "all"), (most, "all")])
    assert limits.hits(otp.SENT, "all") == limits.hits(most, "all") == 0


def test_another_spelling_of_a_number_resets_no_count_of_failures(clock):
    spellings = ["9999999999", "09999999999", "+919999999999", "00919999999999", "99999-99999"]
    assert [outcome(verify("123456", phone=spelling)) for spelling in spellings * 4] == [INVALID] * 20
    assert [outcome(verify("123456", phone=spelling)) for spelling in spellings] == [THROTTLED] * 5


def test_an_address_fails_a_hundred_times_in_ten_minutes_over_all_phones(clock):
    phones = [f"99999999{n:02}" for n in range(100)]
    assert {outcome(verify("123456", phone=phone)) for phone in phones} == {INVALID}
    refused = verify(code_for(), phone=PHONE)
    assert outcome(refused) == THROTTLED
    assert refused["Retry-After"] == "600"
    assert outcome(verify(code_for(), address=ELSEWHERE)) == LOGGED_IN
    clock.forward(minutes=10)
    assert outcome(verify(code_for())) == LOGGED_IN


def test_logging_in_is_no_failure():
    assert {outcome(verify(code_for())) for _ in range(21)} == {LOGGED_IN}


# --- Delivery -------------------------------------------------------------------------------------


def test_the_gateway_gets_the_text_with_the_code(gateway, caplog):
    sent = send()
    assert sent.status_code == 201
    assert sent.json() == {"phone_number": PHONE, "expires_in": 300, "resend_after": 0}
    [(path, body)], [code] = gateway.received, gateway.codes
    assert path.startswith(("/%2B919999999999", "/+919999999999"))
    assert configured.OTP_SMS_TEXT.format(code=code, minutes=5) in body
    assert code not in printed(caplog) and PHONE not in printed(caplog)
    assert outcome(verify(code)) == LOGGED_IN


def test_a_service_of_ones_own_gets_the_same_with_and_without_apprise(gateway, settings):
    settings.OTP_SMS_URL = f"{gateway.url}/send"
    sms.send(to=f"+91{PHONE}", text="Your code is 1 für €2")
    settings.OTP_SMS_URL += "?method=post"
    sms.send(to=f"+91{PHONE}", text="Your code is 1 für €2")
    [(path, ours), (other_path, apprises)] = gateway.received
    assert path == other_path == f"/+91{PHONE}/send"
    assert json.loads(ours) == json.loads(apprises)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("json://localhost/{phone}", "http://localhost/{phone}"),
        ("JSONS://sms.example.com:8443/v1/{phone}/", "https://sms.example.com:8443/v1/{phone}/"),
        ("json://[::1]:8000/{phone}", "http://[::1]:8000/{phone}"),
        ("jsons://sms.example.com", "https://sms.example.com"),
        ("jsons://user:secret@sms.example.com/{phone}", ""),
        ("jsons://sms.example.com/{phone}?+Authorization=secret", ""),
        ("json://sms.example.com//{phone}", ""),
        ("json://sms.example.com/%2B/{phone}", ""),
        ("json:///{phone}", ""),
        ("xml://sms.example.com/{phone}", ""),
        ("https://sms.example.com/{phone}", ""),
        ("", ""),
    ],
)
def test_we_post_to_a_service_without_options_and_apprise_sends_all_else(settings, url, address):
    settings.OTP_SMS_URL = url
    assert sms._own_service() == address


@pytest.mark.parametrize(
    ("name", "value"),
    [("HTTPS_PROXY", "http://proxy:3128"), ("all_proxy", "socks5://proxy"), ("REQUESTS_CA_BUNDLE", "/etc/ca.pem")],
)
def test_proxies_and_certificates_that_only_its_library_knows_are_left_to_apprise(settings, monkeypatch, name, value):
    settings.OTP_SMS_URL = "jsons://sms.example.com/{phone}"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert sms._own_service()
    monkeypatch.setenv(name, value)
    assert not sms._own_service()


def test_an_operator_sees_that_the_gateway_works(gateway, capsys):
    call_command("send_test_sms", "098888 88888")
    assert capsys.readouterr().out == "The gateway accepted the message.\n"
    assert len(gateway.received) == 1


@pytest.fixture
def services():
    """Apprise's, of which none is loaded; afterwards it loads all where it needs one."""
    manager = apprise.NotificationManager()
    manager.unload_modules()
    yield manager
    manager.unload_modules()


@pytest.mark.parametrize(
    ("url", "name", "most"),
    [
        ("jsons://sms.example.com/{phone}?method=put", "NotifyJSON", 1),
        ("TWILIO://AC0123456789abcdef0123456789abcdef:token@15555550100/{phone}", "NotifyTwilio", 1),
        ("mailto://user:secret@example.com?to=sms@example.com", "NotifyEmail", 2),
        ("kodi://sms.example.com/{phone}", "NotifyXBMC", 200),
        ("https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", "NotifySlack", 200),
    ],
)
def test_a_server_loads_the_service_of_its_gateway_alone_where_its_module_can_be_told(
    settings, services, url, name, most
):
    settings.OTP_ECHO, settings.OTP_SMS_URL = False, url
    sms.load()
    assert 0 < len(list(services.plugins())) <= most
    loaded = apprise.Apprise.instantiate(url.replace("{phone}", "%2B919999999999"))
    services.unload_modules()
    assert type(loaded) is type(apprise.Apprise.instantiate(url.replace("{phone}", "%2B919999999999")))
    assert type(loaded).__name__ == name


@BOTH_WAYS
@pytest.mark.parametrize("trouble", ["refused", "down"])
def test_a_gateway_that_fails_leaves_everything_as_it_was(cooling, gateway, settings, clock, caplog, trouble, options):
    settings.OTP_SMS_URL = gateway.url + options
    assert send().status_code == 201
    clock.forward(seconds=30)
    before = counted()
    if trouble == "refused":
        gateway.status = 500
    else:
        settings.OTP_SMS_URL = f"json://127.0.0.1:{closed_port()}/{{phone}}{options}"

    failed = send()
    assert outcome(failed) == UNAVAILABLE
    assert int(failed["Retry-After"]) > 0
    assert OTP.objects.count() == 1
    assert counted() == before
    assert PHONE not in printed(caplog)
    assert outcome(verify(gateway.codes[0])) == LOGGED_IN

    gateway.status, settings.OTP_SMS_URL = 200, gateway.url
    assert send().json()["resend_after"] == 60


@BOTH_WAYS
def test_a_gateway_that_hangs_times_out_within_five_seconds(settings, options):
    settings.OTP_ECHO = False
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.OTP_SMS_URL = f"json://127.0.0.1:{silent.getsockname()[1]}/{{phone}}{options}"
        begun = time.monotonic()
        assert outcome(send()) == UNAVAILABLE
        assert time.monotonic() - begun < 5
    assert not OTP.objects.exists()


@BOTH_WAYS
def test_a_gateway_that_answers_byte_by_byte_times_out_too(settings, options):
    settings.OTP_ECHO = False

    def trickle(server: socket.socket) -> None:
        connection, _ = server.accept()
        with connection, suppress(BrokenPipeError, ConnectionResetError):
            for letter in b"HTTP/1.1 200 OK":
                connection.send(bytes([letter]))
                time.sleep(1)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=trickle, args=(server,))
        thread.start()
        settings.OTP_SMS_URL = f"json://127.0.0.1:{server.getsockname()[1]}/{{phone}}{options}"
        begun = time.monotonic()
        assert outcome(send()) == UNAVAILABLE
        assert time.monotonic() - begun < 5
        assert gone("message")  # and its thread ends at the next byte: a gateway could go on for ever
        thread.join()


def gone(name: str) -> bool:
    """Whether the threads of this name end within a few seconds."""
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline and name in (thread.name for thread in threading.enumerate()):
        time.sleep(0.05)
    return name not in (thread.name for thread in threading.enumerate())


@BOTH_WAYS
def test_more_messages_than_may_be_in_flight_are_refused_at_once(gateway, settings, caplog, options):
    settings.OTP_SMS_URL += options
    taken = [sms.in_flight.acquire(blocking=False) for _ in range(sms.MAX_IN_FLIGHT)]
    begun = time.monotonic()
    assert outcome(send()) == UNAVAILABLE
    assert time.monotonic() - begun < 1
    assert f"{sms.MAX_IN_FLIGHT} messages to the SMS gateway are in flight already" in caplog.text
    for _ in taken:
        sms.in_flight.release()
    assert send().status_code == 201
    assert len(gateway.received) == 1


@pytest.mark.django_db(transaction=True)
def test_no_transaction_is_open_while_the_gateway_is_called(gateway):
    seen = []
    gateway.before_answer = closing(lambda: seen.append(OTP.objects.filter(sent_at=None).count()))
    assert send().status_code == 201
    assert seen == [1]


@pytest.mark.django_db(transaction=True)
def test_the_old_code_works_until_the_new_one_is_delivered(gateway):
    send()
    outcomes = []
    gateway.before_answer = closing(lambda: outcomes.append(outcome(verify(gateway.codes[0]))))
    assert send().status_code == 201
    assert outcomes == [LOGGED_IN]
    assert outcome(verify(gateway.codes[1])) == LOGGED_IN


def printed(caplog: pytest.LogCaptureFixture) -> str:
    """The log as production writes it."""
    return "\n".join(JSONFormatter().format(record) for record in caplog.records)


def counted() -> set[tuple[str, int]]:
    """Name and count of the counters, except the cool-down, which stores when it ends."""
    return set(Counter.objects.exclude(name="otp_cooldown").values_list("name", "count"))


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


# --- At once --------------------------------------------------------------------------------------


def closing(call: Callable[[], Any]) -> Callable[[], Any]:
    """The call on a database connection of its own."""

    def run() -> Any:
        try:
            return call()
        finally:
            connection.close()

    return run


@pytest.mark.django_db(transaction=True)
def test_of_forty_wrong_codes_at_once_five_count_and_twenty_are_looked_at():
    code = code_for()
    outcomes = at_once(*[closing(lambda: outcome(verify(other_than(code))))] * 40)
    assert sorted(outcomes) == [INVALID] * 20 + [THROTTLED] * 20
    assert OTP.objects.get().attempts == 5
    assert outcome(verify(code, address=ELSEWHERE)) == INVALID


@pytest.mark.django_db(transaction=True)
def test_of_ten_first_logins_at_once_one_wins():
    for n in range(5):
        phone = f"999999999{n}"
        code = code_for(phone)
        outcomes = at_once(*[closing(lambda code=code, phone=phone: outcome(verify(code, phone)))] * 10)
        assert sorted(outcomes) == [LOGGED_IN] + [INVALID] * 9
        assert [model.objects.count() for model in (UserProfile, Wallet, Login)] == [n + 1] * 3


@pytest.mark.django_db(transaction=True)
def test_of_ten_sends_at_once_inside_the_cool_down_one_is_sent(cooling):
    outcomes = at_once(*[closing(lambda: outcome(send()))] * 10)
    assert sorted(outcomes, key=str) == [(201, None)] + [THROTTLED] * 9
    assert OTP.objects.count() == 1
