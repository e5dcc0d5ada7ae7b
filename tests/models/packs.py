"""Packs: how a batch goes through an engine in pieces, and how a consumer knows a piece it has had.

One partition. A batch is larger than the engine takes, so it is published as several packs; a relay that crashes
publishes the batch again, and may cut it differently, since limits and settings change. A consumer applies a pack
and passes it in one commit, then acknowledges; a crash in between, and a lease that is given up, bring it again.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    ORDINAL_COUNTS = "with the batch's number alone, its second pack looks like the first one again"
    ORDINAL_OF_MESSAGE = "a pack's own number means something else when the batch is cut differently"
    NUMBER_CHECK = "what was published twice or brought again is applied and counted twice"
    PART_OF_PACK = "a pack that begins with what was had and goes on with what was not is neither skipped nor taken"
    IN_ORDER = "a pack sent before the one ahead of it is confirmed makes the check skip that one"
    RELEASE_KEEPS_ORDER = "a pack handed back to the end of the queue comes behind later ones, and is skipped"


class Place(NamedTuple):
    """A message's place in the partition: its batch's number, and its ordinal in the batch."""

    number: int = 0
    ordinal: int = 0


class Pack(NamedTuple):
    """Consecutive messages of one batch."""

    number: int
    nth: int  # which pack of its batch
    messages: tuple[Place, ...]


class Left(NamedTuple):
    """What the world may still do."""

    batches: int
    crashes: int
    releases: int


class State(NamedTuple):
    """All of it."""

    left: Left
    outbox: tuple[int, ...] = ()
    unpublished: tuple[Pack, ...] | None = None  # of the outbox's first batch; none left: it can be taken out
    engine: tuple[Pack, ...] = ()
    passed: Place = Place()
    counts: tuple[int, ...] = ()  # how often each message was applied
    unacknowledged: bool = False


LOST = "a message was skipped"
TWICE = "a message was applied twice"


@dataclass(frozen=True)
class Packs:
    """The model: how much the world may do, and which rules are left out."""

    batches: int = 2
    size: int = 3  # messages in a batch
    most: tuple[int, ...] = (1, 2)  # messages in a pack: what the engine may take at a time
    crashes: int = 2
    releases: int = 1
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        start = State(Left(self.batches, self.crashes, self.releases), counts=(0,) * (self.batches * self.size))
        return explore(start, self.steps, at_rest=self.at_rest, always=self.always, until=until)

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet every published message was applied."""
        published = (self.batches - state.left.batches) * self.size
        if 0 in state.counts[:published]:
            yield LOST

    def always(self, state: State) -> Iterator[str]:
        """At no moment was one applied twice."""
        if max(state.counts) > 1:
            yield TWICE

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        left = state.left
        if left.batches:
            number = self.batches - left.batches + 1
            fewer = left._replace(batches=left.batches - 1)
            yield world(f"batch {number}", state._replace(left=fewer, outbox=(*state.outbox, number)))
        yield from self.relay(state)
        yield from self.consume(state)

    def relay(self, state: State) -> Iterator[Step[State]]:
        """Cut the outbox's first batch into packs, publish them one by one, take the batch out."""
        if state.unpublished is None:
            for most in self.most if state.outbox else ():
                yield system(f"cut by {most}", state._replace(unpublished=self.cut(state.outbox[0], most)))
            return
        if not state.unpublished:
            yield system("relay takes out", state._replace(outbox=state.outbox[1:], unpublished=None))
        for pack in state.unpublished if Rule.IN_ORDER in self.left_out else state.unpublished[:1]:
            rest = tuple(other for other in state.unpublished if other != pack)
            sent = state._replace(engine=(*state.engine, pack), unpublished=rest)
            yield system(f"publish {pack.number}, pack {pack.nth}", sent)
        if state.left.crashes:
            fewer = state.left._replace(crashes=state.left.crashes - 1)
            yield world("relay crashes", state._replace(left=fewer, unpublished=None))

    def cut(self, number: int, most: int) -> tuple[Pack, ...]:
        """The batch in packs of at most so many messages."""
        places = [Place(number, ordinal) for ordinal in range(1, self.size + 1)]
        starts = range(0, self.size, most)
        return tuple(
            Pack(number, index, tuple(places[start : start + most])) for index, start in enumerate(starts, 1)
        )

    def consume(self, state: State) -> Iterator[Step[State]]:
        """Apply the first pack and pass it in one commit, then acknowledge."""
        left = state.left
        if state.unacknowledged:
            yield system("acknowledge", state._replace(engine=state.engine[1:], unacknowledged=False))
            if left.crashes:
                fewer = left._replace(crashes=left.crashes - 1)
                yield world("consumer crashes", state._replace(left=fewer, unacknowledged=False))
        elif state.engine:
            pack = state.engine[0]
            yield system(f"take {pack.number}, pack {pack.nth}", self.apply(state, pack))
            if left.releases:
                released = state._replace(left=left._replace(releases=left.releases - 1))
                if Rule.RELEASE_KEEPS_ORDER in self.left_out:
                    released = released._replace(engine=(*state.engine[1:], pack))
                yield world("consumer lets go", released)

    def apply(self, state: State, pack: Pack) -> State:
        """Skip what is not above the place passed; apply and pass the rest."""
        fresh = [place for place in pack.messages if place > state.passed]
        passed = pack.messages[-1]
        if Rule.ORDINAL_COUNTS in self.left_out:
            fresh = list(pack.messages) if pack.number > state.passed.number else []
        elif Rule.ORDINAL_OF_MESSAGE in self.left_out:
            passed = Place(pack.number, pack.nth)
            fresh = list(pack.messages) if passed > state.passed else []
        elif Rule.PART_OF_PACK in self.left_out:
            fresh = fresh if len(fresh) == len(pack.messages) else []
        if Rule.NUMBER_CHECK in self.left_out:
            fresh = list(pack.messages)
        counts = state.counts
        for place in fresh:
            message = (place.number - 1) * self.size + place.ordinal - 1
            counts = put(counts, message, counts[message] + 1)
        return state._replace(counts=counts, passed=max(state.passed, passed), unacknowledged=True)
