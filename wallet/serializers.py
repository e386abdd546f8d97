"""What the wallet endpoints read and write. Input and output are different classes."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from lokanetra.parsers import Past, Text, TrueOrFalse, UTCDateTimeField, WholeNumber
from lokanetra.texts import lines
from transactions.models import Transaction
from users.serializers import PhoneField
from wallet.limits import NAMES, format_quantity
from wallet.models import Hold, PaymentRequest, Tier, Wallet
from wallet.money import AmountField

# The documentation of fields that several answers have.
CAPTURES = "The hold that this captured."
GIVES_BACK = "The transaction that this gave back, or a part of it."
QUANTITY = "Rupees, or for `daily_count` a whole number."


class PaymentSerializer(serializers.Serializer):
    amount = AmountField()
    remarks = Text(rule=lines, max_length=255, allow_blank=True, required=False)


class TransferSerializer(PaymentSerializer):
    to_phone_number = PhoneField(source="to")


class HoldRequestSerializer(TransferSerializer):
    expires_in = WholeNumber(
        min_value=Hold.MIN_LIFETIME,
        max_value=Hold.MAX_LIFETIME,
        required=False,
        help_text="Seconds; a week by default.",
    )


class AskSerializer(PaymentSerializer):
    from_phone_number = PhoneField(source="to", help_text="Whose wallet is to pay.")
    expires_in = WholeNumber(
        min_value=PaymentRequest.MIN_LIFETIME,
        max_value=PaymentRequest.MAX_LIFETIME,
        required=False,
        help_text="Seconds; a week by default.",
    )


class CaptureSerializer(serializers.Serializer):
    amount = AmountField(required=False, help_text="By default all that remains.")
    final = TrueOrFalse(required=False, help_text="False keeps the rest held. True by default.")


class RefundSerializer(serializers.Serializer):
    amount = AmountField(required=False, help_text="By default all that was not given back yet.")
    remarks = Text(rule=lines, max_length=255, allow_blank=True, required=False)


class RemarksSerializer(serializers.Serializer):
    remarks = Text(rule=lines, max_length=255)


class AdjustmentSerializer(RemarksSerializer):
    amount = AmountField()


class PhoneAdjustmentSerializer(AdjustmentSerializer):
    phone_number = PhoneField(source="to")


class ReversalSerializer(RemarksSerializer):
    amount = AmountField(required=False, help_text="By default all that was not given back yet.")


class ReasonSerializer(serializers.Serializer):
    reason = Text(rule=lines, max_length=255)


class TierField(serializers.Field):
    """The name of a tier, or its id; null for none."""

    default_error_messages = {"unknown": "There is no such tier."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(allow_null=True, **kwargs)

    def to_internal_value(self, data: Any) -> Tier:
        tiers = Tier.objects.none()
        if isinstance(data, int) and not isinstance(data, bool):
            tiers = Tier.objects.filter(pk=data)
        elif isinstance(data, str) and "\0" not in data:  # PostgreSQL has no text with it
            tiers = Tier.objects.filter(name=data)
        return tiers.first() or self.fail("unknown")

    def to_representation(self, tier: Tier) -> str:
        return tier.name


class TierChangeSerializer(ReasonSerializer):
    tier = TierField(help_text="The name of a tier, or its id; null for none.")


class CurrencyField(serializers.ReadOnlyField):
    """The one currency of this server."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(source="*", **kwargs)

    def to_representation(self, value: Any) -> str:
        return settings.WALLET_CURRENCY


class BalanceSerializer(serializers.ModelSerializer):
    user = serializers.CharField(source="user.username")
    balance = AmountField()
    currency = CurrencyField()
    held = AmountField(source="held_now")
    available = AmountField()
    tier = TierField()

    class Meta:
        model = Wallet
        fields = ["user", "balance", "currency", "status", "held", "available", "tier"]


class BalanceAtSerializer(BalanceSerializer):
    """A balance, now or in the past. Other fields are null for the past, because their history is not stored."""

    status = serializers.ChoiceField(Wallet.Status.choices, allow_null=True)
    held = AmountField(source="held_now", allow_null=True)
    at = UTCDateTimeField(required=False, help_text="Only there when it was asked for.")

    available = AmountField(allow_null=True)

    class Meta(BalanceSerializer.Meta):
        fields = [*BalanceSerializer.Meta.fields, "at"]


class AtSerializer(serializers.Serializer):
    at = Past(
        required=False,
        help_text="A time, or a date, which is its end. What is held, available, the status and "
        "the tier are null then. By default, now.",
    )


class WalletSerializer(BalanceSerializer):
    phone_number = PhoneField(source="user.phone_number", allow_null=True)
    created_at = UTCDateTimeField()

    class Meta:
        model = Wallet
        fields = [
            "id",
            "user",
            "phone_number",
            "balance",
            "currency",
            "status",
            "created_at",
            "held",
            "available",
            "tier",
        ]


