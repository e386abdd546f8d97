"""`/transactions/`: one's own history, and the whole ledger as staff see it."""

from collections.abc import Sequence
from typing import Any

from rest_framework.decorators import action

from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.pagination import KeysetPages, NumberedPages
from transactions import statements
from transactions.exports import HISTORY, LEDGER
from transactions.filters import HistoryFilter, StaffFilter
from transactions.models import History, Transaction, TransactionQuerySet
from transactions.permissions import MayExport
from transactions.serializers import (
    DetailSerializer,
    EntrySerializer,
    StaffEntrySerializer,
    StatementRequestSerializer,
    StatementRowSerializer,
)
from transactions.statement_files import FILES
from transactions.statements import StatementPages
from users.permissions import Authenticated, IsStaff
from wallet import ledger, refunds
from wallet.exceptions import REFUND_ERRORS, NotThePayee, OwnWallet, RecipientUnavailable
from wallet.permissions import MayAdjust
from wallet.serializers import ReceiptSerializer, RefundSerializer, ReversalSerializer


class TransactionViewSet(Endpoints):
    lookup_value_regex = "[0-9]{1,18}"

    @endpoint(gives=EntrySerializer, filters=HistoryFilter, pages=KeysetPages)
    def list(self, request: Authenticated) -> History:
        """Show one's own history, newest first."""
        return Transaction.objects.history_of(request.user)

    @endpoint(gives=DetailSerializer)
    def retrieve(self, request: Authenticated, pk: str) -> Transaction:
        """Show one transaction of one's own."""
        return Transaction.objects.one_visible_to(request.user, int(pk))

    @action(detail=False, url_path="admin-list")
    @endpoint(
        gives=StaffEntrySerializer,
        filters=StaffFilter,
        pages=NumberedPages,
        load_related=TransactionQuerySet.for_staff,
        allow_stale=True,
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

        All rows that the filters leave, up to the moment of the call, in UTF-8 with a byte order mark. A file
        that ends inside quotes is not whole. Two at a time.
        """
        return Transaction.objects.up_to_now().visible_to(request.user)

    @action(detail=False)
    @endpoint(query=StatementRequestSerializer, gives=StatementRowSerializer, pages=StatementPages, files=FILES)
    def statement(self, request: Authenticated, **period: Any) -> statements.Statement:
        """Show what one's own wallet held when a period began and ended, and every row between, oldest first.

        `opening_balance` + `total_in` - `total_out` = `closing_balance`, always: `next` leads through the rows that
        were there for the first page. As CSV the balances are the first line and the last; a PDF has at most 10,000
        rows.
        """
        return statements.statement(request.user.wallet, **period)

    @action(detail=False, url_path="admin-export")
    @endpoint(streams=LEDGER, filters=StaffFilter, allow=MayExport)
    def admin_export(self, request: Authenticated) -> TransactionQuerySet:
        """Download all transactions as CSV, newest first.

        All rows that the filters leave, up to the moment of the call, in UTF-8 with a byte order mark. A phone
        has spaces between its groups of digits. A file that ends inside quotes is not whole. Two at a time.
        """
        return Transaction.objects.up_to_now().newest_first().for_staff()

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=ReversalSerializer,
        gives=ReceiptSerializer,
        money=True,
        allow=MayAdjust,
        errors=[*REFUND_ERRORS, OwnWallet],
    )
    def reverse(self, request: Authenticated, pk: str, **reversal: Any) -> ledger.Receipt:
        """Undo a transaction, or a part of it, by a new one with its sides swapped.

        Without an amount, all that was not given back yet. Reversals and refunds cannot be reversed. What the receiver
        has spent, or has set aside, cannot be taken back.
        """
        return refunds.reverse(user_id=request.user.pk, transaction_id=int(pk), **reversal)

    @action(detail=True, methods=["post"])
    @endpoint(
        takes=RefundSerializer,
        gives=ReceiptSerializer,
        money=True,
        errors=[*REFUND_ERRORS, RecipientUnavailable, NotThePayee],
    )
    def refund(self, request: Authenticated, pk: str, **refund: Any) -> ledger.Receipt:
        """Give back a received transfer, or a part of it.

        Without an amount, all that was not given back yet. Refunds and reversals of one transfer together never exceed
        it. `balance` is that of the caller.
        """
        return refunds.refund(user=request.user, transaction_id=int(pk), **refund)
