"""`/wallet/requests/`: requests for money, for requesters and payers."""

from typing import Any

from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import KeysetPages
from users.permissions import Authenticated
from wallet import exceptions, ledger, requests, serializers
from wallet.filters import PaymentRequestFilter
from wallet.models import PaymentRequest, PaymentRequestQuerySet


class PaymentRequestViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(gives=serializers.PaymentRequestSerializer, filters=PaymentRequestFilter, pages=KeysetPages)
    def list(self, request: Authenticated) -> list[PaymentRequestQuerySet]:
        """Show the requests for money that one made or is to pay, newest first.

        `direction` is that of the money: `IN` are those that one made, `OUT` those that one is to pay.
        """
        return PaymentRequest.objects.visible_to(request.user)

    @endpoint(
        takes=serializers.AskSerializer,
        gives=serializers.PaymentRequestSerializer,
        status=201,
        money=True,
        account_checked_in_service=True,
        errors=[
            exceptions.SelfTransfer,
            exceptions.RecipientNotFound,
            exceptions.PayerUnavailable,
            *exceptions.PAYMENT_ERRORS,
        ],
    )
    def create(self, request: Authenticated, **ask: Any) -> PaymentRequest:
        """Ask another phone number for money.

        The payer pays or declines it; until then it can be cancelled, and at its time it is over. At most 20 to one
        payer are open, and a day has its number of requests: above these it is `throttled`.
        """
        return requests.ask(user_id=request.user.pk, **ask)

    @endpoint(gives=serializers.PaymentRequestSerializer)
    def retrieve(self, request: Authenticated, pk: str) -> PaymentRequest:
        """Show one request for money of one's own."""
        return PaymentRequest.objects.one_visible_to(request.user, int(pk))

    @action(detail=True, methods=["post"])
    @endpoint(
        gives=serializers.ReceiptSerializer,
        money=True,
        errors=[
            exceptions.NotThePayer,
            exceptions.RequestClosed,
            exceptions.InsufficientFunds,
            exceptions.RecipientUnavailable,
            *exceptions.PAYMENT_ERRORS,
        ],
    )
    def pay(self, request: Authenticated, pk: str, **call: Any) -> ledger.Receipt:
        """Pay what one is asked for: a transfer, by the rules of any other.

        It is paid once, whatever comes at the same time. `balance` is the payer's.
        """
        return requests.pay(user_id=request.user.pk, request_id=int(pk), **call)

    @action(detail=True, methods=["post"])
    @endpoint(
        gives=serializers.PaymentRequestSerializer,
        money=True,
        errors=[
            exceptions.NotThePayer,
            exceptions.RequestClosed,
            exceptions.KeyReused,
            exceptions.OutcomeUnknown,
        ],
    )
    def decline(self, request: Authenticated, pk: str, **call: Any) -> PaymentRequest:
        """Decline to pay what one is asked for."""
        return requests.decline(user_id=request.user.pk, request_id=int(pk), **call)

    @action(detail=True, methods=["post"])
    @endpoint(
        gives=serializers.PaymentRequestSerializer,
        money=True,
        errors=[
            exceptions.NotTheRequester,
            exceptions.RequestClosed,
            exceptions.KeyReused,
            exceptions.OutcomeUnknown,
        ],
    )
    def cancel(self, request: Authenticated, pk: str, **call: Any) -> PaymentRequest:
        """Cancel what one asked for."""
        return requests.cancel(user_id=request.user.pk, request_id=int(pk), **call)
