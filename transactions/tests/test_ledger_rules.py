"""The database itself refuses rows that break a rule: each rule is tested by raw SQL."""

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection
from django.db.models import ProtectedError
from django.db.transaction import atomic

from transactions.models import Transaction
from wallet import holds, payments, refunds, requests, status
from wallet.models import Key, Tier, Wallet

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
TRIGGERS = {
    "postgresql": {"transactions_append_only", "transactions_no_truncate"},
    "sqlite": {"transactions_no_update", "transactions_no_delete"},
}
OF_KEYS = {
    "postgresql": {"wallet_key_append_only", "wallet_key_no_truncate"},
    "sqlite": {"wallet_key_no_update", "wallet_key_no_delete"},
}
WITHIN = {"transactions_within_original", "transactions_within_hold"}


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
    """A valid row of a transfer with these changes; sides are given by their owners' names."""
    wallets = {"asha": asha.wallet.pk, "ravi": ravi.wallet.pk, "missing": 999999, None: None}
    row = {
        "transaction_type": "TRANSFER", "sender_id": "asha", "receiver_id": "ravi", "amount": 100,
        "sender_balance": 99900, "receiver_balance": 100, "remarks": "", "timestamp": NOW,
        "initiated_by_id": asha.pk, "reverses_id": None, "hold_id": None,
    }  # fmt: skip

    def changed(verb="INSERT", **changes):
        sides = {side: wallets[(row | changes)[side]] for side in ("sender_id", "receiver_id")}
        return insert("transactions_transaction", verb, **(row | changes | sides))

    return changed


CREDIT = {"transaction_type": "CREDIT", "sender_id": None, "sender_balance": None}
DEBIT = {"transaction_type": "DEBIT", "receiver_id": None, "receiver_balance": None}


@pytest.mark.breaks_books
@pytest.mark.parametrize("shape", [{}, CREDIT, DEBIT])
def test_the_table_accepts_valid_rows(entry, shape):
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
    ],
)
def test_no_row_breaks_a_check(entry, rule, wrong):
    assert f"transactions_transaction_{rule}" in refuses(*entry(**wrong))


@pytest.mark.parametrize(
    "column",
    ["transaction_type", "amount", "remarks", "timestamp", "initiated_by_id"],
)
def test_no_row_lacks_a_required_column(entry, column):
    assert column in refuses(*entry(**{column: None}))


@pytest.mark.parametrize("wrong", [{"sender_id": "missing"}, {"receiver_id": "missing"}, {"initiated_by_id": 0}])
def test_no_row_has_a_broken_foreign_key(entry, wrong):
    with pytest.raises(IntegrityError, match="(?i)foreign key"), atomic():
        run(*entry(**wrong))
        connection.check_constraints()


# --- Idempotency keys ----------------------------------------------------------------------------------


def key_row(asha, **changes):
    """The row of a key of asha's first transaction, with these changes."""
    first = Transaction.objects.earliest("pk").pk
    row = {"user_id": asha.pk, "key": "k", "request_hash": "h", "transaction_id": first}
    row |= {"hold_id": None, "request_id": None}
    return insert("wallet_key", **(row | changes))


def test_a_users_key_is_used_once(asha, ravi):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"), key="k")
    assert "wallet_key" in refuses(*key_row(asha))
    hold = holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("1.00")).pk
    assert "wallet_key" in refuses(*key_row(asha, transaction_id=None, hold_id=hold))
    asked = requests.ask(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("1.00")).pk
    assert "wallet_key" in refuses(*key_row(asha, transaction_id=None, request_id=asked))


@pytest.mark.breaks_books
def test_another_users_key_may_be_the_same(asha, ravi):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"), key="k")
    run(*key_row(asha, user_id=ravi.pk))
    assert list(Key.objects.values_list("user", "key")) == [(asha.pk, "k"), (ravi.pk, "k")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"transaction_id": None},
        {"hold_id": 1},
        {"request_id": 1},
        {"transaction_id": None, "hold_id": 1, "request_id": 1},
    ],
)
def test_a_key_belongs_to_exactly_one_operation(asha, wrong):
    assert "wallet_key_of_one_thing" in refuses(*key_row(asha, **wrong))


