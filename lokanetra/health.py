"""`/healthz`: the process is alive. `/readyz`: it can serve, that is, its database answers and is migrated."""

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
    status = serializers.CharField()


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

        503 while the database cannot be reached or has migrations to come.
        """
        try:
            ready = _migrated() and _reachable()
        except DatabaseError as error:
            raise ServerBusy("The database does not answer.") from error
        if not ready:
            _migrated.cache_clear()
            raise ServerBusy("The database has migrations to come: run manage.py migrate.")
        return READY


def _reachable() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    return True


@cache
def _migrated() -> bool:
    """Asked once: this code's migrations are not taken back while it runs."""
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())
