"""Prepares a production server's start, in one process."""

from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    help = "Refuse unsafe settings, and collect the static files. The server's script does this at each start."
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("check", deploy=True, databases=["default"], fail_level="ERROR")
        call_command("collectstatic", interactive=False, verbosity=0)