@pytest.mark.parametrize("column", ["user_id", "key", "request_hash"])
def test_no_key_lacks_a_required_column(asha, column):
    assert column in refuses(*key_row(asha, **{column: None}))


@pytest.mark.parametrize(
    "wrong",
    [
        {"transaction_id": 999999},
        {"transaction_id": None, "hold_id": 999999},
        {"transaction_id": None, "request_id": 999999},
    ],
)
def test_no_key_exists_without_its_operation(asha, wrong):
    with pytest.raises(IntegrityError, match="(?i)foreign key"), atomic():
        run(*key_row(asha, **wrong))
        connection.check_constraints()


@pytest.mark.parametrize("sql", ["UPDATE wallet_key SET request_hash = 'x'", "DELETE FROM wallet_key"])
def test_a_key_is_good_for_ever(asha, sql):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"), key="k")
    assert "append-only" in refuses(sql)


# --- Refunds and reversals -----------------------------------------------------------------------------


def back(entry, paid, **changes):
    """The row by which ravi gives 10.00 back to asha, with these changes."""
    sides = {"sender_id": "ravi", "receiver_id": "asha", "sender_balance": 0, "receiver_balance": 100000}
    return entry(**({"amount": 1000, "reverses_id": paid.pk} | sides | changes))


@pytest.fixture
def paid(asha, ravi):
    """Asha paid ravi 10.00."""
    return payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00")).transaction


@pytest.mark.breaks_books
def test_a_transaction_is_given_back_whole_or_in_parts(entry, paid):
    run(*back(entry, paid, amount=400))
    run(*back(entry, paid, amount=600))


def test_no_more_is_given_back_than_was_moved(entry, ravi, paid):
    assert "given back" in refuses(*back(entry, paid, amount=1001))
    refunds.refund(user=ravi, transaction_id=paid.pk, amount=Decimal("4.00"))
    assert "given back" in refuses(*back(entry, paid, amount=601))
    assert "given back" in refuses(*back(entry, paid, amount=1000))


@pytest.mark.parametrize(
    "sides",
    [
        {"sender_id": "asha", "receiver_id": "ravi"},
        DEBIT | {"sender_id": "ravi"},
        CREDIT | {"receiver_id": "asha"},
    ],
)
def test_it_is_given_back_to_the_payer(entry, paid, sides):
    assert "given back" in refuses(*back(entry, paid, **sides))


def test_a_reversal_is_not_reversed_and_zero_is_not_given_back(entry, ravi, paid):
    receipt = refunds.refund(user=ravi, transaction_id=paid.pk, amount=Decimal("4.00"))
    swapped = {"sender_id": "asha", "receiver_id": "ravi", "amount": 100, "receiver_balance": 700}
    assert "given back" in refuses(*back(entry, receipt.transaction, **swapped))
    missing = Transaction(pk=999999)
    assert "given back" in refuses(*back(entry, missing))


# --- Holds ---------------------------------------------------------------------------------------------


@pytest.fixture
def held(asha, ravi):
    """Asha set 10.00 aside for ravi."""
    return holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00"))


def hold_row(asha, ravi, **changes):
    row = {
        "payer_id": asha.wallet.pk, "payee_id": ravi.wallet.pk, "amount": 1000, "captured": 0, "status": "OPEN",
        "remarks": "", "created_at": NOW, "expires_at": NOW + timedelta(days=1), "closed_at": None,
    }  # fmt: skip
    return insert("wallet_hold", **(row | changes))


@pytest.mark.breaks_books
@pytest.mark.parametrize("amount", [1, 1000])
def test_a_capture_within_the_hold_is_accepted(entry, held, amount):
    run(*entry(hold_id=held.pk, amount=amount, receiver_balance=amount))


def test_no_more_is_captured_than_was_held(entry, ravi, held):
    assert "captured" in refuses(*entry(hold_id=held.pk, amount=1001, receiver_balance=1001))
    holds.capture(user_id=ravi.pk, hold_id=held.pk, amount=Decimal("4.00"), final=False)
    assert "captured" in refuses(*entry(hold_id=held.pk, amount=601, receiver_balance=1001))


