"""A transaction that begins with a prepared statement, or ends with one that is sent with COMMIT, behaves like all
others."""

import pytest
from django.db import DataError, Error, connection
from django.db.transaction import TransactionManagementError, atomic, set_rollback

from lokanetra.prepared import Later, rows_of
from users import accounts
from users.models import UserProfile

pytestmark = pytest.mark.django_db(transaction=True)

NAME = "UPDATE users_userprofile SET first_name = %s WHERE id = %s RETURNING id"


def first_name() -> str:
    return UserProfile.objects.get().first_name


@pytest.fixture
def user() -> UserProfile:
    return accounts.create(phone_number="+919999999999")


def test_it_is_committed_as_one(user):
    with atomic():
        assert rows_of(NAME, ["Asha", user.pk]) == [(user.pk,)]
        UserProfile.objects.update(last_name="Rao")
    assert (first_name(), UserProfile.objects.get().last_name) == ("Asha", "Rao")


@pytest.mark.parametrize("ordinary_first", [True, False])
def test_it_is_rolled_back_as_one(user, ordinary_first):
    with pytest.raises(ZeroDivisionError), atomic():
        if ordinary_first:
            UserProfile.objects.update(last_name="Rao")
        rows_of(NAME, ["Asha", user.pk])
        raise ZeroDivisionError
    assert (first_name(), UserProfile.objects.get().last_name) == ("", "")


def test_a_savepoint_in_it_is_rolled_back_alone(user):
    with atomic():
        rows_of(NAME, ["Asha", user.pk])
        with pytest.raises(ZeroDivisionError), atomic():
            rows_of(NAME, ["Ravi", user.pk])
            raise ZeroDivisionError
    assert first_name() == "Asha"


def test_nothing_more_is_done_in_one_that_must_be_rolled_back(user):
    with atomic():
        rows_of(NAME, ["Asha", user.pk])
        set_rollback(True)
        with pytest.raises(TransactionManagementError):
            rows_of(NAME, ["Ravi", user.pk])
    assert first_name() == ""


def test_a_failing_first_statement_leaves_the_connection_usable(user):
    if connection.vendor == "sqlite":
        return  # it divides by zero
    for _ in range(2):
        with pytest.raises(DataError), atomic():
            rows_of("SELECT 1 / %s", [0])
        with atomic():
            rows_of(NAME, ["Asha", user.pk])
    assert first_name() == "Asha"


def test_what_cannot_be_prepared_is_an_error_each_time(user):
    for _ in range(2):
        with pytest.raises(Error), atomic():
            rows_of("SELECT nothing FROM nowhere WHERE id = %s", [1])
    assert rows_of(NAME, ["Asha", user.pk])


def test_a_transaction_without_statements_is_not_begun(user):
    with atomic():
        pass
    with pytest.raises(ZeroDivisionError), atomic():
        raise ZeroDivisionError
    if connection.vendor == "postgresql":
        assert connection.connection.info.transaction_status.name == "IDLE"


def test_without_autocommit_the_next_one_begins_where_one_ends(user):
    if connection.vendor == "sqlite":
        return  # its driver does that
    connection.set_autocommit(False)
    try:
        rows_of(NAME, ["Asha", user.pk])
        connection.commit()
        rows_of(NAME, ["Ravi", user.pk])
        connection.rollback()
    finally:
        connection.set_autocommit(True)
    assert first_name() == "Asha"


def test_a_cursor_that_is_older_than_the_transaction_is_in_it(user):
    with connection.cursor() as cursor, pytest.raises(ZeroDivisionError), atomic():
        cursor.execute("UPDATE users_userprofile SET first_name = 'Asha'")
        raise ZeroDivisionError
    assert first_name() == ""


def test_the_lock_of_a_first_statement_is_held_until_the_end(user):
    if connection.vendor == "sqlite":
        return  # it locks the file
    with atomic():
        rows_of("SELECT id FROM users_userprofile WHERE id = %s FOR UPDATE", [user.pk])
        assert rows_of("SELECT count(*) FROM pg_locks WHERE mode = %s", ["RowShareLock"])[0][0] >= 1
        assert connection.connection.info.transaction_status.name == "INTRANS"
    assert connection.connection.info.transaction_status.name == "IDLE"


