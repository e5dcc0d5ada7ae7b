"""How the client library is set up; what all of its clients share."""

from typing import Any, Final

from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient

from tieline.buses.kafka.address import Address
from tieline.buses.kafka.failures import Failures

_SLACK: Final = 64 * 1024  # kilobytes that may wait to be sent
_AHEAD: Final = 8 * 1024  # kilobytes that a consumer reads ahead, and what one answer may hold at once


class Clients:
    """Makes producers, consumers and the administrator of one cluster."""

    def __init__(self, address: Address, failures: Failures) -> None:
        self._address = address
        self._shared: dict[str, Any] = {
            **address.client,
            "bootstrap.servers": address.servers,
            "client.id": address.prefix,
            "error_cb": failures.heard,
            "log_level": 0,  # what matters comes as an error, with words of ours
            "reconnect.backoff.max.ms": 1_000,
            "socket.timeout.ms": int(address.timeout * 1_000),
            "socket.keepalive.enable": True,
        }

    def producer(self, limit: int) -> Producer:
        """One that keeps each partition's order, and sends no more than `limit` bytes at once."""
        return Producer(
            {
                **self._shared,
                "acks": "all",
                "enable.idempotence": True,
                "linger.ms": 0,
                "message.max.bytes": limit,
                "message.timeout.ms": int(self._address.timeout * 1_000),
                "queue.buffering.max.kbytes": _SLACK,
                "topic.metadata.propagation.max.ms": 5_000,
            }
        )

    def consumer(self, *, tells_ends: bool = False) -> Consumer:
        """One that is told where to read; it belongs to no group, whatever the library wants as a name."""
        return Consumer(
            {
                **self._shared,
                "group.id": self._address.prefix,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": tells_ends,
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 500,
                "fetch.error.backoff.ms": 100,
                "queued.min.messages": 1_000,
                "queued.max.messages.kbytes": _AHEAD,
                "fetch.max.bytes": _AHEAD * 1_024,
                "check.crcs": True,
            }
        )

    def administrator(self) -> AdminClient:
        """One that makes, looks at and trims topics."""
        return AdminClient(dict(self._shared))
