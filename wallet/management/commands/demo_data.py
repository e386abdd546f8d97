"""Made-up people and payments to look at. They obey all rules, and the books agree.

The only writer of wallets and ledger besides `ledger.py`, and only of wallets that it creates.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from random import Random, randrange
from typing import Any

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db.transaction import atomic
from django.utils import timezone
from tqdm import tqdm

from lokanetra import days
from lokanetra.plurals import how_many
from transactions import volumes
from transactions.models import CREDIT, DEBIT, TRANSFER, Transaction
from users import phones
from users.models import UserProfile
from wallet import limits
from wallet.models import Hold, Wallet
from wallet.money import from_paise, to_paise

BATCH = 5_000
COUNTED = ("day", "out_day", "count_day", "out_month", "in_month")
ONE_HOLD_IN = 20
FIRST_NAMES = """
    Aarav Aditi Amit Ananya Arjun Asha Deepa Divya Farhan Gauri Harish Isha Jaya Kabir Kavya Lakshmi Manoj Maya Meera
    Mohan Neha Nikhil Pooja Priya Rahul Ravi Rohan Sana Sanjay Shreya Sunita Tara Uma Varun Vikram Zoya
""".split()  # noqa: SIM905
LAST_NAMES = """
    Agarwal Banerjee Bhat Chopra Das Desai Fernandes Ghosh Gupta Iyer Jain Joshi Kapoor Khan Kulkarni Kumar Mehta Menon
    Mishra Nair Patel Pillai Rao Reddy Sethi Shah Sharma Singh Thomas Varma
