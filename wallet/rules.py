"""What is checked before money moves: one function a rule, each on rows that are locked. Amounts are in rupees.

What the rules are called when they are broken is in `exceptions.py`.
"""

from datetime import datetime
from decimal import Decimal

from django.conf import settings

from lokanetra import days
from transactions.models import TRANSFER, Transaction
from users.exceptions import TokenNotValid, TooManyRequests
from wallet import exceptions, limits
from wallet.models import Hold, PaymentRequest, Wallet
from wallet.money import show

# Requests from one requester to one payer: more would be a nuisance.
MAX_OPEN_REQUESTS = 20


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


def check_pair(payer: Wallet, receiver: Wallet | None, amount: Decimal) -> Wallet:
    """That the caller may pay so much, now or later, to the receiver, who is given back."""
    check_owner(payer)
    if receiver is None:
        raise exceptions.RecipientNotFound
    if receiver.pk == payer.pk:
        raise exceptions.SelfTransfer
    check_out(payer, amount)
    check_funds(payer, amount)
    check_recipient(receiver, amount)
    return receiver


def check_funds(wallet: Wallet, amount: Decimal) -> None:
    if wallet.available < amount:
        aside = f" ({show(wallet.held_now)} of it set aside)" if wallet.held_now else ""
        told = f"The wallet holds {show(wallet.balance)}{aside}, {show(amount)} was asked for."
        raise exceptions.InsufficientFunds(told)


def check_out(wallet: Wallet, amount: Decimal) -> None:
    """That so much may leave the wallet, or be set aside."""
    _refuse(limits.exceeded(wallet, amount, limits.OUT))


def check_in(wallet: Wallet, amount: Decimal) -> None:
    """That so much may come in."""
    _refuse(limits.exceeded(wallet, amount, limits.IN))


def check_at_once(wallet: Wallet, amount: Decimal) -> None:
    _refuse(limits.exceeded(wallet, amount, ("max_amount",)))


def check_refund_in(wallet: Wallet, amount: Decimal) -> None:
    """That so much may come back. No tier refuses that."""
    if not wallet.tier_id:
        check_in(wallet, amount)


def check_recipient(wallet: Wallet, amount: Decimal) -> None:
    is_full = limits.exceeded(wallet, amount, limits.IN)
    if is_full or wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.RecipientUnavailable


def check_refund_recipient(wallet: Wallet, amount: Decimal) -> None:
    """The same for what comes back to who paid."""
    try:
        check_refund_in(wallet, amount)
    except exceptions.LimitExceeded:
        raise exceptions.RecipientUnavailable from None
    if wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.RecipientUnavailable


def _refuse(broken: limits.Limit | None) -> None:
    if broken:
        raise exceptions.LimitExceeded(broken.message(), broken.data())


def check_payer(wallet: Wallet) -> None:
    """That what is held can be taken from the payer, or he be asked for it."""
    if wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.PayerUnavailable


def check_open(hold: Hold, now: datetime) -> None:
    if hold.status != Hold.Status.OPEN or hold.is_due(now):
        raise exceptions.HoldClosed


def check_request(requester: Wallet, payer: Wallet | None, amount: Decimal) -> Wallet:
    """That the caller may ask the payer for so much, who is given back. Whether he can pay it shows when he does."""
    check_owner(requester)
    if payer is None:
        raise exceptions.RecipientNotFound
    if payer.pk == requester.pk:
        raise exceptions.SelfTransfer
    check_at_once(requester, amount)
    check_payer(payer)
    return payer


def check_open_requests(requester: Wallet, payer: Wallet, now: datetime) -> None:
    """That there is room for one more between the two."""
    ends = PaymentRequest.objects.open_between(requester, payer, now).values_list("expires_at", flat=True)[
        :MAX_OPEN_REQUESTS
    ]
    if len(ends) == MAX_OPEN_REQUESTS:
        told = f"{MAX_OPEN_REQUESTS} requests to this payer are open."
        raise TooManyRequests((ends[0] - now).total_seconds(), told)


def check_requests_today(requester: Wallet, now: datetime) -> None:
    """That the requester may ask once more today."""
    most, today = settings.REQUESTS_PER_DAY, days.day_of(now)
    last = PaymentRequest.objects.newest_skipping(most - 1, requester) if most else None
    if last and days.day_of(last.created_at) >= today:
        told = f"These were {most} requests for money today."
        raise TooManyRequests((days.start_of(days.next_day(today)) - now).total_seconds(), told)


def check_pending(asked: PaymentRequest, now: datetime) -> None:
    if asked.status != PaymentRequest.Status.PENDING or asked.is_due(now):
        raise exceptions.RequestClosed


def check_capture(hold: Hold, amount: Decimal) -> None:
    left = hold.amount - hold.captured
    if amount > left:
        raise exceptions.CaptureExceedsHold(f"{show(left)} remains of the hold, {show(amount)} was asked for.")


def check_reversible(original: Transaction) -> None:
    if original.reverses_id:
        raise exceptions.NotReversible


def check_refundable(original: Transaction) -> None:
    check_reversible(original)
    if original.transaction_type != TRANSFER:
        raise exceptions.NotReversible


def check_remaining(left: Decimal, amount: Decimal) -> None:
    """That so much of a transaction was not given back yet."""
    if not left:
        raise exceptions.AlreadyReversed
    if amount > left:
        told = f"{show(left)} remains to be given back, {show(amount)} was asked for."
        raise exceptions.RefundExceedsRemaining(told)
