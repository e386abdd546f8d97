from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.models.signals import post_save


class WalletConfig(AppConfig):
    name = "wallet"

    def ready(self) -> None:
        post_save.connect(create_wallet, sender=settings.AUTH_USER_MODEL, dispatch_uid="wallet")


def create_wallet(instance: Any, created: bool, raw: bool, **kwargs: Any) -> None:
    """Every new account gets a wallet, by a signal: `users` must not know about wallets."""
    from transactions import events
    from wallet.models import Wallet

    if created and not raw:
        wallet = Wallet.objects.create(user=instance)
        events.record(events.Event.Type.WALLET_CREATED, wallet, at=wallet.created_at)
