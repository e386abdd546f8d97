"""`/healthz`: the process is alive. `/readyz`: it can serve, that is, its database answers and is migrated.

That the server is about to end is told by `rsgi.py`, which alone knows."""

from functools import cache

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.permissions import AllowAny
from rest_framework.request import Request

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

        Looks at nothing else: a lost database is no reason to restart a server.
        """
        return READY

    @action(detail=False)
    @endpoint(gives=StatusSerializer, allow=AllowAny, errors=[ServerBusy])
    def readyz(self, request: Request) -> dict[str, str]:
        """Can the server answer requests?

        503 while the database cannot be reached, only reads, or has migrations to come, and once the server is told to
        stop, for the seconds in which it still answers all else.
        """
        try:
            trouble = _trouble()
        except DatabaseError as error:
            raise ServerBusy("The database does not answer.") from error
        if trouble:
            _migrated.cache_clear()
            raise ServerBusy(trouble)
        return READY


def _trouble() -> str | None:
    """Why no payment could be made now."""
    if not _migrated():
        return "The database has migrations to come: run manage.py migrate."
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only" if connection.vendor == "postgresql" else "SELECT 'off'")
        (read_only,) = cursor.fetchone()
    if read_only == "off":
        return None
    connection.close()  # another session may find that it writes again
    return "The database only reads: it is a standby, or was made so."


@cache
def _migrated() -> bool:
    """Asked once: this code's migrations are not taken back while it runs."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
