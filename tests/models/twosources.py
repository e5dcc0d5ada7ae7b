"""Two sources write one target row: the shop gives the price, the ERP gives the stock.

What a source publishes is taken as right (see the outbox). Each source's messages reach the target through a
deliverer of its own. Deliverers crash in every gap; one of them freezes inside its call, or dies with the call
still under way, and the call lands late: after others have gone on.

A target with transactions checks and writes at once. Others are claimed, called and confirmed: a *patching* one
takes a source's own fields, a *putting* one only a whole row, read when it was claimed. A confirm moves held and
the position in one ledger commit.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    HELD_PER_SOURCE = "with one version for the row, the shop's newer version outdates what the ERP sends"
    CLEAR_OWN_FIELDS = "the delete of one source must not take the other's fields along"
    DROP_SENDS_OTHERS = "where only the whole row can go, the other source's fields must be written again"
    CLAIM_PER_KEY = "two deliverers that read a row and write it whole take back each other's change"
    TAKEOVER_LOOKS_AGAIN = "a call whose worker died can land after the takeover, and only a later look sees it"
    AGAIN_FROM_ALL_SOURCES = "a late whole row spoils the fields of the other source as well"
    AGAIN_IS_WRITTEN = "a value sent again has the version held has, and is written all the same"
    LATE_WRITER_REPORTS = "a worker that wakes up to a lost claim corrects at once instead of after the settling time"


class Kind(StrEnum):
    """What the target can do."""

    TRANSACTIONAL = "rows and held in one commit"
    PATCH = "takes some fields of a row"
    PUT = "takes whole rows only"


class Message(NamedTuple):
    """A source's fields of the row; None is a delete."""

    value: str | None
    version: int
    again: bool = False


class Held(NamedTuple):
    """What the target has of one source."""

    version: int
    value: str | None


class Call(NamedTuple):
    """A write under way, with the other source's field as it was read when the row was claimed."""

    message: Message
    token: int
    other: str | None


class Work(NamedTuple):
    """What a deliverer has in memory."""

    phase: str
    call: Call


class Late(NamedTuple):
    """A call that lands after its worker lost the claim. A frozen worker then wakes up, a dead one does not."""

    source: int
    call: Call
    wakes: bool


class Source(NamedTuple):
    """One source, its channel, its deliverer, and what held says of it."""

    value: str | None
    edits: int
    version: int = 0
    held: Held = Held(0, "0")
    waiting: tuple[Message, ...] = ()
    work: Work | None = None


class Left(NamedTuple):
    """What the world may still do."""

    crashes: int
    freezes: int


class State(NamedTuple):
    """All of it."""

    left: Left
    sources: tuple[Source, ...]
    target: tuple[str | None, ...] = ("0", "0")
    claims: tuple[int, ...] = (0, 0)  # open claims by source; the first alone where the claim is the key's
    doubt: bool = False  # a claim was taken over: look again after the settling time
    token: int = 0
    late: Late | None = None


NAMES = ("shop", "erp")
DIFFERS = "the target differs from the sources"


