"""Removes stale rows: expired codes, ended logins, old counters and old events."""

from datetime import timedelta
from typing import Any

from django.core.management.base import BaseCommand
from django.db.models import Q
from django.utils import timezone

from lokanetra.plurals import how_many
from transactions import events
from users import limits
from users.models import OTP, Counter, Login
from users.tokens import LOGIN_LIFETIME

# The longest window of any limit is a day, so nothing older than two days counts.
KEPT = timedelta(days=2)


def prune() -> dict[str, int]:
    """Remove stale rows and return how many of each kind."""
    now = timezone.now()
    old_window = Q(window_start__lt=now - KEPT) & ~Q(name=limits.COOLDOWN)
    cooldown_over = Q(name=limits.COOLDOWN, count__lt=now.timestamp() - KEPT.total_seconds())
    stale = {
        "code": OTP.objects.filter(expires_at__lt=now - KEPT),
        "login": Login.objects.filter(Q(created_at__lt=now - LOGIN_LIFETIME) | Q(ended_at__lt=now - KEPT)),
        "counter": Counter.objects.filter(old_window | cooldown_over),
    }
    return {name: rows.delete()[0] for name, rows in stale.items()} | {"event": events.prune()}


class Command(BaseCommand):
    help = "Remove expired codes, ended logins, old counters and old events. Safe at any time, and to repeat."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write("Removed " + ", ".join(how_many(count, name) for name, count in prune().items()) + ".")
