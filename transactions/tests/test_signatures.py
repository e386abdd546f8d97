"""A receiver that has one of the secrets can verify that a webhook is ours, unchanged and recent."""

from base64 import b64decode
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from lokanetra.encrypted import EncryptedField
from transactions.signatures import SecretUnreadable, headers, new_secret

BODY = '{"id": 7, "data": {"remarks": "चाय ☕"}}'.encode()


def now():
    return datetime.now(UTC)


def test_a_secret_is_new_each_time_and_has_32_bytes():
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {len(b64decode(secret.removeprefix("whsec_"), validate=True)) for secret in secrets} == {32}
    assert all(secret.startswith("whsec_") for secret in secrets)


@pytest.mark.parametrize("hours", [0, 5.5, -8])
def test_each_secret_alone_verifies_whatever_the_time_zone(hours):
    secrets = [new_secret(), new_secret()]
    signed = headers(secrets, "evt_7", now().astimezone(timezone(timedelta(hours=hours))), BODY)
    for secret in secrets:
        assert Webhook(secret).verify(BODY, signed)["id"] == 7
    assert len(signed["webhook-signature"].split(" ")) == 2
    with pytest.raises(WebhookVerificationError):
        Webhook(new_secret()).verify(BODY, signed)


@pytest.mark.parametrize("changed", ["webhook-id", "webhook-timestamp", "body"])
def test_a_changed_message_does_not_verify(changed):
    secret = new_secret()
    signed = headers([secret], "evt_7", now(), BODY)
    others = {"webhook-id": "evt_8", "webhook-timestamp": str(int(signed["webhook-timestamp"]) - 1)}
    body = BODY.replace(b"7", b"8") if changed == "body" else BODY
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        Webhook(secret).verify(body, signed | {name: value for name, value in others.items() if name == changed})


def test_the_example_of_the_specification_is_signed_as_there():
    at = datetime.fromtimestamp(1614265330, UTC)
    signed = headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"], "msg_p5jXN8AQM9LWM0D4loKWxJek", at, b'{"test": 2432232314}'
    )
    assert signed == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


@pytest.mark.parametrize("secrets", [[], [""], [None]])
def test_without_a_readable_secret_nothing_is_signed(secrets):
    with pytest.raises(SecretUnreadable, match="The secret cannot be read: rotate it"):
        headers(secrets, "evt_7", now(), BODY)


def test_a_secret_whose_key_is_gone_says_so(settings):
    column = EncryptedField().get_prep_value(new_secret())
    settings.SECRET_KEY = "another-secret-key-that-is-long-enough-to-be-taken-here"
    with pytest.raises(SecretUnreadable):
        headers([EncryptedField().from_db_value(column, None, None)], "evt_7", now(), BODY)
