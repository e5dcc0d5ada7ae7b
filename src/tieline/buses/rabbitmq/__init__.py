"""The bus in RabbitMQ: a quorum queue for each subscription and partition, positions that are batch numbers."""

from pathlib import Path

from tieline.buses.rabbitmq.bus import RabbitBus
from tieline.buses.rabbitmq.link import Address


def open_bus(url: str, folder: Path) -> RabbitBus:
    """The bus at ``amqp://user@host/vhost`` or ``amqps://…``; connects when it is first used.

    Raises:
        ConfigurationError: where the address cannot be one.
    """
    return RabbitBus(Address.of(url))
