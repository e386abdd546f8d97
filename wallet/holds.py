"""Holds: money is set aside for a payee, who captures it, at once or in parts, or voids the hold.

The lock of a hold is its payer's wallet: every change of it locks that first. A hold expires at its time; the next
operation that locks the wallet closes its row, or `expire`.
"""

from decimal import Decimal
from typing import Any

from django.http import Http404

from users import audit
from wallet import exceptions, ledger, rules
from wallet.clock import clock
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request
from wallet.models import Hold, Wallet
from wallet.money import show


@all_or_nothing
def open_(
    *, user_id: int, to: str, amount: Decimal, remarks: str = "", expires_in: int = Hold.DEFAULT_LIFETIME, **call: Any
) -> Hold:
    """Set ``amount`` (rupees) of the user's wallet aside for that of the E.164 number ``to``, for so many seconds.

    It must be within the available balance and the limits, as if it were paid. Repeating the key returns the hold as it
    is now. For `call` see `Request`.

    Raises what `transfer` does.
    """
    request = Request(user_id, "HOLD", amount, remarks, to=to, expires_in=expires_in, **call)
    payer, payee = ledger.lock_pair(request)
    if first := ledger.replay_hold(request):
        return first.for_user(user_id)
    payee = rules.check_pair(payer, payee, amount)
    hold = ledger.open_hold(request, payer, payee, amount, at=clock.now(), expires_in=expires_in)
    return hold.for_user(user_id)


@all_or_nothing
def capture(
    *,
    user_id: int,
    hold_id: int,
    as_staff: bool = False,
    amount: Decimal | None = None,
    final: bool = True,
    reason: str = "",
    **call: Any,
) -> Receipt:
    """Move ``amount`` (rupees) of a hold, by default all that remains, to its payee. A final capture releases the rest.

    For the payee, and ``as_staff`` for others than the payer, with a ``reason`` for the log. The payer's limits were
    checked when the money was set aside, and are not checked again. Parallel captures never take more than the hold.
    Repeating the key returns the first receipt. For `call` see `Request`.

    Raises Http404, NotThePayee, OwnWallet, WalletFrozen, PayerUnavailable, HoldClosed, CaptureExceedsHold,
    LimitExceeded, KeyReused, TokenNotValid.
    """
    hold = _find_for_user(user_id, hold_id, as_staff)
    request = Request(user_id, "CAPTURE", amount, hold.remarks, hold_id=hold.pk, final=final, **call)
    payer, payee = ledger.lock_both(hold.payer_id, hold.payee_id)
    if first := ledger.replay(request, payee):
        return first
    hold = _reread_open(hold, payer, payee)
    (rules.check_owner if payee.user_id == user_id else rules.check_not_frozen)(payee)
    rules.check_payer(payer)
    amount = hold.amount - hold.captured if amount is None else amount
    rules.check_capture(hold, amount)
    rules.check_in(payee, amount)
    receipt = ledger.capture(request, hold, payer, payee, amount)
    return receipt if payee.user_id == user_id else ledger.audited(receipt, request, on=hold, reason=reason)


@all_or_nothing
def void(*, user_id: int, hold_id: int, as_staff: bool = False, reason: str = "", **call: Any) -> Hold:
    """Release what remains of a hold: the payer can spend it again. For the payee, and ``as_staff`` for others than
    the payer.

    Repeating the key returns the hold as it is now. For `call` see `Request`.

    Raises Http404, NotThePayee, OwnWallet, HoldClosed, KeyReused.
    """
    hold = _find_for_user(user_id, hold_id, as_staff)
    request = Request(user_id, "VOID", None, reason, hold_id=hold.pk, **call)
    payer, payee = ledger.lock_both(hold.payer_id, hold.payee_id)
    if first := ledger.replay_hold(request):
        return first.for_user(user_id)
    hold = ledger.void(request, _reread_open(hold, payer, payee), payer, clock.now())
    if payee.user_id != user_id:
        left = show(hold.amount - hold.captured)
        audit.record(user_id=user_id, on=hold, what="void", amount=left, reason=reason)
    return hold.for_user(user_id)


@all_or_nothing
def expire(*, wallet_id: int) -> None:
    """Close the expired holds of a payer's wallet."""
    ledger.lock_wallet(wallet_id)


# --- Find and lock -------------------------------------------------------------------------------------


def _find_for_user(user_id: int, hold_id: int, as_staff: bool) -> Hold:
    """A hold that the user may close. Raises Http404, NotThePayee, OwnWallet."""
    hold = Hold.objects.with_accounts().filter(pk=hold_id).first()
    if hold is None or not (as_staff or user_id in (hold.payer.user_id, hold.payee.user_id)):
        raise Http404
    if user_id == hold.payer.user_id:
        raise exceptions.OwnWallet if as_staff else exceptions.NotThePayee
    return hold


def _reread_open(hold: Hold, payer: Wallet, payee: Wallet) -> Hold:
    """The hold as it is under the lock. Raises HoldClosed."""
    hold = Hold.objects.get(pk=hold.pk)
    hold.payer, hold.payee = payer, payee
    rules.check_open(hold, clock.now())
    return hold
