"""Queues: a bus that cannot seek, with batch numbers as positions.

One partition and one subscription. Relays publish the outbox's batches in order, each from where the ledger says
the relay stands; one that stood still wakes up and goes on with what it had read. A taker gets what is not
acknowledged, from the oldest; it passes a batch in the ledger, and acknowledges up to there. A taker that gives
up, or dies, lets all it has go back to where it stood; the next one may be there before that.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    NUMBERS = "by the engine's own count, what was published again looks new, and is applied again"
    ONE_UNCONFIRMED = "a relay that does not wait for the batch before lets a later one stand before it"
    IN_ORDER_BACK = "what is given back behind later ones is passed over"
    ACKNOWLEDGE_PREFIX = "an old copy far behind takes batches with it that nobody has had"
    PROBE = "a look that finds nothing while another taker has some calls the partition empty"


class Relay(NamedTuple):
    """What a relay has read and not published yet; whether what it sent was confirmed does not outlive it."""

    reads: tuple[int, ...] = ()
    frozen: bool = False


class State(NamedTuple):
    """All of it. The queue holds numbers; `had` of them, from the front, are with the present taker."""

    outbox: int = 0  # the last number that was put there
    left: int = 0  # batches to come
    relayed: int = 0  # the relay's place in the ledger
    relays: tuple[Relay, Relay] = (Relay(), Relay())
    queue: tuple[int, ...] = ()
    hidden: int = 0  # of the queue's front, still with a taker that is gone
    had: int = 0
    passed: int = 0  # in the ledger
    applied: tuple[int, ...] = ()
    crashes: int = 0
    called_empty: int = 0  # up to this number, a taker has called the partition empty


LOST = "a batch was passed over"
TWICE = "a batch was applied twice"
TOO_EARLY = "a partition was called empty that was not"


@dataclass(frozen=True)
class Queues:
    """The model: how much the world may do, and which rules are left out."""

    batches: int = 3
    crashes: int = 2
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        start = State(left=self.batches, crashes=self.crashes)
        return explore(start, self.steps, at_rest=self.at_rest, always=self.always, until=until)

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet, every batch was applied."""
        if set(state.applied) != set(range(1, state.outbox + 1)):
            yield LOST

    def always(self, state: State) -> Iterator[str]:
        """Nothing is applied twice, and what was called empty was."""
        if len(set(state.applied)) < len(state.applied):
            yield TWICE
        if not set(range(1, state.called_empty + 1)) <= set(state.applied):
            yield TOO_EARLY

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        if state.left:
            yield world("batch", state._replace(left=state.left - 1, outbox=state.outbox + 1))
        for nth in (0, 1):
            yield from self.relay(state, nth)
        yield from self.take(state)

    def relay(self, state: State, nth: int) -> Iterator[Step[State]]:
        """One of two relays; the first is the one with the lease, until it freezes."""
        relay = state.relays[nth]
        working = nth == 0 or state.relays[0].frozen
        if not relay.reads:
            if working and not relay.frozen and state.relayed < state.outbox:
                reads = tuple(range(state.relayed + 1, state.outbox + 1))
                yield system(f"relay {nth} reads", self.with_relay(state, nth, Relay(reads)))
            return
        if relay.frozen:
            thawed = self.with_relay(state, nth, relay._replace(frozen=False))
            yield system(f"relay {nth} wakes up", thawed)
            return
        later = relay.reads if Rule.ONE_UNCONFIRMED in self.left_out else relay.reads[:1]
        for number in later:
            rest = tuple(read for read in relay.reads if read != number)
            sent = self.with_relay(state, nth, Relay(rest))
            sent = sent._replace(queue=(*state.queue, number))
            if not rest and number >= state.relayed:
                sent = sent._replace(relayed=max(state.relayed, *relay.reads))
            yield system(f"relay {nth} publishes {number}", sent)
        if state.crashes:
            fewer = state._replace(crashes=state.crashes - 1)
            yield world(f"relay {nth} dies", self.with_relay(fewer, nth, Relay()))
            if nth == 0:
                yield world("relay 0 freezes", self.with_relay(fewer, 0, relay._replace(frozen=True)))

    @staticmethod
    def with_relay(state: State, nth: int, relay: Relay) -> State:
        """The state with one relay changed."""
        return state._replace(relays=put(state.relays, nth, relay))

    def take(self, state: State) -> Iterator[Step[State]]:
        """Apply and pass in one commit, acknowledge, give back, and say that nothing is there."""
        if state.hidden:
            yield system("the server gives back", state._replace(hidden=0))
            if Rule.PROBE in self.left_out and state.relayed == state.outbox:
                yield system("an empty look", state._replace(called_empty=state.outbox))
            return
        if state.had < len(state.queue):
            number = state.queue[state.had]
            new = number > state.passed if Rule.NUMBERS not in self.left_out else True
            taken = state._replace(had=state.had + 1)
            if new:
                taken = taken._replace(passed=max(state.passed, number), applied=(*state.applied, number))
            yield system(f"take {number}", taken)
        elif state.called_empty < state.relayed == state.outbox:
            yield system("a probe comes back", state._replace(called_empty=state.outbox))
        done = self.done(state)
        if done:
            gone = state._replace(queue=state.queue[done:], had=max(0, state.had - done))
            yield system(f"acknowledge {done}", gone)
        if state.crashes and state.queue:
            fewer = state._replace(crashes=state.crashes - 1, had=0)
            yield world("the taker dies", fewer._replace(hidden=len(state.queue)))
            for ahead in range(1, len(state.queue)) if Rule.IN_ORDER_BACK in self.left_out else ():
                behind = (*state.queue[ahead:], *state.queue[:ahead])
                yield world(f"the taker gives {ahead} back by hand", fewer._replace(queue=behind))

    def done(self, state: State) -> int:
        """How many of the queue's front are acknowledged at once."""
        if Rule.ACKNOWLEDGE_PREFIX in self.left_out:
            places = [place for place, number in enumerate(state.queue, 1) if number <= state.passed]
            return max(places, default=0)
        count = 0
        while count < state.had and state.queue[count] <= state.passed:
            count += 1
        return count