""".split()  # noqa: SIM905
# Remarks, and the least and most amount in rupees.
PURPOSES = {
    CREDIT: [("Salary", 18_000, 90_000), ("Cash at the counter", 200, 5_000), ("From my bank", 500, 9_000)],
    DEBIT: [("Rent", 6_000, 25_000), ("Groceries", 80, 2_500), ("Electricity", 300, 3_000), ("Bus", 10, 60)],
    TRANSFER: [("Lunch", 60, 600), ("Tea", 10, 80), ("Tickets", 400, 3_000), ("The trip", 500, 6_000), ("", 20, 2_000)],
}
# How busy each hour of the day is.
HOURS = (1, 1, 1, 1, 1, 2, 3, 4, 6, 8, 9, 10, 9, 8, 8, 9, 10, 11, 11, 10, 8, 6, 3, 2)


class Command(BaseCommand):
    help = "Make up people, each with a wallet, and payments among them over the last days. All or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--users", type=int, default=200, metavar="N", help="people, 200 by default")
        parser.add_argument("--transactions", type=int, default=10_000, metavar="M", help="10,000 by default")
        parser.add_argument("--days", type=int, default=45, help="over how many days, up to now; 45 by default")
        parser.add_argument("--seed", type=int, help="makes the same people and payments again")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("This is not a server for development: made-up people do not belong here.")
        if options["users"] < 2 or options["transactions"] < 0 or options["days"] < 1:
            raise CommandError("It takes at least two people and one day.")
        seed = options["seed"] if options["seed"] is not None else randrange(10**6)  # noqa: S311
        with atomic():
            demo = Demo(Random(seed), options["users"], options["days"])  # noqa: S311
            demo.write(options["transactions"])
        volumes.delete_since(days.day_of(demo.start))
        for day in volumes.unsummed_days():
            volumes.close(day)
        phone = phones.show(str(demo.wallets[0].user.phone_number))
        made = f"{options['users']:,} people and {how_many(options['transactions'], 'transaction')} (seed {seed})"
        self.stdout.write(self.style.SUCCESS(f"Made {made}. Log in as one of them with {phone}."))


class Demo:
    """People who pay each other. Their balances are computed here, in paise, while the ledger is written."""

    def __init__(self, random: Random, people: int, span: int) -> None:
        self.random, self.days = random, span
        self.now = timezone.now()
        self.today = days.day_of(self.now)
        self.start = self.now - timedelta(days=span)
        self.most = to_paise(settings.WALLET_MAX_BALANCE)
        self.most_at_once = to_paise(settings.WALLET_MAX_AMOUNT)
        users = UserProfile.objects.bulk_create(self._people(people), BATCH)
        self.wallets = Wallet.objects.bulk_create([Wallet(user=user) for user in users], BATCH)
        self.balances = [0] * people

    def write(self, count: int) -> None:
        """Write so many transactions, in the order of their times, and then the balances."""
        with tqdm(total=count, unit="transaction", disable=None) as bar:
            rows: list[Transaction] = []
            for number, moment in enumerate(self._moments(count)):
                rows.append(self._transaction(number, moment))
                if len(rows) == BATCH or number == count - 1:
                    Transaction.objects.bulk_create(rows)
                    bar.update(len(rows))
                    rows = []
        for wallet, paise in zip(self.wallets, self.balances, strict=True):
            wallet.balance, wallet.created_at = from_paise(paise), self.start
        self._open_holds()
        Wallet.objects.bulk_update(self.wallets, ["balance", "created_at", "held", *COUNTED], batch_size=500)

    # --- People ------------------------------------------------------------------------------------------

    def _people(self, count: int) -> Iterator[UserProfile]:
        usernames = set(UserProfile.objects.values_list("username", flat=True))
        numbers = set(UserProfile.objects.values_list("phone_number", flat=True))
        for _ in range(count):
            first, last = self.random.choice(FIRST_NAMES), self.random.choice(LAST_NAMES)
            username = self._unique(usernames, f"{first}.{last}".lower() + "{}", 10**5)
            yield UserProfile(
                username=username,
                phone_number=self._unique(numbers, "+919{:09}", 10**9),
                first_name=first,
                last_name=last,
                email=f"{username}@example.com",
                password=make_password(None),
                date_joined=self.start,
            )

    def _unique(self, taken: set, form: str, end: int) -> str:
        while (found := form.format(self.random.randrange(end))) in taken:
            pass
        taken.add(found)
        return found

    def _open_holds(self) -> None:
        """For a part of what a few people have."""
        rows = []
        for payer in range(0, len(self.wallets), ONE_HOLD_IN):
            remarks, paise = self._purpose(TRANSFER)
            if paise <= self.balances[payer]:
                self.wallets[payer].held = from_paise(paise)
                rows.append(self._hold(payer, paise, remarks))
        Hold.objects.bulk_create(rows, BATCH)

    def _hold(self, payer: int, paise: int, remarks: str) -> Hold:
        return Hold(
            payer=self.wallets[payer],
            payee=self.wallets[(payer + 1) % len(self.wallets)],
            amount=from_paise(paise),
            remarks=remarks,
            created_at=self.now,
            expires_at=self.now + timedelta(hours=self.random.randint(24, 24 * 20)),
        )

    # --- Payments ----------------------------------------------------------------------------------------

    def _moments(self, count: int) -> list[datetime]:
        numbers = self.random.choices(range(self.days + 1), k=count)
        hours = self.random.choices(range(24), HOURS, k=count)
        midnight = days.start_of(days.day_of(self.start))
        spread = (
            midnight + timedelta(days=day, hours=hour, seconds=self.random.uniform(0, 3600))
            for day, hour in zip(numbers, hours, strict=True)
        )
        span = (self.now - self.start).total_seconds()
        return sorted(
            moment if self.start <= moment <= self.now else self.start + timedelta(seconds=self.random.uniform(0, span))
            for moment in spread
        )

    def _transaction(self, number: int, moment: datetime) -> Transaction:
        """Everybody is paid first; then they spend it."""
        payer = number if number < len(self.balances) else self.random.randrange(len(self.balances))
        kind = CREDIT if number < len(self.balances) else self.random.choices((CREDIT, DEBIT, TRANSFER), (2, 3, 5))[0]
        receiver = (payer + self.random.randrange(1, len(self.balances))) % len(self.balances)
        remarks, paise = self._purpose(kind)
        if kind == TRANSFER and self.balances[receiver] + paise > self.most:
            kind = DEBIT
        if kind != CREDIT and self.balances[payer] < paise:
            kind, (remarks, paise) = CREDIT, self._purpose(CREDIT)
        if kind == CREDIT and self.balances[payer] + paise > self.most:
            kind, paise = DEBIT, min(paise, self.balances[payer])
        if kind == CREDIT:
            return self._row(kind, None, payer, paise, remarks, moment)
        return self._row(kind, payer, receiver if kind == TRANSFER else None, paise, remarks, moment)

    def _purpose(self, kind: str) -> tuple[str, int]:
        remarks, least, most = self.random.choice(PURPOSES[kind])
        return remarks, min(self.random.randint(least * 100, most * 100), self.most_at_once, self.most)

    def _row(
        self, kind: str, payer: int | None, receiver: int | None, paise: int, remarks: str, moment: datetime
    ) -> Transaction:
        row = Transaction(transaction_type=kind, amount=from_paise(paise), remarks=remarks, timestamp=moment)
        if payer is not None:
            self.balances[payer] -= paise
            row.sender, row.sender_balance = self.wallets[payer], from_paise(self.balances[payer])
        if receiver is not None:
            self.balances[receiver] += paise
            row.receiver, row.receiver_balance = self.wallets[receiver], from_paise(self.balances[receiver])
        self._count(row)
        row.initiated_by = (row.sender or self.wallets[receiver or 0]).user
        return row

    def _count(self, row: Transaction) -> None:
        """For the limits of this month, as the ledger does."""
        day = days.day_of(row.timestamp)
        for wallet in (row.sender, row.receiver):
            if wallet and days.month_of(day) == days.month_of(self.today):
                limits.roll(wallet, day)
        if days.month_of(day) == days.month_of(self.today):
            limits.count(row.sender, row.receiver, row.amount)
