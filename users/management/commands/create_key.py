"""Creates a key for a machine, and its service account if there is none."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.transaction import atomic

from users import keys


class Command(BaseCommand):
    help = (
        "Create an API key of a service account, and the account if there is none. The key is written to standard "
        "output, only now: it cannot be shown again. All else goes to standard error."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("account", help="the username of the service account")
        parser.add_argument("--name", required=True, help="what the key is for, such as the machine that has it")
        parser.add_argument("--days", type=int, default=365, help="how long it is valid (365)")
        parser.add_argument(
            "--permission",
            action="append",
            default=[],
            metavar="APP.CODENAME",
            help="a right to give to the account, such as wallet.adjust_wallet; repeatable",
        )
        parser.add_argument(
            "--network",
            action="append",
            default=[],
            metavar="CIDR",
            help="accept it from this network only; repeatable",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with atomic():
                account = keys.service_account(options["account"])
                keys.grant(account, *options["permission"])
                key, text = keys.create(
                    account, name=options["name"], days=options["days"], networks=",".join(options["network"])
                )
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stderr.write(
            f"A key of {account.username}, valid until {key.expires_at:%Y-%m-%d}. Keep it: it is shown once."
        )
        self.stdout.write(text)
