"""The books of every leg, counted by id from what stores and engines hold, after each commit of a reader or leg."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from tieline.bus import Delivery
from tieline.connector import LegState
from tieline.landscape.status import status
from tieline.ledger import Fence, Ledger, LegRow, Stores, Way
from tieline.message import Batch, partition_of, unpack
from tieline.runner.ways import outbox
from tieline.testing import Trial

T = TypeVar("T")

Place = tuple[int, str]
"""A message on its way: the number of the batch that it came with, and its key."""

_ALL: Final = 10**9


class AuditedTrial(Trial):
    """A trial that looks into its books all the time; `wrong` says where they were out."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.wrong: list[str] = []
        self._unwatched = self.ledger
        self.ledger = _AuditedLedger(self.ledger, self)

    async def audit(self) -> None:
        """Look now."""
        legs = await self._unwatched.transact(lambda s: s.legs.all())
        elsewhere = {way.channel: await self._engine_has(way) for row in legs for way in row.ways}
        found = await self._unwatched.transact(lambda s: [*_out(s, legs, elsewhere), *self._said(s)])
        for one in found:
            self.note(one)
        self.wrong += found

    async def _engine_has(self, way: Way) -> list[Delivery]:
        if way.bus not in self.foreign:
            return []
        return await self.engine(way.bus).take(
            way.channel, dict.fromkeys(range(way.partitions), 0), most=_ALL, wait=0
        )

    def _said(self, stores: Stores) -> Iterator[str]:
        for leg in status(self.landscape, stores).legs:
            if leg.counted and leg.off_by:
                yield f"the status of {leg.leg} is {leg.balance}"


class _AuditedLedger:
    def __init__(self, ledger: Ledger, trial: AuditedTrial) -> None:
        self._ledger = ledger
        self._trial = trial

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def transact(self, work: Callable[[Stores], T], fences: Sequence[Fence] = ()) -> T:
        result = await self._ledger.transact(work, fences)
        if fences:
            await self._trial.audit()
        return result


def _out(stores: Stores, legs: Sequence[LegRow], elsewhere: Mapping[str, Sequence[Delivery]]) -> Iterator[str]:
    for row in legs:
        outcomes = stores.legs.totals(row.leg)
        parked = {(one.position, one.key) for one in stores.parked.list(row.leg, limit=_ALL)}
        under_way = {at for way in row.ways for at in _under_way(stores, row.leg, way, elsewhere[way.channel])}
        # What is parked a moment before its leg moves past it is one message, not two.
        if row.entered != sum(outcomes.values()) + len(parked | under_way):
            yield f"{row.leg}: {row.entered} came in; {outcomes}, parked {parked}, under way {under_way}"


def _under_way(stores: Stores, leg: str, way: Way, elsewhere: Sequence[Delivery]) -> Iterator[Place]:
    """What the leg has not passed on this way; in an outbox, in an engine, or in both, it is there once."""
    states = stores.legs.states(leg, way.channel)
    for batch in [*_kept(stores, way), *(delivery.batch for delivery in elsewhere)]:
        if batch.to not in {"", leg} or (not batch.to and batch.sequence <= way.after):
            continue
        if way.until is not None and batch.sequence > way.until:
            continue
        for message in batch.messages:
            partition = partition_of(message.subject or message.key, way.partitions)
            if batch.sequence > states.get(partition, LegState()).sequence:
                yield batch.sequence, message.key


def _kept(stores: Stores, way: Way) -> list[Batch]:
    if stores.channels.ends(way.channel):
        rows = stores.channels.read(way.channel, dict.fromkeys(range(way.partitions), 0), _ALL)
    else:
        rows = stores.channels.read(outbox(way.channel), {0: 0}, _ALL)
    return [unpack(row.data) for row in rows]
