"""Where money is. Nothing here changes a balance: `ledger.py` does."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from users.models import UserProfile
from wallet.money import MoneyField


class WalletQuerySet(models.QuerySet["Wallet"]):
    def matching(self, text: str) -> "WalletQuerySet":
        """Wallets of accounts whose username or phone number begins with `text`, or whose number ends with it."""
        return self.filter(user__in=UserProfile.objects.matching(text).values("pk"))


class Wallet(models.Model):
    """One account's money. Every account has one from birth; `balance` is in rupees and is what its rows say."""

    class Status(models.TextChoices):
        ACTIVE = "ACTIVE"
        FROZEN = "FROZEN"

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.PROTECT, related_name="wallet")
    balance = MoneyField(default=0)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.ACTIVE)
    created_at = models.DateTimeField(auto_now_add=True)

    objects = WalletQuerySet.as_manager()

    class Meta:
        default_permissions = ("change", "view")  # wallets come with their accounts and stay
        permissions = [("adjust_wallet", "Can credit, debit and reverse for others")]
        constraints = [
            models.CheckConstraint(name="wallet_wallet_balance_not_negative", condition=Q(balance__gte=0)),
            models.CheckConstraint(name="wallet_wallet_status_known", condition=Q(status__in=["ACTIVE", "FROZEN"])),
        ]
        # None on the balance: an index there would have to be rewritten with every payment.
        indexes = [models.Index(fields=["created_at", "id"], name="wallet_wallet_by_age")]

    def __str__(self) -> str:
        return f"wallet {self.pk}"

    @property
    def is_frozen(self) -> bool:
        return self.status == self.Status.FROZEN


class LedgerCheck(models.Model):
    """What `check_ledger` found when it looked at everything."""

    ended_at = models.DateTimeField()
    wallets = models.PositiveBigIntegerField()
    complaints = models.PositiveIntegerField()

    class Meta:
        default_permissions = ("view",)

    def __str__(self) -> str:
        return f"check of {self.ended_at:%Y-%m-%d %H:%M}"
