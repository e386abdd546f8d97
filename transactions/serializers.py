"""How the API shows the ledger, to owners and to staff, and statements, events, webhooks and deliveries."""

from typing import Any

from rest_framework import serializers

from lokanetra.outside import MAX_URL
from lokanetra.parsers import Day, Month, Text, TrueOrFalse, UTCDateTimeField
from transactions.models import Delivery, Event, Transaction, Webhook
from users.serializers import PhoneField
from wallet.money import AmountField
from wallet.serializers import CAPTURES, GIVES_BACK, CurrencyField


class EntrySerializer(serializers.ModelSerializer):
    """A row of one's own history as `touching` returns it: the receipt, and the direction."""

    transaction_id = serializers.IntegerField(source="id")
    amount = AmountField()
    balance = AmountField()
    sender = serializers.CharField(source="sender_name", allow_null=True)
    receiver = serializers.CharField(source="receiver_name", allow_null=True)
    timestamp = UTCDateTimeField()
    direction = serializers.ChoiceField(choices=["IN", "OUT"])
    counterparty = serializers.CharField(allow_null=True)
    hold = serializers.IntegerField(source="hold_id", allow_null=True, help_text=CAPTURES)
    reverses = serializers.IntegerField(source="reverses_id", allow_null=True, help_text=GIVES_BACK)

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
            "hold",
            "reverses",
        ]


class DetailSerializer(EntrySerializer):
    """The same, with how much of it was given back."""

    refunded = AmountField(source="given_back")

    class Meta(EntrySerializer.Meta):
        fields = [*EntrySerializer.Meta.fields, "refunded"]


class StatementRowSerializer(EntrySerializer):
    """The same as a row of a statement: each `balance` follows from the previous row."""


class StatementSerializer(serializers.Serializer):
    """A `statements.Statement` without its rows."""

    user = serializers.CharField(source="wallet.user.username")
    currency = CurrencyField()
    start_date = Day()
    end_date = Day()
    opening_balance = AmountField()
    total_in = AmountField()
    total_out = AmountField()
    closing_balance = AmountField()
    count = serializers.IntegerField(help_text="Rows on all pages.")


class StatementRequestSerializer(serializers.Serializer):
    month = Month(required=False, help_text="A month, such as 2026-01; by default this one, so far.")
    start_date = Day(required=False, help_text="Instead of a month, the first day, such as 2026-01-31.")
    end_date = Day(required=False, help_text="And the last; at most 366 days in all.")


class StatementLineSerializer(serializers.ModelSerializer):
    """A line of a statement file: a row of `touching` with its amount in one of two columns, or the opening or closing
    balance."""

    timestamp = UTCDateTimeField()
    counterparty = serializers.CharField(allow_null=True)
    amount_out = AmountField(allow_null=True)
    amount_in = AmountField(allow_null=True)
    balance = AmountField()

    class Meta:
        model = Transaction
        fields = [
            "timestamp",
            "id",
            "transaction_type",
            "counterparty",
            "remarks",
            "amount_out",
            "amount_in",
            "balance",
        ]


class StaffEntrySerializer(serializers.ModelSerializer):
    """A row of the ledger as `for_staff` returns it."""

    sender = serializers.CharField(source="sender_name", allow_null=True)
    receiver = serializers.CharField(source="receiver_name", allow_null=True)
    sender_phone_number = PhoneField(allow_null=True)
    receiver_phone_number = PhoneField(allow_null=True)
    amount = AmountField()
    timestamp = UTCDateTimeField()
    hold = serializers.IntegerField(source="hold_id", allow_null=True, help_text=CAPTURES)
    reverses = serializers.IntegerField(source="reverses_id", allow_null=True, help_text=GIVES_BACK)

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
            "hold",
            "reverses",
        ]


class DataField(serializers.JSONField):
    """What the event is about, as staff see it."""

    swagger = {"additionalProperties": True}  # properties depend on the type

    row = StaffEntrySerializer()

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(source="*", **kwargs)

    def to_representation(self, event: Event) -> dict[str, Any]:  # type: ignore[override]
        return self.row.to_representation(event.transaction) if event.transaction_id else event.data  # type: ignore


class EventSerializer(serializers.ModelSerializer):
    """An event as `with_transactions` returns it."""

    timestamp = UTCDateTimeField()
    data = DataField()  # type: ignore[assignment]

    class Meta:
        model = Event
        fields = ["id", "type", "timestamp", "data"]


class TypesField(serializers.ListField):
    """Types of events, each once."""

    default_error_messages = {"repeated": "A type is there more than once."}

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(child=serializers.ChoiceField(Event.Type.choices), allow_empty=False, **kwargs)

    def to_internal_value(self, data: Any) -> list[str]:
        types = super().to_internal_value(data)
        if len(set(types)) < len(types):
            self.fail("repeated")
        return types


class WebhookRequestSerializer(serializers.Serializer):
    url = Text(max_length=MAX_URL, trim_whitespace=False)
    types = TypesField()


class WebhookChangeSerializer(WebhookRequestSerializer):
    is_active = TrueOrFalse()


class WebhookSerializer(serializers.ModelSerializer):
    """A webhook without its secret."""

    types = serializers.ListField(child=serializers.ChoiceField(Event.Type.choices))
    created_at = UTCDateTimeField()
    failing_since = UTCDateTimeField(allow_null=True)
    switched_off_at = UTCDateTimeField(allow_null=True)

    class Meta:
        model = Webhook
        fields = ["id", "url", "types", "is_active", "created_at", "failing_since", "switched_off_at"]


class WebhookSecretSerializer(WebhookSerializer):
    """The same with its secret, which is shown only when it is new."""

    secret = serializers.CharField()

    class Meta(WebhookSerializer.Meta):
        fields = [*WebhookSerializer.Meta.fields, "secret"]


class RetriedSerializer(serializers.Serializer):
    retried = serializers.IntegerField(help_text="How many are sent again.")


class DeliverySerializer(serializers.ModelSerializer):
    """A delivery as `with_events` returns it."""

    webhook = serializers.IntegerField(source="webhook_id")
    event = serializers.IntegerField(source="event_id", allow_null=True, help_text="Null is a test.")
    type = serializers.ChoiceField([*Event.Type.values, Delivery.TEST])
    created_at = UTCDateTimeField()
    sent_at = UTCDateTimeField(allow_null=True)
    next_at = UTCDateTimeField(allow_null=True)

    class Meta:
        model = Delivery
        fields = [
            "id",
            "webhook",
            "event",
            "type",
            "status",
            "attempts",
            "answer_status",
            "answer",
            "seconds",
            "created_at",
            "sent_at",
            "next_at",
        ]
