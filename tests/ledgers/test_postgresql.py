"""The ledger in PostgreSQL."""

from uuid import uuid4

import psycopg
import pytest

from tieline.ledgers.postgresql import PostgresqlLedger
from tieline.testing.ledger import LedgerSuite

pytestmark = pytest.mark.services


class TestPostgresqlLedger(LedgerSuite):
    keeper = PostgresqlLedger

    @pytest.fixture
    def url(self, postgresql_url):
        schema = f"ledger {uuid4().hex}"
        yield f"{postgresql_url}{'&' if '?' in postgresql_url else '?'}schema={schema}"
        with psycopg.connect(postgresql_url, autocommit=True) as server:
            server.execute(f'drop schema if exists "{schema}" cascade')
