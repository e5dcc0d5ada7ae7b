"""The bus on Kafka, against a broker that speaks its protocol."""

from itertools import count

import pytest
from tests.buses.kafka_broker import HOW, Broker
from tests.conftest import missing

from tieline.buses.kafka import open_bus
from tieline.testing.bus import BusSuite

NUMBERS = count(1)


@pytest.fixture(scope="session")
def broker(tmp_path_factory):
    try:
        broker = Broker(tmp_path_factory.mktemp("kafka"))
    except ImportError as error:
        missing(f"no broker that speaks Kafka's protocol ({error})", HOW)
    broker.begin()
    yield broker
    broker.end()


@pytest.fixture
def url(broker):
    return f"kafka://{broker.address}/test{next(NUMBERS)}"


class TestKafkaBus(BusSuite):
    @pytest.fixture
    def url(self, broker):
        return f"kafka://{broker.address}/test{next(NUMBERS)}"

    def open(self, url):
        return open_bus(url, None)
