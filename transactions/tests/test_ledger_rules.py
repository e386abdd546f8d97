"""The database itself refuses what the operations never do: each rule, by raw SQL."""

from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection
from django.db.models import ProtectedError
from django.db.transaction import atomic

from transactions.models import Transaction
from wallet import payments, refunds
from wallet.models import Wallet

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
TRIGGERS = {
    "postgresql": {"transactions_append_only", "transactions_no_truncate"},
    "sqlite": {"transactions_no_update", "transactions_no_delete"},
}


def run(sql, *values):
    with connection.cursor() as cursor:
        cursor.execute(sql, values)


def refuses(sql, *values):
    with pytest.raises(IntegrityError) as refusal, atomic():
        run(sql, *values)
    return str(refusal.value)


def insert(table, verb="INSERT", **row):
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    return f"{verb} INTO {table} ({names}) VALUES ({marks})", *row.values()


def triggers():
    names = {
        "postgresql": "SELECT tgname FROM pg_trigger WHERE NOT tgisinternal",
        "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger'",
    }
    with connection.cursor() as cursor:
        cursor.execute(names[connection.vendor])
        return {name for (name,) in cursor.fetchall()}


@pytest.fixture
def entry(asha, ravi):
    """A transfer's row that the table would take, changed as told; sides are called by their owners' names."""
    wallets = {"asha": asha.wallet.pk, "ravi": ravi.wallet.pk, "missing": 999999, None: None}
    row = {
        "transaction_type": "TRANSFER", "sender_id": "asha", "receiver_id": "ravi", "amount": 100,
        "sender_balance": 99900, "receiver_balance": 100, "remarks": "", "timestamp": NOW,
        "initiated_by_id": asha.pk, "idempotency_key": None, "request_hash": None, "reverses_id": None,
    }  # fmt: skip

    def changed(verb="INSERT", **changes):
        sides = {side: wallets[(row | changes)[side]] for side in ("sender_id", "receiver_id")}
        return insert("transactions_transaction", verb, **(row | changes | sides))

    return changed


CREDIT = {"transaction_type": "CREDIT", "sender_id": None, "sender_balance": None}
DEBIT = {"transaction_type": "DEBIT", "receiver_id": None, "receiver_balance": None}


@pytest.mark.breaks_books
@pytest.mark.parametrize("shape", [{}, CREDIT, DEBIT, {"idempotency_key": "k", "request_hash": "h"}])
def test_the_table_takes_what_is_right(entry, shape):
    run(*entry(**shape))


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("amount_positive", {"amount": 0}),
        ("amount_positive", {"amount": -1, "receiver_balance": 5}),
        ("sides_of_type", {"transaction_type": "CREDIT"}),
        ("sides_of_type", {"transaction_type": "DEBIT"}),
        ("sides_of_type", {"transaction_type": "GIFT"}),
        ("sides_of_type", {"transaction_type": "transfer"}),
        ("sides_of_type", {"transaction_type": ""}),
        ("sides_of_type", CREDIT | {"transaction_type": "DEBIT"}),
        ("sides_of_type", CREDIT | {"transaction_type": "TRANSFER"}),
        ("sides_of_type", DEBIT | {"transaction_type": "CREDIT"}),
        ("sides_of_type", DEBIT | {"transaction_type": "TRANSFER"}),
        *(("sides_of_type", CREDIT | DEBIT | {"transaction_type": kind}) for kind in ("CREDIT", "DEBIT", "TRANSFER")),
        ("two_wallets", {"receiver_id": "asha"}),
        ("sender_balance", {"sender_balance": -1}),
        ("sender_balance", {"sender_balance": None}),
        ("sender_balance", CREDIT | {"sender_balance": 5}),
        ("receiver_balance", {"receiver_balance": -1}),
        ("receiver_balance", {"receiver_balance": 99}),
        ("receiver_balance", {"receiver_balance": None}),
        ("receiver_balance", DEBIT | {"receiver_balance": 100}),
        ("key_with_hash", {"idempotency_key": "k"}),
        ("key_with_hash", {"request_hash": "h"}),
    ],
)
def test_no_row_breaks_a_check(entry, rule, wrong):
    assert f"transactions_transaction_{rule}" in refuses(*entry(**wrong))