class QuantityField(serializers.Field):
    """Rupees as everywhere, or for `daily_count` a whole number."""

    swagger = {"x-oneOf": [{"type": "string", "pattern": AmountField.pattern}, {"type": "integer"}]}

    def to_representation(self, value: Any) -> str | int:
        return format_quantity(value)


class LimitSerializer(serializers.Serializer):
    """A `limits.Limit`."""

    name = serializers.ChoiceField(choices=NAMES)
    limit = QuantityField(help_text=QUANTITY)
    used = QuantityField(help_text=QUANTITY)
    remaining = QuantityField(help_text=QUANTITY)
    resets_at = UTCDateTimeField(allow_null=True)


class LimitsSerializer(serializers.Serializer):
    tier = serializers.CharField(allow_null=True)
    limits = LimitSerializer(many=True)


class TierSerializer(serializers.ModelSerializer):
    max_amount = AmountField(allow_null=True)
    max_balance = AmountField(allow_null=True)
    daily_out = AmountField(allow_null=True)
    monthly_out = AmountField(allow_null=True)
    monthly_in = AmountField(allow_null=True)

    class Meta:
        model = Tier
        fields = ["id", "name", *NAMES]


class HoldSerializer(serializers.ModelSerializer):
    """A hold as its sides see it; `payer` and `payee` are usernames."""

    status = serializers.ChoiceField(source="state", choices=Hold.Status.choices)
    amount = AmountField()
    captured = AmountField()
    remaining = AmountField()
    payer = serializers.CharField(source="payer.user.username")
    payee = serializers.CharField(source="payee.user.username")
    direction = serializers.ChoiceField(choices=["IN", "OUT"], allow_null=True)
    created_at = UTCDateTimeField()
    expires_at = UTCDateTimeField()
    closed_at = UTCDateTimeField(source="ended_at", allow_null=True)

    class Meta:
        model = Hold
        fields = [
            "id",
            "status",
            "amount",
            "captured",
            "remaining",
            "payer",
            "payee",
            "direction",
            "remarks",
            "created_at",
            "expires_at",
            "closed_at",
        ]


class StaffHoldSerializer(HoldSerializer):
    payer_phone_number = PhoneField(source="payer.user.phone_number", allow_null=True)
    payee_phone_number = PhoneField(source="payee.user.phone_number", allow_null=True)

    class Meta(HoldSerializer.Meta):
        fields = [name for name in HoldSerializer.Meta.fields if name != "direction"]
        fields += ["payer_phone_number", "payee_phone_number"]


class PaymentRequestSerializer(serializers.ModelSerializer):
    """A request for money as its sides see it; `requester` and `payer` are usernames."""

    status = serializers.ChoiceField(source="state", choices=PaymentRequest.Status.choices)
    amount = AmountField()
    requester = serializers.CharField(source="requester.user.username")
    payer = serializers.CharField(source="payer.user.username")
    direction = serializers.ChoiceField(choices=["IN", "OUT"], help_text="Of the money: IN for who asks for it.")
    transaction = serializers.IntegerField(
        source="transaction_id", allow_null=True, help_text="The transfer that paid it."
    )
    created_at = UTCDateTimeField()
    expires_at = UTCDateTimeField()
    closed_at = UTCDateTimeField(source="ended_at", allow_null=True)

    class Meta:
        model = PaymentRequest
        fields = [
            "id",
            "status",
            "amount",
            "requester",
            "payer",
            "direction",
            "remarks",
            "transaction",
            "created_at",
            "expires_at",
            "closed_at",
        ]


class StaffPaymentRequestSerializer(PaymentRequestSerializer):
    requester_phone_number = PhoneField(source="requester.user.phone_number", allow_null=True)
    payer_phone_number = PhoneField(source="payer.user.phone_number", allow_null=True)

    class Meta(PaymentRequestSerializer.Meta):
        fields = [name for name in PaymentRequestSerializer.Meta.fields if name != "direction"]
        fields += ["requester_phone_number", "payer_phone_number"]


class ReceiptSerializer(serializers.Serializer):
    """A `ledger.Receipt`. `sender` and `receiver` are usernames; null is the world outside."""

    transaction_id = serializers.IntegerField(source="transaction.id")
    transaction_type = serializers.ChoiceField(source="transaction.transaction_type", choices=Transaction.Type.choices)
    amount = AmountField(source="transaction.amount")
    balance = AmountField()
    sender = serializers.CharField(default=None, allow_null=True)
    receiver = serializers.CharField(default=None, allow_null=True)
    remarks = serializers.CharField(source="transaction.remarks", allow_blank=True)
    timestamp = UTCDateTimeField(source="transaction.timestamp")
    hold = serializers.IntegerField(source="transaction.hold_id", allow_null=True, help_text=CAPTURES)
    reverses = serializers.IntegerField(source="transaction.reverses_id", allow_null=True, help_text=GIVES_BACK)
