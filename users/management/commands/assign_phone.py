"""Assigns phone numbers to accounts, so that they can log in: to one, to those of a file, or interactively."""

import csv
import io
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from lokanetra.plurals import how_many, verb
from users import accounts, phones
from users.models import UserProfile

HEADER = ["username", "phone_number"]


class Command(BaseCommand):
    help = (
        "Assign phone numbers to accounts: to one, to those of a file, or, on a terminal without arguments, to each "
        "account that has none. A number that is taken or not valid is refused. Logins of a changed account end."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", nargs="?")
        parser.add_argument("phone", nargs="?", help="a mobile number in any usual spelling")
        parser.add_argument("--file", type=Path, help="CSV with the header username,phone_number: all rows or none")
        parser.add_argument("--dry-run", action="store_true", help="say what would change, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        username, phone, file = options["username"], options["phone"], options["file"]
        if file and username is None:
            self._assign_file(file, options["dry_run"])
        elif username is not None and phone is not None and not file:
            self._assign(username, phone, options["dry_run"])
        elif username is None and not file and sys.stdin.isatty():
            self._ask(options["dry_run"])
        else:
            raise CommandError(
                "Say USERNAME PHONE, or --file FILE; without either it asks, on a terminal.", returncode=2
            )

    # --- One account, or each that has no phone ---------------------------------------------------------

    def _assign(self, username: str, phone: str, dry_run: bool) -> None:
        user = UserProfile.objects.filter(username=username).first()
        if user is None:
            raise CommandError(f"There is no user {username!r}.")
        try:
            accounts.assign_phones({username: phones.parse(phone)}, dry_run=dry_run)
        except ValidationError as error:
            raise CommandError(f"{phone!r}: {' '.join(error.messages)}") from None
        logs_in = "would log in" if dry_run else "now logs in"
        self.stdout.write(f"{username} {logs_in} with {phones.show(phones.parse(phone))}.")

    def _ask(self, dry_run: bool) -> None:
        waiting = UserProfile.objects.filter(phone_number=None).order_by("username").values_list("username", flat=True)
        have = verb(len(waiting), "has", "have")
        self.stdout.write(
            f"{how_many(len(waiting), 'account')} {have} no phone number. Nothing typed leaves one as it is."
        )
        for username in waiting:
            while phone := input(f"{username}: ").strip():
                try:
                    self._assign(username, phone, dry_run)
                    break
                except CommandError as error:
                    self.stderr.write(str(error))

    # --- A file ------------------------------------------------------------------------------------------

    def _assign_file(self, path: Path, dry_run: bool) -> None:
        rows = _rows(path)
        wanted, errors = _read(rows)
        lines = {row[0]: line for line, row in rows if row}
        try:
            changed = accounts.assign_phones(wanted, dry_run=dry_run or bool(errors))
        except ValidationError as error:
            errors += [(lines[name], f"{name}: {' '.join(texts)}") for name, texts in error.message_dict.items()]
        if errors:
            for line, why in sorted(errors):
                self.stderr.write(f"line {line}: {why}")
            raise CommandError(f"{how_many(len(errors), 'bad row')} in {path}: nothing was changed.")
        done = "would be changed" if dry_run else "changed"
        self.stdout.write(self.style.SUCCESS(f"{changed:,} of {how_many(len(wanted), 'account')} {done}."))


Errors = list[tuple[int, str]]


def _rows(path: Path) -> list[tuple[int, list[str]]]:
    """The rows of the file below its header, with their line numbers. Raises CommandError."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise CommandError(f"line {line}: this is not UTF-8. Nothing was changed.") from None
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:
        raise CommandError(f"line {reader.line_num}: {error}. Nothing was changed.") from None
    if not rows or rows[0][1] != HEADER:
        raise CommandError(f"The first line of {path} must be {','.join(HEADER)}. Nothing was changed.")
    return [(line, row) for line, row in rows[1:] if row]


def _read(rows: list[tuple[int, list[str]]]) -> tuple[dict[str, str], Errors]:
    """The E.164 number of each username, for the rows that are valid, and the errors of the others."""
    wanted: dict[str, str] = {}
    errors: Errors = []
    counts = Counter(cell for _, row in rows for cell in row[:1])
    owners: dict[str, int] = {}
    for line, row in tqdm(rows, unit="row", disable=None):
        try:
            username, phone = _cells(row, counts)
            first = owners.setdefault(phone, line)
            if first != line:
                raise ValidationError(f"this phone number is in line {first} already")
            wanted[username] = phone
        except ValidationError as error:
            errors.append((line, f"{','.join(row)}: {' '.join(error.messages)}"))
    return wanted, errors


def _cells(row: list[str], counts: Counter[str]) -> tuple[str, str]:
    if len(row) != len(HEADER) or not all(row):
        raise ValidationError("a row has a username and a phone number")
    if counts[row[0]] > 1:
        raise ValidationError("this username is there more than once")
    return row[0], phones.parse(row[1])
