"""Closes requests for money that are over. That they are is true without it: it tidies their rows and tells of it."""

from typing import Any

from django.core.management.base import BaseCommand

from lokanetra.plurals import how_many
from wallet import requests


def expire() -> int:
    """Close the requests that are over, those first that have been for longest: how many. What somebody is at just now
    waits for the next time."""
    closed = 0
    while count := requests.expire():
        closed += count
    return closed


class Command(BaseCommand):
    help = "Close the requests for money that are over."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(self.style.SUCCESS(f"{how_many(expire(), 'request')} closed."))
