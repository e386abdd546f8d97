"""An error is reported to Sentry, without personal data."""

import gzip
import json
from contextlib import ExitStack
from http.client import HTTPConnection

import pytest

from lokanetra import sentry
from lokanetra.tests.live import live_server, own_postgres, wait_for
from transactions.tests.receivers import Receiver, receiver


def texts(sentry: Receiver) -> list[str]:
    """The requests that it received."""
    return [(gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body).decode() for _, body in sentry.requests]


@pytest.mark.slow
def test_a_server_error_is_reported_without_phones_and_tokens():
    with receiver() as taken, own_postgres() as database, ExitStack() as stack:
        dsn = taken.url.replace("http://", "http://key@").replace("/events", "/1")
        server = stack.enter_context(live_server(database.url, workers=1, SENTRY_DSN=dsn))
        phone = "9866000001"
        token = server.log_in(phone)
        fields = "&".join(f"a{number}={phone}" for number in range(1500))
        connection = HTTPConnection("127.0.0.1", server.port, timeout=30)
        connection.request("GET", f"/transactions/?{fields}", headers={"Authorization": f"Bearer {token}"})
        assert connection.getresponse().status == 400
        connection.close()
        wait_for(lambda: any("TooManyFieldsSent" in text for text in texts(taken)))
        for secret in (phone, token, server.codes[phone], "127.0.0.1:5"):
            assert [text for text in texts(taken) if secret in text] == []


def test_personal_data_is_removed_or_masked():
    event = {
        "message": "code sent to +919999999999",
        "user": {"id": 7, "ip_address": "192.0.2.1"},
        "extra": {"fields": {"address": "192.0.2.1"}},
        "breadcrumbs": {"values": [{"message": "9999999999"}]},
        "request": {
            "method": "POST",
            "url": "http://h/9999999999",
            "query_string": "phone=9999999999",
            "headers": {"Authorization": "Bearer eyJh.eyJi.c"},
            "cookies": {"sessionid": "s"},
            "data": {"otp": "123456"},
        },
        "exception": {"values": [{"type": "KeyError", "value": "eyJh.eyJi.c of 9999999999"}]},
    }
    reported = json.dumps(sentry.without_people(event, {}))
    for secret in ("9999999999", "eyJh", "123456", "192.0.2.1", "sessionid"):
        assert secret not in reported
    assert "KeyError" in reported and "[token] of" in reported and "POST" in reported
