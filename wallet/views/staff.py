"""`/wallet/admin/`: wallets, holds, requests for money and tiers as staff see them."""

from datetime import datetime
from typing import Any

from django.db.models import QuerySet
from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import NumberedPages
from transactions import statements
from transactions.serializers import StatementRequestSerializer, StatementRowSerializer
from transactions.statement_files import STAFF_FILES
from transactions.statements import PastBalance, StatementPages
from users.permissions import Authenticated, IsStaff
from wallet import exceptions, ledger, payments, serializers, status
from wallet.filters import StaffHoldFilter, StaffPaymentRequestFilter, WalletFilter
from wallet.models import Hold, HoldQuerySet, PaymentRequest, PaymentRequestQuerySet, Tier, Wallet, WalletQuerySet
from wallet.permissions import MayAdjust, MayChange


class WalletAdminViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(
        gives=serializers.WalletSerializer,
        filters=WalletFilter,
        pages=NumberedPages,
        load_related=WalletQuerySet.for_staff,
        allow_stale=True,
        allow=IsStaff,
    )
    def list(self, request: Authenticated) -> WalletQuerySet:
        """List the wallets, newest first."""
        return Wallet.objects.order_by("-id")

    @endpoint(
        takes=serializers.TierChangeSerializer,
        gives=serializers.WalletSerializer,
        full_body=True,
        allow=MayChange,
        errors=[exceptions.OwnWallet],
    )
    def partial_update(self, request: Authenticated, pk: str, **change: Any) -> Wallet:
        """Give a wallet a tier, or none.

        A tier is named by its name or its id; with null the wallet has the limits of this server.
        """
        return status.set_tier(user_id=request.user.pk, wallet_id=int(pk), **change)

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=serializers.AdjustmentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[exceptions.OwnWallet, *exceptions.PAYMENT_ERRORS],
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
        errors=[exceptions.InsufficientFunds, exceptions.OwnWallet, *exceptions.PAYMENT_ERRORS],
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

    @action(detail=True)
    @endpoint(query=serializers.AtSerializer, gives=serializers.BalanceAtSerializer, allow=IsStaff)
    def balance(self, request: Authenticated, pk: str, at: datetime | None = None) -> Wallet | PastBalance:
        """Show the balance of a wallet, now or at a moment of the past."""
        return statements.balance(Wallet.objects.get_or_404(int(pk)), at)

    @action(detail=True)
    @endpoint(
        query=StatementRequestSerializer,
        gives=StatementRowSerializer,
        pages=StatementPages,
        files=STAFF_FILES,
        allow=IsStaff,
    )
    def statement(self, request: Authenticated, pk: str, **period: Any) -> statements.Statement:
        """Show what a wallet held when a period began and ended, and every row between, oldest first.

        As its owner is shown it. Who takes it as a file is logged.
        """
        return statements.statement(Wallet.objects.get_or_404(int(pk)), **period)


class PhoneAdminViewSet(Endpoints):
    """Wallets by the phone number of who has them."""

    @action(detail=False, methods=["post"])
    @endpoint(
        takes=serializers.PhoneAdjustmentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[exceptions.OwnWallet, exceptions.RecipientNotFound, *exceptions.PAYMENT_ERRORS],
    )
    def credit(self, request: Authenticated, **payment: Any) -> ledger.Receipt:
        """Put money into the wallet of a phone number."""
        return payments.credit(user_id=request.user.pk, **payment)

    @action(detail=False, methods=["post"])
    @endpoint(
        takes=serializers.PhoneAdjustmentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[
            exceptions.InsufficientFunds,
            exceptions.OwnWallet,
            exceptions.RecipientNotFound,
            *exceptions.PAYMENT_ERRORS,
        ],
    )
    def debit(self, request: Authenticated, **payment: Any) -> ledger.Receipt:
        """Take money out of the wallet of a phone number."""
        return payments.debit(user_id=request.user.pk, **payment)


class HoldAdminViewSet(Endpoints):
    @endpoint(
        gives=serializers.StaffHoldSerializer,
        filters=StaffHoldFilter,
        pages=NumberedPages,
        allow_stale=True,
        allow=IsStaff,
    )
    def list(self, request: Authenticated) -> HoldQuerySet:
        """List all holds, newest first."""
        return Hold.objects.with_accounts().order_by("-id")


class PaymentRequestAdminViewSet(Endpoints):
    @endpoint(
        gives=serializers.StaffPaymentRequestSerializer,
        filters=StaffPaymentRequestFilter,
        pages=NumberedPages,
        allow_stale=True,
        allow=IsStaff,
    )
    def list(self, request: Authenticated) -> PaymentRequestQuerySet:
        """List all requests for money, newest first."""
        return PaymentRequest.objects.with_accounts().order_by("-id")


class TierAdminViewSet(Endpoints):
    @endpoint(gives=serializers.TierSerializer, pages=NumberedPages, allow=IsStaff)
    def list(self, request: Authenticated) -> QuerySet[Tier]:
        """List the tiers: what wallets may do. Null is no limit."""
        return Tier.objects.order_by("name", "pk")
