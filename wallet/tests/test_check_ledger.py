"""The check of the books says when they agree, and names what disagrees when they do not."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.utils import timezone

from transactions.models import Transaction
from users.models import UserProfile
from wallet import holds, payments, refunds, requests, status
from wallet.management.commands import check_ledger
from wallet.models import Tier

TABLE = "transactions_transaction"


def command(*arguments):
    out = StringIO()
    call_command("check_ledger", *arguments, stdout=out)
    return out.getvalue().strip()


def run(sql, *values):
    """Like somebody who has got round the triggers."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET LOCAL session_replication_role = replica")
        else:
            cursor.execute("DROP TRIGGER IF EXISTS transactions_no_update")
            cursor.execute("DROP TRIGGER IF EXISTS transactions_no_delete")
            cursor.execute("DROP TRIGGER IF EXISTS wallet_key_no_update")
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
            "set_aside": [],
            "counters": [],
            "holds": [],
            "given_back": [],
            "requests": [],
            "keys": [],
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


@pytest.mark.parametrize(
    ("since", "first"),
    [
        ("2026-02-01", datetime(2026, 1, 31, 18, 30, tzinfo=UTC)),
        ("2026-02-01T00:00", datetime(2026, 1, 31, 18, 30, tzinfo=UTC)),
        ("2026-02-01T00:00:00Z", datetime(2026, 2, 1, tzinfo=UTC)),
        ("0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_day_begins_where_it_begins_in_the_time_zone(since, first):
    assert check_ledger.moment(since) == first


@pytest.mark.parametrize("since", ["soon", "2026-02-30", "0001-01-01T00:00:00+14:00", "12:00", "\u0663"])
def test_a_time_that_is_none_is_refused(db, since):
    with pytest.raises(CommandError, match="--since"):
        call_command("check_ledger", "--since", since)


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


def held_changed():
    run("UPDATE wallet_wallet SET held = held + 1 WHERE id = (SELECT min(payer_id) FROM wallet_hold)")


def captured_changed():
    run("UPDATE wallet_hold SET captured = captured + 1 WHERE status = 'CAPTURED'")


def capture_taken_by_another():
    run(f"UPDATE {TABLE} SET hold_id = (SELECT max(id) FROM wallet_hold) WHERE hold_id IS NOT NULL")


def too_much_given_back():
    run(f"UPDATE {TABLE} SET amount = 6999 WHERE id = (SELECT max(reverses_id) FROM {TABLE})")


def reversal_reversed():
    run(f"UPDATE {TABLE} SET reverses_id = (SELECT max(id) FROM {TABLE}) WHERE reverses_id IS NOT NULL")


def counter_changed(column, by=1):
    return lambda: run(
        f"UPDATE wallet_wallet SET {column} = {column} + %s WHERE id = (SELECT min(payer_id) FROM wallet_hold)", by
    )


def given_back_to_another():
    run(f"UPDATE {TABLE} SET sender_id = receiver_id, receiver_id = sender_id WHERE reverses_id IS NOT NULL")


def capture_by_another():
    run(f"UPDATE {TABLE} SET sender_id = receiver_id, receiver_id = sender_id WHERE hold_id IS NOT NULL")


def request_paid_by_less():
    run("UPDATE wallet_paymentrequest SET amount = amount + 1 WHERE status = 'PAID'")


def request_paid_to_another():
    run("UPDATE wallet_paymentrequest SET payer_id = requester_id, requester_id = payer_id WHERE status = 'PAID'")


def request_paid_by_something_else():
    other = f"SELECT max(id) FROM {TABLE} WHERE reverses_id IS NOT NULL"
    run(f"UPDATE wallet_paymentrequest SET transaction_id = ({other}) WHERE status = 'PAID'")


def key_of_request_of_others():
    run("UPDATE wallet_key SET user_id = (SELECT max(id) FROM users_userprofile) WHERE key = 'ask 0'")


def key_of_another():
    run("UPDATE wallet_key SET user_id = (SELECT max(id) FROM users_userprofile) WHERE transaction_id IS NOT NULL")


@pytest.fixture
def used_books(asha, ravi, boss):
    """Holds that are open, partly captured, voided and expired, a refund in parts, and requests that are paid, declined
    and open; `books` of every kind."""
    paid = payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("200.00"), key="k")
    for amount in ("30.00", "40.00"):
        refunds.refund(user=ravi, transaction_id=paid.transaction.pk, amount=Decimal(amount))
    first, second, _ = [
        holds.open_(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("100.00"), expires_in=60) for _ in range(3)
    ]
    holds.capture(user_id=ravi.pk, hold_id=first.pk, amount=Decimal("20.00"), final=False)
    holds.capture(user_id=ravi.pk, hold_id=first.pk, amount=Decimal("30.00"))
    holds.void(user_id=ravi.pk, hold_id=second.pk)
    asked, declined, _ = [
        requests.ask(user_id=ravi.pk, to=asha.phone_number, amount=Decimal("5.00"), expires_in=60, key=f"ask {turn}")
        for turn in range(3)
    ]
    requests.pay(user_id=asha.pk, request_id=asked.pk, key="pay")
    requests.decline(user_id=asha.pk, request_id=declined.pk, key="decline")


def test_holds_in_every_state_and_refunds_in_parts_agree(used_books, asha, clock_at):
    assert command() == "3 wallets agree with the ledger."
    clock_at(timezone.now() + timedelta(seconds=61))
    for arguments in ([], ["--wallet", str(asha.wallet.pk)], ["--since", "2026-01-01"]):
        assert "with the ledger." in command(*arguments)


@pytest.mark.breaks_books
@pytest.mark.parametrize(("break_books", "name"), [
    (held_changed, "set_aside"), (captured_changed, "holds"), (capture_taken_by_another, "holds"),
    (too_much_given_back, "given_back"), (reversal_reversed, "given_back"), (key_of_another, "keys"),
    (request_paid_by_less, "requests"), (request_paid_to_another, "requests"),
    (request_paid_by_something_else, "requests"), (key_of_request_of_others, "keys"),
    (given_back_to_another, "given_back"), (capture_by_another, "holds"), (counter_changed("out_day", -1), "counters"),
    *((counter_changed(column), "counters") for column in ("count_day", "out_month", "in_month")),
])  # fmt: skip
def test_what_disagrees_beside_the_balances_is_named(used_books, break_books, name):
    break_books()
    report, complaint = json_of()
    assert report[name]
    assert complaint


@pytest.mark.breaks_books
@pytest.mark.parametrize(
    ("table", "column", "name"),
    [
        ("wallet_key", "transaction_id", "keys"),
        ("wallet_key", "request_id", "keys"),
        ("wallet_paymentrequest", "transaction_id", "requests"),
        (TABLE, "hold_id", "holds"),
        (TABLE, "reverses_id", "given_back"),
    ],
)
def test_what_belongs_to_nothing_is_named(used_books, table, column, name):
    """A key without its operation, a paid request without its transfer, a capture without its hold, a refund without
    what it gives back."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {column} FROM {table} WHERE {column} IS NOT NULL")
        ((before,), *_) = cursor.fetchall()
    run(f"UPDATE {table} SET {column} = 999999 WHERE {column} = %s", before)
    report, complaint = json_of()
    assert report[name]
    assert complaint
    run(f"UPDATE {table} SET {column} = %s WHERE {column} = 999999", before)


@pytest.mark.breaks_books
def test_one_wallet_and_a_time_name_what_belongs_to_them(used_books, asha, boss):
    captured_changed()
    too_much_given_back()
    request_paid_by_less()
    for arguments in (["--wallet", str(asha.wallet.pk)], ["--since", "2026-01-01"]):
        report, _ = json_of(*arguments)
        assert report["holds"]
        assert report["given_back"]
        assert report["requests"]
    report, complaint = json_of("--wallet", str(boss.wallet.pk))
    assert report["ok"], complaint


def test_a_wallet_of_a_tier_agrees(used_books, asha, boss):
    tier = Tier.objects.create(name="Small", daily_out=Decimal(5000))
    status.set_tier(user_id=boss.pk, wallet_id=asha.wallet.pk, tier=tier, reason="to see")
    payments.debit(user_id=asha.pk, amount=Decimal("1.00"))
    assert command() == "3 wallets agree with the ledger."
