"""A database of version 1 can be migrated, and back."""

from datetime import timedelta
from decimal import Decimal
from importlib import import_module

import pytest
from django.apps import apps
from django.core.management import call_command
from django.db import IntegrityError, connection
from django.utils import timezone

from lokanetra import days
from transactions.models import Transaction
from wallet import exceptions, holds, payments, refunds, requests
from wallet.ledger import Request
from wallet.models import Key, Wallet

pytestmark = pytest.mark.django_db(transaction=True)

TEN = Decimal("10.00")
ROW = """
    INSERT INTO transactions_transaction (transaction_type, sender_id, receiver_id, amount, sender_balance,
        receiver_balance, remarks, timestamp, initiated_by_id, idempotency_key, request_hash, reverses_id)
    VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
"""


def run(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def migrate(*target):
    call_command("migrate", *target, verbosity=0)


def back_to_version_1():
    migrate("wallet", "0002")
    migrate("transactions", "0002")


def columns(table):
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def v1_row(kind, sender, receiver, amount, balances, moment, user, request=None, reverses=None):
    moment = connection.ops.adapt_datetimefield_value(moment)
    key = (request.key, request.hash) if request else (None, None)
    run(ROW, kind, sender, receiver, amount, *balances, "", moment, user, *key, reverses)


def test_the_migrations_make_what_the_models_say():
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)
    for model in apps.get_models():
        with connection.cursor() as cursor:
            made = connection.introspection.get_constraints(cursor, model._meta.db_table)
        assert {index.name for index in model._meta.indexes} <= made.keys()


def test_keys_balances_and_reversals_are_migrated_and_totals_counted(asha, ravi, boss):
    now = timezone.now()
    month = days.start_of(days.month_of(days.day_of(now)))
    people, wallets = [asha.pk, ravi.pk], [asha.wallet.pk, ravi.wallet.pk]
    back_to_version_1()
    try:
        assert {"idempotency_key", "request_hash"} <= columns("transactions_transaction")
        assert not {"held", "tier_id", "out_day"} & columns("wallet_wallet")
        run("UPDATE wallet_wallet SET balance = 0")
        _empty_ledger()
        credit = Request(people[0], "CREDIT", Decimal("500.00"), "", "salary")
        v1_row("CREDIT", None, wallets[0], 50000, (None, 50000), month - timedelta(days=40), people[0], credit)
        pay = Request(people[0], "TRANSFER", TEN, "", "rent", to=ravi.phone_number)
        v1_row("TRANSFER", *wallets, 1000, (49000, 1000), now, people[0], pay)
        v1_row("DEBIT", wallets[0], None, 4000, (45000, None), now, people[0])
        ((paid,),) = run("SELECT id FROM transactions_transaction WHERE idempotency_key = 'rent'")
        back = Request(boss.pk, "REVERSAL", None, "", "wrong", transaction_id=paid)
        v1_row("TRANSFER", *reversed(wallets), 1000, (0, 46000), now, boss.pk, back, paid)
        run("UPDATE wallet_wallet SET balance = 46000 WHERE id = %s", wallets[0])
    finally:
        migrate()
    assert Key.objects.count() == 3
    wallet = Wallet.objects.get(pk=wallets[0])
    assert (wallet.balance, wallet.held, wallet.tier) == (Decimal("460.00"), 0, None)
    assert (wallet.out_day, wallet.count_day, wallet.out_month, wallet.in_month) == (50, 2, 50, 0)
    assert Wallet.objects.get(pk=wallets[1]).in_month == TEN
    for service, arguments in [
        (payments.credit, {"user_id": asha.pk, "amount": Decimal("500.00"), "key": "salary"}),
        (payments.transfer, {"user_id": asha.pk, "to": ravi.phone_number, "amount": TEN, "key": "rent"}),
        (refunds.reverse, {"user_id": boss.pk, "transaction_id": paid, "remarks": "", "key": "wrong"}),
    ]:
        assert service(**arguments).replayed
    with pytest.raises(exceptions.KeyReused):
        payments.credit(user_id=asha.pk, amount=TEN, key="rent")
    with pytest.raises(exceptions.AlreadyReversed):
        refunds.reverse(user_id=boss.pk, transaction_id=paid, remarks="again")


