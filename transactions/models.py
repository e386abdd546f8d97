"""What happened to money: the ledger, which is only added to, and its sums per day."""

from django.conf import settings
from django.db import models
from django.db.models import F, Max, Q, Value
from django.http import Http404

from users.models import UserProfile
from wallet.models import Wallet
from wallet.money import MoneyField

CREDIT, DEBIT, TRANSFER = "CREDIT", "DEBIT", "TRANSFER"


class TransactionQuerySet(models.QuerySet["Transaction"]):
    def touching(self, wallet: Wallet) -> list["TransactionQuerySet"]:
        """What the wallet paid and what it received: each is one range of an index, and merged they are its history.

        Each is annotated with the names of both, and with what the row is to the wallet: a direction, the other side,
        and the balance after it.
        """
        own = Value(wallet.user.username)
        return [
            self.filter(sender=wallet).annotate(
                direction=Value("OUT"),
                balance=F("sender_balance"),
                sender_name=own,
                receiver_name=F("receiver__user__username"),
                counterparty_id=F("receiver"),
                counterparty=F("receiver_name"),
            ),
            self.filter(receiver=wallet).annotate(
                direction=Value("IN"),
                balance=F("receiver_balance"),
                sender_name=F("sender__user__username"),
                receiver_name=own,
                counterparty_id=F("sender"),
                counterparty=F("sender_name"),
            ),
        ]

    def newest_of(self, wallet: Wallet, count: int) -> list["Transaction"]:
        """The wallet's last transactions, newest first."""
        found = [row for side in self.touching(wallet) for row in side.order_by("-pk")[:count]]
        return sorted(found, key=lambda row: -row.pk)[:count]

    def visible_to(self, user: UserProfile) -> list["TransactionQuerySet"]:
        """The history of the user's own wallet. What is not in it does not exist for him."""
        return self.touching(user.wallet)

    def one_visible_to(self, user: UserProfile, pk: int) -> "Transaction":
        """One transaction of the user's own. Raises Http404."""
        found = [row for side in self.visible_to(user) for row in side.filter(pk=pk)]
        if not found:
            raise Http404
        return found[0]

    def newest_first(self) -> "TransactionQuerySet":
        """The whole ledger, in the order in which staff see it."""
        return self.order_by("-timestamp", "-pk")

    def so_far(self) -> "TransactionQuerySet":
        """Without the rows that are still to come: so what is read in parts is one picture."""
        return self.filter(pk__lte=self.model.objects.aggregate(newest=Max("pk"))["newest"] or 0)

    def for_staff(self) -> "TransactionQuerySet":
        """With the names and phone numbers of both."""
        return self.annotate(
            sender_name=F("sender__user__username"),
            receiver_name=F("receiver__user__username"),
            sender_phone_number=F("sender__user__phone_number"),
            receiver_phone_number=F("receiver__user__phone_number"),
        )

    def with_accounts(self) -> "TransactionQuerySet":
        """With both wallets and their accounts, in the same query."""
        return self.select_related("sender__user", "receiver__user")


class Transaction(models.Model):
    """One operation: who paid whom how much, and what each had after it. Never changed, never deleted.

    `sender` and `receiver` are wallets; null is the world outside. Amounts and balances are in rupees. The id comes
    from the database while the wallets are locked, and so does the time: a wallet's rows are in the order in which they
    happened, by both.
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
    idempotency_key = models.CharField(max_length=255, null=True)  # noqa: DJ001  (no key is not an empty one)
    request_hash = models.CharField(max_length=64, null=True)  # noqa: DJ001
    reverses = models.ForeignKey("self", models.PROTECT, null=True, related_name="reversals", db_index=False)

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
            # "Not null" is said in so many words, for a CHECK lets through what it cannot tell.
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
                name="transactions_transaction_key_with_hash",
                condition=Q(idempotency_key=None, request_hash=None)
                | Q(idempotency_key__isnull=False, request_hash__isnull=False),
            ),
            models.UniqueConstraint(
                fields=["initiated_by", "idempotency_key"],
                condition=Q(idempotency_key__isnull=False),
                name="transactions_transaction_key_once",
            ),
            models.UniqueConstraint(
                fields=["reverses"],
                condition=Q(reverses__isnull=False),
                name="transactions_transaction_reversed_once",
            ),
        ]
        indexes = [
            models.Index(fields=["sender", "-id"], name="transactions_paid"),
            models.Index(fields=["receiver", "-id"], name="transactions_received"),
            models.Index(fields=["timestamp", "id"], name="transactions_by_time"),
            models.Index(fields=["amount", "id"], name="transactions_by_amount"),
            models.Index(fields=["transaction_type", "timestamp", "id"], name="transactions_by_type"),
        ]

    def __str__(self) -> str:
        return f"{self.transaction_type} {self.pk}"


class DayVolume(models.Model):
    """How much of one type moved on one closed day (UTC). A command fills it; no payment touches it."""

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
