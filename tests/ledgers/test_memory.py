"""The ledger in memory."""

import pytest

from tieline.ledgers.memory import MemoryLedger
from tieline.testing.ledger import LedgerSuite


class TestMemoryLedger(LedgerSuite):
    keeper = MemoryLedger
    shared = False

    @pytest.fixture
    def url(self):
        return "memory://"
