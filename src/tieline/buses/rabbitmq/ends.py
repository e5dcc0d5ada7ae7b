"""The last position of each partition: a queue that keeps its newest message alone, read and put back."""

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from aiormq.abc import AbstractChannel, DeliveredMessage
from pamqp.commands import Basic

from tieline.buses.rabbitmq.names import Names
from tieline.buses.rabbitmq.publishing import Letter

_HELD_ELSEWHERE: Final = 1.0  # seconds in which another reader must have put back what it read
_A_MOMENT: Final = 0.02  # seconds


class End(NamedTuple):
    """What such a message says."""

    partitions: int
    position: int

    def letter(self, names: Names, partition: int) -> Letter:
        """It as an engine message."""
        return Letter("", names.end(partition), b"%d %d" % self)


async def read_end(channel: AbstractChannel, names: Names, partition: int) -> End | None:
    """What the partition's queue says; None where nothing was ever put there."""
    clock = asyncio.get_running_loop().time
    until = clock() + _HELD_ELSEWHERE
    while not (found := await _messages(channel, names.end(partition))):
        if clock() > until:
            return None
        await asyncio.sleep(_A_MOMENT)
    # It is returned by hand, for nothing here depends on the order.
    await channel.basic_nack(found[-1].delivery.delivery_tag, multiple=True, requeue=True)  # type: ignore[union-attr,arg-type]
    return max((_read(message.body) for message in found), key=lambda end: end.position)


async def _messages(channel: AbstractChannel, queue: str) -> Sequence[DeliveredMessage]:
    found: list[DeliveredMessage] = []
    while not isinstance((message := await channel.basic_get(queue)).delivery, Basic.GetEmpty):
        found.append(message)
    return found


def _read(body: bytes) -> End:
    partitions, position = body.split()
    return End(int(partitions), int(position))
