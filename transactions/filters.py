"""How people look for transactions. Accounts are found first: a wallet's rows are a range of an index."""

from functools import reduce
from typing import Any

import django_filters
from django.db.models import Q

from lokanetra.filters import Choice, Ordering, Search, Since, Until
from transactions.models import Transaction, TransactionQuerySet
from users.filters import Phone
from wallet.filters import Amount
from wallet.models import Wallet

# Words are looked for in this many of the newest rows: a scan of ten million takes minutes.
SEARCHED_REMARKS = 10_000
# Up to this many wallets a search names them one by one, and the database reads their ranges.
FEW = 100


class TransactionFilter(django_filters.FilterSet):
    type = Choice(field_name="transaction_type", choices=Transaction.Type.choices)
    start_date = Since(field_name="timestamp")
    end_date = Until(field_name="timestamp")
    min_amount = Amount(field_name="amount", lookup_expr="gte")
    max_amount = Amount(field_name="amount", lookup_expr="lte")

    class Meta:
        model = Transaction
        fields: list[str] = []


class HistoryFilter(TransactionFilter):
    """For one side of a history, as `TransactionQuerySet.touching` gives it."""

    direction = Choice(field_name="direction", choices=[("IN", "IN"), ("OUT", "OUT")])
    phone = Phone(method="of_counterparty", label="The other side's phone number.")

    def of_counterparty(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        return rows.filter(counterparty_id=wallet_of(value))  # type: ignore[misc]


class StaffFilter(TransactionFilter):
    sender_phone = Phone(method="of_sender", label="The payer's phone number.")
    receiver_phone = Phone(method="of_receiver", label="The receiver's phone number.")
    ordering = Ordering(fields=["timestamp", "amount"])
    # The last: words are looked for among the rows that the other filters leave.
    search = Search(
        method="by_text", label="A type, how a username or phone number begins, or words of the newest remarks."
    )

    def of_sender(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        return rows.filter(sender=wallet_of(value))

    def of_receiver(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        return rows.filter(receiver=wallet_of(value))

    def by_text(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        wallets = wallets_matching(value)
        newest = rows.order_by("-id").values("pk")[:SEARCHED_REMARKS]
        words = reduce(lambda found, word: found & Q(remarks__icontains=word), value.split(), Q(pk__in=newest))
        return rows.filter(Q(transaction_type=value.upper()) | Q(sender__in=wallets) | Q(receiver__in=wallets) | words)


def wallet_of(phone_number: str) -> int:
    """The wallet of an E.164 number; 0, which is nobody's, where there is none."""
    return Wallet.objects.filter(user__phone_number=phone_number).values_list("pk", flat=True).first() or 0


def wallets_matching(text: str) -> Any:
    """Few wallets by their ids; many as the query that finds them."""
    found = Wallet.objects.matching(text).values_list("pk", flat=True)
    few = list(found[: FEW + 1])
    return few if len(few) <= FEW else found