@pytest.mark.parametrize(
    "column",
    ["transaction_type", "amount", "remarks", "timestamp", "initiated_by_id"],
)
def test_no_row_is_without(entry, column):
    assert column in refuses(*entry(**{column: None}))


@pytest.mark.parametrize(
    "wrong", [{"sender_id": "missing"}, {"receiver_id": "missing"}, {"initiated_by_id": 0}, {"reverses_id": 999999}]
)
def test_no_row_points_to_nothing(entry, wrong):
    with pytest.raises(IntegrityError, match="(?i)foreign key"), atomic():
        run(*entry(**wrong))
        connection.check_constraints()


def test_one_users_key_stands_in_one_row(asha, entry):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"), key="k")
    refusal = refuses(*entry(idempotency_key="k", request_hash="h"))
    assert "transactions_transaction_key_once" in refusal or "idempotency_key" in refusal


@pytest.mark.breaks_books
def test_another_users_key_may_be_the_same(asha, ravi, entry):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"), key="k")
    run(*entry(initiated_by_id=ravi.pk, idempotency_key="k", request_hash="h"))


def test_one_row_is_reversed_once(asha, boss, entry):
    paid = payments.debit(user_id=asha.pk, amount=Decimal("1.00")).transaction
    refunds.reverse(user_id=boss.pk, transaction_id=paid.pk, remarks="wrong")
    refusal = refuses(*entry(reverses_id=paid.pk))
    assert "transactions_transaction_reversed_once" in refusal or "reverses_id" in refusal


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE transactions_transaction SET remarks = 'x'",
        "UPDATE transactions_transaction SET amount = amount",
        "UPDATE transactions_transaction SET id = id + 1000",
        "DELETE FROM transactions_transaction",
        "DELETE FROM transactions_transaction WHERE id > 0",
    ],
)
def test_the_ledger_is_only_added_to(asha, ledger, sql):
    assert "append-only" in refuses(sql)
    assert ledger() == [("CREDIT", Decimal("1000.00"))]


def test_what_each_database_alone_knows_does_not_get_round_it(asha, ledger, entry):
    pk = Transaction.objects.get().pk
    (insert_sql, *values) = entry(id=pk)
    others = {
        "sqlite": [
            entry("INSERT OR REPLACE", id=pk),
            entry("REPLACE", id=pk),
            ("UPDATE OR REPLACE transactions_transaction SET amount = 5",),
            (f"{insert_sql} ON CONFLICT (id) DO UPDATE SET amount = 5", *values),
        ],
        "postgresql": [
            ("TRUNCATE transactions_transaction",),
            ("TRUNCATE transactions_transaction RESTART IDENTITY CASCADE",),
            ("TRUNCATE wallet_wallet CASCADE",),
            (f"{insert_sql} ON CONFLICT (id) DO UPDATE SET amount = 5", *values),
            ("MERGE INTO transactions_transaction USING wallet_wallet ON true WHEN MATCHED THEN DELETE",),
        ],
    }
    connection.check_constraints()  # or PostgreSQL refuses TRUNCATE for what this test itself has just inserted
    for sql, *values in others[connection.vendor]:
        assert "append-only" in refuses(sql, *values)
    assert ledger() == [("CREDIT", Decimal("1000.00"))]


def test_the_orm_does_not_get_round_it(asha, ledger):
    row = Transaction.objects.get()
    for change in (
        row.save,
        row.delete,
        Transaction.objects.all().delete,
        lambda: Transaction.objects.update(amount=5),
    ):
        with pytest.raises(IntegrityError), atomic():
            change()
    assert ledger() == [("CREDIT", Decimal("1000.00"))]


def test_who_has_rows_is_not_deleted(asha, ravi):
    for owned in (asha.wallet, asha, ravi):
        with pytest.raises(ProtectedError), atomic():
            owned.delete()
    assert Wallet.objects.count() == 2


