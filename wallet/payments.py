"""Credit, debit, transfer."""

from decimal import Decimal
from typing import Any

from transactions.models import CREDIT, DEBIT, TRANSFER
from wallet import ledger, rules
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request
from wallet.models import Wallet


@all_or_nothing
def credit(*, user_id: int, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Add ``amount`` (rupees) to the user's wallet, or for staff to the wallet ``wallet_id``, or to that of
    the E.164 number ``to``.

    For `call` see `Request`. Raises SelfCreditDisabled, OwnWallet, RecipientNotFound, WalletFrozen, LimitExceeded,
    KeyReused, TokenNotValid.
    """
    request = Request(user_id, CREDIT, amount, remarks, **call)
    wallet = _lock(request)
    if first := ledger.replay(request, wallet):
        return first
    if _is_own(request):
        rules.check_self_credit()
    _check_access(wallet, request)
    rules.check_at_once(wallet, amount)
    rules.check_in(wallet, amount)
    receipt = ledger.post(request, None, wallet, amount, receipt_for=wallet, is_last=_is_own(request))
    return _audited_for_staff(receipt, request, wallet)


@all_or_nothing
def debit(*, user_id: int, amount: Decimal, remarks: str = "", **call: Any) -> Receipt:
    """Take ``amount`` (rupees) from the user's wallet, or for staff from the wallet ``wallet_id``, or from
    that of the E.164 number ``to``.

    For `call` see `Request`. Raises InsufficientFunds, OwnWallet, RecipientNotFound, WalletFrozen, LimitExceeded,
    KeyReused, TokenNotValid.
    """
    request = Request(user_id, DEBIT, amount, remarks, **call)
    wallet = _lock(request)
    if first := ledger.replay(request, wallet):
        return first
    _check_access(wallet, request)
    rules.check_out(wallet, amount)
    rules.check_funds(wallet, amount)
    receipt = ledger.post(request, wallet, None, amount, receipt_for=wallet, is_last=_is_own(request))
    return _audited_for_staff(receipt, request, wallet)


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
    receiver = rules.check_pair(payer, receiver, amount)
    return ledger.post(request, payer, receiver, amount, receipt_for=payer, is_last=True)


# --- The caller's own wallet, or another for staff ----------------------------------------------------


def _is_own(request: Request) -> bool:
    return request.wallet_id is None and request.to is None


def _lock(request: Request) -> Wallet:
    if _is_own(request):
        return ledger.lock_own(request)
    return ledger.lock_phone(request) if request.to else ledger.lock_wallet(request.wallet_id)


def _check_access(wallet: Wallet, request: Request) -> None:
    if _is_own(request):
        rules.check_owner(wallet)
    else:
        rules.check_not_own(wallet, request.user_id)
        rules.check_not_frozen(wallet)


def _audited_for_staff(receipt: Receipt, request: Request, wallet: Wallet) -> Receipt:
    return receipt if _is_own(request) else ledger.audited(receipt, request, on=wallet)
