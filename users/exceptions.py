"""The rules of logging in: one class per rule, raised when it is broken."""

from math import ceil

from django.core.exceptions import ValidationError
from rest_framework import status

from lokanetra.errors import Problem

# The challenge that belongs to every 401, as RFC 6750 words it.
CHALLENGE = 'Bearer error="invalid_token"'


class OTPInvalid(Problem):
    """Raised when a code is wrong, expired, used, exhausted or was never sent: the caller learns nothing more."""

    status_code = status.HTTP_400_BAD_REQUEST
    default_code = "otp_invalid"
    default_detail = "This code is not valid. Ask for a new one."


class TokenNotValid(Problem):
    """Raised when a token is malformed, expired, of another kind, or of a login or account that has ended."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_code = "token_not_valid"
    auth_header = CHALLENGE
    default_detail = "This token is not valid. Log in again."


class TokenReused(Problem):
    """Raised when a refresh token is used a second time."""

    status_code = status.HTTP_401_UNAUTHORIZED
    default_code = "token_reused"
    auth_header = CHALLENGE
    default_detail = "This refresh token was used already. Use the one that its first use gave."


class TooManyRequests(Problem):
    """Raised when a rate limit is reached; `wait` is in seconds."""

    status_code = status.HTTP_429_TOO_MANY_REQUESTS
    default_code = "throttled"
    default_detail = "Too many requests."

    def __init__(self, wait: float, why: str = default_detail) -> None:
        self.wait = max(1, ceil(wait))
        super().__init__(f"{why} Try again in {self.wait} seconds.")


class LastSuperuser(ValidationError):
    """Raised when a change would leave no active superuser: nobody else could undo it."""

    def __init__(self, field: str) -> None:
        super().__init__({field: "This is the last active superuser: make another one first."})


class SMSUnavailable(Problem):
    """Raised when the gateway refused, hung or was down; an earlier code stays valid."""

    status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    default_code = "sms_unavailable"
    default_detail = "The message could not be sent. Try again in a moment."
