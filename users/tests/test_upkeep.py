"""What an operator runs at night or by hand: old rows are removed, and the gateway is tested."""

from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from users import limits, otp, tokens
from users.models import OTP, Counter, Login


def later(monkeypatch, **ago):
    moment = timezone.now() + timedelta(**ago)
    monkeypatch.setattr(timezone, "now", lambda: moment)


@pytest.fixture
def traces(asha, settings):
    """A code that was requested, a login, and the counters of both."""
    settings.OTP_SENDS_CAPPED, settings.OTP_COOLDOWN = True, 30
    otp.send(phone_number=asha.phone_number, address="127.0.0.1")
    tokens.issue(asha)


def prune() -> str:
    out = StringIO()
    call_command("prune", stdout=out)
    return out.getvalue()


def test_nothing_that_still_counts_is_pruned(traces, monkeypatch):
    later(monkeypatch, hours=23)
    assert prune() == "Removed 0 codes, 0 logins, 0 counters, 0 events.\n"


def test_codes_and_counters_go_after_two_days(traces, monkeypatch):
    assert Counter.objects.filter(name=limits.COOLDOWN).exists()
    later(monkeypatch, days=4)
    assert prune() == "Removed 1 code, 0 logins, 5 counters, 0 events.\n"
    assert not OTP.objects.exists()
    assert not Counter.objects.exists()


def test_logins_go_when_they_have_ended(traces, asha, monkeypatch):
    tokens.issue(asha)
    Login.objects.filter(pk=Login.objects.earliest("pk").pk).update(ended_at=timezone.now())
    later(monkeypatch, days=3)
    assert "1 login," in prune()
    later(monkeypatch, days=29)
    assert "1 login," in prune()


def test_a_test_message_says_whether_the_gateway_accepted_it(settings):
    settings.OTP_SMS_URL = "json://127.0.0.1:9/{phone}"
    with pytest.raises(CommandError, match="did not accept"):
        call_command("send_test_sms", "9999999999")
    with pytest.raises(CommandError, match="no such phone number"):
        call_command("send_test_sms", "12345")


def test_at_the_end_of_the_budget_known_numbers_still_get_codes(asha, settings, nobody, caplog):
    settings.OTP_SENDS_PER_DAY = 2
    send = lambda turn: nobody.post("/auth/send-otp/", {"phone_number": f"987000000{turn}"}).status_code  # noqa: E731
    assert [send(turn) for turn in range(2)] == [201, 201]
    assert "budget" not in caplog.text
    assert send(2) == 429
    assert "the day's budget of 2 messages is spent" in caplog.text
    assert nobody.post("/auth/send-otp/", {"phone_number": "9999999999"}).status_code == 201


def test_codes_sent_and_verified_are_counted_by_day(asha, nobody):
    for phone in ("9999999999", "9999999999", "9888888888"):
        code = nobody.post("/auth/send-otp/", {"phone_number": phone}).json()["otp"]
    assert nobody.post("/auth/verify-otp/", {"phone_number": "9888888888", "otp": code}).status_code == 200
    assert dict(Counter.objects.filter(key="all").values_list("name", "count")) == {"otp_sent": 3, "otp_verified": 1}