@pytest.mark.parametrize(
    ("sides", "rule"),
    [
        ({"sender_id": "ravi", "receiver_id": "asha", "receiver_balance": 100000}, "captured"),
        (DEBIT, "captured"),
        (CREDIT, "captured"),
    ],
)
def test_a_capture_goes_from_the_payer_to_the_payee(entry, held, sides, rule):
    assert rule in refuses(*entry(hold_id=held.pk, **sides))


def test_zero_is_not_captured(entry):
    assert "captured" in refuses(*entry(hold_id=999999))


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("amount_positive", {"amount": 0, "captured": 0}),
        ("captured_within_amount", {"captured": 1001}),
        ("captured_within_amount", {"captured": -1}),
        ("two_wallets", {"payee_id": "payer"}),
        ("ends_after_it_began", {"expires_at": NOW}),
        ("closed_or_open", {"status": "MELTED"}),
        ("closed_or_open", {"status": "open"}),
        ("closed_or_open", {"closed_at": NOW}),
        ("closed_or_open", {"captured": 1000}),
        ("closed_or_open", {"status": "CAPTURED", "captured": 1000}),
        ("closed_or_open", {"status": "CAPTURED", "closed_at": NOW}),
        ("closed_or_open", {"status": "VOIDED"}),
        ("closed_or_open", {"status": "VOIDED", "closed_at": NOW, "captured": 1000}),
        ("closed_or_open", {"status": "EXPIRED"}),
    ],
)
def test_no_hold_breaks_a_check(asha, ravi, rule, wrong):
    if wrong.get("payee_id") == "payer":
        wrong = {"payee_id": asha.wallet.pk}
    refusal = refuses(*hold_row(asha, ravi, **wrong))
    assert f"wallet_hold_{rule}" in refusal or "wallet_hold_" in refusal


@pytest.mark.parametrize("column", ["payer_id", "payee_id", "amount", "captured", "status", "created_at", "expires_at"])
def test_no_hold_lacks_a_required_column(asha, ravi, column):
    assert column in refuses(*hold_row(asha, ravi, **{column: None}))


def test_a_hold_with_captures_is_not_deleted(ravi, held):
    holds.capture(user_id=ravi.pk, hold_id=held.pk)
    with pytest.raises(IntegrityError, match="(?i)foreign key"), atomic():
        run("DELETE FROM wallet_hold")
        connection.check_constraints()


# --- Requests for money --------------------------------------------------------------------------------


def request_row(asha, ravi, **changes):
    row = {
        "payer_id": asha.wallet.pk, "requester_id": ravi.wallet.pk, "amount": 1000, "status": "PENDING", "remarks": "",
        "created_at": NOW, "expires_at": NOW + timedelta(days=1), "closed_at": None, "transaction_id": None,
    }  # fmt: skip
    return insert("wallet_paymentrequest", **(row | changes))


@pytest.mark.parametrize(
    ("rule", "wrong"),
    [
        ("amount_positive", {"amount": 0}),
        ("amount_positive", {"amount": -1}),
        ("two_wallets", {"requester_id": "payer"}),
        ("ends_after_it_began", {"expires_at": NOW}),
        ("closed_or_pending", {"status": "MELTED"}),
        ("closed_or_pending", {"status": "pending"}),
        ("closed_or_pending", {"closed_at": NOW}),
        ("closed_or_pending", {"transaction_id": 1}),
        ("closed_or_pending", {"status": "PAID", "closed_at": NOW}),
        ("closed_or_pending", {"status": "PAID", "transaction_id": 1}),
        ("closed_or_pending", {"status": "DECLINED"}),
        ("closed_or_pending", {"status": "CANCELLED"}),
        ("closed_or_pending", {"status": "EXPIRED"}),
        ("closed_or_pending", {"status": "EXPIRED", "closed_at": NOW, "transaction_id": 1}),
    ],
)
def test_no_request_breaks_a_check(asha, ravi, rule, wrong):
    if wrong.get("requester_id") == "payer":
        wrong = {"requester_id": asha.wallet.pk}
    assert f"wallet_paymentrequest_{rule}" in refuses(*request_row(asha, ravi, **wrong))


