"""`/healthz` says that the process is alive, `/readyz` that it can serve."""

import pytest
from django.db import InterfaceError, OperationalError, connection
from django.db.migrations.recorder import MigrationRecorder

from lokanetra import health


@pytest.fixture(autouse=True)
def uncached():
    """The check of the migrations is cached; each test starts without that."""
    health._migrated.cache_clear()
    yield
    health._migrated.cache_clear()


def is_busy(response):
    return (response.status_code, response["Content-Type"], response.json()["code"], "Retry-After" in response) == (
        503,
        "application/problem+json",
        "server_busy",
        True,
    )


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_all_is_well(db, client, path):
    response = client.get(path)
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


def test_healthz_makes_no_query(client, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize("fault", [OperationalError("gone"), InterfaceError("connection already closed")])
@pytest.mark.parametrize("asked_before", [True, False])
def test_it_is_not_ready_while_the_database_does_not_answer(db, client, monkeypatch, fault, asked_before):
    if asked_before:
        assert client.get("/readyz").status_code == 200

    def lost(*args, **kwargs):
        raise fault

    with monkeypatch.context() as broken:
        broken.setattr(connection, "cursor", lost)
        assert is_busy(client.get("/readyz"))
        assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200


@pytest.mark.parametrize("app", ["users", "wallet", "transactions", "sessions"])
def test_it_is_not_ready_while_a_migration_is_missing_and_is_afterwards(db, client, app):
    applied = MigrationRecorder.Migration.objects.filter(app=app).order_by("pk").last()
    name = applied.name
    applied.delete()
    response = client.get("/readyz")
    assert is_busy(response)
    assert "migrate" in response.json()["detail"]
    MigrationRecorder.Migration.objects.create(app=app, name=name)
    assert client.get("/readyz").status_code == 200
