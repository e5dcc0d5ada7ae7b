"""A process as target: its outputs go into its own source's inbox in the commit that confirms the input."""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from tieline.connector import LegState
from tieline.entity import Entity, key_of
from tieline.errors import Reject, TielineError
from tieline.ledger import Stores
from tieline.message import Outcome
from tieline.runner.applying import Behind, Desk, Holding, Settlement, Waiting, moved
from tieline.runner.decide import Work
from tieline.runner.gaps import Gap, gap
from tieline.runner.raised import raised
from tieline.runner.requests import source_topic
from tieline.runner.upcasting import handed_in

Outputs = list[tuple[str, bytes, str]]


class ProcessApplier:
    """Applies a batch to a process, in one ledger transaction."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def meet(self, holding: Holding) -> None:
        """See `Applier`. What a process has of ours is in the ledger."""

    async def apply(
        self, works: Sequence[Work], moves: Mapping[int, LegState], holding: Holding, waiting: Waiting
    ) -> None:
        """See `Applier`."""
        desk, leg = self._desk, self._desk.leg
        entity = leg.entity.__name__
        keys = list({w.message.key for w in works})
        held = await desk.ledger.transact(lambda s: s.held.get(leg.held_in, entity, keys))
        decision = desk.decide(works, held, waiting)
        settlement = Settlement()
        desk.settle(decision, waiting, settlement)
        for work in decision.dropped:
            desk.done(work, desk.passed_over(work, waiting.now), Outcome.DROPPED, waiting, settlement)
        settlement.parked += [desk.park(work, Behind(work.subject), waiting.now) for work in decision.behind]
        outputs: Outputs = []
        stuck: set[str] = set()  # subjects of which an event has failed
        entities, _ = desk.referred(decision.apply)
        for work, value in zip(decision.apply, entities, strict=True):
            try:
                if work.subject in stuck:
                    raise Behind(work.subject)
                made = self._made(value)
                outputs += self._rows(work, made)
            except TielineError as error:
                settlement.parked.append(desk.park(work, error, waiting.now))
                if desk.event:
                    stuck.add(work.subject)
                continue
            row = msgspec.structs.replace(desk.held_row(work, waiting.now), target_id=str(len(made)))
            desk.done(work, row, Outcome.DONE if made or work.held else Outcome.FILTERED, waiting, settlement)
        new = moved(moves, holding.states, holding.tokens, settlement)

        def finish(stores: Stores) -> None:
            if outputs:
                stores.inbox.append(leg.output, outputs)
                stores.notify(source_topic(leg.output))
            stores.held.put(leg.held_in, entity, settlement.held)
            desk.write_down(stores, settlement)
            stores.legs.move(leg.name, holding.channel, new)

        await gap(Gap.CONFIRMED)
        await desk.ledger.transact(finish, holding.fences())
        holding.states.update(new)
        await gap(Gap.MOVED)

    def _made(self, value: Entity | Reject | None) -> list[Entity]:
        """The rule's outputs for an input; none for a delete."""
        if isinstance(value, Reject):
            raise value
        if value is None:
            return []
        rule = self._desk.leg.rule
        assert rule is not None
        try:
            made = rule.function(value)
        except TielineError:
            raise
        except Exception as error:
            raise Reject(f"the process {raised(error)}") from error
        outputs = [made] if isinstance(made, Entity) else list(_some(made))
        for output in outputs:
            if not isinstance(output, rule.gives):
                raise Reject(f"the process gave {type(output).__name__} instead of {rule.gives.__name__}")
        return outputs

    def _rows(self, work: Work, made: Sequence[Entity]) -> Outputs:
        """Inbox rows by ordinal; fewer outputs than last time are deletes."""
        rule = self._desk.leg.rule
        if rule is not None and rule.shared:
            return [(key_of(output), handed_in(output), work.message.origin) for output in made]
        key, origin = f"{self._desk.leg.entity.__name__}/{work.message.key}", work.message.origin
        before = int(work.held.target_id or 0) if work.held is not None else 0
        rows = [(f"{key}#{n}", handed_in(output), origin) for n, output in enumerate(made)]
        return rows + [(f"{key}#{n}", b"", origin) for n in range(len(made), before)]


def _some(made: Iterable[Entity] | None) -> Iterable[Entity]:
    return made if made is not None else ()
