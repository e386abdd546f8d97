"""The check of the books says when they agree, and names what disagrees when they do not."""

import json
from datetime import timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from transactions.models import Transaction
from users.models import UserProfile
from wallet import payments, refunds
from wallet.management.commands import check_ledger

TABLE = "transactions_transaction"


def command(*arguments):
    out = StringIO()
    call_command("check_ledger", *arguments, stdout=out)
    return out.getvalue().strip()


def run(sql, *values):
    """As somebody would who has got round the triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET LOCAL session_replication_role = replica")
        else:
            cursor.execute("DROP TRIGGER IF EXISTS transactions_no_update")
            cursor.execute("DROP TRIGGER IF EXISTS transactions_no_delete")
        cursor.execute(sql, values)
        if connection.vendor == "postgresql":
            cursor.execute("SET LOCAL session_replication_role = origin")


def json_of(*arguments):
    """The JSON report, whether or not the books agree."""
    out = StringIO()
    try:
        call_command("check_ledger", "--json", *arguments, stdout=out)
    except CommandError as error:
        return json.loads(out.getvalue()), str(error)
    return json.loads(out.getvalue()), None


@pytest.fixture
def books(asha, ravi, boss):
    """A few operations of each kind."""
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("250.50"))
    payments.debit(user_id=ravi.pk, amount=Decimal("0.50"))
    payments.credit(user_id=ravi.pk, amount=Decimal("20.00"))
    refunds.reverse(user_id=boss.pk, transaction_id=paid.transaction.pk, remarks="wrong")
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("100.00"))


def test_it_says_that_the_books_agree(books):
    assert command() == "3 wallets agree with the ledger."
    assert json_of() == (
        {
            "ok": True,
            "wallets": 3,
            "disagreements": [],
            "users_without_wallet": [],
            "credits_minus_debits": "1019.50",
            "sum_of_balances": "1019.50",
        },
        None,
    )


def test_no_books_at_all_agree(db):
    assert command() == "0 wallets agree with the ledger."


def test_it_looks_at_one_wallet_or_at_what_is_new(books, asha):
    assert command("--wallet", str(asha.wallet.pk)) == "1 wallet agrees with the ledger."
    for since in ("2026-01-01", "2026-01-01T00:00:00Z", "2999-12-31", "2026-01-01T00:00:00+05:30"):
        assert command("--since", since) == "3 wallets agree with the ledger."
    report, _ = json_of("--since", "2026-01-01")
    assert report["credits_minus_debits"] is None


def test_what_was_before_does_not_matter_to_what_is_new(books):
    middle = Transaction.objects.order_by("timestamp")[2].timestamp
    assert command("--since", middle.isoformat()) == "3 wallets agree with the ledger."


@pytest.mark.django_db(transaction=True)
def test_it_reads_one_snapshot_of_committed_books(books):
    assert command() == "3 wallets agree with the ledger."
    assert not connection.in_atomic_block


def test_it_looks_at_every_wallet_across_its_batches(books, monkeypatch):
    monkeypatch.setattr(check_ledger, "BATCH", 1)
    assert command() == "3 wallets agree with the ledger."


def test_a_wallet_that_is_not_there_is_named(books):
    with pytest.raises(CommandError, match="There is no wallet 999999."):
        command("--wallet", "999999")


@pytest.mark.parametrize("arguments", [["--wallet", "asha"], ["--since", "yesterday"], ["--since", "2026-02-30"],
                                       ["--since", ""]])  # fmt: skip
def test_an_unreadable_option_is_named(db, arguments):
    with pytest.raises(CommandError, match=f"argument {arguments[0]}: invalid"):
        command(*arguments)


def balance_changed(wallet):
    run("UPDATE wallet_wallet SET balance = balance + 1 WHERE id = %s", wallet)


def after_balance_changed(wallet):
    run(f"UPDATE {TABLE} SET sender_balance = sender_balance + 1 WHERE id = (SELECT min(id) FROM {TABLE} "
        "WHERE sender_id = %s)", wallet)  # fmt: skip


def last_after_balance_changed(wallet):
    run(f"UPDATE {TABLE} SET sender_balance = sender_balance + 1 WHERE id = (SELECT max(id) FROM {TABLE} "
        "WHERE sender_id = %s)", wallet)  # fmt: skip


def amount_changed(wallet):
    run(f"UPDATE {TABLE} SET amount = amount - 1 WHERE id = (SELECT min(id) FROM {TABLE} WHERE sender_id = %s)", wallet)


def first_row_deleted(wallet):
    run(f"DELETE FROM {TABLE} WHERE id = (SELECT min(id) FROM {TABLE} WHERE receiver_id = %s)", wallet)


def middle_row_deleted(wallet):
    run(f"DELETE FROM {TABLE} WHERE id = (SELECT max(id) FROM {TABLE} WHERE receiver_id = %s)", wallet)


def last_row_deleted(wallet):
    run(f"DELETE FROM {TABLE} WHERE id = (SELECT max(id) FROM {TABLE} WHERE sender_id = %s)", wallet)


def all_rows_deleted(wallet):
    run(f"DELETE FROM {TABLE} WHERE sender_id = %s OR receiver_id = %s", wallet, wallet)


def row_without_balance(wallet):
    run(f"INSERT INTO {TABLE} (transaction_type, receiver_id, receiver_balance, amount, remarks, timestamp, "
        "initiated_by_id) SELECT 'CREDIT', id, balance + 1, 1, '', %s, user_id FROM wallet_wallet WHERE id = %s",
        timezone.now(), wallet)  # fmt: skip


def side_swapped(wallet):
    run(f"UPDATE {TABLE} SET sender_id = receiver_id, receiver_id = sender_id, sender_balance = receiver_balance, "
        "receiver_balance = sender_balance + amount WHERE transaction_type = 'TRANSFER' AND sender_id = %s "
        "AND reverses_id IS NULL", wallet)  # fmt: skip


def time_set_back(wallet):
    run(f"UPDATE {TABLE} SET timestamp = '2001-01-01 00:00:00' WHERE id = (SELECT max(id) FROM {TABLE} "
        "WHERE sender_id = %s)", wallet)  # fmt: skip


def order_changed(wallet):
    run(f"UPDATE {TABLE} SET id = 1000000 WHERE id = (SELECT min(id) FROM {TABLE} WHERE sender_id = %s)", wallet)


BREAKS = [
    balance_changed, after_balance_changed, last_after_balance_changed, amount_changed, first_row_deleted,
    middle_row_deleted, last_row_deleted, all_rows_deleted, row_without_balance, side_swapped, order_changed,
    time_set_back,
]  # fmt: skip
BREAKS_OF_BOTH = [amount_changed, all_rows_deleted, side_swapped]


@pytest.mark.breaks_books
@pytest.mark.parametrize("break_books", BREAKS)
def test_it_names_the_wallet_whose_books_are_broken(asha, ravi, break_books):
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("10.00"))
    payments.credit(user_id=asha.pk, amount=Decimal("5.00"))
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
    assert command()
    break_books(asha.wallet.pk)
    report, complaint = json_of()
    assert complaint.startswith("The books do not agree:")
    assert f"wallet {asha.wallet.pk} of user_9999999999" in complaint
    assert not report["ok"]
    wrong = {row["wallet"] for row in report["disagreements"]}
    assert wrong == {asha.wallet.pk} | ({ravi.wallet.pk} if break_books in BREAKS_OF_BOTH else set())
    assert json_of("--wallet", str(asha.wallet.pk))[1]


@pytest.mark.breaks_books
def test_it_says_how_they_disagree(asha):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
    balance_changed(asha.wallet.pk)
    report, _ = json_of("--wallet", str(asha.wallet.pk))
    assert report["disagreements"] == [
        {
            "wallet": asha.wallet.pk,
            "user": "user_9999999999",
            "balance": "999.01",
            "sum_of_rows": "999.00",
            "after_last_row": "999.00",
            "breaks": 0,
            "steps_back": 0,
        }
    ]
    assert json_of()[0]["credits_minus_debits"] == "999.00"
    assert json_of()[0]["sum_of_balances"] == "999.01"


@pytest.mark.breaks_books
@pytest.mark.parametrize("break_books", [balance_changed, last_after_balance_changed, row_without_balance])
def test_what_is_new_and_broken_is_found(asha, break_books):
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
    payments.debit(user_id=asha.pk, amount=Decimal("2.00"))
    break_books(asha.wallet.pk)
    assert json_of("--since", (timezone.now() - timedelta(days=1)).isoformat())[1]


@pytest.mark.breaks_books
def test_money_out_of_nowhere_is_found(ravi):
    run("UPDATE wallet_wallet SET balance = 5 WHERE id = %s", ravi.wallet.pk)
    _, complaint = json_of()
    assert f"wallet {ravi.wallet.pk} of user_9888888888: balance 0.05, sum of its rows 0.00" in complaint
    assert "credits minus debits are 0.00, the balances sum to 0.05" in complaint


@pytest.mark.breaks_books
def test_one_broken_wallet_is_not_hidden_by_another(asha, ravi):
    run("UPDATE wallet_wallet SET balance = balance - 5 WHERE id = %s", asha.wallet.pk)
    run("UPDATE wallet_wallet SET balance = balance + 5 WHERE id = %s", ravi.wallet.pk)
    report, _ = json_of()
    assert [row["wallet"] for row in report["disagreements"]] == [asha.wallet.pk, ravi.wallet.pk]
    assert report["credits_minus_debits"] == report["sum_of_balances"]


@pytest.mark.breaks_books
def test_a_user_without_a_wallet_is_named(asha):
    UserProfile.objects.bulk_create([UserProfile(username="poor", phone_number="+919333333333")])
    report, complaint = json_of()
    assert report["users_without_wallet"] == ["poor"]
    assert "user poor has no wallet" in complaint
