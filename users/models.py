"""Who someone is: the account, its one-time passwords, its logins and keys, and the counters of rate limits."""

from typing import Any

from django.contrib.auth.models import AbstractUser, UserManager
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Length, Substr
from django.db.models.lookups import Exact, GreaterThanOrEqual, LessThanOrEqual
from django.db.transaction import atomic

from lokanetra.prepared import FastModel
from users import phones


class UserQuerySet(models.QuerySet["UserProfile"]):
    def matching(self, text: str) -> "UserQuerySet":
        """Accounts whose username or phone number begins with `text`, or whose number ends with it."""
        return self.filter(self._matching(text))

    def search(self, text: str) -> "UserQuerySet":
        """`matching`, and accounts whose first or last name begins with `text`."""
        named = Q(first_name__istartswith=text) | Q(last_name__istartswith=text)
        return self.filter(self._matching(text) | named)

    @staticmethod
    def _matching(text: str) -> Q:
        return Q(username__startswith=text) | phones.query("phone_number", text)


class UserProfileManager(UserManager.from_queryset(UserQuerySet)):  # type: ignore[misc]
    pass


class Digits(models.Func):
    """What is left of a text after its leading digits."""

    function = "LTRIM"
    template = "%(function)s(%(expressions)s, '0123456789')"
    output_field = models.CharField()


class UserProfile(FastModel, AbstractUser):
    """An account. `phone_number` is E.164; null until one is assigned to an account made by `createsuperuser`.

    A token is valid only with the account's present `token_version`: raising it ends all tokens at once, and also
    sessions of the console and codes sent to the account's number.
    """

    phone_number = models.CharField(
        max_length=16, unique=True, null=True, blank=True, help_text="A mobile number in any usual spelling."
    )
    token_version = models.PositiveIntegerField(default=0, editable=False)
    # A machine: it uses API keys only, and neither logs in nor opens the console.
    is_service = models.BooleanField("service account", default=False, db_default=False, editable=False)

    # True where an API key authenticated the request.
    by_key = False

    objects = UserProfileManager()  # type: ignore[misc]

    class Meta:
        verbose_name = "user"
        default_permissions = ("add", "change", "view")  # accounts are deactivated, never deleted
        constraints = [
            models.CheckConstraint(
                name="users_userprofile_phone_is_e164",
                condition=Q(
                    Q(phone_number__startswith="+"),
                    Exact(Digits(Substr("phone_number", 2)), Value("")),
                    GreaterThanOrEqual(Length("phone_number"), 8),
                    LessThanOrEqual(Length("phone_number"), 16),
                ),
            )
        ]

    @property
    def phone(self) -> str | None:
        """The phone number as people write it."""
        return self.phone_number and phones.show(self.phone_number)

    def _get_session_auth_hash(self, secret: str | None = None) -> str:
        """What Django compares at each request of a session, and with which secrets."""
        return f"{self.token_version}.{super()._get_session_auth_hash(secret)}"  # type: ignore[misc]

    def save(self, *args: Any, **kwargs: Any) -> None:
        with atomic():  # the account and its wallet, or neither
            super().save(*args, **kwargs)


class OTP(FastModel):
    """A one-time password that was sent. The code itself is not stored: `code_hash` is keyed with a secret.

    `sent_at` is null until the gateway accepted the message; only then does it replace the code before it.
    """

    phone_number = models.CharField(max_length=16)
    salt = models.CharField(max_length=32)
    code_hash = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()
    attempts = models.PositiveSmallIntegerField(default=0)
    used_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "one-time password"
        default_permissions = ("view",)
        indexes = [
            models.Index(fields=["phone_number", "-id"], name="users_otp_newest"),
            models.Index(fields=["expires_at"], name="users_otp_expired"),
        ]

    def __str__(self) -> str:
        return f"code of {self.created_at:%Y-%m-%d %H:%M:%S}"


class Login(FastModel):
    """One row per login, from the verified code to its end. `refresh_jti` names the one refresh token that works."""

    user = models.ForeignKey(UserProfile, models.PROTECT, related_name="logins")
    created_at = models.DateTimeField()
    refresh_jti = models.CharField(max_length=32)
    previous_jti = models.CharField(max_length=32, null=True)  # noqa: DJ001  (no token at all is not an empty one)
    rotated_at = models.DateTimeField(null=True)
    ended_at = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ("view",)
        indexes = [models.Index(fields=["created_at"], name="users_login_created")]

    def __str__(self) -> str:
        return f"login {self.pk}"


class ApiKey(FastModel):
    """A key of a service account. Of the key itself only `prefix` and the SHA-256 of its secret are stored."""

    account = models.ForeignKey(
        UserProfile, models.PROTECT, related_name="api_keys", limit_choices_to={"is_service": True}
    )
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=16, unique=True)
    hash = models.CharField(max_length=64)
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(UserProfile, models.PROTECT, null=True, blank=True, related_name="+")
    expires_at = models.DateTimeField()
    networks = models.TextField(blank=True, help_text="Where it works from, such as 10.0.0.0/8; empty for anywhere.")
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = "API key"
        default_permissions = ()  # for superusers only

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix})"


class Counter(models.Model):
    """How often something happened since `window_start`, for rate limits."""

    name = models.CharField(max_length=32)
    key = models.CharField(max_length=128)
    window_start = models.DateTimeField()
    count = models.PositiveBigIntegerField()

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["name", "key", "window_start"], name="users_counter_once_per_window")
        ]
        indexes = [models.Index(fields=["window_start"], name="users_counter_window")]

    def __str__(self) -> str:
        return f"{self.name} since {self.window_start:%Y-%m-%d %H:%M:%S}"
