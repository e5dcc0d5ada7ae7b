"""The bus on Kafka, and on brokers that speak its protocol."""

from pathlib import Path

from tieline.buses.kafka.address import read_address
from tieline.buses.kafka.bus import KafkaBus


def open_bus(url: str, folder: Path) -> KafkaBus:
    """The bus at ``kafka://host:9092/prefix?replicas=3``; connects when it is first used.

    Raises:
        ConfigurationError: with every mistake of the address.
    """
    return KafkaBus(read_address(url, folder))