# --- Statements that are sent later ------------------------------------------------------------------


def later(name: str, user: UserProfile) -> Later[list[tuple]]:
    return Later(NAME, [name, user.pk], list)


def sent() -> bool:
    """Whether nothing waits to be sent."""
    return not getattr(connection, "waiting", [])


def test_what_is_sent_later_is_committed_with_the_rest(user):
    with atomic():
        rows_of(NAME, ["Asha", user.pk])
        changed = later("Ravi", user)
        assert sent() is (connection.vendor == "sqlite")
    assert (first_name(), changed.result) == ("Ravi", [(user.pk,)])


def test_a_transaction_of_nothing_else_is_committed(user):
    with atomic():
        later("Asha", user)
        later("Ravi", user)
    assert (first_name(), sent()) == ("Ravi", True)
    if connection.vendor == "postgresql":
        assert connection.connection.info.transaction_status.name == "IDLE"


def test_later_statements_are_sent_before_the_next_in_their_order(user):
    with atomic():
        later("Asha", user)
        later("Ravi", user)
        assert rows_of("SELECT first_name FROM users_userprofile WHERE id = %s", [user.pk]) == [("Ravi",)]
        later("Mira", user)
        assert first_name() == "Mira"


def test_a_result_that_is_asked_for_too_early_sends_the_statement(user):
    with atomic():
        assert later("Asha", user).result == [(user.pk,)]
        assert sent()
        later("Ravi", user)
    assert first_name() == "Ravi"


def test_nothing_is_left_to_be_sent_after_a_rollback(user):
    with pytest.raises(ZeroDivisionError), atomic():
        later("Asha", user)
        raise ZeroDivisionError
    with atomic():
        rows_of("SELECT id FROM users_userprofile WHERE id = %s", [user.pk])
    assert (first_name(), sent()) == ("", True)


def test_a_savepoint_keeps_what_was_to_be_sent_before_it(user):
    with atomic():
        later("Asha", user)
        with pytest.raises(ZeroDivisionError), atomic():
            later("Ravi", user)
            raise ZeroDivisionError
    assert first_name() == "Asha"


def test_outside_a_transaction_it_is_sent_at_once(user):
    assert later("Asha", user).result == [(user.pk,)]
    assert first_name() == "Asha"


@pytest.mark.parametrize("commits", [True, False], ids=["with COMMIT", "with the next statement"])
def test_one_that_fails_later_rolls_everything_back_and_leaves_the_connection_usable(user, commits):
    if connection.vendor == "sqlite":
        return  # it divides by zero
    with pytest.raises(DataError), atomic():
        rows_of(NAME, ["Asha", user.pk])
        Later("SELECT 1 / %s", [0], list)
        later("Ravi", user)
        if not commits:
            first_name()
    assert (first_name(), sent()) == ("", True)
    assert connection.connection.info.transaction_status.name == "IDLE"


def test_nothing_more_is_sent_later_in_one_that_must_be_rolled_back(user):
    with atomic():
        set_rollback(True)
        with pytest.raises(TransactionManagementError):
            later("Asha", user)
    assert first_name() == ""


def test_a_lost_connection_forgets_what_was_to_be_sent(user):
    if connection.vendor == "sqlite":
        return  # it has none to lose
    with atomic():
        later("Asha", user)
        connection.close()
    assert sent()
    assert first_name() == ""


def test_values_that_fill_the_socket_are_sent_with_the_others(user):
    text = 8_000_000 * "x"
    with atomic():
        measured = Later("SELECT length(%s)", [text], list)
        changed = later("Asha", user)
        assert rows_of("SELECT length(%s)", [text]) == [(len(text),)]
    assert (measured.result, changed.result, first_name()) == ([(len(text),)], [(user.pk,)], "Asha")
