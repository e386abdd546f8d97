"""An amount is exact everywhere: paise in the database, `Decimal` in Python, two places in JSON."""

import json
from decimal import Decimal
from io import StringIO

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import connection
from django.db.models import Case, Sum, Value, When
from django.db.transaction import atomic
from django.forms import modelform_factory
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from rest_framework.serializers import ModelSerializer

from transactions.models import DayVolume
from wallet.models import Wallet
from wallet.money import MoneyField, rupees

DAYS = {"2026-01-01": "0.01", "2026-01-02": "0.10", "2026-01-03": "0.20", "2026-01-04": "9999999999999999.99"}

TAKEN = {
    '"10"': "10.00", '"10.5"': "10.50", '"10.50"': "10.50", '"0.01"': "0.01", '"0.1"': "0.10", '"1000.00"': "1000.00",
    "200": "200.00", "50.1": "50.10", "50.10": "50.10", "0.01": "0.01", "1.0": "1.00", "999.99": "999.99",
}  # fmt: skip

REFUSED = [
    "1e2", "1E2", "1.5e1", "1e-1", "1e400", '"1e2"', '"1_000"', '"1,000"', '"+5"', "+5", '" 5"', '"5 "', '"\\t5"',
    '"1\\n"', '"1\\u0000"', '"५"', '"５"', '"५.००"', "NaN", '"NaN"', "Infinity", "-Infinity", '"Infinity"', "-0",
    "-0.0", '"-0"', "-1", '"-1"', "true", "false", "null", "[]", "[5]", "{}", '{"amount": 5}', "1234567890123",
    '"1234567890123"', '"1.005"', "1.005", "0.001", "1.000", '"1.000"', "1e-400", '"0"', "0", "0.0", '"0.00"', '"00"',
    '"01"', '"01.50"', '"1."', '"."', '".5"', '""', '" "', '"ten"', '"0x10"', '"\\ud800"', "1" * 5000,
    f'"{"1" * 5000}"', "0." + "1" * 5000, "1" * 4000,
]  # fmt: skip


@pytest.fixture
def days(db):
    return [DayVolume.objects.create(day=day, transaction_type="DEBIT", count=1, amount=a) for day, a in DAYS.items()]


@pytest.fixture
def debit(asha, as_user):
    """Posts asha's debit of a literal JSON amount."""
    client = as_user(asha)

    def post(literal):
        return client.generic("POST", "/wallet/debit/", b'{"amount": %s}' % literal.encode(), "application/json")

    return post


def amounts(**wanted):
    return [
        str(amount) for amount in DayVolume.objects.filter(**wanted).order_by("day").values_list("amount", flat=True)
    ]


def test_it_gives_back_what_was_written(days):
    assert amounts() == list(DAYS.values())
    assert DayVolume.objects.get(pk=days[0].pk).amount == Decimal("0.01")


def test_the_column_is_an_integer_of_paise(days):
    typeof = "pg_typeof(amount)::text" if connection.vendor == "postgresql" else "typeof(amount)"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT amount, {typeof} FROM transactions_dayvolume ORDER BY day")
        found = cursor.fetchall()
    kind = "bigint" if connection.vendor == "postgresql" else "integer"
    assert found == [(1, kind), (10, kind), (20, kind), (999999999999999999, kind)]


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "₹ 0.00"),
        ("0.5", "₹ 0.50"),
        ("999.99", "₹ 999.99"),
        ("1000", "₹ 1,000.00"),
        ("99999", "₹ 99,999.00"),
        ("123456.78", "₹ 1,23,456.78"),
        ("10000000", "₹ 1,00,00,000.00"),
        ("9999999999999999.99", "₹ 9,99,99,99,99,99,99,999.99"),
        ("-1234.5", "−₹ 1,234.50"),  # noqa: RUF001
        ("-0.00", "₹ 0.00"),
    ],
)
def test_people_read_rupees_in_groups_as_in_india(amount, shown):
    assert rupees(Decimal(amount)) == shown


def test_another_currency_is_shown_by_its_code(settings):
    settings.WALLET_CURRENCY = "NPR"
    assert [rupees(Decimal(amount)) for amount in ("123456.7", "-1")] == ["NPR 1,23,456.70", "−NPR 1.00"]  # noqa: RUF001


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"amount": "0.10"}, ["0.10"]),
        ({"amount": Decimal("0.1")}, ["0.10"]),
        ({"amount__gt": Decimal("0.10")}, ["0.20", "9999999999999999.99"]),
        ({"amount__lte": 0}, []),
        ({"amount__range": ("0.02", "0.20")}, ["0.10", "0.20"]),
        ({"amount__in": [Decimal("0.01"), "0.20", 5]}, ["0.01", "0.20"]),
        ({"amount__isnull": True}, []),
    ],
)
def test_it_is_looked_up_in_rupees(days, wanted, found):
    assert amounts(**wanted) == found


