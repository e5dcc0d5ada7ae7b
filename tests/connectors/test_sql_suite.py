"""The connector suite over SQL: SQLite and PostgreSQL, each with plain and with hostile names."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.connectors.sql_company import HOSTILE, postgresql_orders, sqlite_orders

from tieline.testing.connector import ConnectorSuite, Counterpart


class TestSqlite(ConnectorSuite):
    @pytest.fixture
    def counterpart(self, tmp_path: Path) -> Iterator[Counterpart]:
        with sqlite_orders(tmp_path) as counterpart:
            yield counterpart


class TestSqliteWithHostileNames(ConnectorSuite):
    @pytest.fixture
    def counterpart(self, tmp_path: Path) -> Iterator[Counterpart]:
        with sqlite_orders(tmp_path, HOSTILE, "decimal(20,4)") as counterpart:
            yield counterpart


@pytest.mark.services
class TestPostgresql(ConnectorSuite):
    @pytest.fixture
    def counterpart(self, postgresql_url: str) -> Iterator[Counterpart]:
        with postgresql_orders(postgresql_url) as counterpart:
            yield counterpart


@pytest.mark.services
class TestPostgresqlWithHostileNames(ConnectorSuite):
    @pytest.fixture
    def counterpart(self, postgresql_url: str) -> Iterator[Counterpart]:
        with postgresql_orders(postgresql_url, HOSTILE, "numeric(14,2)") as counterpart:
            yield counterpart
