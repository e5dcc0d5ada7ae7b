"""The bus in PostgreSQL."""

from uuid import uuid4

import psycopg
import pytest

from tieline.buses.sql import SqlBus
from tieline.ledgers.postgresql import PostgresqlLedger
from tieline.testing.bus import BusSuite

pytestmark = pytest.mark.services


class TestPostgresqlBus(BusSuite):
    @pytest.fixture
    def url(self, postgresql_url):
        schema = f"bus_{uuid4().hex}"
        yield f"{postgresql_url}{'&' if '?' in postgresql_url else '?'}schema={schema}"
        with psycopg.connect(postgresql_url, autocommit=True) as server:
            server.execute(f'drop schema if exists "{schema}" cascade')

    def open(self, url):
        return SqlBus(PostgresqlLedger(url), shared=False)
