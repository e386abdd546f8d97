"""`/wallet/holds/`: holds, for their payers and payees."""

from typing import Any

from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import KeysetPages
from users.permissions import Authenticated
from wallet import exceptions, holds, ledger, serializers
from wallet.filters import HoldFilter
from wallet.models import Hold, HoldQuerySet
from wallet.permissions import MayAdjust, PayeeOrMayAdjust


class HoldViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(gives=serializers.HoldSerializer, filters=HoldFilter, pages=KeysetPages)
    def list(self, request: Authenticated) -> list[HoldQuerySet]:
        """Show the holds that one pays or is paid by, newest first."""
        return Hold.objects.visible_to(request.user)

    @endpoint(
        takes=serializers.HoldRequestSerializer,
        gives=serializers.HoldSerializer,
        status=201,
        money=True,
        account_checked_in_service=True,
        errors=exceptions.TRANSFER_ERRORS,
    )
    def create(self, request: Authenticated, **hold: Any) -> Hold:
        """Set money aside for another phone number.

        It stays the payer's but cannot be spent otherwise, until the payee captures or voids the hold, or it expires.
        """
        return holds.open_(user_id=request.user.pk, **hold)

    @endpoint(gives=serializers.HoldSerializer)
    def retrieve(self, request: Authenticated, pk: str) -> Hold:
        """Show one hold of one's own."""
        return Hold.objects.one_visible_to(request.user, int(pk))

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=serializers.CaptureSerializer,
        gives=serializers.ReceiptSerializer,
        money=True,
        allow=PayeeOrMayAdjust,
        errors=[
            exceptions.CaptureExceedsHold,
            exceptions.NotThePayee,
            exceptions.OwnWallet,
            exceptions.HoldClosed,
            exceptions.PayerUnavailable,
            *exceptions.PAYMENT_ERRORS,
        ],
    )
    def capture(self, request: Authenticated, pk: str, **capture: Any) -> ledger.Receipt:
        """Take what was set aside: all that remains, or a part.

        For the payee, and for staff with the right to adjust wallets. What remains after a part is the payer's to spend
        again, unless `final` is false. `balance` is the payee's.
        """
        as_staff = MayAdjust.is_granted_to(request.user)
        return holds.capture(user_id=request.user.pk, hold_id=int(pk), as_staff=as_staff, **capture)

    @action(detail=True, methods=["post"])
    @endpoint(
        gives=serializers.HoldSerializer,
        money=True,
        allow=PayeeOrMayAdjust,
        errors=[
            exceptions.NotThePayee,
            exceptions.OwnWallet,
            exceptions.HoldClosed,
            exceptions.KeyReused,
            exceptions.OutcomeUnknown,
        ],
    )
    def void(self, request: Authenticated, pk: str, **call: Any) -> Hold:
        """Release what remains of a hold: the payer can spend it again.

        For the payee, who was promised it, and for staff with the right to adjust wallets. The payer waits until the
        hold expires.
        """
        as_staff = MayAdjust.is_granted_to(request.user)
        return holds.void(user_id=request.user.pk, hold_id=int(pk), as_staff=as_staff, **call)
