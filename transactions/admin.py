"""The ledger in the console: to look at and to search, never to edit."""

from django.contrib import admin
from django.db.models import Q, QuerySet
from unfold.contrib.filters.admin import RangeNumericFilter
from unfold.decorators import display

from lokanetra.admin import MomentRangeFilter, ReadOnlyAdmin
from transactions.filters import wallets_matching
from transactions.models import Transaction
from wallet.models import Wallet

COLOURS = {"CREDIT": "success", "DEBIT": "warning", "TRANSFER": "info"}


@admin.register(Transaction)
class TransactionAdmin(ReadOnlyAdmin):
    list_display = ("id", "type", "paid_by", "paid_to", "amount", "remarks", "time")
    fields = (
        "transaction_type",
        "paid_by",
        "paid_to",
        "amount",
        "sender_balance",
        "receiver_balance",
        "remarks",
        "time",
        "initiated_by",
        "idempotency_key",
        "reverses",
    )
    list_filter = ("transaction_type", ("amount", RangeNumericFilter), ("timestamp", MomentRangeFilter))
    list_filter_submit = True
    list_select_related = ("sender__user", "receiver__user")
    sortable_by = ("id", "amount", "time")  # what there is an index for
    search_fields = ("sender__user__username", "receiver__user__username")
    search_help_text = "How a username or phone number of either side begins."
    ordering = ("-id",)

    @display(description="type", label=COLOURS)
    def type(self, row: Transaction) -> str:
        return row.transaction_type

    @display(description="time (UTC)", ordering="timestamp")
    def time(self, row: Transaction) -> str:
        return f"{row.timestamp:%Y-%m-%d %H:%M:%S}"

    @display(description="sender")
    def paid_by(self, row: Transaction) -> str:
        return _name(row.sender)

    @display(description="receiver")
    def paid_to(self, row: Transaction) -> str:
        return _name(row.receiver)

    def search(self, rows: QuerySet, text: str) -> QuerySet:
        wallets = wallets_matching(text)
        return rows.filter(Q(sender__in=wallets) | Q(receiver__in=wallets))


def _name(wallet: Wallet | None) -> str:
    if wallet is None:
        return "outside"
    return f"{wallet.user.username} ({wallet.user.phone})" if wallet.user.phone else wallet.user.username
