"""The door of the console: a password, and few guesses at it. Counted as everything is that guards a door."""

from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db.transaction import atomic
from unfold.forms import AuthenticationForm

from lokanetra.addresses import client_of
from users import limits
from users.exceptions import TooManyRequests
from users.limits import Limit

# Ten mistakes at one name are a bad day; more are a guesser, and one password here opens everything.
FAILURES_PER_CALLER = Limit("admin_fail_caller", 10, timedelta(minutes=15))
FAILURES_PER_ADDRESS = Limit("admin_fail_address", 100, timedelta(hours=1))


class LoginForm(AuthenticationForm):
    def clean(self) -> dict[str, Any]:
        """Counts the guess before the password is compared, and gives it back to who got in."""
        guesses = self._count()
        cleaned = super().clean()
        limits.restore(guesses)
        return cleaned

    def confirm_login_allowed(self, user: Any) -> None:
        super().confirm_login_allowed(user)
        if user.is_service:  # whatever password somebody gave it
            raise self.get_invalid_login_error()

    def _count(self) -> list[limits.Hit]:
        address = client_of(self.request)
        caller = f"{self.cleaned_data.get('username', '')} {address}"
        try:
            with atomic():  # of a guess that is refused, nothing counts for a moment either
                return limits.consume([(FAILURES_PER_CALLER, caller), (FAILURES_PER_ADDRESS, address)])
        except TooManyRequests as refused:
            raise ValidationError(str(refused.detail)) from None
