"""Wallets, holds and requests for money. Nothing here changes a balance: `ledger.py` does."""

from datetime import date, datetime
from decimal import Decimal
from functools import reduce
from operator import or_
from typing import Any, ClassVar, Self, TypeVar

from django.conf import settings
from django.db import models
from django.db.models import ExpressionWrapper, F, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Coalesce
from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.functional import cached_property

from lokanetra.prepared import FastModel
from users.models import UserProfile
from wallet.money import MoneyField

# The day of a wallet without any payment.
NEVER = date(1970, 1, 1)
# What remains of holds, in a query.
REMAINING = ExpressionWrapper(Sum("amount") - Sum("captured"), output_field=MoneyField())


class Tier(models.Model):
    """What wallets of a kind may do, in rupees; empty is no limit. Superusers make them.

    Days and months are those of `TIME_ZONE`. Out are debits, transfers and captures, and what is held now; in are
    credits, transfers and captures. Refunds and reversals are not counted.
    """

    name = models.CharField(max_length=64, unique=True)
    max_amount = MoneyField(null=True, blank=True, help_text="At once.")
    max_balance = MoneyField(null=True, blank=True, help_text="In the wallet.")
    daily_out = MoneyField(null=True, blank=True, help_text="Out in a day.")
    monthly_out = MoneyField(null=True, blank=True, help_text="Out in a month.")
    monthly_in = MoneyField(null=True, blank=True, help_text="Into it in a month.")
    daily_count = models.PositiveIntegerField(null=True, blank=True, help_text="Payments out in a day.")

    class Meta:
        ordering = ["name"]
        constraints = [
            models.CheckConstraint(name=f"wallet_tier_{name}_not_negative", condition=Q(**{f"{name}__gte": 0}))
            for name in ("max_amount", "max_balance", "daily_out", "monthly_out", "monthly_in", "daily_count")
        ]

    def __str__(self) -> str:
        return self.name


class WalletQuerySet(models.QuerySet["Wallet"]):
    def matching(self, text: str) -> "WalletQuerySet":
        """Wallets of accounts whose username or phone number begins with `text`, or whose number ends with it."""
        return self.filter(user__in=UserProfile.objects.matching(text).values("pk"))

    def get_or_404(self, pk: int) -> "Wallet":
        """A wallet with its account. Raises Http404."""
        return get_object_or_404(self.select_related("user"), pk=pk)

    def for_staff(self) -> "WalletQuerySet":
        """With accounts, tiers, and the sum of expired holds (`due`), in the same query."""
        due = Hold.objects.due().filter(payer=OuterRef("pk")).order_by().values("payer").values(remaining=REMAINING)
        zero = Value(0, output_field=MoneyField())
        return self.select_related("user", "tier").annotate(due=Coalesce(Subquery(due), zero))


class Wallet(FastModel):
    """One account's money. Every account has exactly one; `balance` is in rupees, and the sum of its ledger rows.

    Of the balance `held` is set aside for the payees of holds. What went out on `day` and in its month, and came in in
    that month, is counted here too, whether or not a limit needs it.
    """

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        FROZEN = "FROZEN"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.PROTECT, related_name="wallet")
    balance = MoneyField(default=0)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)
    tier = models.ForeignKey(Tier, models.PROTECT, null=True, related_name="+", db_index=False)
    held = MoneyField(default=0, db_default=0)
    day = models.DateField(default=NEVER, db_default=NEVER)
    out_day = MoneyField(default=0, db_default=0)
    count_day = models.PositiveIntegerField(default=0, db_default=0)
    out_month = MoneyField(default=0, db_default=0)
    in_month = MoneyField(default=0, db_default=0)

    objects = WalletQuerySet.as_manager()

    class Meta:
        default_permissions = ("change", "view")  # wallets come with their accounts and stay
        permissions = [("adjust_wallet", "Can credit, debit and reverse for others")]
        constraints = [
            models.CheckConstraint(name="wallet_wallet_balance_not_negative", condition=Q(balance__gte=0)),
            models.CheckConstraint(name="wallet_wallet_status_known", condition=Q(status__in=["ACTIVE", "FROZEN"])),
            models.CheckConstraint(
                name="wallet_wallet_held_within_balance", condition=Q(held__gte=0, held__lte=F("balance"))
            ),
            models.CheckConstraint(
                name="wallet_wallet_sums_not_negative",
                condition=Q(out_day__gte=0, count_day__gte=0, out_month__gte=F("out_day"), in_month__gte=0),
            ),
        ]
        # None on the balance: every payment would have to update it.
        indexes = [
            models.Index(fields=["created_at", "id"], name="wallet_wallet_by_age"),
            models.Index(fields=["tier"], name="wallet_wallet_by_tier", condition=Q(tier__isnull=False)),
        ]

    def __str__(self) -> str:
        return f"wallet {self.pk}"

    @property
    def is_frozen(self) -> bool:
        return self.status == self.Status.FROZEN

    @cached_property
    def due(self) -> Decimal:
        """What is still set aside for expired holds that are not closed yet."""
        return Hold.objects.due().remaining_of(self) if self.held else Decimal(0)

    @property
    def held_now(self) -> Decimal:
        """What is set aside at this moment."""
        return self.held - self.due

    @property
    def available(self) -> Decimal:
        """What can be spent."""
        return self.balance - self.held_now


