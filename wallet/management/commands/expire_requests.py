"""Closes expired requests for money. They are expired without it: it updates their rows and records the events."""

from typing import Any

from django.core.management.base import BaseCommand

from lokanetra.plurals import how_many
from wallet import requests


def expire() -> int:
    """Close the expired requests, the oldest first. Returns how many. Locked ones wait for the next run."""
    closed = 0
    while count := requests.expire():
        closed += count
    return closed


class Command(BaseCommand):
    help = "Close the expired requests for money."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(self.style.SUCCESS(f"{how_many(expire(), 'request')} closed."))
