"""`/transactions/`: one's own history, and the whole ledger as staff see it."""

from collections.abc import Sequence
from typing import Any

from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import KeysetPages, NumberedPages
from transactions.exports import HISTORY, LEDGER
from transactions.filters import HistoryFilter, StaffFilter
from transactions.models import Transaction, TransactionQuerySet
from transactions.permissions import MayExport
from transactions.serializers import EntrySerializer, StaffEntrySerializer
from users.permissions import Authenticated, IsStaff
from wallet import ledger, refunds
from wallet.exceptions import PAYING, AlreadyReversed, InsufficientFunds, NotReversible, OwnWallet
from wallet.permissions import MayAdjust
from wallet.serializers import ReceiptSerializer, RemarksSerializer


class TransactionViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(gives=EntrySerializer, filters=HistoryFilter, pages=KeysetPages)
    def list(self, request: Authenticated) -> list[TransactionQuerySet]:
        """Show one's own history, newest first."""
        return Transaction.objects.visible_to(request.user)

    @endpoint(gives=EntrySerializer)
    def retrieve(self, request: Authenticated, pk: str) -> Transaction:
        """Show one transaction of one's own."""
        return Transaction.objects.one_visible_to(request.user, int(pk))

    @action(detail=False, url_path="admin-list")
    @endpoint(
        gives=StaffEntrySerializer,
        filters=StaffFilter,
        pages=NumberedPages,
        reads=TransactionQuerySet.for_staff,
        allow=IsStaff,
    )
    def admin_list(self, request: Authenticated) -> TransactionQuerySet:
        """List all transactions, newest first.

        `count` is exact up to 10,000; above that it is 10000, and `count_is_exact` is false.
        """
        return Transaction.objects.newest_first()

    @action(detail=False)
    @endpoint(streams=HISTORY, filters=HistoryFilter)
    def export(self, request: Authenticated) -> Sequence[TransactionQuerySet]:
        """Download one's own history as CSV, newest first.

        All rows that the filters leave, up to the moment of the call, in UTF-8 behind its byte order mark. A file
        that ends inside quotes is not whole. Two at a time.
        """
        return Transaction.objects.so_far().visible_to(request.user)

    @action(detail=False, url_path="admin-export")
    @endpoint(streams=LEDGER, filters=StaffFilter, allow=MayExport)
    def admin_export(self, request: Authenticated) -> TransactionQuerySet:
        """Download all transactions as CSV, newest first.

        All rows that the filters leave, up to the moment of the call, in UTF-8 behind its byte order mark. A file
        that ends inside quotes is not whole. Two at a time.
        """
        return Transaction.objects.so_far().newest_first().for_staff()

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=RemarksSerializer,
        gives=ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[AlreadyReversed, NotReversible, InsufficientFunds, OwnWallet, *PAYING],
    )
    def reverse(self, request: Authenticated, pk: str, **reversal: Any) -> ledger.Receipt:
        """Undo a transaction with a new one, its sides swapped.

        Once per transaction, and never of a reversal. What the receiver has spent cannot be taken back.
        """
        return refunds.reverse(user_id=request.user.pk, transaction_id=int(pk), **reversal)
