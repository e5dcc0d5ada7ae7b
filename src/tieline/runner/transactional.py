"""Targets with transactions: rows, held and fence row in one commit of theirs, the ledger after it."""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
import structlog

from tieline.bus import Bus
from tieline.connector import Change, Connector, LegState, TargetTransaction
from tieline.errors import NO_MESSAGES_FAULT, Fenced, TielineError
from tieline.ledger import Stores
from tieline.message import Outcome
from tieline.runner.applying import Behind, Desk, Holding, Settlement, Waiting, moved
from tieline.runner.decide import Work
from tieline.runner.gaps import Gap, gap
from tieline.runner.plan import LegPlan

log = structlog.get_logger()

_RESEND_ANYWAY: Final = 60.0  # seconds; a crash before the target's commit must not lose the request


class TargetAhead(Exception):
    """The target committed a batch of which the ledger does not know; `states` is the truth."""

    def __init__(self, states: dict[int, LegState]) -> None:
        super().__init__("the target is ahead of the ledger")
        self.states = states


class _Again(Exception):
    """An event failed whose later ones of the same subject were written too: once more without them."""


def fence_name(leg: LegPlan, channel: str) -> str:
    """The name of a leg's fence rows for a channel, one a partition."""
    return f"{leg.name}@{channel}"


async def is_published(bus: Bus, leg: str, channel: str, partition: int, state: LegState) -> bool:
    """Whether the batch at which a leg's target stands is the one that is at its place in the channel."""
    found = await bus.take(channel, {partition: state.position - 1}, most=1, wait=0.0, subscription=leg)
    return [delivery.batch.made for delivery in found if delivery.position == state.position] == [state.made]