@dataclass(frozen=True)
class TwoSources:
    """The model: how much the world may do, what the target can do, and which rules are left out."""

    kind: Kind = Kind.TRANSACTIONAL
    edits: tuple[int, int] = (2, 1)
    deletes: bool = True
    drops_rows: bool = False  # the target cannot clear fields, only drop the row
    crashes: int = 1
    freezes: int = 1
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        start = State(Left(self.crashes, self.freezes), tuple(Source("0", edits) for edits in self.edits))
        return explore(start, self.steps, at_rest=self.at_rest, until=until)

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet the row is what both sources say."""
        if state.target != tuple(source.value for source in state.sources):
            yield DIFFERS

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        for x in (0, 1):
            yield from self.edit(state, x)
            yield from self.deliver(state, x)
        yield from self.land(state)
        if state.doubt and state.late is None and not any(state.claims):
            yield system("settling time is over: look", self.look(state))

    def edit(self, state: State, x: int) -> Iterator[Step[State]]:
        """A source changes its value, and its reader publishes."""
        source = state.sources[x]
        if not source.edits:
            return
        for value in ("0", "1", None) if self.deletes and x == 0 else ("0", "1"):
            if value != source.value:
                version = source.version + 1
                waiting = (*source.waiting, Message(value, version))
                changed = source._replace(value=value, version=version, edits=source.edits - 1, waiting=waiting)
                yield world(f"{NAMES[x]} becomes {value}", with_source(state, x, changed))

    # The deliverers

    def deliver(self, state: State, x: int) -> Iterator[Step[State]]:
        """A source's deliverer takes its next message, goes on with it, crashes, freezes."""
        source, left, name = state.sources[x], state.left, NAMES[x]
        if source.work is None:
            if source.waiting:
                yield from self.take(state, x, source.waiting[0])
            return
        phase, call = source.work
        idle = with_source(state, x, source._replace(work=None))
        if phase == "write":
            written = with_source(state, x, source._replace(work=Work("confirm", call)))
            yield system(f"{name}: write", self.written(written, x, call))
        else:
            yield system(f"{name}: confirm", self.confirm(idle, x, call))
        if left.crashes:
            crashed = idle._replace(left=left._replace(crashes=left.crashes - 1))
            yield world(f"{name} crashes before {phase}", crashed)
            if phase == "write" and state.late is None:
                yield world(f"{name} crashes in the call", crashed._replace(late=Late(x, call, wakes=False)))
        if left.freezes and phase == "write" and state.late is None:
            frozen = idle._replace(left=left._replace(freezes=left.freezes - 1))
            yield world(f"{name} freezes in the call", frozen._replace(late=Late(x, call, wakes=True)))

    def take(self, state: State, x: int, message: Message) -> Iterator[Step[State]]:
        """Stale, or one commit, or a claim; an open claim is taken over when its worker is gone."""
        name, left = NAMES[x], state.left
        if self.is_stale(state, x, message):
            yield system(f"{name}: stale", self.passed(state, x, message))
            return
        call = Call(message, state.token + 1, state.target[1 - x])
        if self.kind == Kind.TRANSACTIONAL:
            done = self.confirm(self.written(state, x, call), x, call)
            yield system(f"{name}: commit", done)
            if left.crashes:  # the target has it, the ledger's position does not: it comes again
                waiting = state.sources[x].waiting
                again = with_source(done, x, done.sources[x]._replace(waiting=waiting))
                yield world(
                    f"{name} crashes after commit", again._replace(left=left._replace(crashes=left.crashes - 1))
                )
            if left.freezes and state.late is None:
                frozen = state._replace(left=left._replace(freezes=left.freezes - 1))
                yield world(f"{name} freezes before commit", frozen._replace(late=Late(x, call, wakes=True)))
            return
        slot = self.slot(x)
        working = {source.work.call.token for source in state.sources if source.work}
        if state.claims[slot] in working:
            return
        state = with_source(state, x, state.sources[x]._replace(work=Work("write", call)))
        doubt = state.doubt or (state.claims[slot] > 0 and Rule.TAKEOVER_LOOKS_AGAIN not in self.left_out)
        claimed = state._replace(token=call.token, claims=put(state.claims, slot, call.token), doubt=doubt)
        yield system(f"{name}: claim", claimed)

    def is_stale(self, state: State, x: int, message: Message) -> bool:
        """True when held has that version, or a newer one, of that source."""
        held = state.sources[x].held.version
        if Rule.HELD_PER_SOURCE in self.left_out:
            held = max(source.held.version for source in state.sources)
        again = message.again and Rule.AGAIN_IS_WRITTEN not in self.left_out
        return message.version < held or (message.version == held and not again)

    def slot(self, x: int) -> int:
        """Whose claim it is: the key's, so both sources share one."""
        return x if Rule.CLAIM_PER_KEY in self.left_out else 0

    def takes_row_along(self, message: Message) -> bool:
        """True for a delete that drops the whole row."""
        return message.value is None and (self.drops_rows or Rule.CLEAR_OWN_FIELDS in self.left_out)

    def written(self, state: State, x: int, call: Call) -> State:
        """The target after the call."""
        if self.takes_row_along(call.message):
            return state._replace(target=(None, None))
        target = put(state.target, x, call.message.value)
        if self.kind == Kind.PUT:
            target = put(target, 1 - x, call.other)
        return state._replace(target=target)

    def confirm(self, state: State, x: int, call: Call) -> State:
        """Held moves, the claim is closed, the message is passed; what a dropped row took along is sent again."""
        message = call.message
        source = state.sources[x]
        if message.version >= source.held.version:
            source = source._replace(held=Held(message.version, message.value))
        state = self.passed(with_source(state, x, source), x, message)
        if state.claims[self.slot(x)] == call.token:
            state = state._replace(claims=put(state.claims, self.slot(x), 0))
        if self.drops_rows and message.value is None and Rule.DROP_SENDS_OTHERS not in self.left_out:
            state = self.send_again(state, 1 - x)
        return state

    def passed(self, state: State, x: int, message: Message) -> State:
        """The position moves past the message."""
        source = state.sources[x]
        return with_source(state, x, source._replace(waiting=tuple(m for m in source.waiting if m != message)))

    # Late calls

    def land(self, state: State) -> Iterator[Step[State]]:
        """A late call lands, or is lost."""
        if state.late is None:
            return
        x, call, wakes = state.late
        gone = state._replace(late=None)
        yield system("the late call is lost", gone)  # within the settling time it has landed or never will
        if self.kind == Kind.TRANSACTIONAL:
            if not self.is_stale(state, x, call.message):
                gone = self.confirm(self.written(gone, x, call), x, call)
            yield world("the frozen worker commits", gone)
            return
        landed = self.written(gone, x, call)
        if wakes and state.claims[self.slot(x)] == call.token:
            landed = self.confirm(landed, x, call)
        elif wakes and Rule.LATE_WRITER_REPORTS not in self.left_out:
            landed = self.send_all_again(landed, x)
        yield world("the late call lands" + (", its worker wakes" if wakes else ""), landed)

    def look(self, state: State) -> State:
        """After the settling time nothing can land any more: what differs from held is sent again."""
        state = state._replace(doubt=False)
        if state.target == tuple(source.held.value for source in state.sources):
            return state
        return self.send_all_again(state, 0)

    def send_all_again(self, state: State, x: int) -> State:
        """The key's current value, of every source that writes it."""
        state = self.send_again(state, x)
        return state if Rule.AGAIN_FROM_ALL_SOURCES in self.left_out else self.send_again(state, 1 - x)

    def send_again(self, state: State, x: int) -> State:
        """The source's reader publishes its current value once more, under the version it has."""
        source = state.sources[x]
        waiting = (*source.waiting, Message(source.value, source.version, again=True))
        return with_source(state, x, source._replace(waiting=waiting))


def with_source(state: State, x: int, source: Source) -> State:
    """The state with one source replaced."""
    return state._replace(sources=put(state.sources, x, source))
