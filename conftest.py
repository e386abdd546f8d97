"""The cast of all tests, and the check of the books after each of them."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial

import pytest
from django.core.cache import cache
from django.db import connection
from django.utils import timezone
from rest_framework.test import APIClient

from lokanetra.pagination import too_long
from lokanetra.tests.documented import DocumentedClient, documentation
from lokanetra.tests.live import Live, Postgres, live_server, own_postgres
from transactions.exports import active_downloads
from transactions.models import Transaction
from transactions.statements import totals_cache
from users import accounts, tokens
from users.models import UserProfile
from wallet import payments
from wallet.clock import clock
from wallet.management.commands import check_ledger

# Tests that need a pooler (scripts/pgbouncer/check.sh).
collect_ignore = [] if "PGBOUNCER" in os.environ else ["lokanetra/tests/test_pooler.py"]

ASHA, RAVI, STRANGER = "+919999999999", "+919888888888", "+919777777777"


def set_clocks(patch: pytest.MonkeyPatch, moment: datetime) -> None:
    """This machine's clock, and the database's, which payments use."""
    patch.setattr(timezone, "now", lambda: moment)
    patch.setattr(clock, "sql", f"TIMESTAMPTZ '{moment.isoformat()}'")


@pytest.fixture
def clock_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[datetime], None]:
    """Stops the clocks at a moment, for the rest of the test."""
    return partial(set_clocks, monkeypatch)


@contextmanager
def _at(moment: datetime) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        set_clocks(patch, moment)
        yield


@pytest.fixture
def at() -> Callable[[datetime], AbstractContextManager[None]]:
    """Payments inside it are made at this moment."""
    return _at


@pytest.fixture
def opening() -> datetime | None:
    """When asha got her money: now, unless a module overrides it."""
    return None


@pytest.fixture
def asha(db: None, opening: datetime | None) -> UserProfile:
    """She holds 1000.00."""
    user = accounts.create(phone_number=ASHA)
    with _at(opening) if opening else nullcontext():
        payments.credit(user_id=user.pk, amount=Decimal("1000.00"))
    return user


@pytest.fixture
def ravi(db: None) -> UserProfile:
    """Her payee, who holds nothing."""
    return accounts.create(phone_number=RAVI)


@pytest.fixture
def stranger(db: None) -> UserProfile:
    """Somebody who must see nothing of theirs."""
    return accounts.create(phone_number=STRANGER)


@pytest.fixture
def staff(db: None) -> UserProfile:
    """Staff who may only read."""
    return accounts.create(phone_number="+919666666666", username="staff", is_staff=True)


@pytest.fixture
def boss(db: None) -> UserProfile:
    """The superuser."""
    return UserProfile.objects.create_superuser("boss", password="correct horse", phone_number="+919555555555")


@pytest.fixture
def as_user() -> Callable[[UserProfile | None], APIClient]:
    """A client with a login of the user, or without one. Its answers are checked against the documentation."""

    documentation()  # loaded now, before the test changes anything

    def client_for(user: UserProfile | None) -> APIClient:
        client = DocumentedClient()
        if user:
            client.credentials(HTTP_AUTHORIZATION=f"Bearer {tokens.issue(user)['access']}")
        return client

    return client_for


@pytest.fixture
def nobody(as_user: Callable[[UserProfile | None], APIClient]) -> APIClient:
    return as_user(None)


@pytest.fixture(autouse=True)
def fresh_cache() -> Iterator[None]:
    """Nothing that a process caches survives a test, also not files that were read only in part."""
    yield
    cache.clear()
    too_long.clear()
    active_downloads.clear()
    totals_cache.clear()
    clock.offset = timedelta(0)


@pytest.fixture(autouse=True)
def books_agree(request: pytest.FixtureRequest) -> Iterator[None]:
    """After every test that used the database, balances and ledger agree, unless it breaks them on purpose."""
    uses_database = {"db", "transactional_db"} & set(request.fixturenames) or request.node.get_closest_marker(
        "django_db"
    )
    if uses_database:
        request.getfixturevalue("transactional_db" if "transactional_db" in request.fixturenames else "db")
    yield
    if uses_database and not request.node.get_closest_marker("breaks_books"):
        assert check_ledger.check().complaints() == []


@pytest.fixture(scope="session", autouse=True)
def flush_bypasses_triggers(django_db_setup: None) -> None:
    """The ledger refuses TRUNCATE and DELETE; only emptying the test database between tests may bypass that."""
    original = connection.ops.execute_sql_flush

    def execute_sql_flush(statements: Iterable[str]) -> None:
        if connection.vendor == "postgresql":
            original(["SET LOCAL session_replication_role = replica", *statements])
        else:
            triggers = _triggers()
            original([*(f"DROP TRIGGER {name}" for name in triggers), *statements, *triggers.values()])

    connection.ops.execute_sql_flush = execute_sql_flush  # type: ignore[method-assign, assignment]


def _triggers() -> dict[str, str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'")
        return dict(cursor.fetchall())


@pytest.fixture
def ledger() -> Callable[[], list[tuple]]:
    """The ledger as rows of (type, amount), oldest first."""
    return lambda: list(Transaction.objects.order_by("pk").values_list("transaction_type", "amount"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The live server's own PostgreSQL, if the suite runs on PostgreSQL."""
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The production server with three workers, on the kind of database that the suite runs on."""
    if connection.vendor == "postgresql":
        url = request.getfixturevalue("postgres").url
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('live')}/db.sqlite3"
    with live_server(url) as server:
        yield server
