"""The bus in a SQLite file."""

import pytest

from tieline.buses.sql import SqlBus
from tieline.ledgers.sqlite import SqliteLedger
from tieline.testing.bus import BusSuite


class TestSqliteBus(BusSuite):
    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/bus.db"

    def open(self, url):
        return SqlBus(SqliteLedger(url), shared=False)
