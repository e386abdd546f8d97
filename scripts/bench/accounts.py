"""Accounts for the benchmarks, created through the models, and their logins. Runs in the server's environment."""

from collections.abc import Iterable
from decimal import Decimal
from pathlib import Path

from django.contrib.auth.hashers import make_password
from django.db.transaction import atomic
from django.utils import timezone

from lokanetra import days
from scripts.bench import PHONES
from transactions.models import CREDIT, Transaction
from users import accounts, tokens
from users.models import UserProfile
from wallet.models import Wallet

OPENING, RUPEE = Decimal("100000.00"), Decimal("1.00")
# Credits of a rupee to the first account after its opening, so that it has a history.
HISTORY = 3_000


@atomic
def make(count: int) -> None:
    """Create this many accounts in an empty database, each with an opening credit, so that the books agree."""
    users = UserProfile.objects.bulk_create(_user(PHONES + n) for n in range(1, count + 1))
    wallets = [Wallet(user=user, balance=OPENING, day=days.today(), in_month=OPENING) for user in users]
    wallets[0].balance += HISTORY * RUPEE
    wallets[0].in_month += HISTORY * RUPEE
    Wallet.objects.bulk_create(wallets)
    rows = [_credit(wallet, OPENING, OPENING) for wallet in wallets]
    rows += [_credit(wallets[0], RUPEE, OPENING + n * RUPEE) for n in range(1, HISTORY + 1)]
    Transaction.objects.bulk_create(rows, batch_size=1_000)


@atomic
def log_in(folder: str, count: int) -> None:
    """Log the first accounts and a staff account in, and write files with lines of phone and access token."""
    members = UserProfile.objects.filter(is_staff=False).order_by("pk")[:count]
    _write(Path(folder, "members"), members)
    _write(Path(folder, "reader"), members[:1])
    _write(Path(folder, "staff"), [_staff()])


def _user(phone: int) -> UserProfile:
    return UserProfile(username=f"user_{phone}", phone_number=f"+91{phone}", password=make_password(None))


def _staff() -> UserProfile:
    found = UserProfile.objects.filter(username="staff").first()
    return found or accounts.create(phone_number="+919999999999", username="staff", is_staff=True)


def _credit(wallet: Wallet, amount: Decimal, after: Decimal) -> Transaction:
    return Transaction(
        transaction_type=CREDIT,
        receiver=wallet,
        amount=amount,
        receiver_balance=after,
        timestamp=timezone.now(),
        initiated_by_id=wallet.user_id,
    )


def _write(path: Path, users: Iterable[UserProfile]) -> None:
    path.write_text("".join(f"{user.phone} {tokens.issue(user)['access']}\n" for user in users))