def test_it_goes_back_and_forth_with_keys_and_holds(asha, ravi):
    payments.debit(user_id=asha.pk, amount=TEN, key="k")
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=TEN, key="h")
    holds.capture(user_id=ravi.pk, hold_id=hold.pk, key="c")
    before = list(Transaction.objects.order_by("pk").values_list("pk", "amount", "sender_balance"))
    back_to_version_1()
    try:
        kept = run("SELECT idempotency_key FROM transactions_transaction WHERE idempotency_key IS NOT NULL")
        assert sorted(kept) == [("c",), ("k",)]
    finally:
        migrate()
    assert list(Transaction.objects.order_by("pk").values_list("pk", "amount", "sender_balance")) == before
    assert payments.debit(user_id=asha.pk, amount=TEN, key="k").replayed


def test_requests_for_money_migrate_back_and_forth_and_other_keys_stay(asha, ravi):
    payments.debit(user_id=asha.pk, amount=TEN, key="k")
    holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=TEN, key="h")
    asked = requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN, key="r")
    requests.pay(user_id=asha.pk, request_id=asked.pk, key="p")
    triggers = _triggers_of_keys()
    assert triggers
    migrate("wallet", "0005")
    try:
        assert "request_id" not in columns("wallet_key")
        assert sorted(run("SELECT key FROM wallet_key")) == [("h",), ("k",), ("p",)]
        assert _triggers_of_keys() == triggers
        empty = "INSERT INTO wallet_key (user_id, key, request_hash) VALUES (%s, 'e', '')"
        with pytest.raises(IntegrityError, match="wallet_key_of_one_thing"):
            run(empty, asha.pk)
    finally:
        migrate()
    assert sorted(Key.objects.values_list("key", "request")) == [("h", None), ("k", None), ("p", None)]
    assert _triggers_of_keys() == triggers
    assert payments.debit(user_id=asha.pk, amount=TEN, key="k").replayed
    assert requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=TEN, key="r").replayed is False
    with pytest.raises(IntegrityError, match="wallet_key_of_one_thing"):
        run(empty, asha.pk)
    if connection.vendor == "postgresql":
        assert run("SELECT conname FROM pg_constraint WHERE NOT convalidated") == []


def test_it_does_not_migrate_back_past_partial_refunds(asha, ravi):
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=TEN).transaction
    for _ in range(2):
        refunds.refund(user=ravi, transaction_id=paid.pk, amount=Decimal("5.00"))
    try:
        with pytest.raises(ValueError, match="given back in parts"):
            migrate("transactions", "0006")
    finally:
        migrate()
    assert Transaction.objects.filter(reverses=paid).count() == 2


def test_an_interrupted_copy_continues_where_it_stopped(asha, monkeypatch):
    for number in range(7):
        payments.debit(user_id=asha.pk, amount=TEN, key=f"k{number}")
    copying = import_module("transactions.migrations.0006_copy_keys")
    monkeypatch.setattr(copying, "BATCH", 2)
    copied, breaks = copying.copied, []

    def broken(schema_editor):
        """Half of it is there already."""
        if not breaks:
            breaks.append(1)
            newest = copying.newest(schema_editor)
            schema_editor.execute(copying.COPY, [0, newest - 3])
        return copied(schema_editor)

    back_to_version_1()
    monkeypatch.setattr(copying, "copied", broken)
    migrate()
    assert breaks
    assert sorted(Key.objects.values_list("key", flat=True)) == [f"k{number}" for number in range(7)]


def _triggers_of_keys():
    if connection.vendor == "postgresql":
        names = run("SELECT tgname FROM pg_trigger WHERE tgrelid = 'wallet_key'::regclass AND tgenabled = 'O'")
    else:
        names = run("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = 'wallet_key'")
    return {name for (name,) in names if name.startswith("wallet_key")}


def _empty_ledger():
    """Only tests bypass the triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE transactions_transaction DISABLE TRIGGER USER")
            cursor.execute("DELETE FROM transactions_transaction")
            cursor.execute("ALTER TABLE transactions_transaction ENABLE TRIGGER USER")
        else:
            cursor.execute("SELECT sql FROM sqlite_master WHERE name = 'transactions_no_delete'")
            ((made,),) = cursor.fetchall()
            cursor.execute("DROP TRIGGER transactions_no_delete")
            cursor.execute("DELETE FROM transactions_transaction")
            cursor.execute(made)
