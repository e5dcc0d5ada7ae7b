"""Databases for the tests of connectors."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.connectors.sql_databases import Database, postgresql_database_of_its_own, sqlite_database

pytest.register_assert_rewrite("tieline.testing.connector")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        with sqlite_database(tmp_path) as found:
            yield found
    else:
        with postgresql_database_of_its_own(request.getfixturevalue("postgresql_url")) as found:
            yield found


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Database]:
    """An empty SQLite file."""
    with sqlite_database(tmp_path) as found:
        yield found


@pytest.fixture
def postgresql(postgresql_url: str) -> Iterator[Database]:
    """An empty schema in PostgreSQL."""
    with postgresql_database_of_its_own(postgresql_url) as found:
        yield found
