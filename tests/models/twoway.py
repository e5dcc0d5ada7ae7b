"""Two systems that feed each other: what one of them is told must not come back as its news.

One key, in a shop and in an ERP. Users edit both. Each system has a reader (read, then one ledger commit) and each
feeds the other through a leg: claim, check again, write, confirm. Deliverers crash in every gap. Where both have
changed, the shop wins. A system may store what it is given in a form of its own; two systems may also disagree for
good, each changing back what the other says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    READER_SKIPS_CLAIMED = "what is read while we write may be ours or the user's, and nobody could tell"
    CHECK_CONFLICT_AFTER_CLAIM = "a change of the other side that was read before the claim would be written over"
    CHECK_STALE_AFTER_CLAIM = "a message that our own write in the other direction has outdated would go back"
    COMPARE_WITH_HELD = "until our write was read back once, seen knows only what was there before it"
    HELD_AS_STORED = "a system that stores in a form of its own would send that form back as its user's change"
    STORED_FROM_ANSWER = "a look-up after the write may show a user's edit, which would then pass for ours"
    OVERWRITTEN_ARE_STALE = "a change that our write has overwritten still waits to be delivered to us"
    ECHO_ENDS = "what a system was told does not return to where it came from"
    THIRD_TIME_PARKS = "two systems that disagree would correct each other for ever"


class Form(StrEnum):
    """How a system stores what it is given."""

    AS_IS = "as is"
    UPPER = "in capitals"


class Message(NamedTuple):
    """A change of the key at one system."""

    value: str
    version: int
    origin: int  # the system whose user made it
    trace: tuple[str, ...]  # the values it followed from, one write after the other


class Seen(NamedTuple):
    """What a system has shown us."""

    value: str = "0"
    version: int = 0
    own: int = 0  # the last version that was the system's own change


class Held(NamedTuple):
    """What a system has of the other's."""

    value: str = "0"  # as it stores it
    version: int = 0
    claimed: bool = False
    unread: bool = False  # our write has not been read back yet
    trace: tuple[str, ...] = ()


class Reading(NamedTuple):
    """What a reader has in memory."""

    value: str
    dirty: bool  # a claim was made since


class Work(NamedTuple):
    """What a deliverer has in memory."""

    phase: str
    stored: str = ""  # what the other system says it stored


class Side(NamedTuple):
    """One system, its reader, and the leg from it to the other."""

    edits: int
    value: str = "0"
    seen: Seen = Seen()
    held: Held = Held()
    reading: Reading | None = None
    channel: tuple[Message, ...] = ()
    work: Work | None = None
    parked: bool = False


class State(NamedTuple):
    """All of it."""

    crashes: int
    sides: tuple[Side, ...]


SHOP, ERP = 0, 1
NAMES = ("shop", "erp")
FRESH = ("s", "e")

DIFFER = "the two systems differ"
ECHOED = "the shop was given its own value back"
LOOPS = "they correct each other for ever"


