"""The serving role has exactly the rights that it needs."""

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from psycopg.errors import InsufficientPrivilege

from lokanetra.env import BASE_DIR
from lokanetra.management.commands import grants
from lokanetra.tests.live import SERVING, Live, Postgres, live_server, own_postgres

HELD = "SELECT table_name, privilege_type FROM information_schema.role_table_grants WHERE grantee = 'serving'"
HELD_OTHERWISE = """
    SELECT relname FROM pg_class, aclexplode(relacl) AS held
    WHERE relkind = 'S' AND held.grantee = 'serving'::regrole
"""

HELD_AROUND = """
    SELECT privilege_type FROM (
        SELECT datacl AS given FROM pg_database WHERE datname = current_database()
        UNION SELECT nspacl FROM pg_namespace WHERE nspname = 'public'
    ) AS around, aclexplode(given) AS held WHERE held.grantee = 'serving'::regrole ORDER BY 1
"""


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def server(database: Postgres) -> Iterator[Live]:
    with live_server(database.url, workers=1) as server:
        yield server


@pytest.fixture
def owner(database: Postgres, server: Live) -> Iterator[psycopg.Connection]:
    with psycopg.connect(database.url, autocommit=True) as session:
        yield session


@pytest.fixture
def serving(server: Live) -> Iterator[psycopg.Connection]:
    with psycopg.connect(server.environment["DATABASE_URL"]) as session:
        yield session


def command(server: Live, database: Postgres, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = server.environment | {"DATABASE_URL": database.url}
    line = [sys.executable, "manage.py", "grants", *arguments]
    return subprocess.run(line, cwd=BASE_DIR, env=environment, capture_output=True, text=True)


def wanted() -> set[tuple[str, str]]:
    return {
        (table, right) for rights, some in grants.tables().items() for table in some for right in rights.split(", ")
    }


def test_every_table_is_listed_once():
    listed = [table for some in grants.tables().values() for table in some]
    models = [model._meta.db_table for model in apps.get_models(include_auto_created=True)]
    assert sorted(listed) == sorted([*models, "django_migrations"])


@pytest.mark.slow
def test_its_rights_are_those_listed_whatever_it_had_before(server, database, owner):
    for kind in ("TABLES", "SEQUENCES"):
        owner.execute(f"GRANT ALL ON ALL {kind} IN SCHEMA public TO {SERVING}".encode())
    owner.execute(f"GRANT UPDATE (amount) ON transactions_transaction TO {SERVING}".encode())
    owner.execute(f"GRANT ALL ON SCHEMA public TO {SERVING}".encode())
    owner.execute(f'GRANT ALL ON DATABASE "{owner.info.dbname}" TO {SERVING}'.encode())
    assert command(server, database, SERVING, "--apply").returncode == 0
    assert set(owner.execute(HELD).fetchall()) == wanted()
    assert owner.execute(HELD_OTHERWISE).fetchall() == []
    columns = "SELECT FROM pg_attribute WHERE attacl IS NOT NULL AND attrelid > 16384"
    assert owner.execute(columns).fetchall() == []
    assert owner.execute(HELD_AROUND).fetchall() == [("CONNECT",), ("USAGE",)]


@pytest.mark.slow
def test_what_it_prints_does_the_same(server, database, owner):
    owner.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {SERVING}".encode())
    owner.execute(command(server, database, SERVING).stdout.encode())
    assert set(owner.execute(HELD).fetchall()) == wanted()
    limits = owner.execute("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'serving'::regrole").fetchone()
    assert limits == (["lock_timeout=3s", "statement_timeout=10s"],)


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE transactions_transaction SET amount = 1",
        "DELETE FROM transactions_transaction",
        "DELETE FROM wallet_wallet",
        "UPDATE wallet_key SET request_hash = ''",
        "UPDATE django_admin_log SET change_message = ''",
        "DELETE FROM django_admin_log",
        "INSERT INTO auth_permission (name, content_type_id, codename) VALUES ('all', 1, 'all')",
        "DELETE FROM django_migrations",
        "TRUNCATE wallet_wallet",
        "ALTER TABLE transactions_transaction DISABLE TRIGGER ALL",
        "DROP TABLE transactions_transaction",
        "SET session_replication_role = replica",
        "CREATE TABLE public.mine (id int)",
        "SELECT setval('transactions_transaction_id_seq', 1)",
    ],
)
def test_it_may_not_change_the_past_or_the_triggers(serving, statement):
    with pytest.raises(InsufficientPrivilege):
        serving.execute(statement.encode())


