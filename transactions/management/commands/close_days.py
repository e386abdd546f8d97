"""Sums the days that are over, for the charts of the console."""

from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.dateparse import parse_date
from tqdm import tqdm

from lokanetra.plurals import how_many
from transactions import volumes


class Command(BaseCommand):
    help = "Sum what moved on each day that is over, for the charts of the console. Run it soon after midnight."

    def add_arguments(self, parser: CommandParser) -> None:
        choice = parser.add_mutually_exclusive_group()
        choice.add_argument("--since", metavar="DAY", help="sum again from this day on, such as 2026-01-31")
        choice.add_argument("--again", action="store_true", help="sum all days again, as after a change of TIME_ZONE")

    def handle(self, *args: Any, since: str | None, again: bool, **options: Any) -> None:
        if since or again:
            volumes.delete_since(date.min if again else _day(since))
        days = volumes.unsummed_days()
        for day in tqdm(days, unit="day", disable=None):
            volumes.close(day)
        self.stdout.write(self.style.SUCCESS(f"{how_many(len(days), 'day')} summed."))


def _day(text: Any) -> date:
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None:
        raise CommandError(f"{text} is not a day: write it as 2026-01-31.")
    return day
