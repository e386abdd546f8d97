"""What a wallet may still do: the limits of its tier, or of the settings if it has none, and what is used of them.

All is read from the wallet's row, except the number of open holds. Amounts are in rupees.
"""

from collections.abc import Iterator
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from django.conf import settings

from lokanetra import days
from wallet.models import Hold, Wallet
from wallet.money import show

# Those that a payment checks for its payer, and for its receiver.
OUT = ("max_amount", "daily_out", "monthly_out", "daily_count")
IN = ("max_balance", "monthly_in")
NAMES = ("max_amount", "max_balance", "daily_out", "monthly_out", "monthly_in", "daily_count")
# A wallet without a tier has the limits of the settings.
WITHOUT_TIER = {"max_amount": "WALLET_MAX_AMOUNT", "max_balance": "WALLET_MAX_BALANCE"}
MESSAGES = {
    "max_amount": "At most {limit} moves at once.",
    "max_balance": "A wallet holds at most {limit}.",
    "daily_out": "At most {limit} leaves the wallet in a day; {remaining} is left.",
    "monthly_out": "At most {limit} leaves the wallet in a month; {remaining} is left.",
    "monthly_in": "At most {limit} comes into the wallet in a month; {remaining} is left.",
    "daily_count": "At most {limit} payments leave the wallet in a day.",
}

Quantity = Decimal | int  # rupees, or a number of payments


class Limit(NamedTuple):
    """`limit` and `used` are rupees, or for `daily_count` a number of payments; at `resets_at` `used` is zero again."""

    name: str
    limit: Quantity
    used: Quantity
    resets_at: datetime | None

    @property
    def remaining(self) -> Quantity:
        return max(self.limit - self.used, self.limit - self.limit)

    def is_exceeded_by(self, amount: Decimal) -> bool:
        return self.used + (1 if self.name == "daily_count" else amount) > self.limit

    def data(self) -> dict[str, Any]:
        """The `limit` of a refusal."""
        resets_at = self.resets_at and self.resets_at.isoformat().replace("+00:00", "Z")
        return {
            "name": self.name,
            "limit": format_quantity(self.limit),
            "remaining": format_quantity(self.remaining),
            "resets_at": resets_at,
        }

    def message(self) -> str:
        return MESSAGES[self.name].format(limit=format_quantity(self.limit), remaining=format_quantity(self.remaining))


def format_quantity(quantity: Quantity) -> str | int:
    return show(quantity) if isinstance(quantity, Decimal) else quantity


def exceeded(wallet: Wallet, amount: Decimal, names: tuple[str, ...]) -> Limit | None:
    """The first of these limits that the amount would break, on a wallet that is locked and counts today."""
    return next((limit for limit in limits_of(wallet, names) if limit.is_exceeded_by(amount)), None)


def limits_of(wallet: Wallet, names: tuple[str, ...] = NAMES) -> Iterator[Limit]:
    """The limits that the wallet has, of these names."""
    tier = wallet.tier if wallet.tier_id else None
    for name in names:
        most = getattr(tier, name) if tier else _from_settings(name)
        if most is not None:
            yield Limit(name, most, _used_of(wallet, name), _resets_at(wallet.day, name))


def overview(wallet: Wallet) -> dict[str, Any]:
    """The wallet's tier, and its limits today."""
    roll(wallet, days.today())
    return {"tier": wallet.tier and wallet.tier.name, "limits": list(limits_of(wallet))}


def _from_settings(name: str) -> Quantity | None:
    return getattr(settings, WITHOUT_TIER[name]) if name in WITHOUT_TIER else None


def _used_of(wallet: Wallet, name: str) -> Quantity:
    if name == "max_balance":
        return wallet.balance
    if name == "daily_out":
        return wallet.out_day + wallet.held_now
    if name == "monthly_out":
        return wallet.out_month + wallet.held_now
    if name == "monthly_in":
        return wallet.in_month
    if name == "daily_count":
        return wallet.count_day + _open_holds(wallet)
    return Decimal(0)


def _open_holds(wallet: Wallet) -> int:
    return Hold.objects.filter(payer=wallet).with_status(Hold.Status.OPEN).count() if wallet.held_now else 0


def _resets_at(day: date, name: str) -> datetime | None:
    if name.startswith("daily"):
        return days.start_of(days.next_day(day))
    return days.start_of(days.next_month(day)) if name.startswith("monthly") else None


# --- The counts ----------------------------------------------------------------------------------------


def roll(wallet: Wallet, today: date) -> None:
    """Start the counts of today: reset those of another day, or of another month."""
    if wallet.day == today:
        return
    if days.month_of(wallet.day) != days.month_of(today):
        wallet.out_month = wallet.in_month = Decimal(0)
    wallet.day, wallet.out_day, wallet.count_day = today, Decimal(0), 0


def count(payer: Wallet | None, receiver: Wallet | None, amount: Decimal) -> None:
    """Count a payment for both sides."""
    if payer:
        payer.out_day += amount
        payer.out_month += amount
        payer.count_day += 1
    if receiver:
        receiver.in_month += amount
