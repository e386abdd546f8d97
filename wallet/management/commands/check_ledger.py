"""Proves the books: balances, what is held and what is counted agree with the ledger, the ledger of every wallet is one
unbroken chain in the order of its times, no capture exceeds its hold and no refund its transaction, requests are paid
by transfers of their amount, and every key has its operation. The queries are in `proofs.py`.

Reads one snapshot of the database, so payments go on meanwhile.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import DatabaseError, connection
from django.db.models import Max, Model, Sum
from django.utils import timezone
from tqdm import tqdm

from lokanetra import days
from lokanetra.database import is_postgresql
from lokanetra.plurals import how_many, verb
from lokanetra.replica import Reader
from transactions.models import CREDIT, DEBIT, Transaction
from users.models import UserProfile
from wallet import proofs
from wallet.models import Hold, LedgerCheck, PaymentRequest, Wallet
from wallet.money import show
from wallet.proofs import Found

# Wallets per query: few enough for a moving progress bar, many enough to read indexes in long ranges.
BATCH = 2_000
# Ids of holds, transactions or requests per query, which reads those that were captured, given back or paid.
LINKS = 100_000
END = 2**63 - 1


@dataclass
class Report:
    """What was checked, and all that disagrees. Amounts are rupees, as strings."""

    wallets: int = 0
    disagreements: Found = field(default_factory=list)
    users_without_wallet: list[str] = field(default_factory=list)
    credits_minus_debits: str | None = None
    sum_of_balances: str | None = None
    set_aside: Found = field(default_factory=list)
    counters: Found = field(default_factory=list)
    holds: Found = field(default_factory=list)
    given_back: Found = field(default_factory=list)
    requests: Found = field(default_factory=list)
    keys: Found = field(default_factory=list)

    @property
    def ok(self) -> bool:
        return not self.complaints()

    def complaints(self) -> list[str]:
        found = [proof.describe(row) for proof, name in PROOFS for row in getattr(self, name)]
        found += [f"user {username} has no wallet" for username in self.users_without_wallet]
        if self.credits_minus_debits != self.sum_of_balances:
            found.append(
                f"credits minus debits are {self.credits_minus_debits}, the balances sum to {self.sum_of_balances}"
            )
        return found


# Each proof, and the field of the report for what it finds.
PROOFS = [
    (proofs.BOOKS, "disagreements"),
    (proofs.HELD, "set_aside"),
    (proofs.COUNTED, "counters"),
    (proofs.CAPTURED, "holds"),
    (proofs.GIVEN_BACK, "given_back"),
    (proofs.PAID, "requests"),
    (proofs.KEYS, "keys"),
]


def check(*, wallet: int | None = None, since: datetime | None = None, progress: bool = False) -> Report:
    """Compare the wallets (one, or all) with the ledger, in one snapshot, of a replica if there is one.

    With `since`, only ledger rows from that time on are read; what is held and counted is always checked as it is now.
    """
    return Reader()(lambda: _checked(wallet, since, progress))


def _checked(wallet: int | None, since: datetime | None, progress: bool) -> Report:
    with snapshot():
        report = Report()
        for first, last in _wallets(wallet, progress):
            _check_wallets(report, first, last, since)
        if wallet is not None:
            _check_one(report, wallet)
        elif since is not None:
            _check_since(report, since)
        else:
            _check_whole(report)
        return report


@contextmanager
def snapshot() -> Iterator[None]:
    """A read-only transaction, which blocks nobody: Django's own transactions queue as writers on SQLite."""
    if connection.in_atomic_block:
        yield
        return
    postgresql = is_postgresql()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" if postgresql else "BEGIN")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def _wallets(wallet: int | None, progress: bool) -> Iterator[tuple[int, int]]:
    if wallet is not None:
        yield wallet, wallet
        return
    # None: a bar on a terminal only.
    with tqdm(total=_end_of(Wallet), unit="wallet", disable=None if progress else True) as bar:
        for first, last in _ranges(Wallet, BATCH):
            yield first, last
            bar.update(last - first + 1)


