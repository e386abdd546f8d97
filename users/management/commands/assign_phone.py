"""Gives an account its phone number, so that it can log in with a one-time password."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from users import accounts, phones
from users.models import UserProfile


class Command(BaseCommand):
    help = "Assign a phone number to an account; a number that is taken or not valid is refused."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username")
        parser.add_argument("phone", help="a mobile number in any usual spelling")

    def handle(self, *args: Any, **options: Any) -> None:
        user = UserProfile.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"There is no user {options['username']!r}.")
        try:
            accounts.assign_phone(user, phones.parse(options["phone"]))
        except ValidationError as error:
            raise CommandError(f"{options['phone']!r}: {' '.join(error.messages)}") from None
        self.stdout.write(f"{user.username} now logs in with {user.phone}.")
