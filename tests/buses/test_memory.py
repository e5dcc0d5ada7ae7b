"""The bus in memory."""

import pytest

from tieline.buses.memory import MemoryBus
from tieline.testing.bus import BusSuite


class TestMemoryBus(BusSuite):
    shared = False

    @pytest.fixture
    def url(self):
        return "memory://"

    def open(self, url):
        return MemoryBus()
