"""Taking: what was delivered is kept here, unacknowledged, until its subscription is done with it.

RabbitMQ cannot seek. What it delivered to a channel that is closed it delivers again, from the oldest and in
order, to whoever consumes next; that is the only way in which anything is given back here.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final, NamedTuple
from uuid import uuid4

from aiormq.abc import AbstractChannel, DeliveredMessage

from tieline.buses._pieces import Joiner
from tieline.buses.rabbitmq.link import Link, shut
from tieline.buses.rabbitmq.publishing import Letter
from tieline.errors import LedgerUnavailable

POSITION: Final = "position"
MESSAGES: Final = "messages"
PROBE: Final = "probe"

_AHEAD: Final = 64  # engine messages; with the length of a piece, 16 MB for a partition of a subscription
LET_GO: Final = 10.0  # seconds without a `take` after which a subscription's partitions are given back
_TO_BEGIN: Final = 10.0  # seconds; a queue without a leader never answers
SETTLED: Final = 2.0  # seconds in which a probe comes back, unless another worker has the partition


class Whole(NamedTuple):
    """A batch that is here with all its pieces."""

    position: int
    messages: int
    body: bytes


class Consumer:
    """What one subscription has of one partition: a channel of its own, so that closing it gives back this alone."""

    def __init__(self, link: Link, queue: str, place: str, done: int, arrived: Callable[[], None]) -> None:
        self.held = False  # whether all there was at the last probe is here, and nobody else has any of it
        self.probed_at = 0.0  # by the loop's clock
        self._link = link
        self._queue = queue
        self._place = place
        self._arrived = arrived
        self._done = done
        self._ahead = _AHEAD
        self._channel: AbstractChannel | None = None
        self._forget()

    def _forget(self) -> None:
        self.held = False
        self._probe = ""
        self._unacknowledged: deque[tuple[int, int]] = deque()  # delivery tag and position
        self._whole: deque[Whole] = deque()
        self._last = 0
        self._joiner = Joiner()

    async def open(self) -> None:
        """Consume, unless that is going on.

        Raises:
            Gone: where the queue is not there.
        """
        if self._channel is not None and not self._channel.is_closed:
            return
        self._forget()
        channel = await self._link.open()
        try:
            with self._link.answering(self._place):
                async with asyncio.timeout(_TO_BEGIN):
                    await channel.basic_qos(prefetch_count=self._ahead)
                    channel.on_consumer_cancel_callbacks.add(self._cancelled)
                    channel.closing.add_done_callback(self._ended)
                    self._channel = channel
                    await channel.basic_consume(self._queue, self._deliver)
        except BaseException as error:
            self._channel = None
            await shut(channel)
            if isinstance(error.__cause__, TimeoutError):
                what = f"{self._place}: queue {self._queue} does not answer; if that lasts, it has no leader"
                raise LedgerUnavailable(f"{what} (docs/how-to/rabbitmq.md)") from None
            raise

    async def _deliver(self, message: DeliveredMessage) -> None:
        if message.channel is not self._channel:
            return  # a channel that was given up
        tag: int = message.delivery.delivery_tag  # type: ignore[union-attr,assignment]
        headers: dict[str, Any] = message.header.properties.headers or {}
        if PROBE in headers:
            # It is acknowledged with what stands before it.
            self._unacknowledged.append((tag, self._unacknowledged[-1][1] if self._unacknowledged else 0))
            if headers[PROBE] == self._probe:
                self._probe = ""
                self.held = True
            await self.done(self._done)
        else:
            self._keep(tag, int(headers[POSITION]), int(headers[MESSAGES]), message.body)
        self._arrived()

    def _keep(self, tag: int, position: int, messages: int, body: bytes) -> None:
        self._unacknowledged.append((tag, position))
        whole = self._joiner.add(body)
        # A batch that was published twice is the same one: it has its number as its position.
        if whole is not None and position > max(self._last, self._done):
            self._last = position
            self._whole.append(Whole(position, messages, whole))

    async def _cancelled(self, frame: object) -> None:
        """The server has ended the consumer: its queue was deleted, or lost its leader."""
        if self._channel is not None:
            channel, self._channel = self._channel, None
            asyncio.get_running_loop().create_task(shut(channel))
        self._arrived()

    def _ended(self, closing: "asyncio.Future[Any]") -> None:
        if not closing.cancelled():
            closing.exception()
        self._arrived()

    def after(self, position: int) -> Iterator[Whole]:
        """What is here and follows a position, in order."""
        passed = sum(1 for one in self._whole if one.position <= position)
        return islice(self._whole, passed, None)

    def probe(self) -> Letter | None:
        """What to publish so that we learn whether all there is is here; None where one is on its way.

        A queue gives its messages in order, what was given back first, and only to one consumer. So whoever gets
        its own probe has got all that was there before, and nobody else has any of it.
        """
        if self._probe:
            return None
        self.held = False
        self._probe = uuid4().hex
        self.probed_at = asyncio.get_running_loop().time()
        return Letter("", self._queue, b"", {PROBE: self._probe})

    async def widen(self, position: int) -> None:
        """Let more come ahead, where as much as may has come and gives nothing after a position.

        It is pieces of one long batch, or what a worker that died had passed and was not done with.
        """
        if len(self._unacknowledged) >= self._ahead and next(self.after(position), None) is None:
            self._ahead *= 2
            await self.close()
            await self.open()

    async def done(self, position: int) -> None:
        """Acknowledge what is at or below a position, up to the first that is not."""
        self._done = max(self._done, position)
        while self._whole and self._whole[0].position <= self._done:
            self._whole.popleft()
        last = 0
        while self._unacknowledged and self._unacknowledged[0][1] <= self._done:
            last = self._unacknowledged.popleft()[0]
        if not self._unacknowledged:
            self._joiner = Joiner()  # no piece that it has begun with is owed any more
        if last and self._channel is not None and not self._channel.is_closed:
            with self._link.answering(self._place):
                await self._channel.basic_ack(last, multiple=True, wait=False)

    async def close(self) -> None:
        """Give back what is unacknowledged: by closing the channel, for then it comes again in order."""
        channel, self._channel = self._channel, None
        self._forget()
        if channel is not None:
            await shut(channel)
