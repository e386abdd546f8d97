"""Requests for money: one asks another, who pays or declines; who asked may cancel.

Nothing is set aside, and money moves when a request is paid, by a transfer like any other. A request is guarded by its
own row, which whoever closes it locks: after the wallets, and at least his own, so that of two calls with one key the
second sees what the first did. After its time it is over at once; `expire` tidies its row.
"""

from datetime import datetime
from decimal import Decimal
from typing import Any

from django.http import Http404

from wallet import exceptions, ledger, rules
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request
from wallet.models import PaymentRequest

# As many as one transaction closes.
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
    now = ledger.clock.now()
    rules.check_open_requests(requester, payer, now)
    rules.check_requests_today(requester, now)
    return ledger.ask(request, requester, payer, amount, at=now, expires_in=expires_in).for_user(user_id)


@all_or_nothing
def pay(*, user_id: int, request_id: int, **call: Any) -> Receipt:
    """Transfer what the user is asked for, by all the rules of a transfer, once, whatever comes at the same time.

    Repeating the key returns the first receipt. For `call` see `Request`.

    Raises Http404, NotThePayer, RequestClosed, InsufficientFunds, RecipientUnavailable, WalletFrozen, LimitExceeded,
    KeyReused, TokenNotValid.
    """
    asked = _theirs(user_id, request_id, "payer")
    request = Request(user_id, "PAY", asked.amount, asked.remarks, request_id=request_id, **call)
    payer, requester = ledger.lock_both(asked.payer_id, asked.requester_id)
    if first := ledger.replay(request, payer):
        return first
    asked, _ = _pending_now(request_id)
    rules.check_pair(payer, requester, asked.amount)
    return ledger.pay(request, asked, payer, requester)


@all_or_nothing
def decline(*, user_id: int, request_id: int, **call: Any) -> PaymentRequest:
    """Refuse what the user is asked for, also while his wallet is frozen.

    Repeating the key returns the request as it is now. For `call` see `Request`.

    Raises Http404, NotThePayer, RequestClosed, KeyReused.
    """
    asked = _theirs(user_id, request_id, "payer")
    request = Request(user_id, "DECLINE", None, "", request_id=request_id, **call)
    return _close(request, request_id, asked.payer_id, PaymentRequest.Status.DECLINED)


@all_or_nothing
def cancel(*, user_id: int, request_id: int, **call: Any) -> PaymentRequest:
    """Take back what the user asked for, also while his wallet is frozen.

    Repeating the key returns the request as it is now. For `call` see `Request`.

    Raises Http404, NotTheRequester, RequestClosed, KeyReused.
    """
    asked = _theirs(user_id, request_id, "requester")
    request = Request(user_id, "CANCEL", None, "", request_id=request_id, **call)
    return _close(request, request_id, asked.requester_id, PaymentRequest.Status.CANCELLED)


@all_or_nothing
def expire() -> int:
    """Close requests that are over, up to `BATCH` of them: how many."""
    return ledger.expire_requests(BATCH)


# --- Whose request it is -------------------------------------------------------------------------------

REFUSALS = {"payer": exceptions.NotThePayer, "requester": exceptions.NotTheRequester}


def _theirs(user_id: int, request_id: int, side: str) -> PaymentRequest:
    """A request of which the user is this side."""
    asked = PaymentRequest.objects.with_accounts().filter(pk=request_id).first()
    if asked is None or user_id not in (asked.payer.user_id, asked.requester.user_id):
        raise Http404
    if getattr(asked, side).user_id != user_id:
        raise REFUSALS[side]
    return asked


def _pending_now(request_id: int) -> tuple[PaymentRequest, datetime]:
    """The request, locked, as it is now, and when that is. Raises RequestClosed."""
    asked, now = ledger.lock_request(request_id), ledger.clock.now()
    rules.check_pending(asked, now)
    return asked, now


def _close(request: Request, request_id: int, own: int, status: PaymentRequest.Status) -> PaymentRequest:
    ledger.lock_wallet(own)
    if first := ledger.replay_request(request):
        return first.for_user(request.user_id)
    asked, now = _pending_now(request_id)
    return ledger.close(request, asked, status, now).for_user(request.user_id)
