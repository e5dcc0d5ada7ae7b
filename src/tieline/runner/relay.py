"""The relay brings batches from the outbox to an engine that does not share the ledger's store."""

import asyncio
from typing import Final

import structlog

from tieline.bus import Bus
from tieline.connector import LegState
from tieline.errors import Fenced, TielineError
from tieline.ledger import Fence, Ledger, Stores
from tieline.message import unpack
from tieline.runner.gaps import Gap, gap
from tieline.runner.shadows import outbox
from tieline.runner.shares import Shares

log = structlog.get_logger()

_IDLE: Final = 0.5
_AFTER_FAILURE: Final = 5.0  # seconds


class Relay:
    """Moves one channel's batches, in order; a batch published twice is known by its number."""

    def __init__(self, channel: str, bus: Bus, ledger: Ledger, shares: Shares) -> None:
        self.channel = channel
        self.idle = False
        self._bus = bus
        self._ledger = ledger
        self._shares = shares
        self._box = outbox(channel)

    async def run(self, stopping: asyncio.Event) -> None:
        """Relay until told to stop."""
        while not stopping.is_set():
            try:
                token = await self._shares.one(f"relay:{self.channel}")
                if token is None or not await self._turn(Fence(f"relay:{self.channel}", token)):
                    self.idle = True
                    await self._ledger.wait([self._box], _IDLE)
            except Fenced:
                continue
            except TielineError as error:
                log.warning("relay waits", channel=self.channel, reason=str(error))
                await asyncio.sleep(1.0)
            except Exception as error:  # what nobody foresaw in an engine stops this channel alone
                log.error("relay failed", channel=self.channel, error=str(error), exc_info=error)
                await asyncio.sleep(_AFTER_FAILURE)

    async def _turn(self, fence: Fence) -> bool:
        leg = f"relay:{self.channel}"
        state = (await self._ledger.transact(lambda s: s.legs.states(leg, self._box))).get(0, LegState())
        kept = await self._ledger.transact(lambda s: s.channels.read(self._box, {0: state.position}, 2_000))
        if not kept:
            return False
        self.idle = False
        for row in kept:
            await self._bus.publish(self.channel, unpack(row.data))
        await gap(Gap.RELAYED)
        last = LegState(position=kept[-1].position, sequence=kept[-1].sequence, token=fence.token)

        def move(stores: Stores) -> None:
            stores.legs.move(leg, self._box, {0: last})
            stores.channels.done(self._box, "relay", {0: last.position})

        await self._ledger.transact(move, [fence])
        return True