# The status of expired holds and requests.
EXPIRED = "EXPIRED"
Row = TypeVar("Row", bound="Expiring")


class ExpiringQuerySet(models.QuerySet[Row]):
    def due(self, now: datetime | None = None) -> Self:
        """Expired, and not closed yet."""
        return self.filter(status=self.model.OPEN, expires_at__lte=now or timezone.now())

    def with_status(self, status: str) -> Self:
        """Those with this status at this moment."""
        now = timezone.now()
        if status == self.model.OPEN:
            return self.filter(status=status, expires_at__gt=now)
        if status == EXPIRED:
            return self.filter(Q(status=status) | Q(status=self.model.OPEN, expires_at__lte=now))
        return self.filter(status=status)

    def visible_to(self, user: UserProfile) -> list[Self]:
        """Those of which the user is a side, in a queryset for each side: each reads one range of an index."""
        rows = self.with_accounts()
        return [
            rows.filter(**{side: user.wallet}).annotate(direction=models.Value(direction))
            for side, direction in self.model.SIDES.items()
        ]

    def newest_open_of(self, wallet: Wallet, count: int) -> list[Row]:
        """Those of the wallet, on either side, that are open at this moment, newest first."""
        sides = [side.with_status(self.model.OPEN) for side in self.visible_to(wallet.user)]
        found = [row for side in sides for row in side.order_by("-pk")[:count]]
        return sorted(found, key=lambda row: -row.pk)[:count]

    def one_visible_to(self, user: UserProfile, pk: int) -> Row:
        """The one with this id, of which the user is a side. Raises Http404."""
        found = [row for side in self.visible_to(user) for row in side.filter(pk=pk)]
        if not found:
            raise Http404
        return found[0]

    def with_accounts(self) -> Self:
        return self.select_related(*(f"{side}__user" for side in self.model.SIDES))

    def matching(self, text: str) -> Self:
        """Those of wallets that match the text, on either side."""
        wallets = Wallet.objects.matching(text).values("pk")
        return self.filter(reduce(or_, (Q(**{f"{side}__in": wallets}) for side in self.model.SIDES)))


class Expiring(models.Model):
    """A hold or a request for money: open between a payer and another wallet until it expires. Amounts are in rupees.

    After `expires_at` it is expired, even if its row is still open because nothing has closed it yet: see `state`.
    """

    # Seconds.
    MIN_LIFETIME, DEFAULT_LIFETIME, MAX_LIFETIME = 60, 7 * 24 * 3600, 30 * 24 * 3600
    # The status before the last one, and the two wallets with the direction of the money for each.
    OPEN: ClassVar[str]
    SIDES: ClassVar[dict[str, str]]

    payer = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    amount = MoneyField()
    status: Any
    remarks = models.CharField(max_length=255, blank=True)
    created_at = models.DateTimeField()
    expires_at = models.DateTimeField()
    closed_at = models.DateTimeField(null=True)

    direction: str | None
    replayed = False  # whether its idempotency key was used before

    class Meta:
        abstract = True

    def is_due(self, now: datetime) -> bool:
        return self.status == self.OPEN and self.expires_at <= now

    @property
    def state(self) -> str:
        """Its status at this moment."""
        return EXPIRED if self.is_due(timezone.now()) else self.status

    @property
    def ended_at(self) -> datetime | None:
        return self.expires_at if self.is_due(timezone.now()) else self.closed_at

    def for_user(self, user_id: int) -> Self:
        """Itself, with the direction of the money for the user: OUT or IN, None for a user who is not a side."""
        own = [direction for side, direction in self.SIDES.items() if getattr(self, side).user_id == user_id]
        self.direction = own[0] if own else None
        return self


class HoldQuerySet(ExpiringQuerySet["Hold"]):
    def remaining_of(self, payer: Wallet) -> Decimal:
        """How much remains of those of one payer."""
        return self.filter(payer=payer).aggregate(remaining=REMAINING)["remaining"] or Decimal(0)


