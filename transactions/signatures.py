"""Signatures by which receivers verify our webhooks: the headers of Standard Webhooks, and the secrets."""

import secrets as random
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime

from standardwebhooks import Webhook


class SecretUnreadable(ValueError):
    """Raised when there is no secret, or it was encrypted with a key that no longer exists."""


def new_secret() -> str:
    """32 random bytes."""
    return f"whsec_{b64encode(random.token_bytes(32)).decode()}"


def headers(secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The headers for `body`, signed with each of the secrets; `at` must have a time zone.

    Raises SecretUnreadable.
    """
    if not secrets or not all(secrets):
        raise SecretUnreadable("The secret cannot be read: rotate it.")
    moment = at.astimezone(UTC)  # the library ignores the zone and treats any time as UTC
    signatures = [Webhook(secret).sign(message_id, moment, body.decode()) for secret in secrets]
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(signatures),
    }
