"""Freezing and unfreezing wallets."""

from users import audit
from wallet import ledger, rules
from wallet.faults import all_or_nothing
from wallet.models import Wallet


@all_or_nothing
def freeze(*, user_id: int, wallet_id: int, reason: str) -> Wallet:
    """Freeze a wallet, staff's own too: it neither pays nor receives. A payment that holds it now is done first.
    Raises Http404."""
    return _change(ledger.lock_wallet(wallet_id), Wallet.Status.FROZEN, user_id, reason)


@all_or_nothing
def unfreeze(*, user_id: int, wallet_id: int, reason: str) -> Wallet:
    """Let a wallet pay and receive again. Raises Http404, OwnWallet."""
    wallet = ledger.lock_wallet(wallet_id)
    rules.check_not_own(wallet, user_id)
    return _change(wallet, Wallet.Status.ACTIVE, user_id, reason)


def _change(wallet: Wallet, status: Wallet.Status, user_id: int, reason: str) -> Wallet:
    before = wallet.status
    ledger.set_status(wallet, status)
    audit.record(user_id=user_id, on=wallet, what="status", before=before, after=status, reason=reason)
    return wallet
