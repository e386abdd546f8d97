"""What the wallet endpoints read and write. Input and output are different classes."""

from typing import Any

from django.conf import settings
from rest_framework import serializers

from lokanetra.parsers import Text
from lokanetra.texts import lines
from users.serializers import PhoneField
from wallet.models import Wallet
from wallet.money import AmountField


class PaymentSerializer(serializers.Serializer):
    amount = AmountField()
    remarks = Text(rule=lines, max_length=255, allow_blank=True, required=False)


class TransferSerializer(PaymentSerializer):
    to_phone_number = PhoneField(source="to")


class RemarksSerializer(serializers.Serializer):
    remarks = Text(rule=lines, max_length=255)


class AdjustmentSerializer(RemarksSerializer):
    amount = AmountField()


class ReasonSerializer(serializers.Serializer):
    reason = Text(rule=lines, max_length=255)


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

    class Meta:
        model = Wallet
        fields = ["user", "balance", "currency", "status"]


class WalletSerializer(BalanceSerializer):
    phone_number = PhoneField(source="user.phone_number", allow_null=True)

    class Meta:
        model = Wallet
        fields = ["id", "user", "phone_number", "balance", "currency", "status", "created_at"]


class ReceiptSerializer(serializers.Serializer):
    """A `ledger.Receipt`. `sender` and `receiver` are usernames; null is the world outside."""

    transaction_id = serializers.IntegerField(source="transaction.id")
    transaction_type = serializers.CharField(source="transaction.transaction_type")
    amount = AmountField(source="transaction.amount")
    balance = AmountField()
    sender = serializers.CharField(source="transaction.sender.user.username", default=None, allow_null=True)
    receiver = serializers.CharField(source="transaction.receiver.user.username", default=None, allow_null=True)
    remarks = serializers.CharField(source="transaction.remarks", allow_blank=True)
    timestamp = serializers.DateTimeField(source="transaction.timestamp")
