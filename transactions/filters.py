"""Filters and search for transactions, events and deliveries. Accounts are looked up first: a wallet's rows are a range
of an index."""

from functools import reduce

import django_filters
from django.db.models import Exists, OuterRef, Q

from lokanetra.filters import Choice, Id, Ordering, Search, Since, Until
from transactions.models import Delivery, Event, Transaction, TransactionQuerySet
from users.filters import Phone
from wallet.filters import Amount
from wallet.models import Wallet

# Words, and rows of many wallets, are searched in this many of the newest rows: a scan of ten million takes minutes.
SEARCHED_ROWS = 10_000
# Up to this many wallets are named in the query, and the database reads the index range of each. Four digits match
# about a hundred of a million.
MAX_NAMED_WALLETS = 1_000


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
    """For one side of a history, as `TransactionQuerySet.touching` returns it."""

    direction = Choice(field_name="direction", choices=[("IN", "IN"), ("OUT", "OUT")])
    phone = Phone(method="of_counterparty", label="The other side's phone number.")

    def of_counterparty(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        return rows.filter(counterparty_id=wallet_of(value))  # type: ignore[misc]


class StaffFilter(TransactionFilter):
    sender_phone = Phone(method="of_sender", label="The payer's phone number.")
    receiver_phone = Phone(method="of_receiver", label="The receiver's phone number.")
    ordering = Ordering(fields=["timestamp", "amount"])
    # The last filter: words are searched among the rows that the others leave.
    search = Search(
        method="by_text",
        label="A type, how a username or phone number begins, the last digits of a phone, or words. Words, and what "
        f"more than {MAX_NAMED_WALLETS:,} accounts did, are looked for in the newest {SEARCHED_ROWS:,} rows.",
    )

    def of_sender(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        return rows.filter(sender=wallet_of(value))

    def of_receiver(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        return rows.filter(receiver=wallet_of(value))

    def by_text(self, rows: TransactionQuerySet, name: str, value: str) -> TransactionQuerySet:
        newest = within_newest(rows)
        found = of_matching_accounts(value, newest) | with_words(value, newest)
        if value.upper() in Transaction.Type:
            found |= Q(transaction_type=value.upper())
        return rows.filter(found)


class EventFilter(django_filters.FilterSet):
    type = Choice(field_name="type", choices=Event.Type.choices)

    class Meta:
        model = Event
        fields: list[str] = []


class DeliveryFilter(django_filters.FilterSet):
    webhook = Id(field_name="webhook", label="The id of a webhook.")
    status = Choice(field_name="status", choices=Delivery.Status.choices)

    class Meta:
        model = Delivery
        fields: list[str] = []


def wallet_of(phone_number: str) -> int:
    """The id of the wallet of an E.164 number, or 0, which no wallet has."""
    return Wallet.objects.filter(user__phone_number=phone_number).values_list("pk", flat=True).first() or 0


def within_newest(rows: TransactionQuerySet) -> Q:
    """A condition for the newest of these rows, as a range of times: an OR with a subquery would scan the ledger."""
    times = rows.newest_first().values_list("timestamp", flat=True)
    oldest = list(times[SEARCHED_ROWS - 1 : SEARCHED_ROWS])
    return Q(timestamp__gte=oldest[0]) if oldest else Q()


def of_matching_accounts(text: str, newest: Q) -> Q:
    """A condition for the rows of the wallets that the text matches: all rows if they are few, else the newest."""
    wallets = Wallet.objects.matching(text)
    few = list(wallets.values_list("pk", flat=True)[: MAX_NAMED_WALLETS + 1])
    if len(few) <= MAX_NAMED_WALLETS:
        return Q(sender__in=few) | Q(receiver__in=few)
    either = [Exists(wallets.filter(pk=OuterRef(side))) for side in ("sender", "receiver")]
    return newest & (Q(either[0]) | Q(either[1]))


def with_words(text: str, newest: Q) -> Q:
    """A condition for the newest rows whose remarks have every word."""
    return reduce(lambda found, word: found & Q(remarks__icontains=word), text.split(), newest)
