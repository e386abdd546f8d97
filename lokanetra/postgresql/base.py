"""Django's PostgreSQL, but a connection is asked whether it still lives only when it has rested. While one request
follows the other, the question would cost each of them a round trip."""

from time import monotonic

from django.db.backends.postgresql import base

# Seconds. A server that restarts within them breaks requests that are under way anyway.
REST = 1.0


class DatabaseWrapper(base.DatabaseWrapper):
    used_at = float("-inf")

    def close_if_health_check_failed(self) -> None:
        now = monotonic()
        if now - self.used_at <= REST:
            self.health_check_done = True  # for this request; asked in its midst, it would open a transaction
        self.used_at = now
        super().close_if_health_check_failed()
