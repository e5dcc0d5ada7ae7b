"""The port to an engine that keeps channels. A channel keeps one source's messages, in partitions.

Promises of every bus, proved by `tieline.testing.BusSuite`: a published batch is safe as far as
`Guarantee` says when `publish` returns; a partition is in the order of publishing; taking from a
position gives exactly what follows it, any number of times, until every subscription is done with it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

import msgspec

from tieline.message import Batch


class Guarantee(IntEnum):
    """What an acknowledgement of this engine, as configured, survives."""

    MEMORY = 0  # nothing: the process is gone, so is the batch
    WRITTEN = 1  # the process; not the power
    SYNCED = 2  # the power
    REPLICATED = 3  # the machine


@dataclass(frozen=True, slots=True, kw_only=True)
class BusCapabilities:
    """Facts about an engine as configured."""

    guarantee: Guarantee
    seeks: bool = True  # `take` may start anywhere that is still kept, for anybody; see `Bus.take`
    shares_ledger: bool = False  # publishing is part of the ledger's own transaction
    stronger: str = ""  # how a stronger guarantee is had, where the engine has a setting for it


class Delivery(msgspec.Struct, frozen=True):
    """A batch, or the part of it in one partition, with its place in the channel."""

    partition: int
    position: int
    batch: Batch


class Bus(Protocol):
    """Channels in one engine."""

    @property
    def capabilities(self) -> BusCapabilities:
        """Facts about the engine as configured, as far as they are known by now."""

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        """Make the channel and its subscriptions; a subscription keeps what is published from now on.

        Raises:
            ConfigurationError: where the channel exists with another number of partitions.
        """

    async def publish(self, channel: str, batch: Batch) -> None:
        """Keep the batch, split by partition; returns when it is as safe as the capabilities say."""

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> list[Delivery]:
        """Up to about `most` messages after the given position of each given partition, in order.

        Waits up to `wait` seconds while there is nothing, and then returns an empty list.

        A bus that does not seek gives a subscription what that one is not done with, in order, from the oldest,
        and passes over what is at or below the given positions; positions are the batches' numbers there, and
        a batch that was published twice is the same one. A partition belongs to one bus object at a time, until
        that one takes without naming it, or takes no more.

        Raises:
            Unavailable: where there is nothing here, and another bus object still has one of the partitions.
        """

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        """This subscription needs nothing up to these positions any more."""

    async def ends(self, channel: str) -> dict[int, int]:
        """The last position of each partition (0: nothing was ever published)."""

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        """How many messages stand after the given positions; without seeking, at least 1 where any do."""

    async def forget(self, channel: str, subscription: str) -> None:
        """Drop a subscription, and with the last one the channel."""

    async def close(self) -> None:
        """Let go of connections."""
