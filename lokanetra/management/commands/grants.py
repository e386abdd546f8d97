"""The rights of the serving role in PostgreSQL, table by table."""

from typing import Any

from django.apps import apps
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError, connection
from django.db.transaction import atomic

from lokanetra.checks import CONTROLS_LEDGER
from lokanetra.database import is_postgresql
from lokanetra.postgresql.base import LIMITS

# By what happens to the rows. Each table must be listed exactly once.
RIGHTS = {
    # Only migrations write them.
    "SELECT": "auth.Permission contenttypes.ContentType",
    # Written once: the ledger, its keys, its checks, and what staff did.
    "SELECT, INSERT": "transactions.Transaction wallet.Key wallet.LedgerCheck admin.LogEntry",
    # Changed, but never deleted.
    "SELECT, INSERT, UPDATE": "users.UserProfile users.ApiKey wallet.Wallet wallet.Hold wallet.PaymentRequest "
    "transactions.Webhook",
    # Never updated.
    "SELECT, INSERT, DELETE": "transactions.Event transactions.Outbox auth.Group_permissions "
    "users.UserProfile_groups users.UserProfile_user_permissions",
    "SELECT, INSERT, UPDATE, DELETE": "users.OTP users.Login users.Counter sessions.Session auth.Group wallet.Tier "
    "transactions.DayVolume transactions.Delivery",
}
ALL = ["SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "REFERENCES", "TRIGGER"]
# The rights of a role to these tables or their columns, and rights that would bypass them: its own, and those of any
# role that it may become.
EFFECTIVE_RIGHTS = """
    WITH held AS (SELECT * FROM pg_roles WHERE pg_has_role(%s, oid, 'MEMBER'))
    SELECT right_ || ' ' || name FROM held, unnest(%s::text[]) AS name, unnest(%s::text[]) AS right_
        WHERE CASE WHEN right_ IN ('DELETE', 'TRUNCATE', 'TRIGGER')
            THEN has_table_privilege(oid, quote_ident(name), right_)
            ELSE has_any_column_privilege(oid, quote_ident(name), right_) END
    UNION SELECT 'CREATE in the schema' FROM held WHERE has_schema_privilege(oid, current_schema(), 'CREATE')
    UNION SELECT 'CREATE in the database' FROM held WHERE has_database_privilege(oid, current_database(), 'CREATE')
    UNION SELECT 'CREATEROLE' FROM held WHERE rolcreaterole
    UNION SELECT 'REPLICATION' FROM held WHERE rolreplication
    UNION SELECT rolname FROM held WHERE rolname IN ('pg_write_server_files', 'pg_execute_server_program')
    ORDER BY 1
"""


def tables() -> dict[str, list[str]]:
    """The tables for each list of rights."""
    found = {
        rights: [apps.get_model(label)._meta.db_table for label in labels.split()] for rights, labels in RIGHTS.items()
    }
    return found | {"SELECT": [*found["SELECT"], "django_migrations"]}


def statements(role: str) -> list[str]:
    """Statements that give the role its rights, and revoke all others, on our tables, their schema and database."""
    name, every = _quoted(role), _listed([table for some in tables().values() for table in some])
    database = _quoted(str(connection.settings_dict["NAME"]))
    schema = _query("SELECT quote_ident(current_schema())")[0][0]
    return [
        f"REVOKE ALL ON {every} FROM {name}",
        f"REVOKE ALL ON SEQUENCE {', '.join(_sequences())} FROM {name}",
        f"REVOKE ALL ON DATABASE {database} FROM {name}",
        f"REVOKE ALL ON SCHEMA {schema} FROM {name}",
        f"GRANT CONNECT ON DATABASE {database} TO {name}",
        f"GRANT USAGE ON SCHEMA {schema} TO {name}",
        *(f"GRANT {rights} ON {_listed(some)} TO {name}" for rights, some in tables().items()),
    ]


def limits(role: str) -> list[str]:
    """Time-outs for the role itself, because a pooler does not pass on those that a connection asks for."""
    database = _quoted(str(connection.settings_dict["NAME"]))
    return [
        f"ALTER ROLE {_quoted(role)} IN DATABASE {database} SET {name} = '{value}'" for name, value in LIMITS.items()
    ]


def excess(role: str) -> list[str]:
    """What the role may do beyond its rights, however it got there."""
    wanted = {f"{right} {table}" for rights, some in tables().items() for table in some for right in rights.split(", ")}
    every = [table for some in tables().values() for table in some]
    return [right for (right,) in _query(EFFECTIVE_RIGHTS, role, every, ALL) if right not in wanted]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _listed(names: list[str]) -> str:
    return ", ".join(map(_quoted, sorted(names)))


def _sequences() -> list[str]:
    """Inserts get their ids from them, for which the role needs no right."""
    every = sorted(table for some in tables().values() for table in some)
    query = """
        SELECT pg_get_serial_sequence(quote_ident(name), 'id') FROM unnest(%s::text[]) AS name
        WHERE EXISTS (SELECT FROM pg_attribute WHERE attrelid = to_regclass(quote_ident(name)) AND attname = 'id')
    """
    return [name for (name,) in _query(query, every) if name]


def _query(query: str, *values: Any) -> list[tuple]:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        return cursor.fetchall()


class Command(BaseCommand):
    help = (
        "Print the statements that give a PostgreSQL role exactly the rights that the server and its worker need, and "
        "revoke all others on their tables: for psql, or run them with --apply. Run it as the owner of the tables, "
        "after each migrate."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("role", metavar="ROLE", help="the serving role, which must exist")
        parser.add_argument(
            "--apply", action="store_true", help="run them, and check that the role may do nothing more"
        )

    def handle(self, *args: Any, role: str, apply: bool, **options: Any) -> None:
        self._check(role)
        if apply:
            self._apply(role)
            self.stdout.write(self.style.SUCCESS(f"{role} may do what the server needs, and no more."))
        else:
            self.stdout.write("".join(f"{line};\n" for line in ["BEGIN", *statements(role), *limits(role), "COMMIT"]))

    def _check(self, role: str) -> None:
        if not is_postgresql():
            raise CommandError("SQLite has no roles: this is for PostgreSQL.")
        if not _query("SELECT to_regclass('django_migrations')")[0][0]:
            raise CommandError("There are no tables yet: run manage.py migrate.")
        found = _query(CONTROLS_LEDGER, role)
        if not found:
            raise CommandError(
                f"There is no role {role}. Make it first: CREATE ROLE {_quoted(role)} LOGIN PASSWORD '...'"
            )
        if found[0][0]:
            raise CommandError(f"{role} is a superuser or owns the tables: grants cannot limit it. Make another role.")

    def _apply(self, role: str) -> None:
        try:
            _run(statements(role))
        except ProgrammingError as fault:
            raise CommandError(f"Nothing was changed: {fault}".strip()) from fault
        self._limit(role)
        if found := excess(role):
            raise CommandError(
                f"{role} may do more, by itself, through PUBLIC, or as a role that it may become: {', '.join(found)}."
            )

    def _limit(self, role: str) -> None:
        """Needed only behind a pooler, and allowed only to some owners."""
        try:
            _run(limits(role))
        except ProgrammingError as fault:
            lines = "".join(f"\n{line};" for line in limits(role))
            self.stderr.write(f"{str(fault).strip()}\nBehind a pooler, let a superuser run:{lines}")


def _run(lines: list[str]) -> None:
    """All or none of them."""
    with atomic(), connection.cursor() as cursor:
        for line in lines:
            cursor.execute(line)
