"""A clock that is stopped until a test moves it."""

from datetime import datetime, timedelta

import pytest
from django.utils import timezone


class Clock:
    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **time: float) -> None:
        self.now += timedelta(**time)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Stopped at the last midnight, when every window of a limit begins."""
    clock = Clock(timezone.now().replace(hour=0, minute=0, second=0, microsecond=0))
    monkeypatch.setattr("django.utils.timezone.now", clock)
    return clock