def _ranges(model: type[Model], size: int, *, beyond: bool = False) -> Iterator[tuple[int, int]]:
    """All ids of a table, in ranges; with `beyond` larger ones too, to find references to rows that are gone."""
    end = _end_of(model)
    for first in range(1, end + 1, size):
        yield first, min(first + size - 1, end)
    if beyond:
        yield end + 1, END


def _end_of(model: type[Model]) -> int:
    return model._default_manager.aggregate(end=Max("pk"))["end"] or 0


def _check_wallets(report: Report, first: int, last: int, since: datetime | None) -> None:
    these = {"first": first, "last": last}
    report.wallets += Wallet.objects.filter(pk__range=(first, last)).count()
    rows = these | {"since": proofs.moment(since)} if since else these
    report.disagreements += proofs.BOOKS.find(rows, **(proofs.SINCE if since else proofs.WHOLE))
    report.set_aside += proofs.HELD.find(these)
    values, texts = proofs.calendar(days.today())
    report.counters += proofs.COUNTED.find(these | values, **texts)


def _check_one(report: Report, wallet: int) -> None:
    """The holds, refunds and requests of a wallet, and the keys of its user."""
    this = {"first": wallet, "last": wallet}
    report.holds = proofs.CAPTURED.find(this, scope=proofs.HOLDS_OF_WALLETS)
    report.given_back = proofs.GIVEN_BACK.find(this, scope=proofs.ORIGINALS_OF_WALLETS)
    report.requests = proofs.PAID.find(this, scope=proofs.REQUESTS_OF_WALLETS)
    report.keys = proofs.KEYS.find(this, scope=proofs.KEYS_OF_WALLETS)


def _check_since(report: Report, since: datetime) -> None:
    """The holds, refunds and requests of new rows, with their older rows."""
    values = {"since": proofs.moment(since)}
    report.holds = proofs.CAPTURED.find(values, scope=proofs.HOLDS_SINCE)
    report.given_back = proofs.GIVEN_BACK.find(values, scope=proofs.ORIGINALS_SINCE)
    report.requests = proofs.PAID.find(values, scope=proofs.REQUESTS_SINCE)


def _check_whole(report: Report) -> None:
    without = UserProfile.objects.filter(wallet=None).order_by("pk")
    report.users_without_wallet = list(without.values_list("username", flat=True))
    credits, debits = (_sum(Transaction.objects.filter(transaction_type=kind), "amount") for kind in (CREDIT, DEBIT))
    report.credits_minus_debits = show(credits - debits)
    report.sum_of_balances = show(_sum(Wallet.objects.all(), "balance"))
    for first, last in _ranges(Hold, LINKS, beyond=True):
        report.holds += proofs.CAPTURED.find({"first": first, "last": last}, scope=proofs.RANGE)
    for first, last in _ranges(Transaction, LINKS, beyond=True):
        report.given_back += proofs.GIVEN_BACK.find({"first": first, "last": last}, scope=proofs.RANGE)
    for first, last in _ranges(PaymentRequest, LINKS):
        report.requests += proofs.PAID.find({"first": first, "last": last}, scope=proofs.RANGE)
    report.keys = proofs.KEYS.find({}, scope="")


def _sum(rows: Any, name: str) -> Decimal:
    return rows.aggregate(total=Sum(name))["total"] or Decimal(0)


def save_result(report: Report) -> None:
    """Store the result, for the front page of the console and so that the worker checks once a night."""
    found = LedgerCheck(ended_at=timezone.now(), wallets=report.wallets, complaints=len(report.complaints()))
    found.save()


class Command(BaseCommand):
    help = "Prove that balances and ledger agree. Exits with 1, naming everything that disagrees, when they do not."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--wallet", type=int, metavar="ID", help="look at one wallet only")
        parser.add_argument("--since", type=moment, metavar="TIME", help="look at rows from this date or time on")
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
            self._save_result(report)
        if not report.ok:
            raise CommandError("The books do not agree:\n" + "\n".join(report.complaints()))

    def _save_result(self, report: Report) -> None:
        """If possible: a read-only copy of the database can be checked too."""
        try:
            save_result(report)
        except DatabaseError as fault:
            self.stderr.write(f"The result could not be stored for the console: {fault}")


def moment(text: str) -> datetime:
    """The start of a date, or a time. Raises ValueError."""
    return days.parse_span(text)[0]
