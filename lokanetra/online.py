"""Migrations of large tables in use: on PostgreSQL no lock that stops payments is held for long.

    operations = [SHORT_LOCKS, AddConstraint("wallet", CheckConstraint(...))]   # checks new rows only
    operations = [ValidateConstraint("wallet", "wallet_..."), AddIndex("wallet", Index(...))]   # with atomic = False

A migration that waits for a lock blocks everything queued after it; it gives up after five seconds, and can be run
again. SQLite has one writer and no such options: there these are the usual operations.
"""

from typing import Any

from django.contrib.postgres.operations import AddConstraintNotValid
from django.contrib.postgres.operations import ValidateConstraint as PostgreSQLValidateConstraint
from django.db import migrations
from django.db.migrations.operations.base import Operation


def _limit_waiting(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute("SET LOCAL lock_timeout = '5s'")


SHORT_LOCKS: Operation = migrations.RunPython(_limit_waiting, _limit_waiting, elidable=False)


def is_postgresql(schema_editor: Any) -> bool:
    return schema_editor.connection.vendor == "postgresql"


class AddConstraint(AddConstraintNotValid):
    """A CHECK for rows written from now on; `ValidateConstraint`, in a separate migration, checks the existing ones."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if is_postgresql(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)
        else:
            migrations.AddConstraint.database_forwards(self, app_label, schema_editor, from_state, to_state)


class ValidateConstraint(PostgreSQLValidateConstraint):
    """Payments continue while it reads the table."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if is_postgresql(schema_editor):
            super().database_forwards(app_label, schema_editor, from_state, to_state)


class AddIndex(migrations.AddIndex):
    """Payments continue while it is built. An unfinished index of an earlier attempt is dropped first."""

    def database_forwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if is_postgresql(schema_editor):
            model = to_state.apps.get_model(app_label, self.model_name)
            schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
            schema_editor.add_index(model, self.index, concurrently=True)
        else:
            super().database_forwards(app_label, schema_editor, from_state, to_state)

    def database_backwards(self, app_label: str, schema_editor: Any, from_state: Any, to_state: Any) -> None:
        if is_postgresql(schema_editor):
            schema_editor.execute(f'DROP INDEX CONCURRENTLY IF EXISTS "{self.index.name}"')
        else:
            super().database_backwards(app_label, schema_editor, from_state, to_state)