def test_who_has_rows_is_not_deleted_by_sql_either(asha):
    for table, pk in {"wallet_wallet": asha.wallet.pk, "users_userprofile": asha.pk}.items():
        with pytest.raises(IntegrityError, match="(?i)foreign key"), atomic():
            run(f"DELETE FROM {table} WHERE id = %s", pk)
            connection.check_constraints()


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ("balance = -1", "wallet_wallet_balance_not_negative"),
        ("balance = NULL", "balance"),
        ("status = 'CLOSED'", "wallet_wallet_status_known"),
        ("status = 'active'", "wallet_wallet_status_known"),
        ("status = ''", "wallet_wallet_status_known"),
        ("status = NULL", "status"),
        ("user_id = NULL", "user_id"),
    ],
)
def test_a_wallet_keeps_its_rules(asha, change, rule):
    assert rule in refuses(f"UPDATE wallet_wallet SET {change} WHERE id = %s", asha.wallet.pk)


@pytest.mark.breaks_books
@pytest.mark.parametrize("written", ["plenty", "10.5", 10.5, b"5", 1e30])
@pytest.mark.parametrize("column", ["amount", "sender_balance", "receiver_balance"])
def test_money_is_whole_paise_whatever_is_written(asha, entry, column, written):
    for sql in (("UPDATE wallet_wallet SET balance = %s", written), entry(**{column: written})):
        with suppress(DatabaseError), atomic():
            run(*sql)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT balance FROM wallet_wallet UNION ALL SELECT {column} FROM transactions_transaction")
        assert {type(value) for (value,) in cursor.fetchall()} <= {int, type(None)}


def test_nobody_has_two_wallets(asha):
    assert "user_id" in refuses(*insert("wallet_wallet", user_id=asha.pk, balance=0, status="ACTIVE", created_at=NOW))


@pytest.mark.parametrize(
    "phone",
    ["9999999999", "+91 9999999999", "+91-999999999", "+91999999999a", "+9199999९९९९", "+", "", "+123456",
     "++9199999999", " +919999999999", "+919999999999 ", "+1234567890123456", "00919999999999"],
)  # fmt: skip
def test_a_phone_number_is_stored_as_e164_only(asha, phone):
    with pytest.raises(Exception, match="phone_is_e164|too long"), atomic():
        run("UPDATE users_userprofile SET phone_number = %s WHERE id = %s", phone, asha.pk)


def test_a_phone_number_has_one_account(asha, ravi):
    assert "phone_number" in refuses(
        "UPDATE users_userprofile SET phone_number = %s WHERE id = %s", asha.phone_number, ravi.pk
    )


@pytest.mark.parametrize(
    ("table", "row"),
    [
        ("transactions_dayvolume", {"day": "2026-01-31", "transaction_type": "DEBIT", "count": 1, "amount": 5}),
        ("users_counter", {"name": "otp", "key": "+919999999999", "window_start": NOW, "count": 1}),
    ],
)
def test_it_is_counted_in_one_row(db, table, row):
    run(*insert(table, **row))
    refuses(*insert(table, **(row | {"count": 2})))


@pytest.mark.parametrize("table", ["transactions_dayvolume", "users_counter"])
def test_no_count_is_negative(db, table):
    rows = {
        "transactions_dayvolume": {"day": "2026-01-31", "transaction_type": "DEBIT", "count": -1, "amount": 5},
        "users_counter": {"name": "otp", "key": "x", "window_start": NOW, "count": -1},
    }
    refuses(*insert(table, **rows[table]))


def test_the_triggers_are_there_after_all_migrations(db):
    assert triggers() >= TRIGGERS[connection.vendor]


@pytest.mark.django_db(transaction=True)
def test_the_triggers_can_be_taken_away_and_put_back(asha):
    call_command("migrate", "transactions", "0001", verbosity=0)
    try:
        assert not triggers() & TRIGGERS[connection.vendor]
        run("UPDATE transactions_transaction SET remarks = 'changed'")
    finally:
        call_command("migrate", "transactions", verbosity=0)
    assert triggers() >= TRIGGERS[connection.vendor]
    refuses("UPDATE transactions_transaction SET remarks = 'again'")
    assert Transaction.objects.get().remarks == "changed"
