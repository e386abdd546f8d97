"""The login form of the console: a password, with a limited number of attempts."""

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.transaction import atomic
from unfold.forms import AuthenticationForm

from lokanetra.addresses import client_of
from users import limits
from users.exceptions import TooManyRequests
from users.limits import Limit

# Ten mistakes with one name can happen; more are guesses, and one password here gives access to everything.
FAILURES_PER_CALLER = Limit("admin_fail_caller", 10, timedelta(minutes=15))
FAILURES_PER_ADDRESS = Limit("admin_fail_address", 100, timedelta(hours=1))


class LoginForm(AuthenticationForm):
    def clean(self) -> dict[str, Any]:
        """Count the attempt before the password is compared, and restore it after a successful login."""
        attempt = self._count_attempt()
        cleaned = super().clean()
        limits.restore(attempt)
        return cleaned

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        if user.is_service:  # even with a password
            raise self.get_invalid_login_error()

    def _count_attempt(self) -> list[limits.Hit]:
        address = client_of(self.request)
        caller = f"{self.cleaned_data.get('username', '')} {address}"
        try:
            with atomic():  # of a guess that is refused, nothing counts for a moment either
                return limits.consume([(FAILURES_PER_CALLER, caller), (FAILURES_PER_ADDRESS, address)])
        except TooManyRequests as refused:
            raise ValidationError(str(refused.detail)) from None