@pytest.mark.slow
def test_the_triggers_apply_to_it_and_read_only_the_real_ledger(server, serving):
    """It may write a refund, which the database compares with its original, whatever tables it creates itself."""
    token = server.log_in("9833000001")
    paid = server.post("/wallet/credit/", {"amount": "5.00"}, token).body["transaction_id"]
    serving.execute("CREATE TEMPORARY TABLE transactions_transaction AS SELECT * FROM public.transactions_transaction")
    serving.execute("UPDATE pg_temp.transactions_transaction SET amount = 1000000")
    refund = """
        INSERT INTO public.transactions_transaction (
            transaction_type, sender_id, sender_balance, receiver_id, receiver_balance, amount, remarks, timestamp,
            initiated_by_id, reverses_id, hold_id
        )
        SELECT 'DEBIT', receiver_id, 0, sender_id, sender_balance, amount + 1, '', now(), initiated_by_id, id, NULL
        FROM public.transactions_transaction WHERE id = %s
    """
    with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="more would be given back"):
        serving.execute(refund, [paid])


@pytest.mark.slow
def test_a_role_that_grants_cannot_limit_is_refused(server, database, owner):
    for role, words in {"nobody": "no role nobody", "postgres": "is a superuser or owns the tables"}.items():
        refused = command(server, database, role, "--apply")
        assert refused.returncode == 1
        assert words in refused.stderr
    denied = server.run(sys.executable, "manage.py", "grants", SERVING, "--apply", check=False)
    assert (denied.returncode, "Nothing was changed: permission denied" in denied.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "named", "taken"),
    [
        (
            "GRANT DELETE ON wallet_wallet TO PUBLIC",
            "DELETE wallet_wallet",
            "REVOKE DELETE ON wallet_wallet FROM PUBLIC",
        ),
        (
            "GRANT UPDATE (amount) ON transactions_transaction TO PUBLIC",
            "UPDATE transactions_transaction",
            "REVOKE UPDATE (amount) ON transactions_transaction FROM PUBLIC",
        ),
        (
            "GRANT CREATE ON SCHEMA public TO PUBLIC",
            "CREATE in the schema",
            "REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        ),
        (
            "CREATE ROLE cleaner; GRANT TRUNCATE ON wallet_key TO cleaner; GRANT cleaner TO serving WITH INHERIT FALSE",
            "TRUNCATE wallet_key",
            "DROP OWNED BY cleaner; DROP ROLE cleaner",
        ),
        ("ALTER ROLE serving CREATEROLE", "CREATEROLE", "ALTER ROLE serving NOCREATEROLE"),
        ("ALTER ROLE serving REPLICATION", "REPLICATION", "ALTER ROLE serving NOREPLICATION"),
        (
            "GRANT pg_execute_server_program TO serving",
            "pg_execute_server_program",
            "REVOKE pg_execute_server_program FROM serving",
        ),
    ],
)
def test_rights_beyond_the_list_are_reported_however_it_got_them(server, database, owner, given, named, taken):
    owner.execute(given)
    try:
        done = command(server, database, SERVING, "--apply")
    finally:
        owner.execute(taken)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"a role that it may become: {named}." in done.stderr


@pytest.mark.slow
def test_a_strange_name_is_quoted(server, database, owner):
    owner.execute(b'CREATE ROLE "We ""ird; --"')
    done = command(server, database, 'We "ird; --', "--apply")
    assert done.returncode == 0, done.stderr
    owner.execute(b'DROP OWNED BY "We ""ird; --"')
    owner.execute(b'DROP ROLE "We ""ird; --"')


@pytest.mark.django_db
def test_sqlite_has_no_roles(settings):
    if "postgresql" in settings.DATABASES["default"]["ENGINE"]:
        with pytest.raises(CommandError, match="There is no role nobody"):
            call_command("grants", "nobody")
    else:
        with pytest.raises(CommandError, match="SQLite has no roles"):
            call_command("grants", "nobody")