@dataclass(frozen=True)
class TwoWay:
    """The model: how much the world may do, how the ERP stores, and which rules are left out."""

    edits: tuple[int, int] = (1, 1)
    crashes: int = 1
    reverts: bool = False  # users return to old values and to those of the other side
    form: Form = Form.AS_IS
    disagree: bool = False  # the ERP changes what it is told into capitals later, the shop changes it back
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        start = State(self.crashes, tuple(Side(edits) for edits in self.edits))
        return explore(start, self.steps, at_rest=self.at_rest, always=self.always, until=until)

    # What must hold

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet the ERP has what the shop has, in its own form, or a person has been asked."""
        shop, erp = state.sides
        if self.stored(ERP, shop.value) != erp.value and not (shop.parked or erp.parked):
            yield DIFFER
        if shop.value[0] == "S" and not self.reverts:  # with reverts the ERP's user may have typed it
            yield ECHOED

    def always(self, state: State) -> Iterator[str]:
        """No system shows more versions than its users and the other's users account for."""
        most = 12 if self.disagree else sum(self.edits) + 1
        if any(side.seen.version > most for side in state.sides):
            yield LOOPS

    def stored(self, x: int, value: str) -> str:
        """The value in the form in which a system stores it."""
        return value.upper() if x == ERP and self.form == Form.UPPER else value

    # What can happen

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next; a loop is not followed for ever."""
        if any(self.always(state)):
            return
        for x in (SHOP, ERP):
            yield from self.edit(state, x)
            yield from self.read(state, x)
            yield from self.deliver(state, x)

    def edit(self, state: State, x: int) -> Iterator[Step[State]]:
        """A user edits; where the systems disagree, a system's own automation changes what it was told."""
        side = state.sides[x]
        if side.edits:
            values = {f"{FRESH[x]}{side.edits}"} | ({"0", "s1", "e1"} if self.reverts else set())
            for value in sorted({self.stored(x, value) for value in values} - {side.value}):
                edited = side._replace(value=value, edits=side.edits - 1)
                yield world(f"{NAMES[x]}'s user writes {value}", with_side(state, x, edited))
        liked = side.value.upper() if x == ERP else side.value.lower()
        if self.disagree and side.value != liked:
            yield system(f"{NAMES[x]} makes it {liked}", with_side(state, x, side._replace(value=liked)))

    # The readers

    def read(self, state: State, x: int) -> Iterator[Step[State]]:
        """Read, then commit. A key with an open claim is left out, also when the claim came in between."""
        side = state.sides[x]
        seen, held = side.seen, side.held
        skips = Rule.READER_SKIPS_CLAIMED not in self.left_out
        if side.reading is None:
            if (side.value != seen.value or held.unread) and not (held.claimed and skips):
                reading = side._replace(reading=Reading(side.value, dirty=False))
                yield system(f"read {NAMES[x]}", with_side(state, x, reading))
            return
        value, dirty = side.reading
        side = side._replace(reading=None)
        if dirty and skips:
            yield system(f"{NAMES[x]}: left out, it is being written", with_side(state, x, side))
            return
        compares = held.unread and Rule.COMPARE_WITH_HELD not in self.left_out
        reads_back = value == held.value and (compares or Rule.COMPARE_WITH_HELD in self.left_out)
        side = side._replace(held=held._replace(unread=False))
        if value == seen.value and not (compares and not reads_back):
            yield system(f"{NAMES[x]}: unchanged", with_side(state, x, side))
            return
        version = seen.version + 1
        origin = 1 - x if reads_back else x
        trace = held.trace if reads_back else (*held.trace, value)
        side = side._replace(
            seen=Seen(value, version, seen.own if reads_back else version),
            channel=(*side.channel, Message(value, version, origin, trace)),
        )
        yield system(f"{NAMES[x]}: publish {value}", with_side(state, x, side))

    # The legs

    def deliver(self, state: State, x: int) -> Iterator[Step[State]]:
        """The leg from one system to the other goes on, or its deliverer crashes."""
        side = state.sides[x]
        if not side.channel:
            return
        if side.work is None:
            yield self.take(state, x, side.channel[0])
            return
        name = f"{NAMES[x]} to {NAMES[1 - x]}"
        yield system(f"{name}: {side.work.phase}", self.advance(state, x, side.channel[0], side.work))
        if state.crashes:
            crashed = with_side(state, x, side._replace(work=None))
            yield world(f"{name}: crash", crashed._replace(crashes=state.crashes - 1))

    def take(self, state: State, x: int, message: Message) -> Step[State]:
        """Stale, an echo, a matter for a person, or a claim: from then on the other side's reader leaves it out."""
        name, y = f"{NAMES[x]} to {NAMES[1 - x]}", 1 - x
        other = state.sides[y]
        held = other.held
        if message.version <= held.version and not held.claimed:
            return system(f"{name}: stale", self.passed(state, x, held))
        if message.origin == y and Rule.ECHO_ENDS not in self.left_out:
            moved = held._replace(version=max(message.version, held.version))
            return system(f"{name}: echo", self.passed(state, x, moved))
        if message.trace.count(message.value) >= 3 and Rule.THIRD_TIME_PARKS not in self.left_out:
            parked = self.passed(state, x, held._replace(version=message.version))
            return system(f"{name}: parked", with_side(parked, x, parked.sides[x]._replace(parked=True)))
        reading = other.reading._replace(dirty=True) if other.reading else None
        claimed = with_side(state, y, other._replace(held=held._replace(claimed=True), reading=reading))
        claimed = with_side(claimed, x, claimed.sides[x]._replace(work=Work("check")))
        return system(f"{name}: claim", claimed)

    def advance(self, state: State, x: int, message: Message, work: Work) -> State:
        """Check again, write, confirm."""
        y = 1 - x
        side, other = state.sides[x], state.sides[y]
        held = other.held
        match work.phase:
            case "check":
                stale = message.version <= held.version and Rule.CHECK_STALE_AFTER_CLAIM not in self.left_out
                conflict = other.seen.own > side.held.version
                if conflict and x != SHOP and Rule.CHECK_CONFLICT_AFTER_CLAIM not in self.left_out:
                    return self.passed(state, x, held._replace(version=message.version, claimed=False))
                if stale:
                    return self.passed(state, x, held._replace(claimed=False))
                return with_side(state, x, side._replace(work=Work("write")))
            case "write":
                stored = self.stored(y, message.value)
                state = with_side(state, y, other._replace(value=stored))
                if Rule.HELD_AS_STORED in self.left_out:
                    return with_side(state, x, side._replace(work=Work("confirm", message.value)))
                phase = "look up" if Rule.STORED_FROM_ANSWER in self.left_out else "confirm"
                return with_side(state, x, side._replace(work=Work(phase, stored)))
            case "look up":
                return with_side(state, x, side._replace(work=Work("confirm", other.value)))
            case _:
                confirmed = Held(work.stored, message.version, claimed=False, unread=True, trace=message.trace)
                state = self.passed(state, x, confirmed)
                if Rule.OVERWRITTEN_ARE_STALE in self.left_out:
                    return state
                side = state.sides[x]
                version = max(side.held.version, other.seen.version)
                return with_side(state, x, side._replace(held=side.held._replace(version=version)))

    def passed(self, state: State, x: int, held: Held) -> State:
        """One ledger commit: held at the target, and the position past the message."""
        side, other = state.sides[x], state.sides[1 - x]
        state = with_side(state, 1 - x, other._replace(held=held))
        return with_side(state, x, side._replace(channel=side.channel[1:], work=None))


def with_side(state: State, x: int, side: Side) -> State:
    """The state with one side replaced."""
    return state._replace(sides=put(state.sides, x, side))
