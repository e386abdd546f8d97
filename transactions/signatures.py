"""How a receiver of webhooks knows that they are ours: the headers of Standard Webhooks, and the secrets that sign."""

import secrets as random
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


class SecretUnreadable(ValueError):
    """Raised when there is no secret, or one that was encrypted with a key that is gone."""


def new_secret() -> str:
    """32 random bytes."""
    return f"whsec_{b64encode(random.token_bytes(32)).decode()}"


def headers(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """What goes along with `body`, signed with each of the secrets; `at` knows its time zone.

    Raises SecretUnreadable.
    """
    if not secrets or not all(secrets):
        raise SecretUnreadable("The secret cannot be read: rotate it.")
    moment = at.astimezone(UTC)  # the library takes the digits of any other zone for UTC
    signatures = [Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
