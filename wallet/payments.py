"""Credit, debit, transfer."""

from decimal import Decimal
from typing import Any

from transactions.models import CREDIT, DEBIT, TRANSFER
from wallet import exceptions, ledger, rules
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request
from wallet.models import Wallet


@all_or_nothing
def credit(*, user_id: int, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Add ``amount`` (rupees) to the user's wallet, or for staff to the wallet ``wallet_id``.

    For `call` see `Request`. Raises SelfCreditDisabled, OwnWallet, WalletFrozen, LimitExceeded, KeyReused,
    TokenNotValid.
    """
    request = Request(user_id, CREDIT, amount, remarks, **call)
    wallet = _lock(request)
    if first := ledger.replay(request, wallet):
        return first
    if _is_own(request):
        rules.check_self_credit()
    _check(wallet, request)
    rules.check_room(wallet, amount)
    return _told(ledger.post(request, None, wallet, receipt_for=wallet), request, wallet)


@all_or_nothing
def debit(*, user_id: int, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Take ``amount`` (rupees) from the user's wallet, or for staff from the wallet ``wallet_id``.

    For `call` see `Request`. Raises InsufficientFunds, OwnWallet, WalletFrozen, LimitExceeded, KeyReused,
    TokenNotValid.
    """
    request = Request(user_id, DEBIT, amount, remarks, **call)
    wallet = _lock(request)
    if first := ledger.replay(request, wallet):
        return first
    _check(wallet, request)
    rules.check_funds(wallet, amount)
    return _told(ledger.post(request, wallet, None, receipt_for=wallet), request, wallet)


@all_or_nothing
def transfer(*, user_id: int, to: str, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Move ``amount`` (rupees) from the user's wallet to that of the E.164 number ``to``, or change nothing.

    Both wallets are locked in the order of their keys, so opposite transfers queue and cannot deadlock. For `call` see
    `Request`.

    Raises InsufficientFunds, SelfTransfer, RecipientNotFound, RecipientUnavailable, WalletFrozen, LimitExceeded,
    KeyReused, TokenNotValid.
    """
    request = Request(user_id, TRANSFER, amount, remarks, to=to, **call)
    payer, receiver = ledger.lock_pair(request)
    if first := ledger.replay(request, payer):
        return first
    rules.check_owner(payer)
    if receiver is None:
        raise exceptions.RecipientNotFound
    if receiver.pk == payer.pk:
        raise exceptions.SelfTransfer
    rules.check_amount(amount)
    rules.check_funds(payer, amount)
    rules.check_recipient(receiver, amount)
    return ledger.post(request, payer, receiver, receipt_for=payer)


# --- One's own wallet, or that of another for staff ---------------------------------------------------


def _is_own(request: Request) -> bool:
    return request.wallet_id is None


def _lock(request: Request) -> Wallet:
    return ledger.lock_own(request) if _is_own(request) else ledger.lock_wallet(request.wallet_id)


def _check(wallet: Wallet, request: Request) -> None:
    assert request.amount
    if _is_own(request):
        rules.check_owner(wallet)
    else:
        rules.check_not_own(wallet, request.user_id)
        rules.check_not_frozen(wallet)
    rules.check_amount(request.amount)


def _told(receipt: Receipt, request: Request, wallet: Wallet) -> Receipt:
    return receipt if _is_own(request) else ledger.audited(receipt, request, on=wallet)
