"""Proves the books: every balance is what the ledger says, and the ledger of every wallet is one unbroken chain, in the
order of its times.

Reads one snapshot of the database, so payments go on meanwhile and do not disturb it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.models import Max, Sum
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from tqdm import tqdm

from lokanetra.plurals import how_many, verb
from transactions.models import CREDIT, DEBIT, Transaction
from users.models import UserProfile
from wallet.models import LedgerCheck, Wallet
from wallet.money import DECIMAL_PLACES, show

# Wallets that one query looks at: few enough for a moving progress bar, many enough to read indexes in long ranges.
BATCH = 2_000

# A wallet's rows in order, each beside the balance that the row before it left. These columns count paise.
BOOKS = """
    WITH entry AS (
        SELECT sender_id AS wallet_id, id, timestamp, -amount AS change, sender_balance AS after
        FROM transactions_transaction WHERE sender_id BETWEEN %(first)s AND %(last)s {since}
        UNION ALL
        SELECT receiver_id, id, timestamp, amount, receiver_balance
        FROM transactions_transaction WHERE receiver_id BETWEEN %(first)s AND %(last)s {since}
    ), chain AS (
        SELECT wallet_id, change, after,
               lag(after) OVER (PARTITION BY wallet_id ORDER BY id) AS before,
               CASE WHEN timestamp < lag(timestamp) OVER (PARTITION BY wallet_id ORDER BY id) THEN 1 ELSE 0 END AS back,
               row_number() OVER (PARTITION BY wallet_id ORDER BY id DESC) AS from_end
        FROM entry
    ), book AS (
        SELECT wallet_id, count(*) AS entries, sum(change) AS total,
               sum(CASE WHEN coalesce(before, {opening}) + change = after THEN 0 ELSE 1 END) AS gaps,
               sum(back) AS steps_back, max(CASE WHEN from_end = 1 THEN after END) AS latest
        FROM chain GROUP BY wallet_id
    )
    SELECT wallet.id, account.username, wallet.balance, book.total, book.latest, book.gaps, book.steps_back
    FROM wallet_wallet AS wallet
    JOIN users_userprofile AS account ON account.id = wallet.user_id
    LEFT JOIN book ON book.wallet_id = wallet.id
    WHERE wallet.id BETWEEN %(first)s AND %(last)s AND ({wrong} OR book.steps_back > 0)
    ORDER BY wallet.id
"""
WHOLE = {
    "since": "",
    "opening": "0",
    "wrong": "wallet.balance <> coalesce(book.total, 0) OR wallet.balance <> coalesce(book.latest, 0) OR book.gaps > 0",
}
# What a wallet held before is not looked at, so the sum of its rows says nothing; the chain and its end still do.
SINCE = {
    "since": "AND timestamp >= %(since)s",
    "opening": "after - change",
    "wrong": "wallet.balance <> coalesce(book.latest, wallet.balance) OR book.gaps > 0",
}


@dataclass
class Report:
    """What was looked at, and all that disagrees. Amounts are rupees, as strings."""

    wallets: int = 0
    disagreements: list[dict[str, Any]] = field(default_factory=list)
    users_without_wallet: list[str] = field(default_factory=list)
    credits_minus_debits: str | None = None
    sum_of_balances: str | None = None

    @property
    def ok(self) -> bool:
        return not self.complaints()

    def complaints(self) -> list[str]:
        found = [
            "wallet {wallet} of {user}: balance {balance}, sum of its rows {sum_of_rows}, after its last row "
            "{after_last_row}, breaks in its chain {breaks}, steps back in time {steps_back}".format(**row)
            for row in self.disagreements
        ]
        found += [f"user {username} has no wallet" for username in self.users_without_wallet]
        if self.credits_minus_debits != self.sum_of_balances:
            found.append(
                f"credits minus debits are {self.credits_minus_debits}, the balances sum to {self.sum_of_balances}"
            )
        return found


def check(*, wallet: int | None = None, since: datetime | None = None, progress: bool = False) -> Report:
    """Compare the wallets (one, or all) with the ledger (whole, or since a time), in one snapshot."""
    with snapshot():
        report = Report()
        for first, last in _batches(wallet, progress):
            report.wallets += Wallet.objects.filter(pk__range=(first, last)).count()
            report.disagreements += _wrong(first, last, since)
        if wallet is None and since is None:
            _check_whole(report)
        return report


@contextmanager
def snapshot() -> Iterator[None]:
    """A read-only view of one moment, which blocks nobody: Django's own transactions queue as writers on SQLite."""
    if connection.in_atomic_block:
        yield
        return
    postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if postgresql else "BEGIN")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def _batches(wallet: int | None, progress: bool) -> Iterator[tuple[int, int]]:
    if wallet is not None:
        yield wallet, wallet
        return
    end = Wallet.objects.aggregate(end=Max("pk"))["end"] or 0
    # None: a bar on a terminal only.
    with tqdm(total=end, unit="wallet", disable=None if progress else True) as bar:
        for first in range(1, end + 1, BATCH):
            last = min(first + BATCH - 1, end)
            yield first, last
            bar.update(last - first + 1)


