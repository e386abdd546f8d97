"""Reversals: what was moved is moved back."""

from django.http import Http404

from transactions.models import Transaction
from wallet import ledger, rules
from wallet.faults import all_or_nothing
from wallet.ledger import Receipt, Request


@all_or_nothing
def reverse(*, user_id: int, transaction_id: int, remarks: str, key: str | None = None) -> Receipt:
    """Undo a transaction with a new one, its sides swapped; ``balance`` is that of the wallet that paid at first,
    or for a credit of the one that received. Once per transaction.

    Repeating ``key`` returns the first receipt and moves nothing.

    Raises Http404, OwnWallet, AlreadyReversed, NotReversible, InsufficientFunds, WalletFrozen, LimitExceeded,
    KeyReused.
    """
    original = Transaction.objects.filter(pk=transaction_id).first()
    if original is None:
        raise Http404
    request = Request(user_id, "REVERSAL", None, remarks, key, transaction_id=transaction_id)
    receiver, payer = ledger.lock_sides(original)
    receipt_for = receiver or payer
    assert receipt_for
    if first := ledger.replay(request, receipt_for):
        return first
    wallets = [wallet for wallet in (payer, receiver) if wallet]
    for wallet in wallets:
        rules.check_not_own(wallet, user_id)
    rules.check_reversible(original)
    for wallet in wallets:
        rules.check_not_frozen(wallet)
    if payer:
        rules.check_funds(payer, original.amount)
    if receiver:
        rules.check_room(receiver, original.amount)
    receipt = ledger.post(request, payer, receiver, receipt_for=receipt_for, reverses=original)
    return ledger.audited(receipt, request, on=original)
