"""What is checked before money moves: one function for each rule, on locked rows. Amounts are in rupees.

Their exceptions are in `exceptions.py`.
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
    """That the caller's token is valid, if that was not checked before the lock."""
    user = wallet.user
    if token_version is not None and not (user.is_active and user.token_version == token_version):
        raise TokenNotValid


def check_owner(wallet: Wallet) -> None:
    """That the caller may use their own wallet."""
    if not wallet.user.is_active:
        raise TokenNotValid
    check_not_frozen(wallet)


def check_self_credit() -> None:
    """That users may credit their own wallets here, without paying for it."""
    if not settings.WALLET_SELF_CREDIT:
        raise exceptions.SelfCreditDisabled


def check_not_own(wallet: Wallet, user_id: int) -> None:
    """That staff adjust wallets of others only."""
    if wallet.user_id == user_id:
        raise exceptions.OwnWallet


def check_not_frozen(wallet: Wallet) -> None:
    if wallet.is_frozen:
        raise exceptions.WalletFrozen


def check_pair(payer: Wallet, receiver: Wallet | None, amount: Decimal) -> Wallet:
    """That the caller may pay so much, now or later, to the receiver, which is returned."""
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
        held = f" ({show(wallet.held_now)} of it set aside)" if wallet.held_now else ""
        detail = f"The wallet holds {show(wallet.balance)}{held}, {show(amount)} was asked for."
        raise exceptions.InsufficientFunds(detail)


def check_out(wallet: Wallet, amount: Decimal) -> None:
    """That so much may leave the wallet, or be set aside."""
    _refuse(limits.exceeded(wallet, amount, limits.OUT))


def check_in(wallet: Wallet, amount: Decimal) -> None:
    """That so much may come in."""
    _refuse(limits.exceeded(wallet, amount, limits.IN))


def check_at_once(wallet: Wallet, amount: Decimal) -> None:
    _refuse(limits.exceeded(wallet, amount, ("max_amount",)))


def check_refund_in(wallet: Wallet, amount: Decimal) -> None:
    """That so much may be given back to the wallet. The limits of a tier do not apply."""
    if not wallet.tier_id:
        check_in(wallet, amount)


def check_recipient(wallet: Wallet, amount: Decimal) -> None:
    is_full = limits.exceeded(wallet, amount, limits.IN)
    if is_full or wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.RecipientUnavailable


def check_refund_recipient(wallet: Wallet, amount: Decimal) -> None:
    """That the payer of a transfer can take a refund of it."""
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
    """That the payer of a hold or of a request can pay."""
    if wallet.is_frozen or not wallet.user.is_active:
        raise exceptions.PayerUnavailable


def check_open(hold: Hold, now: datetime) -> None:
    if hold.status != Hold.Status.OPEN or hold.is_due(now):
        raise exceptions.HoldClosed


def check_request(requester: Wallet, payer: Wallet | None, amount: Decimal) -> Wallet:
    """That the caller may ask the payer, which is returned, for so much. The payer's funds are checked at payment."""
    check_owner(requester)
    if payer is None:
        raise exceptions.RecipientNotFound
    if payer.pk == requester.pk:
        raise exceptions.SelfTransfer
    check_at_once(requester, amount)
    check_payer(payer)
    return payer


def check_open_requests(requester: Wallet, payer: Wallet, now: datetime) -> None:
    """That the two may have one more open request."""
    ends = PaymentRequest.objects.open_between(requester, payer, now).values_list("expires_at", flat=True)[
        :MAX_OPEN_REQUESTS
    ]
    if len(ends) == MAX_OPEN_REQUESTS:
        detail = f"{MAX_OPEN_REQUESTS} requests to this payer are open."
        raise TooManyRequests((ends[0] - now).total_seconds(), detail)


def check_requests_today(requester: Wallet, now: datetime) -> None:
    """That the requester may ask once more today."""
    most, today = settings.REQUESTS_PER_DAY, days.day_of(now)
    last = PaymentRequest.objects.newest_skipping(most - 1, requester) if most else None
    if last and days.day_of(last.created_at) >= today:
        detail = f"These were {most} requests for money today."
        raise TooManyRequests((days.start_of(days.next_day(today)) - now).total_seconds(), detail)


def check_pending(payment_request: PaymentRequest, now: datetime) -> None:
    if payment_request.status != PaymentRequest.Status.PENDING or payment_request.is_due(now):
        raise exceptions.RequestClosed


def check_capture(hold: Hold, amount: Decimal) -> None:
    remaining = hold.amount - hold.captured
    if amount > remaining:
        raise exceptions.CaptureExceedsHold(f"{show(remaining)} remains of the hold, {show(amount)} was asked for.")


def check_reversible(original: Transaction) -> None:
    if original.reverses_id:
        raise exceptions.NotReversible


def check_refundable(original: Transaction) -> None:
    check_reversible(original)
    if original.transaction_type != TRANSFER:
        raise exceptions.NotReversible


def check_remaining(remaining: Decimal, amount: Decimal) -> None:
    """That ``remaining``, what was not given back yet of a transaction, is at least the amount."""
    if not remaining:
        raise exceptions.AlreadyReversed
    if amount > remaining:
        detail = f"{show(remaining)} remains to be given back, {show(amount)} was asked for."
        raise exceptions.RefundExceedsRemaining(detail)
