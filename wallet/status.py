"""What staff set on wallets: frozen or not, and the tier."""

from django.http import Http404

from users import audit
from wallet import ledger, rules
from wallet.faults import all_or_nothing
from wallet.models import Tier, Wallet


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


@all_or_nothing
def set_tier(*, user_id: int, wallet_id: int, tier: Tier | None, reason: str) -> Wallet:
    """Give a wallet the limits of a tier; of the settings with None. What it did before counts. Raises Http404,
    OwnWallet."""
    wallet = ledger.lock_wallet(wallet_id)
    rules.check_not_own(wallet, user_id)
    if tier and not Tier.objects.select_for_update(no_key=True).filter(pk=tier.pk):
        raise Http404  # it was deleted just now
    before = wallet.tier and wallet.tier.name
    ledger.set_tier(wallet, tier)
    audit.record(user_id=user_id, on=wallet, what="tier", before=before, after=tier and tier.name, reason=reason)
    return wallet


def _change(wallet: Wallet, status: Wallet.Status, user_id: int, reason: str) -> Wallet:
    before = wallet.status
    ledger.set_status(wallet, status)
    audit.record(user_id=user_id, on=wallet, what="status", before=before, after=status, reason=reason)
    return wallet
