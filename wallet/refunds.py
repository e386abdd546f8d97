"""Refunds and reversals: what was moved is moved back, whole or in parts, and never more than it was."""

from decimal import Decimal

from transactions.models import Transaction
from users.models import UserProfile
from wallet import exceptions, ledger, rules
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request
from wallet.models import Wallet


@all_or_nothing
def reverse(
    *, user_id: int, transaction_id: int, remarks: str, amount: Decimal | None = None, key: str | None = None
) -> Receipt:
    """Undo a transaction, or ``amount`` (rupees) of it, by a new one with its sides swapped; by default all that was
    not given back yet. ``balance`` is that of the wallet that had paid, or for a credit of the one that had received.

    For staff. Repeating ``key`` returns the first receipt and moves nothing.

    Raises Http404, OwnWallet, AlreadyReversed, RefundExceedsRemaining, NotReversible, InsufficientFunds, WalletFrozen,
    LimitExceeded, KeyReused.
    """
    original = Transaction.objects.filter(pk=transaction_id).first() or ledger.not_found()
    request = Request(user_id, "REVERSAL", amount, remarks, key, transaction_id=transaction_id)
    receiver, payer = ledger.lock_wallets(original.sender_id, original.receiver_id)
    receipt_for = receiver or payer or ledger.not_found()
    if first := ledger.replay(request, receipt_for):
        return first
    sides = [wallet for wallet in (payer, receiver) if wallet]
    for wallet in sides:
        rules.check_not_own(wallet, user_id)
    rules.check_reversible(original)
    amount = _checked_amount(original, amount)
    for wallet in sides:
        rules.check_not_frozen(wallet)
    if payer:
        rules.check_funds(payer, amount)
    if receiver:
        rules.check_refund_in(receiver, amount)
    receipt = ledger.post(request, payer, receiver, amount, receipt_for=receipt_for, reverses=original)
    return ledger.audited(receipt, request, on=original)


@all_or_nothing
def refund(
    *, user: UserProfile, transaction_id: int, amount: Decimal | None = None, remarks: str = "", key: str | None = None
) -> Receipt:
    """Give back a transfer that the user received, or ``amount`` (rupees) of it; by default all that was not given back
    yet.

    Refunds and reversals of one transaction together never exceed it, even in parallel. Repeating ``key`` returns the
    first receipt and moves nothing.

    Raises Http404, NotThePayee, AlreadyReversed, RefundExceedsRemaining, NotReversible, InsufficientFunds,
    WalletFrozen, RecipientUnavailable, KeyReused, TokenNotValid.
    """
    original = Transaction.objects.one_visible_to(user, transaction_id)
    request = Request(user.pk, "REFUND", amount, remarks, key, transaction_id=transaction_id)
    payer, receiver = _lock_sides(original, user)
    if first := ledger.replay(request, payer):
        return first
    rules.check_owner(payer)
    amount = _checked_amount(original, amount)
    rules.check_funds(payer, amount)
    rules.check_refund_recipient(receiver, amount)
    return ledger.post(request, payer, receiver, amount, receipt_for=payer, reverses=original)


def _checked_amount(original: Transaction, amount: Decimal | None) -> Decimal:
    """How much to give back, read under the locks that all refunds of one transaction share."""
    remaining = original.amount - original.given_back
    amount = remaining if amount is None else amount
    rules.check_remaining(remaining, amount)
    return amount


def _lock_sides(original: Transaction, user: UserProfile) -> tuple[Wallet, Wallet]:
    """Locked: the wallet that gives back, and the one that gets it back."""
    rules.check_refundable(original)
    if original.receiver_id != user.wallet.pk:
        raise exceptions.NotThePayee
    return ledger.lock_both(original.receiver_id, original.sender_id)
