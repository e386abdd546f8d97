"""`/wallet/`: one's own money."""

from datetime import datetime
from typing import Any

from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from transactions import statements
from transactions.statements import PastBalance
from users.permissions import Authenticated
from wallet import exceptions, ledger, limits, payments, serializers
from wallet.models import Wallet


class WalletViewSet(Endpoints):
    @action(detail=False)
    @endpoint(query=serializers.AtSerializer, gives=serializers.BalanceAtSerializer)
    def balance(self, request: Authenticated, at: datetime | None = None) -> Wallet | PastBalance:
        """Show one's own balance, now or at a moment of the past."""
        return statements.balance(request.user.wallet, at)

    @action(detail=False)
    @endpoint(gives=serializers.LimitsSerializer)
    def limits(self, request: Authenticated) -> dict[str, Any]:
        """Show one's own limits, and what is left of them.

        Those of the wallet's tier, or of this server where it has none. `daily_count` is a number of payments, all
        others are amounts; days and months are those of this server's time zone.
        """
        return limits.overview(request.user.wallet)

    @action(detail=False, methods=["post"])
    @endpoint(
        takes=serializers.PaymentSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        account_checked_in_service=True,
        errors=[exceptions.SelfCreditDisabled, *exceptions.PAYMENT_ERRORS],
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
        errors=[exceptions.InsufficientFunds, *exceptions.PAYMENT_ERRORS],
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
        errors=exceptions.TRANSFER_ERRORS,
    )
    def transfer(self, request: Authenticated, **payment: Any) -> ledger.Receipt:
        """Send money to the wallet of another phone number."""
        return payments.transfer(user_id=request.user.pk, **payment)
