"""The bus in RabbitMQ: one exchange a channel, one quorum queue a subscription and partition."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiormq.abc import AbstractChannel
from pamqp.commands import Basic

from tieline.bus import BusCapabilities, Delivery, Guarantee
from tieline.buses._pieces import cut
from tieline.buses.rabbitmq.ends import End, read_end
from tieline.buses.rabbitmq.link import Address, Gone, Link, NotAsDeclared
from tieline.buses.rabbitmq.names import Arguments, Names, of_a_queue, of_an_end, of_the_dropped
from tieline.buses.rabbitmq.publishing import Letter, Publisher
from tieline.buses.rabbitmq.taking import LET_GO, MESSAGES, POSITION, SETTLED, Consumer, Whole
from tieline.errors import ConfigurationError, LedgerUnavailable, Mistake
from tieline.message import Batch, pack, split, unpack

_LONGEST: Final = 256 * 1024  # bytes of an engine message
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class _Subscriber:
    """What this bus consumes for one subscription of a channel, by partition."""

    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    consumers: dict[int, Consumer] = field(default_factory=dict)
    takes: int = 0
    let_go: asyncio.TimerHandle | None = None


class RabbitBus:
    """Channels in a virtual host of a RabbitMQ server, 3.10 or later.

    A batch's number is its position: a channel's one source counts its batches, so that whoever publishes
    needs to know nothing, and a batch that is published twice is the same one.
    """

    # A queue's members write a batch to disk before it is confirmed. How many they are, no client is told.
    capabilities = BusCapabilities(guarantee=Guarantee.SYNCED, seeks=False)

    def __init__(self, address: Address) -> None:
        self._prefix = address.prefix
        self._asking = Link(address)
        self._publishing = Link(address)
        self._publisher = Publisher(self._publishing)
        self._partitions: dict[str, int] = {}
        self._subscribers: dict[tuple[str, str], _Subscriber] = {}
        self._done: dict[tuple[str, str, int], int] = {}
        self._giving_back: set[asyncio.Task[None]] = set()

    # -- declaring -------------------------------------------------------------------------------------------

    async def declare(self, channel: str, partitions: int, subscriptions: Sequence[str]) -> None:
        names = Names(self._prefix, channel)
        there = await self._known(channel, 0)
        if there is not None and there.partitions != partitions:
            what = f"exists with {there.partitions} partitions and is declared with {partitions}"
            remedy = f"declare it with {there.partitions}: the place of a key follows from the number"
            raise ConfigurationError(Mistake(_place(channel), what, remedy))
        async with self._asking.asking(_place(channel)) as asked:
            await asked.exchange_declare(names.exchange, exchange_type="direct", durable=True)
        await self._declare(channel, names.dropped, of_the_dropped(self._asking.version))
        await self._refuse_dropped(channel)
        for partition in range(partitions):
            if await self._declare(channel, names.end(partition), of_an_end(self._asking.version)) or there is None:
                await self._begin_end(channel, partition, partitions)
            for subscription in subscriptions:
                await self._subscribe(channel, partition, subscription)
        self._partitions[channel] = partitions

    async def _declare(self, channel: str, queue: str, arguments: Arguments) -> bool:
        """Declare a queue, so that another one of its name is found; gives whether it is a new one."""
        place = f"{_place(channel)}, queue {queue}"
        try:
            async with self._asking.asking(place) as asked:
                await asked.queue_declare(queue, passive=True)
        except Gone:
            new = True
        else:
            new = False
        async with self._asking.asking(place) as asked:
            await asked.queue_declare(queue, durable=True, arguments=dict(arguments))
        return new

    async def _begin_end(self, channel: str, partition: int, partitions: int) -> None:
        if await self._known(channel, partition) is None:
            letter = End(partitions, 0).letter(Names(self._prefix, channel), partition)
            await self._publisher.publish(_place(channel), [letter])

    async def _subscribe(self, channel: str, partition: int, subscription: str) -> None:
        names = Names(self._prefix, channel)
        queue = names.queue(partition, subscription)
        new = await self._declare(channel, queue, of_a_queue(names, self._asking.version))
        async with self._asking.asking(_place(channel)) as asked:
            await asked.queue_bind(queue, names.exchange, routing_key=str(partition))
        end = await self._known(channel, partition) if new else None
        if end is not None and end.position:
            # It has nothing of what was before; so that it stands at the end all the same, it begins with nothing.
            nothing = Batch(channel, "", 0, end.position, _BEGINNING, [])
            await self._publisher.publish(_place(channel), _letters("", queue, nothing))

    async def _refuse_dropped(self, channel: str) -> None:
        """Tell of what was dropped on the way: by a delivery limit, an age or a length that some policy sets."""
        names = Names(self._prefix, channel)
        async with self._asking.asking(_place(channel)) as asked:
            found = await asked.basic_get(names.dropped)
            if isinstance(found.delivery, Basic.GetEmpty):
                return
        reason = _why_dropped(found.header.properties.headers or {})
        what = f"has lost batches: the server dropped them ({reason}), as one of its policies says"
        remedy = (
            f"take delivery-limit, message-ttl, expires and max-length out of the policies for {names.exchange!r} "
            f"(rabbitmqctl list_policies), delete the queue {names.dropped!r}, and run `tieline backfill`"
        )
        raise ConfigurationError(Mistake(_place(channel), what, remedy))

    # -- publishing ------------------------------------------------------------------------------------------

    async def publish(self, channel: str, batch: Batch) -> None:
        partitions = self._partitions.get(channel) or await self._declared(channel)
        names = Names(self._prefix, channel)
        letters: list[Letter] = []
        for partition, part in split(batch, partitions).items():
            letters += _letters(names.exchange, str(partition), part)
            letters.append(End(partitions, batch.sequence).letter(names, partition))
        try:
            await self._publisher.publish(_place(channel), letters)
        except Gone:
            self._partitions.pop(channel, None)
            raise _undeclared(channel) from None

    async def _declared(self, channel: str) -> int:
        end = await self._known(channel, 0)
        if end is None:
            raise _undeclared(channel)
        self._partitions[channel] = end.partitions
        return end.partitions

    # -- taking ----------------------------------------------------------------------------------------------

    async def take(
        self, channel: str, after: Mapping[int, int], *, most: int, wait: float, subscription: str = ""
    ) -> list[Delivery]:
        subscriber = self._subscribers.setdefault((channel, subscription), _Subscriber())
        self._keep(subscriber)
        try:
            async with subscriber.turn:
                await self._consume(subscriber, channel, subscription, after)
                return await self._take(subscriber, channel, subscription, after, most, wait)
        finally:
            self._give_back_later(subscriber)

    async def _take(
        self,
        subscriber: _Subscriber,
        channel: str,
        subscription: str,
        after: Mapping[int, int],
        most: int,
        wait: float,
    ) -> list[Delivery]:
        found = _found(subscriber.consumers, after, most)
        if not found and wait <= 0:
            await self._probe(channel, subscriber.consumers.values())
        until = asyncio.get_running_loop().time() + wait
        waits = True
        while waits and not (found := _found(subscriber.consumers, after, most)):
            for partition, position in after.items():
                await subscriber.consumers[partition].widen(position)
            if waits := await self._wait(channel, subscriber, until):
                await self._consume(subscriber, channel, subscription, after)
            else:
                found = _found(subscriber.consumers, after, most)
        if not found and (elsewhere := [p for p in after if not subscriber.consumers[p].held]):
            raise LedgerUnavailable(f"{_place(channel)}: another worker still has partitions {elsewhere}")
        return found

    async def _wait(self, channel: str, subscriber: _Subscriber, until: float) -> bool:
        """Wait until something has come; False when it is time to say that there is nothing."""
        unheld = [consumer for consumer in subscriber.consumers.values() if not consumer.held]
        await self._probe(channel, unheld)
        last = max([until, *(consumer.probed_at + SETTLED for consumer in unheld)])
        if asyncio.get_running_loop().time() >= last:
            return False
        try:
            async with asyncio.timeout_at(last):
                await subscriber.arrived.wait()
        except TimeoutError:
            return False
        subscriber.arrived.clear()
        return True

    async def _probe(self, channel: str, consumers: Iterable[Consumer]) -> None:
        letters = [letter for consumer in consumers if (letter := consumer.probe()) is not None]
        if letters:
            await self._publisher.publish(_place(channel), letters)

    async def _consume(
        self, subscriber: _Subscriber, channel: str, subscription: str, after: Mapping[int, int]
    ) -> None:
        """Consume the given partitions, and give back others that were consumed until now."""
        for partition in subscriber.consumers.keys() - after.keys():
            await subscriber.consumers.pop(partition).close()
        names = Names(self._prefix, channel)
        for partition in after:
            consumer = subscriber.consumers.get(partition)
            if consumer is None:
                consumer = Consumer(
                    self._asking,
                    names.queue(partition, subscription),
                    f"{_place(channel)}, partition {partition} for {subscription}",
                    self._done.get((channel, subscription, partition), 0),
                    subscriber.arrived.set,
                )
                subscriber.consumers[partition] = consumer
            await consumer.open()

    @staticmethod
    def _keep(subscriber: _Subscriber) -> None:
        subscriber.takes += 1
        if subscriber.let_go is not None:
            subscriber.let_go.cancel()
            subscriber.let_go = None

    def _give_back_later(self, subscriber: _Subscriber) -> None:
        """Somebody else may be waiting for what nobody takes here any more; nor does the server wait for ever."""
        subscriber.takes -= 1
        if not subscriber.takes:
            loop = asyncio.get_running_loop()
            subscriber.let_go = loop.call_later(LET_GO, self._give_back, subscriber)

    def _give_back(self, subscriber: _Subscriber) -> None:
        consumers, subscriber.consumers = subscriber.consumers, {}
        for consumer in consumers.values():
            task = asyncio.get_running_loop().create_task(consumer.close())
            self._giving_back.add(task)
            task.add_done_callback(self._giving_back.discard)

    async def done(self, channel: str, subscription: str, positions: Mapping[int, int]) -> None:
        subscriber = self._subscribers.get((channel, subscription), _Subscriber())
        for partition, position in positions.items():
            key = (channel, subscription, partition)
            self._done[key] = max(self._done.get(key, 0), position)
            if (consumer := subscriber.consumers.get(partition)) is not None:
                await consumer.done(position)

    # -- how it stands ---------------------------------------------------------------------------------------

    async def ends(self, channel: str) -> dict[int, int]:
        first = await self._known(channel, 0)
        if first is None:
            return {}
        ends = [first] + [await self._known(channel, partition) for partition in range(1, first.partitions)]
        return {partition: end.position if end is not None else 0 for partition, end in enumerate(ends)}

    async def depth(self, channel: str, after: Mapping[int, int]) -> int:
        ends = await self.ends(channel)
        return sum(ends.get(partition, 0) > position for partition, position in after.items())

    async def _known(self, channel: str, partition: int) -> End | None:
        try:
            async with self._asking.asking(_place(channel)) as asked:
                return await read_end(asked, Names(self._prefix, channel), partition)
        except Gone:
            return None

    # -- the end ---------------------------------------------------------------------------------------------

    async def forget(self, channel: str, subscription: str) -> None:
        names = Names(self._prefix, channel)
        subscriber = self._subscribers.pop((channel, subscription), None)
        if subscriber is not None:
            await self._close(subscriber)
        known = await self._known(channel, 0)
        partitions = range(known.partitions if known is not None else 0)
        for partition in partitions:
            self._done.pop((channel, subscription, partition), None)
            async with self._asking.asking(_place(channel)) as asked:
                await asked.queue_delete(names.queue(partition, subscription))
        try:
            async with self._asking.asking(_place(channel)) as asked:
                await asked.exchange_delete(names.exchange, if_unused=True)
        except NotAsDeclared:
            return  # others still need the channel
        self._partitions.pop(channel, None)
        async with self._asking.asking(_place(channel)) as asked:
            await _delete(asked, [names.dropped, *(names.end(partition) for partition in partitions)])

    async def close(self) -> None:
        for subscriber in self._subscribers.values():
            await self._close(subscriber)
        self._subscribers.clear()
        await asyncio.gather(*self._giving_back)
        await self._publishing.close()
        await self._asking.close()

    @staticmethod
    async def _close(subscriber: _Subscriber) -> None:
        if subscriber.let_go is not None:
            subscriber.let_go.cancel()
        for consumer in subscriber.consumers.values():
            await consumer.close()
        subscriber.consumers.clear()


async def _delete(channel: AbstractChannel, queues: Sequence[str]) -> None:
    for queue in queues:
        await channel.queue_delete(queue)


def _place(channel: str) -> str:
    return f"channel {channel}"


def _why_dropped(headers: Mapping[str, Any]) -> str:
    deaths = headers.get("x-death") or [{}]
    return str(deaths[0].get("reason", "it does not say why"))


def _undeclared(channel: str) -> ConfigurationError:
    return ConfigurationError(Mistake(_place(channel), "is not declared", "declare it before the first publish"))


def _letters(exchange: str, key: str, part: Batch) -> list[Letter]:
    headers = {POSITION: part.sequence, MESSAGES: len(part.messages)}
    return [Letter(exchange, key, body, headers) for body in cut(pack(part), _LONGEST)]


def _found(consumers: Mapping[int, Consumer], after: Mapping[int, int], most: int) -> list[Delivery]:
    """What follows, partition by partition in turn, until there is enough."""
    chosen: list[tuple[int, Whole]] = []
    messages = 0
    following = {partition: consumers[partition].after(position) for partition, position in after.items()}
    while following:
        for partition in list(following):
            one = next(following[partition], None)
            if one is None:
                del following[partition]
                continue
            if chosen and messages + one.messages > most:
                following.clear()
                break
            chosen.append((partition, one))
            messages += one.messages
    return [Delivery(partition, one.position, unpack(one.body)) for partition, one in chosen]