def _wrong(first: int, last: int, since: datetime | None) -> list[dict[str, Any]]:
    query = BOOKS.format(**(SINCE if since else WHOLE))
    moment = connection.ops.adapt_datetimefield_value(since) if since else None
    with connection.cursor() as cursor:
        cursor.execute(query, {"first": first, "last": last, "since": moment})
        return [_disagreement(*row) for row in cursor.fetchall()]


def _disagreement(
    wallet: int, user: str, balance: int, total: Any, latest: Any, breaks: Any, steps_back: Any
) -> dict[str, Any]:
    return {
        "wallet": wallet,
        "user": user,
        "balance": _rupees(balance),
        "sum_of_rows": _rupees(total),
        "after_last_row": _rupees(latest),
        "breaks": int(breaks or 0),
        "steps_back": int(steps_back or 0),
    }


def _rupees(paise: Any) -> str:
    return show(Decimal(paise or 0).scaleb(-DECIMAL_PLACES))


def _check_whole(report: Report) -> None:
    without = UserProfile.objects.filter(wallet=None).order_by("pk")
    report.users_without_wallet = list(without.values_list("username", flat=True))
    credits, debits = (_sum(Transaction.objects.filter(transaction_type=kind), "amount") for kind in (CREDIT, DEBIT))
    report.credits_minus_debits = show(credits - debits)
    report.sum_of_balances = show(_sum(Wallet.objects.all(), "balance"))


def _sum(rows: Any, name: str) -> Decimal:
    return rows.aggregate(total=Sum(name))["total"] or Decimal(0)


class Command(BaseCommand):
    help = "Prove that balances and ledger agree. Exits with 1, naming every wallet that disagrees, when they do not."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", type=int, metavar="ID", help="look at one wallet only")
        parser.add_argument("--since", type=moment, metavar="TIME", help="look at rows from this date or time (UTC) on")
        parser.add_argument("--json", action="store_true", help="print the whole report as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["wallet"] is not None and not Wallet.objects.filter(pk=options["wallet"]).exists():
            raise CommandError(f"There is no wallet {options['wallet']}.")
        report = check(wallet=options["wallet"], since=options["since"], progress=True)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": report.ok, **asdict(report)}))
        elif report.ok:
            agree = verb(report.wallets, "agrees", "agree")
            self.stdout.write(self.style.SUCCESS(f"{how_many(report.wallets, 'wallet')} {agree} with the ledger."))
        if options["wallet"] is None and options["since"] is None:
            self._remember(report)
        if not report.ok:
            raise CommandError("The books do not agree:\n" + "\n".join(report.complaints()))

    def _remember(self, report: Report) -> None:
        """For the front page of the console. A copy that is only read can be checked too."""
        found = LedgerCheck(ended_at=timezone.now(), wallets=report.wallets, complaints=len(report.complaints()))
        try:
            found.save()
        except DatabaseError as fault:
            self.stderr.write(f"The result could not be stored for the console: {fault}")


def moment(text: str) -> datetime:
    """A date or a time; without a zone it is UTC. Raises ValueError."""
    day = parse_date(text)
    found = datetime(day.year, day.month, day.day) if day else parse_datetime(text)
    if found is None:
        raise ValueError(text)
    return found.replace(tzinfo=found.tzinfo or UTC)
