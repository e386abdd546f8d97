"""A shape returns what its serializer returns, whatever the object is."""

from decimal import Decimal
from types import SimpleNamespace

import pytest
from rest_framework import serializers

from lokanetra.shapes import Shape
from transactions.models import Transaction
from transactions.serializers import DetailSerializer, EntrySerializer, StaffEntrySerializer
from users.serializers import ProfileSerializer
from wallet import limits, payments
from wallet.models import Wallet
from wallet.serializers import BalanceSerializer, LimitsSerializer, ReceiptSerializer


def test_what_the_api_shows_is_the_same(asha, ravi):
    receipt = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("0.50"), remarks="Lunch")
    outside = payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
    shown = [(ReceiptSerializer, receipt), (ReceiptSerializer, outside), (ProfileSerializer, asha)]
    shown += [(serializer, row) for row in history(asha) for serializer in (EntrySerializer, DetailSerializer)]
    shown += [(StaffEntrySerializer, row) for row in Transaction.objects.for_staff()]
    shown += [(BalanceSerializer, asha.wallet), (LimitsSerializer, limits.overview(asha.wallet))]
    for serializer, thing in shown:
        assert Shape(serializer())(thing) == serializer().to_representation(thing)


def test_what_most_requests_ask_for_is_shown_the_fast_way(asha, ravi):
    receipts = [payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("0.50"))]
    receipts += [pay(user_id=asha.pk, amount=Decimal("0.50")) for pay in (payments.credit, payments.debit)]
    shown = [(ReceiptSerializer, receipt) for receipt in receipts] + [(BalanceSerializer, asha.wallet)]
    shown += [(EntrySerializer, row) for row in history(asha)]
    for serializer, thing in shown:
        assert Shape(serializer())._values(thing) is not None


def history(user):
    rows = Transaction.objects.newest_of(Wallet.objects.get(user=user), 20)
    found = [row for side in Transaction.objects.touching(user.wallet) for row in side]
    assert rows == sorted(found, key=lambda row: -row.pk)
    return rows


class Odd(serializers.Serializer):
    plain = serializers.CharField()
    method = serializers.CharField()
    below = serializers.CharField(source="inside.name", default="nothing")
    left_out = serializers.CharField(required=False)
    nothing = serializers.CharField(allow_null=True)
    whole = serializers.JSONField(source="*")


ALL = {"plain": "a", "method": "b", "inside": SimpleNamespace(name="c"), "nothing": None, "left_out": "here"}
THINGS = [
    SimpleNamespace(**ALL),
    SimpleNamespace(**ALL | {"method": lambda: "b"}),
    SimpleNamespace(plain="a", method=lambda: "b", inside=SimpleNamespace(name="c"), nothing=None),
    SimpleNamespace(plain="a", method="b", inside={"name": "c"}, nothing=None, left_out="here"),
    SimpleNamespace(plain="a", method="b", inside=None),
    {"plain": "a", "method": "b", "nothing": None},
]


@pytest.mark.parametrize("thing", THINGS)
def test_what_is_no_attribute_is_looked_for_as_the_field_does(thing):
    assert Shape(Odd())(thing) == Odd().to_representation(thing)


def test_a_serializer_with_a_way_of_its_own_keeps_it():
    class Loud(Odd):
        def to_representation(self, shown):
            return {"loud": shown.plain.upper()}

    for thing in THINGS[:3]:
        assert Shape(Loud())(thing) == {"loud": "A"}


def test_what_is_missing_is_an_error_as_before():
    with pytest.raises(AttributeError, match="plain"):
        Shape(Odd())(SimpleNamespace())
