"""A prepared query returns what Django's own does, and a connection that died while idle is replaced unnoticed."""

from decimal import Decimal
from threading import Thread
from time import monotonic, sleep

import pytest
from django.db import connection
from django.db.models import F, Value
from django.db.transaction import atomic
from django.forms import model_to_dict

from lokanetra.prepared import Placeholder, Prepared, rows_of
from transactions.models import Transaction
from users.models import UserProfile
from wallet import payments
from wallet.models import Wallet


def test_it_returns_the_same_objects_as_the_query_itself(asha, ravi):
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("0.50"))
    rows = Transaction.objects.with_accounts().annotate(payer=F("sender__user__username"), one=Value(1))
    rows = rows.order_by("-pk")
    newest = Prepared(lambda: rows.filter(initiated_by=Placeholder("user_id")))
    for user in (asha, ravi, asha):
        found, wanted = newest(user_id=user.pk), list(rows.filter(initiated_by=user))
        assert [model_to_dict(row) for row in found] == [model_to_dict(row) for row in wanted]
        for name in ("timestamp", "payer", "one"):
            assert [getattr(row, name) for row in found] == [getattr(row, name) for row in wanted]
        for one, other in zip(found, wanted, strict=True):
            assert one.receiver.user.phone_number == other.receiver.user.phone_number
            assert (one.sender is None) == (other.sender is None)
            assert (one._state.adding, one._state.db) == (False, "default")


def test_related_rows_come_with_it_and_cost_no_query(asha, django_assert_num_queries):
    of_phone = Prepared(lambda: UserProfile.objects.select_related("wallet").filter(phone_number=Placeholder("phone")))
    with django_assert_num_queries(1):
        (user,) = of_phone(phone=asha.phone_number)
        assert (user.wallet.balance, user.wallet.user.username) == (1000, asha.username)
    assert of_phone(phone="' OR 1=1") == []


def test_its_objects_can_be_saved(asha):
    (wallet,) = Prepared(lambda: Wallet.objects.filter(user=Placeholder("user_id")))(user_id=asha.pk)
    wallet.status = Wallet.Status.FROZEN
    wallet.save(update_fields=["status"])
    assert Wallet.objects.get(pk=wallet.pk).is_frozen


def test_a_missing_value_is_an_error_of_the_caller(asha):
    with pytest.raises(KeyError):
        Prepared(lambda: Wallet.objects.filter(user=Placeholder("user_id")))()


def test_the_database_prepares_these_statements_and_no_other(asha, ravi):
    if connection.vendor == "sqlite":
        return  # it keeps none
    payments.transfer(user_id=asha.pk, to=ravi.phone_number, amount=Decimal("0.50"))
    list(Transaction.objects.filter(amount__gte=Decimal("0.25")))
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        held = [statement for (statement,) in cursor.fetchall()]
    assert any("FOR NO KEY UPDATE" in statement for statement in held)
    assert any(statement.startswith("WITH wallets") for statement in held)
    assert not any('amount" >=' in statement for statement in held)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("idle", [-1.0, 1000.0])
def test_a_connection_that_died_while_idle_is_replaced_unnoticed(monkeypatch, idle):
    """By a query if it was idle for long, by its socket otherwise."""
    if connection.vendor == "sqlite":
        return  # it has no connection that could die
    from lokanetra.postgresql import base

    connection.ensure_connection()
    connection.close_if_unusable_or_obsolete()
    monkeypatch.setitem(connection.settings_dict, "CONN_HEALTH_CHECKS", True)
    victim = connection.connection.info.backend_pid
    connection.used_at = monotonic()

    def end():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s)", [victim])
        connection.close()

    thread = Thread(target=end)
    thread.start()
    thread.join()
    sleep(0.2)  # for the server to close it
    connection.health_check_enabled, connection.health_check_done = True, False
    monkeypatch.setattr(base, "IDLE", idle)
    with atomic():  # in which nothing is tried again
        assert rows_of("SELECT count(*) FROM users_userprofile", []) == [(0,)]
