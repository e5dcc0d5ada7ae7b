"""The bus inside a ledger's own store: nothing to run beside it, and publishing can be part of its commit."""

import asyncio
from collections.abc import Mapping, Sequence

from tieline.bus import BusCapabilities, Delivery, Guarantee
from tieline.errors import ConfigurationError, Mistake
from tieline.ledger import Kept, Ledger, Stores
from tieline.message import Batch, pack, split, unpack


class SqlBus:
    """Channels in the store of a ledger.

    `shared` says that it is the landscape's own ledger; another one is the bus's, and is closed with it.
    `guarantee` is what its commits survive; left out, what a single machine's disk gives.
    """

    def __init__(self, ledger: Ledger, shared: bool, guarantee: Guarantee | None = None) -> None:
        self._ledger = ledger
        self._shared = shared
        self._guarantee = guarantee
        self._partitions: dict[str, int] = {}

    @property
    def capabilities(self) -> BusCapabilities:
        """Facts about the store, as far as it has told them by now."""
        own = Guarantee.SYNCED if self._ledger.durable else Guarantee.MEMORY
        guarantee = own if self._guarantee is None else min(own, self._guarantee)
        if self._guarantee is Guarantee.REPLICATED and own is Guarantee.SYNCED:
            guarantee = Guarantee.REPLICATED
        return BusCapabilities(guarantee=guarantee, shares_ledger=self._shared)

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        there = await self._ledger.transact(
            lambda stores: stores.channels.declare(channel, partitions, subscriptions)
        )
        if there != partitions:
            what = f"exists with {there} partitions and is declared with {partitions}"
            remedy = f"declare it with {there}: the number is fixed, for the place of a key follows from it"
            raise ConfigurationError(Mistake(f"channel {channel}", what, remedy))
        self._partitions[channel] = there

    async def publish(self, channel: str, batch: Batch) -> None:
        partitions = self._partitions.get(channel)
        if partitions is None:
            partitions = self._partitions[channel] = await self._declared(channel)
        rows = [
            (partition, part.sequence, len(part.messages), pack(part))
            for partition, part in split(batch, partitions).items()
        ]

        def work(stores: Stores) -> None:
            stores.channels.append(channel, rows)
            stores.notify(channel)

        await self._ledger.transact(work)

    async def _declared(self, channel: str) -> int:
        ends = await self.ends(channel)
        if not ends:
            what, remedy = "is not declared", "declare it before the first publish"
            raise ConfigurationError(Mistake(f"channel {channel}", what, remedy))
        return len(ends)

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> list[Delivery]:
        def look(stores: Stores) -> list[Kept]:
            return stores.channels.read(channel, after, most)

        clock = asyncio.get_running_loop().time
        until = clock() + wait
        rung = self._ledger.rung
        while not (found := await self._ledger.transact(look)) and (left := until - clock()) > 0:
            await self._ledger.wait([channel], left, rung)
            rung = self._ledger.rung
        return [Delivery(kept.partition, kept.position, unpack(kept.data)) for kept in found]

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        await self._ledger.transact(lambda stores: stores.channels.done(channel, subscription, positions))

    async def ends(self, channel: str) -> dict[int, int]:
        return await self._ledger.transact(lambda stores: stores.channels.ends(channel))

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        return await self._ledger.transact(lambda stores: stores.channels.depth(channel, after))

    async def forget(self, channel: str, subscription: str) -> None:
        self._partitions.pop(channel, None)
        await self._ledger.transact(lambda stores: stores.channels.forget(channel, subscription))

    async def close(self) -> None:
        if not self._shared:
            await self._ledger.close()
