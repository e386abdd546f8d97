"""What is checked before money moves: one function a rule, each on rows that are locked. Amounts are in rupees.

What the rules are called when they are broken is in `exceptions.py`.
"""

from decimal import Decimal

from django.conf import settings

from transactions.models import Transaction
from users.exceptions import TokenNotValid
from wallet import exceptions
from wallet.models import Wallet
from wallet.money import show


def check_token(wallet: Wallet, token_version: int | None) -> None:
    """That the caller's token still counts, where nobody has looked that up before the lock."""
    user = wallet.user
    if token_version is not None and not (user.is_active and user.token_version == token_version):
        raise TokenNotValid


def check_owner(wallet: Wallet) -> None:
    """That the caller may use the own wallet."""
    if not wallet.user.is_active:
        raise TokenNotValid
    check_not_frozen(wallet)


def check_self_credit() -> None:
    """A user who credits himself prints money."""
    if not settings.WALLET_SELF_CREDIT:
        raise exceptions.SelfCreditDisabled


def check_not_own(wallet: Wallet, user_id: int) -> None:
    """Staff's powers are for the wallets of others."""
    if wallet.user_id == user_id:
        raise exceptions.OwnWallet


def check_not_frozen(wallet: Wallet) -> None:
    if wallet.is_frozen:
        raise exceptions.WalletFrozen


def check_amount(amount: Decimal) -> None:
    if amount > settings.WALLET_MAX_AMOUNT:
        raise exceptions.LimitExceeded(f"At most {show(settings.WALLET_MAX_AMOUNT)} moves at once.")


def check_funds(wallet: Wallet, amount: Decimal) -> None:
    if wallet.balance < amount:
        told = f"The wallet holds {show(wallet.balance)}, {show(amount)} was asked for."
        raise exceptions.InsufficientFunds(told)


def check_room(wallet: Wallet, amount: Decimal) -> None:
    if wallet.balance + amount > settings.WALLET_MAX_BALANCE:
        raise exceptions.LimitExceeded(f"A wallet holds at most {show(settings.WALLET_MAX_BALANCE)}.")


def check_recipient(wallet: Wallet, amount: Decimal) -> None:
    too_full = wallet.balance + amount > settings.WALLET_MAX_BALANCE
    if too_full or wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.RecipientUnavailable


def check_reversible(original: Transaction) -> None:
    if original.reverses_id:
        raise exceptions.NotReversible
    if Transaction.objects.filter(reverses=original).exists():
        raise exceptions.AlreadyReversed
