"""The append-only ledger, its sums per day, and the events that webhooks and readers of the feed receive."""

from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Any

from django.conf import settings
from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import F, Max, Q, Sum, Value
from django.http import Http404
from django.utils import timezone

from lokanetra.encrypted import EncryptedField
from lokanetra.prepared import FastModel, Newest, Placeholder
from users.models import UserProfile
from wallet.models import Hold, Wallet
from wallet.money import MoneyField

CREDIT, DEBIT, TRANSFER = "CREDIT", "DEBIT", "TRANSFER"


class TransactionQuerySet(models.QuerySet["Transaction"]):
    def touching(self, wallet: Wallet) -> list["TransactionQuerySet"]:
        """What the wallet paid and what it received: each is one range of an index, and merged they are its history.

        Rows are annotated with the names of both sides and, from the wallet's view, the direction, the counterparty and
        the balance after the row.
        """
        sides = self._sides(Value(wallet.user.username))
        return [rows.filter(**{side: wallet.pk}) for side, rows in sides.items()]

    def _sides(self, own: Any) -> dict[str, "TransactionQuerySet"]:
        """All rows as their sender sees them, whose name is `own`, and as their receiver does."""
        return {
            "sender_id": self.annotate(
                direction=Value("OUT"),
                balance=F("sender_balance"),
                sender_name=own,
                receiver_name=F("receiver__user__username"),
                counterparty_id=F("receiver"),
                counterparty=F("receiver_name"),
            ),
            "receiver_id": self.annotate(
                direction=Value("IN"),
                balance=F("receiver_balance"),
                sender_name=F("sender__user__username"),
                receiver_name=own,
                counterparty_id=F("sender"),
                counterparty=F("sender_name"),
            ),
        }

    def newest_of(self, wallet: Wallet, count: int) -> list["Transaction"]:
        """The wallet's last transactions, newest first."""
        return _newest(count)(wallet=wallet.pk, name=wallet.user.username)

    def history_of(self, user: UserProfile) -> "History":
        """The same rows as `visible_to`, for a list."""
        return History(user.wallet)

    def visible_to(self, user: UserProfile) -> list["TransactionQuerySet"]:
        """The history of the user's own wallet. Other transactions do not exist for this user."""
        return self.touching(user.wallet)

    def one_visible_to(self, user: UserProfile, pk: int) -> "Transaction":
        """One transaction of the user's own. Raises Http404."""
        found = [row for side in self.visible_to(user) for row in side.filter(pk=pk)]
        if not found:
            raise Http404
        return found[0]

    def newest_first(self) -> "TransactionQuerySet":
        """The whole ledger in the default order of staff lists."""
        return self.order_by("-timestamp", "-pk")

    def up_to_now(self) -> "TransactionQuerySet":
        """Without rows added later, so that reading in parts gives a consistent result."""
        return self.filter(pk__lte=self.model.objects.aggregate(newest=Max("pk"))["newest"] or 0)

    def for_staff(self) -> "TransactionQuerySet":
        """With the names and phone numbers of both sides."""
        return self.annotate(
            sender_name=F("sender__user__username"),
            receiver_name=F("receiver__user__username"),
            sender_phone_number=F("sender__user__phone_number"),
            receiver_phone_number=F("receiver__user__phone_number"),
        )

    def with_accounts(self) -> "TransactionQuerySet":
        """With both wallets and their accounts, in the same query."""
        return self.select_related("sender__user", "receiver__user")


@dataclass
class History:
    """A wallet's history. Its first page, the most frequent request, uses queries that are compiled once."""

    wallet: Wallet

    def newest(self, count: int) -> list["Transaction"]:
        return Transaction.objects.newest_of(self.wallet, count)

    def sides(self) -> list[TransactionQuerySet]:
        return Transaction.objects.touching(self.wallet)


@cache
def _newest(count: int) -> Newest["Transaction"]:
    rows = Transaction.objects.defer("sender_balance", "receiver_balance", "initiated_by")
    own = Placeholder("name", models.CharField())
    return Newest(lambda: rows._sides(own), Placeholder("wallet"), count)


