"""The bus in memory: the reference for the others, for tests and for a first try."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tieline.bus import BusCapabilities, Delivery, Guarantee
from tieline.errors import ConfigurationError, Mistake
from tieline.message import Batch, split


@dataclass(slots=True)
class _Partition:
    """Kept parts by position; positions up to `trimmed` are gone."""

    last: int = 0
    trimmed: int = 0
    kept: dict[int, Batch] = field(default_factory=dict)


@dataclass(slots=True)
class _Channel:
    """A channel; forgotten by all, it keeps the counters, so that positions never go back."""

    partitions: list[_Partition]
    subscriptions: dict[str, dict[int, int]] = field(default_factory=dict)
    declared: bool = True


class MemoryBus:
    """Channels of this process, gone with it."""

    capabilities = BusCapabilities(guarantee=Guarantee.MEMORY)

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._published = asyncio.Condition()

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        there = self._channels.setdefault(channel, _Channel([], declared=False))
        if not there.declared:
            known = there.partitions[:partitions]
            there.partitions = known + [_Partition() for _ in range(partitions - len(known))]
            there.declared = True
        if len(there.partitions) != partitions:
            what = f"exists with {len(there.partitions)} partitions and is declared with {partitions}"
            remedy = f"declare it with {len(there.partitions)}: the place of a key follows from the number"
            raise ConfigurationError(Mistake(f"channel {channel}", what, remedy))
        for subscription in subscriptions:
            there.subscriptions.setdefault(subscription, await self.ends(channel))

    async def publish(self, channel: str, batch: Batch) -> None:
        there = self._declared(channel)
        if there is None:
            what, remedy = "is not declared", "declare it before the first publish"
            raise ConfigurationError(Mistake(f"channel {channel}", what, remedy))
        partitions = there.partitions
        async with self._published:
            for number, part in split(batch, len(partitions)).items():
                partition = partitions[number]
                partition.last += 1
                partition.kept[partition.last] = part
            self._published.notify_all()

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> list[Delivery]:
        found = self._look(channel, after, most)
        if not found and wait > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait), self._published:
                    await self._published.wait_for(lambda: self._look(channel, after, 1))
            found = self._look(channel, after, most)
        return found

    def _look(self, channel: str, after: Mapping[int, int], most: int) -> list[Delivery]:
        """What follows, partition by partition in turn, until there is enough."""
        there = self._declared(channel)
        if there is None:
            return []
        partitions = there.partitions
        places = {n: max(at, partitions[n].trimmed) for n, at in after.items() if n < len(partitions)}
        found: list[Delivery] = []
        messages = 0
        while places:
            for number in list(places):
                partition, position = partitions[number], places[number] + 1
                if position > partition.last:
                    del places[number]
                    continue
                batch = partition.kept[position]
                if found and messages + len(batch.messages) > most:
                    return found
                found.append(Delivery(number, position, batch))
                messages += len(batch.messages)
                places[number] = position
        return found

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        there = self._declared(channel)
        if there is None or subscription not in there.subscriptions:
            return
        own = there.subscriptions[subscription]
        for number, position in positions.items():
            own[number] = max(own[number], position)
            partition = there.partitions[number]
            needless = min(at[number] for at in there.subscriptions.values())
            for gone in range(partition.trimmed + 1, needless + 1):
                del partition.kept[gone]
            partition.trimmed = max(partition.trimmed, needless)

    async def ends(self, channel: str) -> dict[int, int]:
        there = self._declared(channel)
        return {} if there is None else {number: partition.last for number, partition in enumerate(there.partitions)}

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        there = self._declared(channel)
        if there is None:
            return 0
        return sum(
            len(batch.messages)
            for number, at in after.items()
            for position, batch in there.partitions[number].kept.items()
            if position > at
        )

    async def forget(self, channel: str, subscription: str) -> None:
        there = self._declared(channel)
        if there is None or there.subscriptions.pop(subscription, None) is None:
            return
        if not there.subscriptions:
            there.declared = False
            for partition in there.partitions:
                partition.kept.clear()
                partition.trimmed = partition.last

    async def close(self) -> None:
        self._channels.clear()

    def _declared(self, channel: str) -> _Channel | None:
        there = self._channels.get(channel)
        return there if there is not None and there.declared else None
