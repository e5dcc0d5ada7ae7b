"""The bus on NATS JetStream: a stream per channel, a subject per partition; positions are stream sequences."""

from pathlib import Path

from tieline.bus import Bus
from tieline.buses.nats.address import parse
from tieline.buses.nats.bus import NatsBus


def open_bus(url: str, folder: Path) -> Bus:
    """The bus at ``nats://host:4222`` or ``nats://local``; connects, or starts the server, when first used.

    Raises:
        ConfigurationError: where the address cannot be one, or asks for what is not known.
    """
    return NatsBus(parse(url, folder))