class Transaction(FastModel):
    """One operation: who paid whom how much, and what each had after it. Never changed, never deleted.

    `sender` and `receiver` are wallets; null means outside the product. Amounts and balances are in rupees. Id and time
    come from the database while the wallets are locked: both give a wallet's rows the order in which they happened.
    """

    class Type(models.TextChoices):
        CREDIT = CREDIT
        DEBIT = DEBIT
        TRANSFER = TRANSFER

    transaction_type = models.CharField(max_length=8, choices=Type.choices)
    sender = models.ForeignKey(Wallet, models.PROTECT, null=True, related_name="+", db_index=False)
    receiver = models.ForeignKey(Wallet, models.PROTECT, null=True, related_name="+", db_index=False)
    amount = MoneyField()
    sender_balance = MoneyField(null=True)
    receiver_balance = MoneyField(null=True)
    remarks = models.CharField(max_length=255, blank=True)
    timestamp = models.DateTimeField()
    initiated_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False)
    reverses = models.ForeignKey("self", models.PROTECT, null=True, related_name="reversals", db_index=False)
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="captures", db_index=False)

    objects = TransactionQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        permissions = [("export_transaction", "Can export transactions")]
        constraints = [
            models.CheckConstraint(name="transactions_transaction_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="transactions_transaction_sides_of_type",
                condition=Q(transaction_type=CREDIT, sender=None, receiver__isnull=False)
                | Q(transaction_type=DEBIT, sender__isnull=False, receiver=None)
                | Q(transaction_type=TRANSFER, sender__isnull=False, receiver__isnull=False),
            ),
            models.CheckConstraint(name="transactions_transaction_two_wallets", condition=~Q(sender=F("receiver"))),
            # "Not null" is explicit because a CHECK accepts a condition that is null.
            models.CheckConstraint(
                name="transactions_transaction_sender_balance",
                condition=Q(sender=None, sender_balance=None)
                | Q(sender__isnull=False, sender_balance__isnull=False, sender_balance__gte=0),
            ),
            models.CheckConstraint(
                name="transactions_transaction_receiver_balance",
                condition=Q(receiver=None, receiver_balance=None)
                | Q(receiver__isnull=False, receiver_balance__isnull=False, receiver_balance__gte=F("amount")),
            ),
            models.CheckConstraint(
                name="transactions_transaction_capture_is_transfer",
                condition=Q(hold=None) | Q(transaction_type=TRANSFER, reverses=None),
            ),
        ]
        indexes = [
            models.Index(fields=["sender", "-id"], name="transactions_paid"),
            models.Index(fields=["receiver", "-id"], name="transactions_received"),
            models.Index(fields=["timestamp", "id"], name="transactions_by_time"),
            models.Index(fields=["amount", "id"], name="transactions_by_amount"),
            models.Index(fields=["transaction_type", "timestamp", "id"], name="transactions_by_type"),
            models.Index(fields=["reverses"], name="transactions_reversals", condition=Q(reverses__isnull=False)),
            models.Index(fields=["hold"], name="transactions_captures", condition=Q(hold__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"{self.transaction_type} {self.pk}"

    def balance_after(self, side: str) -> Decimal:
        """What the wallet that is its `sender` or its `receiver` had after it (rupees)."""
        return getattr(self, f"{side}_balance")

    @property
    def given_back(self) -> Decimal:
        """The sum of its refunds and reversals."""
        return self.reversals.aggregate(total=Sum("amount"))["total"] or Decimal(0)


class DayVolume(models.Model):
    """How much of one type moved on one closed day of `TIME_ZONE`. A command fills it; no payment touches it."""

    day = models.DateField()
    transaction_type = models.CharField(max_length=8, choices=Transaction.Type.choices)
    count = models.PositiveBigIntegerField()
    amount = MoneyField()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.UniqueConstraint(fields=["day", "transaction_type"], name="transactions_dayvolume_once"),
        ]

    def __str__(self) -> str:
        return f"{self.transaction_type} on {self.day}"


class Change(models.Model):
    """A change. For a transaction it refers to the row, which never changes; for anything else `data` keeps what staff
    saw then."""

    class Type(models.TextChoices):
        TRANSACTION_CREATED = "transaction.created"
        HOLD_OPENED = "hold.opened"
        HOLD_CAPTURED = "hold.captured"
        HOLD_VOIDED = "hold.voided"
        HOLD_EXPIRED = "hold.expired"
        REQUEST_CREATED = "request.created"
        REQUEST_PAID = "request.paid"
        REQUEST_DECLINED = "request.declined"
        REQUEST_CANCELLED = "request.cancelled"
        REQUEST_EXPIRED = "request.expired"
        WALLET_CREATED = "wallet.created"
        WALLET_FROZEN = "wallet.frozen"
        WALLET_UNFROZEN = "wallet.unfrozen"
        USER_DEACTIVATED = "user.deactivated"

    type = models.CharField(max_length=32, choices=Type.choices)
    timestamp = models.DateTimeField()
    # Written by the statement that writes the row, which is never deleted, so a foreign key check adds nothing.
    transaction = models.ForeignKey(
        Transaction, models.DO_NOTHING, null=True, related_name="+", db_index=False, db_constraint=False
    )
    data = models.JSONField(null=True, encoder=DjangoJSONEncoder)

    class Meta:
        abstract = True
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                name="%(app_label)s_%(class)s_of_one_thing",
                condition=Q(type="transaction.created", transaction__isnull=False, data__isnull=True)
                | (~Q(type="transaction.created") & Q(transaction=None, data__isnull=False)),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.pk}"


class Outbox(Change):
    """Changes, written in the commit that made them, until they are numbered. Their ids are not in commit order."""


class EventQuerySet(models.QuerySet["Event"]):
    def with_transactions(self) -> "EventQuerySet":
        """With their transactions, as staff see them."""
        return self.prefetch_related(models.Prefetch("transaction", Transaction.objects.for_staff()))


class Event(Change):
    """A numbered change. Ids are given after the commit, without gaps, and never smaller than one that was readable
    before."""

    id = models.BigIntegerField(primary_key=True)

    objects = EventQuerySet.as_manager()

    class Meta(Change.Meta):
        default_permissions = ("view",)  # type: ignore[assignment]
        indexes = [
            # Nearly all events are payments, which need no index.
            models.Index(
                fields=["type", "id"], name="transactions_rare_events", condition=~Q(type="transaction.created")
            )
        ]


class Webhook(models.Model):
    """A server that receives events of these types. Each is sent again until it is accepted.

    Requests are signed with `secret`, and until `old_secret_until` also with the previous one.
    """

    url = models.CharField("URL", max_length=2000)
    types = models.JSONField()
    secret = EncryptedField()
    old_secret = EncryptedField(null=True)
    old_secret_until = models.DateTimeField(null=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    # Since when nothing was accepted; null while deliveries succeed.
    failing_since = models.DateTimeField(null=True)
    # When it was switched off for failing.
    switched_off_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()  # for superusers only

    def __str__(self) -> str:
        return self.url


class DeliveryQuerySet(models.QuerySet["Delivery"]):
    def due(self) -> "DeliveryQuerySet":
        """Pending deliveries whose time has come."""
        return self.filter(status=Delivery.Status.PENDING, next_at__lte=timezone.now())

    def with_events(self) -> "DeliveryQuerySet":
        """With the webhooks and the events, in the same query."""
        return self.select_related("webhook", "event")


class Delivery(models.Model):
    """One event for one webhook; without an event it is a test, whose type is `TEST`. `answer` is the beginning of the
    last response, or why there was none, and `seconds` how long it took."""

    TEST = "webhook.test"

    class Status(models.TextChoices):
        PENDING = "PENDING"
        DELIVERED = "DELIVERED"
        FAILED = "FAILED"

    webhook = models.ForeignKey(Webhook, models.PROTECT, related_name="deliveries", db_index=False)
    event = models.ForeignKey(Event, models.CASCADE, null=True, related_name="deliveries", db_index=False)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    created_at = models.DateTimeField()
    # How often it was claimed, and when it may be claimed again. An attempt whose worker died counts too.
    attempts = models.PositiveSmallIntegerField(default=0)
    next_at = models.DateTimeField(null=True)
    sent_at = models.DateTimeField(null=True)
    answer_status = models.PositiveSmallIntegerField(null=True)
    answer = models.TextField(blank=True)
    seconds = models.FloatField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        verbose_name_plural = "deliveries"
        constraints = [
            models.UniqueConstraint(fields=["event", "webhook"], name="transactions_delivery_once"),
            models.CheckConstraint(
                name="transactions_delivery_pending_has_time",
                condition=Q(status="PENDING", next_at__isnull=False)
                | Q(status__in=["DELIVERED", "FAILED"], next_at=None),
            ),
        ]
        indexes = [
            models.Index(fields=["webhook", "-id"], name="transactions_delivery_of"),
            models.Index(
                fields=["webhook", "next_at", "id"], name="transactions_delivery_due", condition=Q(status="PENDING")
            ),
            models.Index(fields=["webhook", "id"], name="transactions_delivery_failed", condition=Q(status="FAILED")),
        ]

    def __str__(self) -> str:
        return f"delivery {self.pk}"

    @property
    def type(self) -> str:
        return self.event.type if self.event else self.TEST

    @property
    def message_id(self) -> str:
        """The id by which a receiver recognises repetitions: it is the same in each attempt."""
        return f"evt_{self.event_id}" if self.event_id else f"test_{self.pk}"
