"""`/wallet/`: one's own money, and the wallets as staff see them."""

from typing import Any

from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import NumberedPages
from users.permissions import Authenticated, IsStaff
from wallet import exceptions, ledger, payments, serializers, status
from wallet.filters import WalletFilter
from wallet.models import Wallet, WalletQuerySet
from wallet.permissions import MayAdjust, MayChange


class WalletViewSet(Endpoints):
    @action(detail=False)
    @endpoint(gives=serializers.BalanceSerializer)
    def balance(self, request: Authenticated) -> Wallet:
        """Show one's own balance."""
        return request.user.wallet

    @action(detail=False, methods=["post"])
    @endpoint(
        takes=serializers.PaymentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        account_checked_in_service=True,
        errors=[exceptions.SelfCreditDisabled, *exceptions.PAYING],
    )
    def credit(self, request: Authenticated, **payment: Any) -> ledger.Receipt:
        """Put money into one's own wallet.

        For development and demonstrations: a production server refuses it, for a user who credits himself
        prints money.
        """
        return payments.credit(user_id=request.user.pk, **payment)

    @action(detail=False, methods=["post"])
    @endpoint(
        takes=serializers.PaymentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        account_checked_in_service=True,
        errors=[exceptions.InsufficientFunds, *exceptions.PAYING],
    )
    def debit(self, request: Authenticated, **payment: Any) -> ledger.Receipt:
        """Take money out of one's own wallet."""
        return payments.debit(user_id=request.user.pk, **payment)

    @action(detail=False, methods=["post"])
    @endpoint(
        takes=serializers.TransferSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        account_checked_in_service=True,
        errors=[
            exceptions.InsufficientFunds,
            exceptions.SelfTransfer,
            exceptions.RecipientNotFound,
            exceptions.RecipientUnavailable,
            *exceptions.PAYING,
        ],
    )
    def transfer(self, request: Authenticated, **payment: Any) -> ledger.Receipt:
        """Send money to the wallet of another phone number."""
        return payments.transfer(user_id=request.user.pk, **payment)


class WalletAdminViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(gives=serializers.WalletSerializer, filters=WalletFilter, pages=NumberedPages, allow=IsStaff)
    def list(self, request: Authenticated) -> WalletQuerySet:
        """List the wallets, newest first."""
        return Wallet.objects.select_related("user").order_by("-id")

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=serializers.AdjustmentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[exceptions.OwnWallet, *exceptions.PAYING],
    )
    def credit(self, request: Authenticated, pk: str, **payment: Any) -> ledger.Receipt:
        """Put money into a wallet: how it enters in production."""
        return payments.credit(user_id=request.user.pk, wallet_id=int(pk), **payment)

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=serializers.AdjustmentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[exceptions.InsufficientFunds, exceptions.OwnWallet, *exceptions.PAYING],
    )
    def debit(self, request: Authenticated, pk: str, **payment: Any) -> ledger.Receipt:
        """Take money out of a wallet: how it leaves in production."""
        return payments.debit(user_id=request.user.pk, wallet_id=int(pk), **payment)

    @action(detail=True, methods=["post"])
    @endpoint(takes=serializers.ReasonSerializer, gives=serializers.WalletSerializer, allow=MayChange)
    def freeze(self, request: Authenticated, pk: str, reason: str) -> Wallet:
        """Freeze a wallet: it neither pays nor receives."""
        return status.freeze(user_id=request.user.pk, wallet_id=int(pk), reason=reason)

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=serializers.ReasonSerializer,
        gives=serializers.WalletSerializer,
        allow=MayChange,
        errors=[exceptions.OwnWallet],
    )
    def unfreeze(self, request: Authenticated, pk: str, reason: str) -> Wallet:
        """Let a frozen wallet pay and receive again."""
        return status.unfreeze(user_id=request.user.pk, wallet_id=int(pk), reason=reason)