class TransactionalApplier:
    """Applies a batch in one transaction of the target."""

    def __init__(self, desk: Desk, connector: Connector) -> None:
        self._desk = desk
        self._connector = connector
        self._met: set[tuple[str, int, int]] = set()  # by fence, partition and token

    async def apply(
        self, works: Sequence[Work], moves: Mapping[int, LegState], holding: Holding, waiting: Waiting
    ) -> None:
        """See `Applier`.

        Raises:
            TargetAhead: where the target has passed what the ledger knows; take again from there.
        """
        desk = self._desk
        failures: dict[int, TielineError] = {}
        partitions = moves.keys() | {work.partition for work in works}
        tokens = {p: holding.tokens[p] for p in partitions}
        fence = fence_name(self._desk.leg, holding.channel)
        while True:
            settlement = Settlement()
            try:
                async with self._connector.transaction() as tx:
                    states = await tx.fence(fence, tokens)
                    _refuse_ahead(states, holding)
                    await self._write(tx, works, waiting, failures, settlement)
                    await self._park_first(settlement, holding)
                    new = moved(moves, _base(states, holding.states), tokens, settlement)
                    await tx.keep(desk.leg.entity.__name__, settlement.held)
                    await tx.move(fence, new)
                    await gap(Gap.WRITTEN)
            except _Again:
                continue
            break
        await gap(Gap.COMMITTED)
        await self._tell_ledger(settlement, new, holding)

    async def meet(self, holding: Holding) -> None:
        """See `Applier`. New tokens are committed by themselves, before anything is parked.

        Were a token rolled back with a batch, a thawed predecessor could commit a message that we parked.

        Raises:
            TargetAhead: where the target has passed what the ledger knows.
        """
        fence = fence_name(self._desk.leg, holding.channel)
        new = {(fence, p, token) for p, token in holding.tokens.items()} - self._met
        if not new:
            return
        async with self._connector.transaction() as tx:
            found = await tx.fence(fence, {p: token for _, p, token in new})
            lost = {p: LegState(token=holding.tokens[p]) for p, s in found.items() if s.token <= self._desk.lost}
            if lost:
                await tx.move(fence, lost)
        found = {**found, **lost}
        _refuse_ahead(found, holding)
        await self._keep_books(found, holding)
        self._met |= new

    async def _keep_books(self, found: Mapping[int, LegState], holding: Holding) -> None:
        """Have the ledger keep counts that the target no longer has: it is another one, or an older copy."""
        leg, known = self._desk.leg.name, holding.states
        other = {p: state.counts for p, state in found.items() if state.counts != known[p].counts}
        if not other:
            return
        kept: Counter[str] = Counter()
        for partition, counts in other.items():
            kept.update(known[partition].counts)
            kept.subtract(counts)
        new = {p: msgspec.structs.replace(known[p], counts=counts) for p, counts in other.items()}

        def work(stores: Stores) -> None:
            stores.legs.count(leg, counts=kept)
            stores.legs.move(leg, holding.channel, new)

        await self._desk.ledger.transact(work, holding.fences())
        holding.states.update(new)
        log.warning("target counts anew", leg=leg, kept=dict(kept))

    async def catch_up(
        self,
        works: Sequence[Work],
        moves: Mapping[int, LegState],
        truth: Mapping[int, LegState],
        holding: Holding,
        waiting: Waiting,
    ) -> None:
        """Bring the ledger to where the target is: healing, waking, positions and counts."""
        desk = self._desk
        async with self._connector.transaction() as tx:
            held = await tx.held(desk.leg.entity.__name__, list({w.message.key for w in works}))
        new = {
            p: msgspec.structs.replace(truth[p], position=to.position, sequence=to.sequence)
            for p, to in moves.items()
        }
        await self._tell_ledger(desk.make_good(works, held, waiting), new, holding)

    async def _write(
        self,
        tx: TargetTransaction,
        works: Sequence[Work],
        waiting: Waiting,
        failures: dict[int, TielineError],
        settlement: Settlement,
    ) -> None:
        desk, sink = self._desk, self._desk.leg.sink
        assert sink is not None
        held = await tx.held(desk.leg.entity.__name__, list({w.message.key for w in works}))
        decision = desk.decide(works, held, waiting, trusted=True)
        desk.settle(decision, waiting, settlement)
        for work in decision.dropped:
            desk.done(work, desk.passed_over(work, waiting.now), Outcome.DROPPED, waiting, settlement)
        settlement.parked += [desk.park(work, Behind(work.subject), waiting.now) for work in decision.behind]
        writing = await self._changes(tx, decision.apply, waiting, failures, settlement)
        results = await tx.write(sink.resource, [change for _, change in writing]) if writing else []
        for (work, _), result in zip(writing, results, strict=True):
            if isinstance(result.error, (*NO_MESSAGES_FAULT, Fenced)):
                raise result.error
            if result.error is not None:
                if self._fail(work, result.error, decision.apply, failures):
                    raise _Again
                continue
            row = desk.held_row(work, waiting.now, result.target_id, result.version_tag)
            desk.done(work, row, Outcome.DONE, waiting, settlement)
        settlement.parked += [
            desk.park(work, failures[id(work)], waiting.now) for work in decision.apply if id(work) in failures
        ]
        written = [work for work, _ in writing if id(work) not in failures]
        settlement.held += desk.without_row(written, held)
        settlement.asked = desk.resends(written, waiting.now + _RESEND_ANYWAY)

    async def _changes(
        self,
        tx: TargetTransaction,
        works: Sequence[Work],
        waiting: Waiting,
        failures: dict[int, TielineError],
        settlement: Settlement,
    ) -> list[tuple[Work, Change]]:
        desk = self._desk
        entities, wanted = desk.referred(works)
        ids = await desk.identities(wanted, tx.held)
        changes: list[tuple[Work, Change]] = []
        for work, entity in zip(works, entities, strict=True):
            if id(work) in failures:
                continue
            try:
                change = desk.to_change(work, entity, ids)
            except TielineError as error:
                self._fail(work, error, works, failures)
                continue
            if change is None:
                desk.done(work, desk.passed_over(work, waiting.now), Outcome.FILTERED, waiting, settlement)
            else:
                changes.append((work, change))
        return [(work, change) for work, change in changes if id(work) not in failures]

    def _fail(
        self, work: Work, error: TielineError, among: Sequence[Work], failures: dict[int, TielineError]
    ) -> bool:
        """Note a failure; an event takes later ones of its subject with it. True if there are any."""
        failures[id(work)] = error
        followers = (
            [w for w in among if w.subject == work.subject and w.message.version > work.message.version]
            if self._desk.event
            else []
        )
        for follower in followers:
            failures.setdefault(id(follower), Behind(work.subject))
        return bool(followers)

    async def _park_first(self, settlement: Settlement, holding: Holding) -> None:
        """Park before the target commits: whoever takes over after a crash must find what failed."""
        if not (settlement.parked or settlement.asked):
            return
        early = Settlement(parked=settlement.parked, asked=settlement.asked)
        await self._desk.ledger.transact(lambda s: self._desk.write_down(s, early), holding.fences())
        settlement.parked = []
        settlement.asked = [dataclasses.replace(request, not_before=0.0) for request in settlement.asked]
        await gap(Gap.PARKED)

    async def _tell_ledger(self, settlement: Settlement, new: dict[int, LegState], holding: Holding) -> None:
        desk = self._desk

        def work(stores: Stores) -> None:
            desk.write_down(stores, settlement)
            stores.legs.move(desk.leg.name, holding.channel, new)

        await desk.ledger.transact(work, holding.fences())
        holding.states.update(new)
        await gap(Gap.MOVED)


def _refuse_ahead(found: Mapping[int, LegState], holding: Holding) -> None:
    ahead = {p: state for p, state in found.items() if state.position > holding.states[p].position}
    if ahead:
        raise TargetAhead(ahead)


def _base(target: Mapping[int, LegState], ledger: Mapping[int, LegState]) -> dict[int, LegState]:
    """Counts as the target has them, and no position below where the ledger says the leg began."""
    return {
        p: msgspec.structs.replace(
            state, position=max(state.position, ledger[p].position), sequence=max(state.sequence, ledger[p].sequence)
        )
        for p, state in target.items()
    }
