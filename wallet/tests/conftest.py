"""A production server for the tests of this folder, on the kind of database that the suite runs on."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from django.db import connection

from lokanetra.tests.live import Live, Postgres, live_server


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    """In the system's temporary folder: the server's own user must be able to reach it."""
    folder = Path(tempfile.mkdtemp(prefix="lokanetra-live-"))
    server = Postgres(folder)
    server.start()
    yield server
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def live(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    if connection.vendor == "postgresql":
        url = request.getfixturevalue("postgres").url
    else:
        url = f"sqlite:///{tmp_path_factory.mktemp('live')}/db.sqlite3"
    with live_server(url) as server:
        yield server