def test_sums_are_rupees_and_exact(days):
    small = DayVolume.objects.filter(amount__lt=1)
    assert str(small.aggregate(sum=Sum("amount"))["sum"]) == "0.31"
    assert small.filter(amount=5).aggregate(sum=Sum("amount"))["sum"] is None
    by_type = DayVolume.objects.values("transaction_type").annotate(sum=Sum("amount")).get()
    assert str(by_type["sum"]) == "10000000000000000.30"


def test_a_case_chooses_among_rupees(days):
    chosen = Case(
        When(amount__lt=1, then=Value(Decimal("1.25"), output_field=MoneyField())),
        default=Value(Decimal("7.00"), output_field=MoneyField()),
        output_field=MoneyField(),
    )
    rows = DayVolume.objects.annotate(chosen=chosen).order_by("day")
    assert [str(row.chosen) for row in rows] == ["1.25", "1.25", "1.25", "7.00"]
    assert rows.filter(chosen="7.00").get() == days[3]


def test_bulk_update_and_update_write_rupees(days):
    days[0].amount, days[1].amount = Decimal("3.33"), Decimal("4")
    DayVolume.objects.bulk_update(days[:2], ["amount"])
    DayVolume.objects.filter(pk=days[2].pk).update(amount="5.5")
    assert amounts() == ["3.33", "4.00", "5.50", "9999999999999999.99"]


NO_AMOUNTS = ["0.001", "1.005", "NaN", "sNaN", "Infinity", "-Infinity", "1e16", "10000000000000000", "1e9999"]


@pytest.mark.parametrize(
    "value", [*NO_AMOUNTS, *map(Decimal, NO_AMOUNTS), float("nan"), float("inf"), "ten", "", [], {}]
)
def test_what_is_no_amount_is_refused_and_never_rounded(days, value):
    with pytest.raises(ValidationError), atomic():
        DayVolume.objects.create(day="2026-02-01", transaction_type="DEBIT", count=1, amount=value)
    with pytest.raises(ValidationError), atomic():
        DayVolume.objects.filter(pk=days[0].pk).update(amount=value)
    assert amounts() == list(DAYS.values())


def test_a_model_serializer_reads_and_shows_two_places(days):
    class DaySerializer(ModelSerializer):
        class Meta:
            model = DayVolume
            fields = ["amount"]

    assert DaySerializer(DayVolume.objects.get(pk=days[1].pk)).data == {"amount": "0.10"}
    serializer = DaySerializer(days[1], data={"amount": "12.34"})
    assert serializer.is_valid()
    assert str(serializer.save().amount) == "12.34"
    assert not DaySerializer(data={"amount": "12.345"}).is_valid()


def test_a_model_form_reads_and_shows_two_places(days):
    form_class = modelform_factory(DayVolume, fields=["amount"])
    day = DayVolume.objects.get(pk=days[1].pk)
    assert 'value="0.10"' in str(form_class(instance=day)["amount"])
    form = form_class({"amount": "12.34"}, instance=day)
    assert form.is_valid()
    assert str(form.save().amount) == "12.34"
    assert not form_class({"amount": "12.345"}, instance=day).is_valid()


def test_a_dump_is_loaded_back(days, tmp_path):
    dump = StringIO()
    call_command("dumpdata", "transactions.dayvolume", stdout=dump)
    assert [row["fields"]["amount"] for row in json.loads(dump.getvalue())] == list(DAYS.values())
    DayVolume.objects.all().delete()
    path = tmp_path / "days.json"
    path.write_text(dump.getvalue())
    call_command("loaddata", str(path), verbosity=0)
    assert amounts() == list(DAYS.values())


@pytest.mark.parametrize(("literal", "moved"), TAKEN.items())
def test_an_amount_is_taken_digit_for_digit(debit, asha, literal, moved):
    receipt = debit(literal)
    assert receipt.status_code == 200
    assert receipt.json()["amount"] == moved
    assert Wallet.objects.get(user=asha).balance == 1000 - Decimal(moved)


@pytest.mark.parametrize("literal", REFUSED, ids=lambda literal: literal[:20])
def test_anything_else_is_refused_and_nothing_moves(debit, asha, ledger, literal):
    refusal = debit(literal)
    assert refusal.status_code == 400
    assert refusal.json()["code"] in ("validation_error", "parse_error")
    assert Wallet.objects.get(user=asha).balance == 1000
    assert len(ledger()) == 1


ANY_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.decimals(min_value=0, max_value=50, places=2).map(str)
    | st.from_regex(r"[-+ ]?[0-9]{1,4}([.][0-9]{0,4})?([eE][0-9])?", fullmatch=True),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@example(value="0.01")
@example(value=3)
@given(value=ANY_JSON)
def test_the_balance_changes_by_exactly_the_amount_or_not_at_all(debit, asha, value):
    before = Wallet.objects.get(user=asha).balance
    answer = debit(json.dumps(value))
    moved = Decimal(answer.json()["amount"]) if answer.status_code == 200 else 0
    assert answer.status_code in (200, 400)
    assert moved == (Decimal(str(value)) if moved else 0)
    assert Wallet.objects.get(user=asha).balance == before - moved
