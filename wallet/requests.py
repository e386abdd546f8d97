"""Requests for money: the payer pays or declines, the requester may cancel.

Nothing is set aside, and money moves when a request is paid, by a transfer like any other. The lock of a request is its
own row, after the wallets. Closing one locks at least the caller's own wallet, so that of two calls with one key the
second sees what the first did. A request expires at its time; `expire` closes its row.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import Http404

from wallet import exceptions, ledger, rules
from wallet.clock import clock
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request
from wallet.models import PaymentRequest

# Requests that one transaction closes.
BATCH = 500


@all_or_nothing
def ask(
    *,
    user_id: int,
    to: str,
    amount: Decimal,
    remarks: str = "",
    expires_in: int = PaymentRequest.DEFAULT_LIFETIME,
    **call: Any,
) -> PaymentRequest:
    """Ask the account of the E.164 number ``to`` to pay ``amount`` (rupees) to the user, within so many seconds.

    At most `rules.MAX_OPEN_REQUESTS` from one requester to one payer are open, and at most `REQUESTS_PER_DAY` are made
    in a day, also by parallel calls. Repeating the key returns the request as it is now. For `call` see `Request`.

    Raises SelfTransfer, RecipientNotFound, PayerUnavailable, WalletFrozen, LimitExceeded, TooManyRequests, KeyReused,
    TokenNotValid.
    """
    request = Request(user_id, "ASK", amount, remarks, to=to, expires_in=expires_in, **call)
    requester, payer = ledger.lock_pair(request)
    if first := ledger.replay_request(request):
        return first.for_user(user_id)
    payer = rules.check_request(requester, payer, amount)
    now = clock.now()
    rules.check_open_requests(requester, payer, now)
    rules.check_requests_today(requester, now)
    return ledger.ask(request, requester, payer, amount, at=now, expires_in=expires_in).for_user(user_id)


@all_or_nothing
def pay(*, user_id: int, request_id: int, **call: Any) -> Receipt:
    """Transfer what the user is asked for, by all the rules of a transfer, and only once even in parallel.

    Repeating the key returns the first receipt. For `call` see `Request`.

    Raises Http404, NotThePayer, RequestClosed, InsufficientFunds, RecipientUnavailable, WalletFrozen, LimitExceeded,
    KeyReused, TokenNotValid.
    """
    payment_request = _find_for_side(user_id, request_id, "payer")
    request = Request(user_id, "PAY", payment_request.amount, payment_request.remarks, request_id=request_id, **call)
    payer, requester = ledger.lock_both(payment_request.payer_id, payment_request.requester_id)
    if first := ledger.replay(request, payer):
        return first
    payment_request, _ = _lock_pending(request_id)
    rules.check_pair(payer, requester, payment_request.amount)
    return ledger.pay(request, payment_request, payer, requester)


@all_or_nothing
def decline(*, user_id: int, request_id: int, **call: Any) -> PaymentRequest:
    """Decline a request to the user, also while their wallet is frozen.

    Repeating the key returns the request as it is now. For `call` see `Request`.

    Raises Http404, NotThePayer, RequestClosed, KeyReused.
    """
    payment_request = _find_for_side(user_id, request_id, "payer")
    request = Request(user_id, "DECLINE", None, "", request_id=request_id, **call)
    return _close(request, request_id, payment_request.payer_id, PaymentRequest.Status.DECLINED)


@all_or_nothing
def cancel(*, user_id: int, request_id: int, **call: Any) -> PaymentRequest:
    """Cancel a request of the user, also while their wallet is frozen.

    Repeating the key returns the request as it is now. For `call` see `Request`.

    Raises Http404, NotTheRequester, RequestClosed, KeyReused.
    """
    payment_request = _find_for_side(user_id, request_id, "requester")
    request = Request(user_id, "CANCEL", None, "", request_id=request_id, **call)
    return _close(request, request_id, payment_request.requester_id, PaymentRequest.Status.CANCELLED)


@all_or_nothing
def expire() -> int:
    """Close up to `BATCH` expired requests. Returns how many."""
    return ledger.expire_requests(BATCH)


# --- Find and lock -------------------------------------------------------------------------------------

REFUSALS = {"payer": exceptions.NotThePayer, "requester": exceptions.NotTheRequester}


def _find_for_side(user_id: int, request_id: int, side: str) -> PaymentRequest:
    """A request of which the user is this side. Raises Http404, NotThePayer, NotTheRequester."""
    payment_request = PaymentRequest.objects.with_accounts().filter(pk=request_id).first()
    if payment_request is None or user_id not in (payment_request.payer.user_id, payment_request.requester.user_id):
        raise Http404
    if getattr(payment_request, side).user_id != user_id:
        raise REFUSALS[side]
    return payment_request


def _lock_pending(request_id: int) -> tuple[PaymentRequest, datetime]:
    """The request, locked and pending, and the time. Raises RequestClosed."""
    payment_request, now = ledger.lock_request(request_id), clock.now()
    rules.check_pending(payment_request, now)
    return payment_request, now


def _close(request: Request, request_id: int, own_wallet: int, status: PaymentRequest.Status) -> PaymentRequest:
    ledger.lock_wallet(own_wallet)
    if first := ledger.replay_request(request):
        return first.for_user(request.user_id)
    payment_request, now = _lock_pending(request_id)
    return ledger.close(request, payment_request, status, now).for_user(request.user_id)
