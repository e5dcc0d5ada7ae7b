"""A bus in a ledger's store: the embedded one in the ledger's own file, or PostgreSQL for many workers."""

from collections.abc import Mapping, Sequence

from tieline.bus import BusCapabilities, Delivery, Guarantee
from tieline.errors import ConfigurationError, Mistake
from tieline.ledger import Kept, Ledger, Stores
from tieline.message import Batch, pack, split, unpack


class SqlBus:
    """Channels kept by a ledger.

    `shared` says that it is the ledger of the landscape itself: then readers publish within their
    own transaction, and nothing is copied.
    """

    def __init__(self, ledger: Ledger, *, shared: bool) -> None:
        guarantee = Guarantee.SYNCED if ledger.durable else Guarantee.MEMORY
        self.capabilities = BusCapabilities(guarantee=guarantee, shares_ledger=shared)
        self._ledger = ledger
        self._shared = shared
        self._partitions: dict[str, int] = {}

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        found = await self._ledger.transact(lambda s: s.channels.declare(channel, partitions, subscriptions))
        if found != partitions:
            raise ConfigurationError(
                Mistake(
                    f"channel {channel}",
                    f"has {found} partitions, not {partitions}",
                    "keep the number, or let the flow take another channel",
                )
            )
        self._partitions[channel] = found

    async def publish(self, channel: str, batch: Batch) -> None:
        partitions = self._partitions.get(channel)
        if partitions is None:
            ends = await self._ledger.transact(lambda s: s.channels.ends(channel))
            partitions = self._partitions[channel] = len(ends)
        rows = [(p, part.sequence, len(part.messages), pack(part)) for p, part in split(batch, partitions).items()]

        def work(stores: Stores) -> None:
            stores.channels.append(channel, rows)
            stores.notify(channel)

        await self._ledger.transact(work)

    async def take(self, channel: str, after: Mapping[int, int], *, most: int, wait: float) -> list[Delivery]:
        def read(stores: Stores) -> list[Kept]:
            return stores.channels.read(channel, after, most)

        kept = await self._ledger.transact(read)
        if not kept and wait > 0:
            await self._ledger.wait([channel], wait)
            kept = await self._ledger.transact(read)
        return [Delivery(row.partition, row.position, unpack(row.data)) for row in kept]

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        await self._ledger.transact(lambda s: s.channels.done(channel, subscription, positions))

    async def ends(self, channel: str) -> dict[int, int]:
        return await self._ledger.transact(lambda s: s.channels.ends(channel))

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        return await self._ledger.transact(lambda s: s.channels.depth(channel, after))

    async def forget(self, channel: str, subscription: str) -> None:
        await self._ledger.transact(lambda s: s.channels.forget(channel, subscription))

    async def close(self) -> None:
        if not self._shared:
            await self._ledger.close()