class Hold(Expiring):
    """Money set aside for one payee: it stays the payer's, but can be spent only for this."""

    class Status(models.TextChoices):
        OPEN = "OPEN"
        CAPTURED = "CAPTURED"
        VOIDED = "VOIDED"
        EXPIRED = EXPIRED

    OPEN, SIDES = Status.OPEN, {"payer": "OUT", "payee": "IN"}

    payee = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    captured = MoneyField(default=0)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.OPEN)

    objects = HoldQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(name="wallet_hold_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(
                name="wallet_hold_captured_within_amount", condition=Q(captured__gte=0, captured__lte=F("amount"))
            ),
            models.CheckConstraint(name="wallet_hold_two_wallets", condition=~Q(payer=F("payee"))),
            models.CheckConstraint(name="wallet_hold_ends_after_it_began", condition=Q(expires_at__gt=F("created_at"))),
            models.CheckConstraint(
                name="wallet_hold_closed_or_open",
                condition=Q(status="OPEN", closed_at=None, captured__lt=F("amount"))
                | Q(status="CAPTURED", closed_at__isnull=False, captured__gt=0)
                | Q(status__in=["VOIDED", "EXPIRED"], closed_at__isnull=False, captured__lt=F("amount")),
            ),
        ]
        indexes = [
            models.Index(fields=["payer", "-id"], name="wallet_hold_by_payer"),
            models.Index(fields=["payee", "-id"], name="wallet_hold_by_payee"),
            models.Index(fields=["payer", "expires_at"], name="wallet_hold_open", condition=Q(status="OPEN")),
            models.Index(fields=["expires_at"], name="wallet_hold_due", condition=Q(status="OPEN")),
        ]

    def __str__(self) -> str:
        return f"hold {self.pk}"

    @property
    def remaining(self) -> Decimal:
        """What can still be captured."""
        return self.amount - self.captured if self.state == self.OPEN else Decimal(0)


class PaymentRequestQuerySet(ExpiringQuerySet["PaymentRequest"]):
    def open_between(self, requester: Wallet, payer: Wallet, now: datetime) -> Self:
        """Those of one requester to one payer, in the order in which they expire."""
        pending = self.filter(requester=requester, payer=payer, status=PaymentRequest.OPEN, expires_at__gt=now)
        return pending.order_by("expires_at")

    def newest_skipping(self, count: int, requester: Wallet) -> "PaymentRequest | None":
        """The requester's newest request after so many newer ones."""
        return self.filter(requester=requester).order_by("-pk")[count : count + 1].first()


class PaymentRequest(Expiring):
    """A request for money of another user: nothing is set aside. `transaction` is the transfer that paid it."""

    class Status(models.TextChoices):
        PENDING = "PENDING"
        PAID = "PAID"
        DECLINED = "DECLINED"
        CANCELLED = "CANCELLED"
        EXPIRED = EXPIRED

    OPEN, SIDES = Status.PENDING, {"payer": "OUT", "requester": "IN"}

    requester = models.ForeignKey(Wallet, models.PROTECT, related_name="+", db_index=False)
    status = models.CharField(max_length=9, choices=Status.choices, default=Status.PENDING)
    transaction = models.OneToOneField("transactions.Transaction", models.PROTECT, null=True, related_name="+")

    objects = PaymentRequestQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        constraints = [
            models.CheckConstraint(name="wallet_paymentrequest_amount_positive", condition=Q(amount__gt=0)),
            models.CheckConstraint(name="wallet_paymentrequest_two_wallets", condition=~Q(payer=F("requester"))),
            models.CheckConstraint(
                name="wallet_paymentrequest_ends_after_it_began", condition=Q(expires_at__gt=F("created_at"))
            ),
            models.CheckConstraint(
                name="wallet_paymentrequest_closed_or_pending",
                condition=Q(status="PENDING", closed_at=None, transaction=None)
                | Q(status="PAID", closed_at__isnull=False, transaction__isnull=False)
                | Q(status__in=["DECLINED", "CANCELLED", "EXPIRED"], closed_at__isnull=False, transaction=None),
            ),
        ]
        indexes = [
            models.Index(fields=["payer", "-id"], name="wallet_request_by_payer"),
            models.Index(fields=["requester", "-id"], name="wallet_request_by_requester"),
            models.Index(
                fields=["requester", "payer", "expires_at"],
                name="wallet_request_open",
                condition=Q(status="PENDING"),
            ),
            models.Index(fields=["expires_at"], name="wallet_request_due", condition=Q(status="PENDING")),
        ]

    def __str__(self) -> str:
        return f"payment request {self.pk}"


class Key(models.Model):
    """One idempotency key: over all operations of its user it stands for one request and its outcome, for ever."""

    pk: Any = models.CompositePrimaryKey("user", "key")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+", db_index=False)
    key = models.CharField(max_length=255)
    request_hash = models.CharField(max_length=64)
    transaction = models.ForeignKey(
        "transactions.Transaction", models.PROTECT, null=True, related_name="+", db_index=False
    )
    hold = models.ForeignKey(Hold, models.PROTECT, null=True, related_name="+", db_index=False)
    request = models.ForeignKey(PaymentRequest, models.PROTECT, null=True, related_name="+", db_index=False)

    class Meta:
        default_permissions = ()
        constraints = [
            models.CheckConstraint(
                name="wallet_key_of_one_thing",
                condition=Q(transaction__isnull=False, hold=None, request=None)
                | Q(transaction=None, hold__isnull=False, request=None)
                | Q(transaction=None, hold=None, request__isnull=False),
            ),
        ]

    def __str__(self) -> str:
        return f"key {self.key}"


class LedgerCheck(models.Model):
    """The result of a full `check_ledger`."""

    ended_at = models.DateTimeField()
    wallets = models.PositiveBigIntegerField()
    complaints = models.PositiveIntegerField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"check of {self.ended_at:%Y-%m-%d %H:%M}"
