"""A bus in this process, gone with it: for tests that run step by step."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tieline.bus import BusCapabilities, Delivery, Guarantee
from tieline.errors import ConfigurationError, Mistake
from tieline.message import Batch, split


@dataclass(slots=True)
class _Channel:
    partitions: list[list[Delivery]]
    done: dict[str, dict[int, int]] = field(default_factory=dict)
    dropped: list[int] = field(default_factory=list)  # how many deliveries are gone, by partition


class MemoryBus:
    """Channels in lists."""

    capabilities = BusCapabilities(guarantee=Guarantee.MEMORY)

    def __init__(self) -> None:
        self._channels: dict[str, _Channel] = {}
        self._news = asyncio.Condition()

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        kept = self._channels.get(channel)
        if kept is None:
            kept = _Channel([[] for _ in range(partitions)], dropped=[0] * partitions)
            self._channels[channel] = kept
        if len(kept.partitions) != partitions:
            what = f"has {len(kept.partitions)} partitions, not {partitions}"
            raise ConfigurationError(Mistake(f"channel {channel}", what, "keep the number, or take another channel"))
        for name in subscriptions:
            kept.done.setdefault(name, await self.ends(channel))

    async def publish(self, channel: str, batch: Batch) -> None:
        kept = self._channels[channel]
        for partition, part in split(batch, len(kept.partitions)).items():
            row = kept.partitions[partition]
            row.append(Delivery(partition, kept.dropped[partition] + len(row) + 1, part))
        async with self._news:
            self._news.notify_all()

    async def take(self, channel: str, after: Mapping[int, int], *, most: int, wait: float) -> list[Delivery]:
        found = self._after(channel, after, most)
        if not found and wait > 0:
            async with self._news:
                try:
                    await asyncio.wait_for(self._news.wait(), wait)
                except TimeoutError:
                    return []
            found = self._after(channel, after, most)
        return found

    def _after(self, channel: str, after: Mapping[int, int], most: int) -> list[Delivery]:
        kept = self._channels[channel]
        found: list[Delivery] = []
        count = 0
        for partition, position in after.items():
            for delivery in kept.partitions[partition][max(0, position - kept.dropped[partition]) :]:
                if found and count >= most:
                    return found
                found.append(delivery)
                count += len(delivery.batch.messages)
        return found

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        kept = self._channels[channel]
        mine = kept.done.setdefault(subscription, {})
        mine.update({p: max(position, mine.get(p, 0)) for p, position in positions.items()})
        for partition, row in enumerate(kept.partitions):
            passed = min(positions_.get(partition, 0) for positions_ in kept.done.values())
            surplus = passed - kept.dropped[partition]
            if surplus > 0:
                del row[:surplus]
                kept.dropped[partition] = passed

    async def ends(self, channel: str) -> dict[int, int]:
        kept = self._channels[channel]
        return {p: kept.dropped[p] + len(row) for p, row in enumerate(kept.partitions)}

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        return sum(len(d.batch.messages) for d in self._after(channel, after, 1 << 60))

    async def forget(self, channel: str, subscription: str) -> None:
        kept = self._channels[channel]
        kept.done.pop(subscription, None)
        if not kept.done:
            del self._channels[channel]

    async def close(self) -> None:
        self._channels.clear()
