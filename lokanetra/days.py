"""Days and months in `TIME_ZONE`: which one a moment belongs to, when each begins, and how to parse them."""

import re
from datetime import UTC, date, datetime, time, timedelta

from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime


def day_of(moment: datetime) -> date:
    return moment.astimezone(timezone.get_default_timezone()).date()


def today() -> date:
    return day_of(timezone.now())


def start_of(day: date) -> datetime:
    """The first instant of a day, which is not midnight where the clocks go forward then."""
    if day == date.min:  # east of Greenwich it starts in the year 0
        return datetime.min.replace(tzinfo=UTC)
    return datetime.combine(day, time.min, timezone.get_default_timezone()).astimezone(UTC)


def end_of(day: date) -> datetime:
    """The last instant of a day."""
    if day == date.max:  # no later date can be represented
        return datetime.max.replace(tzinfo=UTC)
    return start_of(next_day(day)) - datetime.resolution


def instant_before(day: date) -> datetime:
    """The last instant before a day."""
    return max(start_of(day), start_of(date.min) + datetime.resolution) - datetime.resolution


def last_time_at(at: time) -> datetime:
    """When it was last this time of day."""
    today = day_of(timezone.now())
    times = [datetime.combine(day, at, timezone.get_default_timezone()) for day in (today, today - timedelta(days=1))]
    return next(moment.astimezone(UTC) for moment in times if moment <= timezone.now())


def next_day(day: date) -> date:
    return day + timedelta(days=1)


def month_of(day: date) -> date:
    """The first day of its month."""
    return day.replace(day=1)


def next_month(day: date) -> date:
    """The first day of the next month."""
    return month_of(month_of(day) + timedelta(days=31))


def parse_month(text: str) -> date:
    """The first day of a month such as 2026-01. Raises ValueError."""
    if not re.fullmatch("[0-9]{4}-[0-9]{2}", text, re.ASCII):
        raise ValueError(text)
    return date.fromisoformat(f"{text}-01")


def parse_day(text: str) -> date:
    """A day such as 2026-01-31. Raises ValueError."""
    if not re.fullmatch("[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
        raise ValueError(text)
    return date.fromisoformat(text)


def parse_span(text: str) -> tuple[datetime, datetime]:
    """The first and the last instant of a date or a time. A time without a zone is in `TIME_ZONE`.

    Raises ValueError.
    """
    text.encode("ascii")  # Django also reads the digits of other scripts
    day = parse_date(text)
    if day:
        return start_of(day), end_of(day)
    moment = _moment(text)
    return moment, moment


def _moment(text: str) -> datetime:
    moment = parse_datetime(text)
    if moment is None:
        raise ValueError(text)
    try:
        return moment.replace(tzinfo=moment.tzinfo or timezone.get_default_timezone()).astimezone(UTC)
    except OverflowError:
        raise ValueError(text) from None
