"""Publishing: many bodies on their way at once, and none that is safe only perhaps."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

from aiormq.abc import AbstractChannel
from aiormq.exceptions import DeliveryError, PublishError
from pamqp.commands import Basic

from tieline.buses.rabbitmq.link import Link, shut
from tieline.errors import ConfigurationError, LedgerUnavailable, Mistake

_ON_THEIR_WAY: Final = 32  # bodies that are not confirmed yet
_LOOK_EVERY: Final = 1.0  # seconds
_PATIENCE: Final = 30.0  # seconds without any confirmation
_PERSISTENT: Final = 2


class Letter(NamedTuple):
    """One engine message, and where it goes."""

    exchange: str
    key: str
    body: bytes
    headers: Mapping[str, Any] = {}


class Publisher:
    """Publishes on a connection of its own: what blocks who publishes must not block who takes."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._channel: AbstractChannel | None = None
        self._opening = asyncio.Lock()

    async def publish(self, what: str, letters: Iterable[Letter]) -> None:
        """Publish in order; returns when every one is confirmed.

        Raises:
            LedgerUnavailable: where a confirmation does not come; some may have been kept.
            ConfigurationError: where no queue takes one.
        """
        if await self._link.is_blocked():
            raise self._blocked()
        channel = await self._open()
        waiting: set[asyncio.Task[None]] = set()
        try:
            for letter in letters:
                if len(waiting) >= _ON_THEIR_WAY:
                    waiting = await self._confirmed(waiting, asyncio.FIRST_COMPLETED)
                waiting.add(asyncio.create_task(self._send(channel, what, letter)))
            await self._confirmed(waiting, asyncio.ALL_COMPLETED)
        finally:
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)

    async def _open(self) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await self._link.open(confirms=True)
            return self._channel

    async def _send(self, channel: AbstractChannel, what: str, letter: Letter) -> None:
        properties = Basic.Properties(delivery_mode=_PERSISTENT, headers=dict(letter.headers))
        try:
            with self._link.answering(what):
                await channel.basic_publish(
                    letter.body,
                    exchange=letter.exchange,
                    routing_key=letter.key,
                    properties=properties,
                    mandatory=True,
                )
        except LedgerUnavailable as error:
            if isinstance(error.__cause__, PublishError):
                lost = f"has no queue that takes what is published to {letter.exchange or letter.key!r}"
                remedy = "start `tieline run` again, which declares what is missing"
                raise ConfigurationError(Mistake(what, lost, remedy)) from None
            if isinstance(error.__cause__, DeliveryError):
                raise LedgerUnavailable(f"{what}: the server refuses more; a policy may limit the queue") from None
            raise

    async def _confirmed(self, waiting: set[asyncio.Task[None]], when: str) -> set[asyncio.Task[None]]:
        """Wait for confirmations; gives what still waits."""
        clock = asyncio.get_running_loop().time
        last = clock()
        left = set(waiting)
        while left:
            done, left = await asyncio.wait(left, timeout=_LOOK_EVERY, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if done:
                last = clock()
                if when == asyncio.FIRST_COMPLETED:
                    break
            elif await self._link.is_blocked():
                raise self._blocked()
            elif clock() - last > _PATIENCE:
                await self._give_up()
                raise LedgerUnavailable(f"the server has confirmed nothing for {_PATIENCE:.0f} s")
        return left

    async def _give_up(self) -> None:
        channel, self._channel = self._channel, None
        if channel is not None:
            await shut(channel)

    @staticmethod
    def _blocked() -> LedgerUnavailable:
        return LedgerUnavailable("RabbitMQ takes nothing: its memory or disk alarm is on (rabbitmqctl status)")