@pytest.mark.parametrize("column", ["payer_id", "requester_id", "amount", "status", "created_at", "expires_at"])
def test_no_request_lacks_a_required_column(asha, ravi, column):
    assert column in refuses(*request_row(asha, ravi, **{column: None}))


def test_a_transaction_pays_one_request(asha, ravi):
    first, second = [requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("1.00")) for _ in range(2)]
    paid = requests.pay(user_id=asha.pk, request_id=first.pk).transaction.pk
    twice = "UPDATE wallet_paymentrequest SET status = 'PAID', closed_at = %s, transaction_id = %s WHERE id = %s"
    assert "transaction_id" in refuses(twice, NOW, paid, second.pk)


# --- Tiers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "limit", ["max_amount", "max_balance", "daily_out", "monthly_out", "monthly_in", "daily_count"]
)
def test_no_limit_is_negative(db, limit):
    assert limit in refuses(*insert("wallet_tier", name="Small", **{limit: -1}))


def test_a_tier_has_one_name_and_stays_while_wallets_have_it(asha, boss):
    tier = Tier.objects.create(name="Small")
    assert "name" in refuses(*insert("wallet_tier", name="Small"))
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=tier, reason="to see")
    with pytest.raises(ProtectedError), atomic():
        tier.delete()
    with pytest.raises(IntegrityError, match="(?i)foreign key"), atomic():
        run("DELETE FROM wallet_tier")
        connection.check_constraints()


# --- Append-only ---------------------------------------------------------------------------------------


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


def test_database_specific_statements_cannot_change_it(asha, ledger, entry):
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
            ("TRUNCATE transactions_transaction, wallet_key, wallet_paymentrequest",),
            ("TRUNCATE transactions_transaction RESTART IDENTITY CASCADE",),
            ("TRUNCATE wallet_wallet CASCADE",),
            (f"{insert_sql} ON CONFLICT (id) DO UPDATE SET amount = 5", *values),
            ("MERGE INTO transactions_transaction USING wallet_wallet ON true WHEN MATCHED THEN DELETE",),
        ],
    }
    connection.check_constraints()  # else PostgreSQL refuses TRUNCATE while checks are deferred
    for sql, *values in others[connection.vendor]:
        assert "append-only" in refuses(sql, *values)
    assert ledger() == [("CREDIT", Decimal("1000.00"))]


def test_the_orm_cannot_change_it(asha, ledger):
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


def test_an_account_with_rows_is_not_deleted(asha, ravi):
    for owned in (asha.wallet, asha, ravi):
        with pytest.raises(ProtectedError), atomic():
            owned.delete()
    assert Wallet.objects.count() == 2


def test_an_account_with_rows_is_not_deleted_by_sql_either(asha):
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
        ("held = -1", "wallet_wallet_held_within_balance"),
        ("held = balance + 1", "wallet_wallet_held_within_balance"),
        ("held = 1, balance = 0", "wallet_wallet_held_within_balance"),
        ("held = NULL", "held"),
        ("out_day = -1", "wallet_wallet_sums_not_negative"),
        ("out_day = out_month + 1", "wallet_wallet_sums_not_negative"),
        ("count_day = -1", "count_day"),
        ("in_month = -1", "wallet_wallet_sums_not_negative"),
        ("day = NULL", "day"),
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
    assert triggers() >= TRIGGERS[connection.vendor] | OF_KEYS[connection.vendor] | WITHIN


@pytest.mark.django_db(transaction=True)
def test_the_triggers_can_be_taken_away_and_put_back(asha):
    call_command("migrate", "transactions", "0001", verbosity=0)
    try:
        assert not triggers() & TRIGGERS[connection.vendor]
        run("UPDATE transactions_transaction SET remarks = 'changed'")
    finally:
        call_command("migrate", verbosity=0)
    assert triggers() >= TRIGGERS[connection.vendor] | OF_KEYS[connection.vendor] | WITHIN
    refuses("UPDATE transactions_transaction SET remarks = 'again'")
    assert Transaction.objects.get().remarks == "changed"
