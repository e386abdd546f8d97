"""Shows an operator whether the SMS gateway works."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from users import phones, sms
from users.exceptions import SMSUnavailable


class Command(BaseCommand):
    help = "Send a test message through the gateway that OTP_SMS_URL names."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("phone", help="a mobile number in any usual spelling")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            sms.send(to=phones.parse(options["phone"]), text="A test message of Lokanetra: the gateway works.")
        except ValidationError as error:
            raise CommandError(f"{options['phone']!r}: {' '.join(error.messages)}") from None
        except SMSUnavailable:
            raise CommandError("The gateway did not accept the message. See OTP_SMS_URL and the log above.") from None
        self.stdout.write("The gateway accepted the message.")
