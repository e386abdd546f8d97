"""How the ledger is shown: to the one whose row it is, and to staff."""

from datetime import UTC

from rest_framework import serializers

from transactions.models import Transaction
from users.serializers import PhoneField
from wallet.money import AmountField


class EntrySerializer(serializers.ModelSerializer):
    """A row of one's own history as `touching` gives it: the receipt, and which way the money went."""

    transaction_id = serializers.IntegerField(source="id")
    amount = AmountField()
    balance = AmountField()
    sender = serializers.CharField(source="sender_name", allow_null=True)
    receiver = serializers.CharField(source="receiver_name", allow_null=True)
    timestamp = serializers.DateTimeField(default_timezone=UTC)
    direction = serializers.ChoiceField(choices=["IN", "OUT"])
    counterparty = serializers.CharField(allow_null=True)

    class Meta:
        model = Transaction
        fields = [
            "id",
            "transaction_id",
            "transaction_type",
            "direction",
            "counterparty",
            "amount",
            "balance",
            "sender",
            "receiver",
            "remarks",
            "timestamp",
        ]


class StaffEntrySerializer(serializers.ModelSerializer):
    """A row of the ledger as `for_staff` gives it."""

    sender = serializers.CharField(source="sender_name", allow_null=True)
    receiver = serializers.CharField(source="receiver_name", allow_null=True)
    sender_phone_number = PhoneField(allow_null=True)
    receiver_phone_number = PhoneField(allow_null=True)
    amount = AmountField()
    timestamp = serializers.DateTimeField(default_timezone=UTC)

    class Meta:
        model = Transaction
        fields = [
            "id",
            "sender",
            "receiver",
            "sender_phone_number",
            "receiver_phone_number",
            "amount",
            "transaction_type",
            "timestamp",
            "remarks",
        ]
