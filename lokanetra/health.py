"""`/healthz`: the process is alive. `/readyz`: it can serve, that is, its database answers and is migrated.

`rsgi.py` answers `/readyz` with 503 while the server is draining."""

from functools import cache

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

from lokanetra.database import is_postgresql
from lokanetra.endpoints import Endpoints, endpoint
from lokanetra.errors import ServerBusy

READY = {"status": "ok"}


class StatusSerializer(serializers.Serializer):
    status = serializers.ChoiceField(choices=[READY["status"]])


class HealthViewSet(Endpoints):
    throttle_classes = ()

    @action(detail=False)
    @endpoint(gives=StatusSerializer, allow=AllowAny)
    def healthz(self, request: Request) -> dict[str, str]:
        """Is the process alive?

        Checks nothing else: a lost database is no reason to restart a server.
        """
        return READY

    @action(detail=False)
    @endpoint(gives=StatusSerializer, allow=AllowAny, errors=[ServerBusy])
    def readyz(self, request: Request) -> dict[str, str]:
        """Can the server answer requests?

        503 while the database cannot be reached, is read-only, or has unapplied migrations, and after the server is
        told to stop, for the seconds in which it still answers everything else.
        """
        try:
            reason = _unready_reason()
        except DatabaseError as error:
            raise ServerBusy("The database does not answer.") from error
        if reason:
            _migrated.cache_clear()
            raise ServerBusy(reason)
        return READY


def _unready_reason() -> str | None:
    """Why no payment could be made now."""
    if not _migrated():
        return "The database has migrations to come: run manage.py migrate."
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only" if is_postgresql() else "SELECT 'off'")
        (read_only,) = cursor.fetchone()
    if read_only == "off":
        return None
    connection.close()  # a new session may be able to write again
    return "The database is read-only: it is a standby, or was made so."


@cache
def _migrated() -> bool:
    """Checked once: migrations are not reverted while this code runs."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
