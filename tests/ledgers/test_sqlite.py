"""The ledger in a SQLite file."""

import pytest

from tieline.ledgers.sqlite import SqliteLedger
from tieline.testing.ledger import LedgerSuite


class TestSqliteLedger(LedgerSuite):
    keeper = SqliteLedger

    @pytest.fixture
    def url(self, tmp_path):
        return f"sqlite:///{tmp_path}/ledger.db"
