"""Parking: messages that could not be applied wait in the ledger, while the target is another store.

Two keys in two partitions, each with its own deliverer: an order refers to a customer. A message may be bad
(it fails for good until a person cures it), any attempt may fail once, and the target may be down. An operator
looks at a parked row and later edits or drops it. Crashes come in every gap, a deliverer may freeze and thaw,
and a backfill may send a key's newest version again, in a batch of its own.

A target with transactions commits its row, held and the fence row (position and counts) at once; what is parked
is the ledger's. So a failed message takes two commits, parked first and passed second, and a crash in between
brings it again. A target without transactions is called, and one ledger commit then confirms everything.

Counting: the fence row counts the messages that a slice settled when the position passes them. A parked one is
counted by its row, and settled by the ledger's commit that takes the row away. At every moment, in the ledger:
passed = settled in slices + settled from rows + waiting in a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    RETRY_WAITS_FOR_POSITION = "a row settled before its message is passed is counted again when that comes again"
    OWN_ROW_IS_PARKED = "a message that comes again and is parked already is counted by its row, and is not tried"
    SLICE_ENDS_AT_ROW = "a newer message in the slice supersedes the parked one and settles its row: two counts"
    REPLACED_IS_SETTLED = "a newer failure that takes over the row settles the older message, or nobody counts it"
    SETTLED_IN_LEDGER = "a retry counted by the target is counted again, edited, when the ledger's commit never came"
    START_AT_LEDGER_POSITION = "who starts at the target's position skips the healing and waking that are due"
    TARGET_FENCE = "a frozen deliverer would apply and count a message that its successor has just parked"
    FENCE_BEFORE_PARKING = "the same, unless the successor shows the target its token before it parks anything"
    PARKING_FENCE = "a frozen deliverer would park a message that its successor has applied"
    ASK_AFTER_PARKING = "a reference that arrives between the look and the parking commit wakes nobody"
    ASK_PERIODICALLY = "the net below: with it, one of the other ways to be woken may fail"
    REFERENCE_HAS_ID = "a row in held without a target id (a drop) is no customer to refer to"
    KNOWN_HEALS_AND_WAKES = "after a crash an unchanged outcome is all that is left to heal and to wake"
    NEWER_HEALS = "a newer message that is applied takes the older one's row away"
    PARKING_KEEPS_NEWER = "parked counts like held: an older message must not take over a newer one's row"
    RETRY_KEEPS_DECISION = "a retry that fails must not write over what a person has decided meanwhile"
    DECISION_NAMES_MESSAGE = "a decision is about the message that was looked at, not about whatever waits now"
    DECISION_BY_HOLDER = "a drop in two commits by the operator is torn by a crash or a delivery in between"
    OPEN_CLAIM_FIRST = "a call that a crash left open may have applied what is now dropped, or what is newer"
    DROP_MOVES_HELD = "or the dropped message rises when it comes again"
    EDIT_ABOVE_ORIGINAL = "an edit as version n could be overtaken by the original n"
    EDIT_BELOW_NEXT = "an edit as version n+1 would make the source's own n+1 look unchanged"
    EDIT_LEAVES_HELD = "held moves when the edit is applied, not when it is decided"
    OUTAGE_IS_NO_FAILURE = "an attempt while the target is down says nothing about the message"


class Message(NamedTuple):
    """One version of a key, in the batch of that number. An edit is version n.1."""

    number: int
    version: int
    edit: int = 0
    cured: bool = False

    @property
    def rank(self) -> tuple[int, int]:
        """What newer and older is decided by."""
        return self.version, self.edit


class Row(NamedTuple):
    """A parked message."""

    message: Message
    why: str  # retry, reference, dead or drop


class Held(NamedTuple):
    """What the target has of ours: the version, and whether there is a target id."""

    rank: tuple[int, int] = (0, 0)
    exists: bool = False


class Passed(NamedTuple):
    """How far a partition is, and how many messages up to there its slices have settled."""

    position: int = 0
    settled: int = 0


class Work(NamedTuple):
    """What a deliverer has in memory: a slice of its partition, or a parked row to retry."""

    phase: str
    message: Message  # the slice's newest, or the row's
    row: Row | None = None  # the row it retries
    outcome: str = ""
    token: int = 0


class Key(NamedTuple):
    """One key with its partition, in the channel, the ledger and the target."""

    to_come: int
    channel: tuple[int, ...] = ()  # the versions, in the order of their numbers 1, 2, 3 …
    passed: Passed = Passed()  # the ledger's copy
    row: Row | None = None  # the ledger's
    row_settled: int = 0  # the ledger's: parked messages that came to an end
    fence: Passed = Passed()  # the target's
    held: Held = Held()  # the target's, or the ledger's for a target without transactions
    value: Message | None = None  # the target's
    claim: tuple[int, int] = (0, 0)  # the ledger's, for a target without transactions: the call under way
    token: int = 0  # of the partition's lease, the ledger's
    fence_token: int = 0  # the highest the target has been shown
    work: Work | None = None
    frozen: Work | None = None
    # What the model remembers to judge by
    dropped: tuple[int, int] = (0, 0)
    decided: tuple[int, int] = (0, 0)
    edited: int = 0

    @property
    def newest(self) -> int:
        """The newest version that the source has published."""
        return max(self.channel, default=0)


class Look(NamedTuple):
    """What the operator saw."""

    key: int
    message: Message
    due: str = ""  # the second of the operator's own two commits, where a rule is left out


class Left(NamedTuple):
    """What the world may still do."""

    crashes: int
    transients: int
    looks: int
    freezes: int
    downs: int
    resends: int


class State(NamedTuple):
    """All of it."""

    left: Left
    keys: tuple[Key, ...]
    look: Look | None = None
    up: bool = True


ORDER, CUSTOMER = 0, 1
NAMES = ("order", "customer")

HEALED_WAITS = "a message that is applied still waits"
DROPPED_RISES = "a dropped message is applied"
FORGOTTEN = "a decision was forgotten"
WAITS_FOR_NOTHING = "waits for a reference that is there"
DEAD_FOR_NOTHING = "dead without a cause"
OVER_THE_EDIT = "the original was applied over the edit"
NEWEST_LOST = "the newest version is lost"
EDIT_LOST = "the edit is lost"
TWICE = "counted twice"
UNCOUNTED = "not counted"
BEHIND = "a partition never passed its last message"


@dataclass(frozen=True)
class Parking:
    """The model: how much the world may do, which messages are bad, and which rules are left out."""

    versions: tuple[int, int] = (2, 1)
    bad: frozenset[tuple[int, int]] = frozenset({(ORDER, 1)})
    crashes: int = 1
    transients: int = 1
    looks: int = 1
    freezes: int = 0
    downs: int = 0
    resends: int = 0
    transactional: bool = True
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        left = Left(self.crashes, self.transients, self.looks, self.freezes, self.downs, self.resends)
        start = State(left, tuple(Key(count) for count in self.versions))
        return explore(start, self.steps, at_rest=self.at_rest, always=self.always, until=until)

    # What must hold

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet each newest version is applied, dropped by a person, or waits for good reason."""
        for k, key in enumerate(state.keys):
            applied = key.value.rank if key.value else (0, 0)
            waiting = key.row.message.rank if key.row else (0, 0)
            if key.passed.position < len(key.channel):
                yield BEHIND
            if key.row:
                if waiting <= applied:
                    yield HEALED_WAITS
                if waiting <= key.dropped:
                    yield DROPPED_RISES
                if key.row.why == "dead" and waiting == key.decided:
                    yield FORGOTTEN
                if key.row.why == "reference" and state.keys[CUSTOMER].value:
                    yield WAITS_FOR_NOTHING
                if key.row.why == "dead" and not self.is_bad(k, key.row.message):
                    yield DEAD_FOR_NOTHING
            if key.value:
                if applied == key.dropped:
                    yield DROPPED_RISES
                edit_dropped = key.dropped > applied
                if key.edited == key.value.version and not key.value.cured and not edit_dropped:
                    yield OVER_THE_EDIT
            if max(applied, waiting, key.dropped)[0] < key.newest:
                yield NEWEST_LOST
            if key.value and key.value.cured and key.edited < key.value.version == key.newest:
                yield NEWEST_LOST  # an edit of an older version stands where the newest should
            if key.edited == key.newest > max(applied, waiting, key.dropped)[0]:
                yield EDIT_LOST

    def always(self, state: State) -> Iterator[str]:
        """At every moment: passed = settled in slices + settled from rows + waiting in a row."""
        for key in state.keys:
            waiting = key.row is not None and key.row.message.number <= key.passed.position
            counted = key.passed.settled + key.row_settled + waiting
            if counted > key.passed.position:
                yield TWICE
            if counted < key.passed.position:
                yield UNCOUNTED

    def is_bad(self, k: int, message: Message) -> bool:
        """True for a message that fails for good."""
        return (k, message.version) in self.bad and not message.cured

    def is_there(self, state: State) -> bool:
        """True when held says that the customer exists at the target."""
        held = state.keys[CUSTOMER].held
        return held.exists or (Rule.REFERENCE_HAS_ID in self.left_out and held.rank > (0, 0))

    # What can happen

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        left = state.left
        if not state.up:
            yield system("target comes back", state._replace(up=True))
        elif left.downs:
            yield world("target goes down", state._replace(up=False, left=left._replace(downs=left.downs - 1)))
        for k, key in enumerate(state.keys):
            if key.to_come:
                more = key._replace(to_come=key.to_come - 1, channel=(*key.channel, key.newest + 1))
                yield world(f"{NAMES[k]} {more.newest} is published", self.with_key(state, k, more))
            if left.resends and key.channel:
                more = key._replace(channel=(*key.channel, key.newest))
                sent = self.with_key(state, k, more)._replace(left=left._replace(resends=left.resends - 1))
                yield world(f"backfill sends {NAMES[k]} {key.newest} again", sent)
            yield from self.deliver(state, k)
        order = state.keys[ORDER]
        waits = order.row is not None and order.row.why == "reference"
        if waits and self.is_there(state) and Rule.ASK_PERIODICALLY not in self.left_out:
            yield system("ask again, from time to time", self.wake(state))
        yield from self.operate(state)

    def deliver(self, state: State, k: int) -> Iterator[Step[State]]:
        """A partition's deliverer takes a slice or a parked row, goes on with it, crashes, freezes, thaws."""
        key, left, name = state.keys[k], state.left, NAMES[k]
        if key.frozen is not None and (state.up or key.frozen.phase == "park"):
            yield system(f"frozen deliverer of {name} thaws", self.thaw(state, k))
        if key.work is None:
            if key.fence_token < key.token and self.transactional and Rule.FENCE_BEFORE_PARKING not in self.left_out:
                if state.up:
                    yield system(
                        f"{name} takes the fence", self.with_key(state, k, key._replace(fence_token=key.token))
                    )
                return
            if key.claim > (0, 0) and Rule.OPEN_CLAIM_FIRST not in self.left_out:
                if state.up:
                    yield system(f"{name}: open claim is looked up", self.with_key(state, k, settle_claim(key)))
                return
            if Rule.START_AT_LEDGER_POSITION in self.left_out and key.passed.position < key.fence.position:
                yield system(
                    f"{name} starts at the target's position", self.with_key(state, k, key._replace(passed=key.fence))
                )
                return
            for work in self.takes(key):
                yield from self.attempt(state, k, work)
            return
        work = key.work
        if state.up or work.phase not in ("pass", "call"):
            yield system(f"{name}: {work.phase}", self.advance(state, k))
        if left.crashes:
            crashed = self.with_key(state, k, key._replace(work=None))
            yield world(f"{name} crashes", crashed._replace(left=left._replace(crashes=left.crashes - 1)))
        if work.phase == "park":
            yield from self.freeze(state, k, work)

    def takes(self, key: Key) -> Iterator[Work]:
        """What an idle deliverer may take: one message or all that wait, or the parked row."""
        position, row = key.passed.position, key.row
        for end in sorted({position + 1, len(key.channel)} - {position}):
            cut = row is not None and position < row.message.number < end
            if end <= len(key.channel) and not (cut and Rule.SLICE_ENDS_AT_ROW not in self.left_out):
                yield Work("slice", Message(end, key.channel[end - 1]), token=key.token)
        if row is None or row.why not in ("retry", "drop"):
            return
        if row.message.number <= position or Rule.RETRY_WAITS_FOR_POSITION in self.left_out:
            yield Work("retry", row.message, row, token=key.token)

    def attempt(self, state: State, k: int, work: Work) -> Iterator[Step[State]]:
        """Look the message up in held and parked, ask for its reference, try it. Success is the target's commit."""
        key, left = state.keys[k], state.left
        message, number = work.message, work.message.number
        called = f"{NAMES[k]} {message.version}" + (f".{message.edit}" if message.edit else "")

        def then(phase: str, outcome: str, key: Key = key) -> State:
            return self.with_key(state, k, key._replace(work=work._replace(phase=phase, outcome=outcome)))

        if not state.up:
            if Rule.OUTAGE_IS_NO_FAILURE in self.left_out:
                yield world(f"{called} fails in the outage", then("park", "dead"))
            return
        if work.row is None:
            if number <= key.fence.position:
                yield system(f"{called} was passed before", then("confirm", "known"))
                return
            if key.row and key.row.message.number == number and Rule.OWN_ROW_IS_PARKED not in self.left_out:
                asks = key.row.why == "reference"
                yield system(f"{called} is parked already", then("ask" if asks else "pass", "parked"))
                return
            parked = key.row.message.rank if key.row else (0, 0)
            if parked >= message.rank and Rule.PARKING_KEEPS_NEWER not in self.left_out:
                yield system(f"{called} is not newer than the parked one", then("pass", "known"))
                return
        if message.rank <= key.held.rank:
            yield system(f"{called} is known", then("confirm" if work.row else "pass", "known"))
            return
        if work.row is not None and work.row.why == "drop":
            dropped = self.drop(key, message) if self.transactional else key
            yield system(f"{called} is dropped", then("confirm", "dropped", dropped))
            return
        if k == ORDER and not self.is_there(state):
            yield system(f"{called} lacks its customer", then("park", "reference"))
            return
        if left.transients:
            failed = then("park", "retry")
            yield world(f"{called} fails once", failed._replace(left=left._replace(transients=left.transients - 1)))
        if self.is_bad(k, message) or (k == ORDER and state.keys[CUSTOMER].value is None):
            yield system(f"{called} fails", then("park", "dead"))
            return
        if self.transactional:
            yield system(f"{called} is applied", then("confirm", "applied", self.write(key, work)))
            yield from self.freeze(state, k, work._replace(phase="write", outcome="applied"))
        else:
            yield system(f"{called} is claimed", then("call", "applied", key._replace(claim=message.rank)))

    def freeze(self, state: State, k: int, work: Work) -> Iterator[Step[State]]:
        """A deliverer freezes just before its next commit, and another takes over."""
        key, left = state.keys[k], state.left
        if left.freezes and key.frozen is None:
            taken_over = self.with_key(state, k, key._replace(work=None, frozen=work, token=key.token + 1))
            fewer = left._replace(freezes=left.freezes - 1)
            yield world(
                f"{NAMES[k]} freezes before {work.phase}, another takes over", taken_over._replace(left=fewer)
            )

    def thaw(self, state: State, k: int) -> State:
        """The frozen deliverer makes its next commit, if it still may. The ledger lets it make no other."""
        key = state.keys[k]
        work, now = key.frozen, key.work
        assert work is not None
        key = key._replace(frozen=None)
        if work.phase == "write":
            refused = work.token < key.fence_token and Rule.TARGET_FENCE not in self.left_out
            known = work.message.rank <= key.held.rank
            passed_before = work.row is None and work.message.number <= key.fence.position
            return self.with_key(state, k, key if refused or known or passed_before else self.write(key, work))
        if work.token < key.token and Rule.PARKING_FENCE not in self.left_out:
            return self.with_key(state, k, key)
        late = self.park(self.with_key(state, k, key._replace(work=work)), k)
        return self.with_key(late, k, late.keys[k]._replace(work=now))

    def advance(self, state: State, k: int) -> State:
        """The next commit of the work under way."""
        key = state.keys[k]
        assert key.work is not None
        match key.work.phase:
            case "park":
                return self.park(state, k)
            case "call":
                return self.go_on(self.with_key(state, k, key._replace(value=key.work.message)), k, "confirm")
            case "ask":
                state = self.wake(state) if self.is_there(state) else state
                return self.go_on(state, k, None if key.work.row else "pass")
            case "pass" if self.transactional:
                passed = key._replace(fence=self.count(key.fence, key.work), fence_token=key.token)
                return self.go_on(self.with_key(state, k, passed), k, "confirm")
            case _:
                return self.confirm(state, k)

    # The target's commits

    def write(self, key: Key, work: Work) -> Key:
        """The row and held, and for a slice the fence row."""
        key = key._replace(value=work.message, held=Held(work.message.rank, True))
        key = key._replace(fence_token=max(key.fence_token, work.token))
        if work.row is None:
            return key._replace(fence=self.count(key.fence, work._replace(outcome="applied")))
        if Rule.SETTLED_IN_LEDGER in self.left_out:
            return self.counted_by_target(key)
        return key

    def drop(self, key: Key, message: Message) -> Key:
        """The holder carries out a person's decision: held moves, nothing is written."""
        key = key._replace(dropped=max(key.dropped, message.rank))
        if self.transactional and Rule.SETTLED_IN_LEDGER in self.left_out:
            key = self.counted_by_target(key)
        if Rule.DROP_MOVES_HELD in self.left_out:
            return key
        return key._replace(held=key.held._replace(rank=message.rank))

    def count(self, passed: Passed, work: Work) -> Passed:
        """The position after a slice; its newest message by outcome, the others are superseded, so settled."""
        fresh = work.message.number - passed.position
        if fresh <= 0:
            return passed
        parked = work.outcome not in ("applied", "known")
        return Passed(work.message.number, passed.settled + fresh - parked)

    def counted_by_target(self, key: Key) -> Key:
        """A retry that the target's commit counts, where that rule is left out."""
        return key._replace(fence=key.fence._replace(settled=key.fence.settled + 1))

    # The ledger's commits

    def park(self, state: State, k: int) -> State:
        """The parking commit, which compares with what is there."""
        key = state.keys[k]
        work, row = key.work, key.row
        assert work is not None
        why = work.outcome
        if not self.transactional and why == "reference" and self.is_there(state):
            why = "retry"  # held is in the same store, so the question is asked in the commit
        if work.row is not None:
            if row == work.row or (row is not None and Rule.RETRY_KEEPS_DECISION in self.left_out):
                state = self.with_key(state, k, key._replace(row=Row(work.message, why)))
            asks = why == "reference" and self.transactional and Rule.ASK_AFTER_PARKING not in self.left_out
            return self.go_on(state, k, "ask" if asks else None)
        settled = key.row_settled
        if row is not None and row.message.rank < work.message.rank:
            settled += Rule.REPLACED_IS_SETTLED not in self.left_out
        key = key._replace(row=Row(work.message, why), row_settled=settled)
        if not self.transactional:
            return self.confirm(self.with_key(state, k, key), k)
        asks = why == "reference" and Rule.ASK_AFTER_PARKING not in self.left_out
        return self.go_on(self.with_key(state, k, key), k, "ask" if asks else "pass")

    def confirm(self, state: State, k: int) -> State:
        """The ledger's commit after the target's: copy the position, take the row away, wake who waits."""
        key = state.keys[k]
        work = key.work
        assert work is not None
        if self.transactional:
            key = key._replace(passed=key.fence)
        else:
            if work.outcome == "applied":
                key = key._replace(held=Held(work.message.rank, True), claim=(0, 0))
            if work.row is None:
                key = key._replace(passed=self.count(key.passed, work))
        if not self.transactional and work.outcome == "dropped":
            key = self.drop(key, work.message)
        row = key.row
        silent = work.outcome == "known" and Rule.KNOWN_HEALS_AND_WAKES in self.left_out
        over = row is not None and row.message.rank <= key.held.rank
        if work.row is not None:
            over = over or (row == work.row and work.outcome == "dropped")
        elif silent or Rule.NEWER_HEALS in self.left_out:
            over = False
        if over:
            key = key._replace(row=None, row_settled=key.row_settled + (not self.counted_before(key, work)))
        state = self.with_key(state, k, key._replace(work=None))
        return self.wake(state) if k == CUSTOMER and self.is_there(state) and not silent else state

    def counted_before(self, key: Key, work: Work) -> bool:
        """True for a retry whose outcome the target counted: just now, or before the ledger's commit was lost."""
        if Rule.SETTLED_IN_LEDGER not in self.left_out or work.row is None or not self.transactional:
            return False
        return work.outcome != "known" or (key.row is not None and key.row.message.rank == key.held.rank)

    def wake(self, state: State) -> State:
        """An order that waits for its customer is to be retried."""
        key = state.keys[ORDER]
        if key.row is None or key.row.why != "reference":
            return state
        return self.with_key(state, ORDER, key._replace(row=key.row._replace(why="retry")))

    def with_key(self, state: State, k: int, key: Key) -> State:
        """The state with one key replaced."""
        return state._replace(keys=put(state.keys, k, key))

    def go_on(self, state: State, k: int, phase: str | None) -> State:
        """The work goes on to its next phase, or is over."""
        key = state.keys[k]
        work = key.work._replace(phase=phase) if key.work and phase else None
        return self.with_key(state, k, key._replace(work=work))

    # The operator

    def operate(self, state: State) -> Iterator[Step[State]]:
        """A person looks at a parked message, and later edits or drops it."""
        look, left = state.look, state.left
        if look is None:
            for k, key in enumerate(state.keys):
                if left.looks and key.row is not None and key.row.why != "reference":
                    fewer = left._replace(looks=left.looks - 1)
                    seen = Look(k, key.row.message)
                    yield world(f"operator looks at {NAMES[k]}", state._replace(left=fewer, look=seen))
            return
        k, message = look.key, look.message
        key, over = state.keys[k], state._replace(look=None)
        same = key.row is not None and key.row.message == message
        if look.due:
            yield system(
                f"operator's second commit, {look.due}", self.with_key(over, k, drop_half(key, message, look.due))
            )
            if left.crashes:
                yield world("operator's console crashes", over._replace(left=left._replace(crashes=left.crashes - 1)))
            return
        if not same and Rule.DECISION_NAMES_MESSAGE not in self.left_out:
            yield system("operator is refused", over)
            return
        edit = message._replace(edit=message.edit + 1, cured=True)
        if Rule.EDIT_ABOVE_ORIGINAL in self.left_out:
            edit = message._replace(cured=True)
        if Rule.EDIT_BELOW_NEXT in self.left_out:
            edit = message._replace(version=message.version + 1, edit=0, cured=True)
        held = key.held
        if Rule.EDIT_LEAVES_HELD in self.left_out and edit.rank > held.rank:
            held = held._replace(rank=edit.rank)
        edited = max(key.edited, message.version)
        yield system(
            "operator edits", self.with_key(over, k, key._replace(row=Row(edit, "retry"), held=held, edited=edited))
        )
        if Rule.DECISION_BY_HOLDER in self.left_out:
            for first, second in (("ledger", "target"), ("target", "ledger")):
                half = self.with_key(state, k, drop_half(key, message, first))
                yield system(f"operator drops, {first} first", half._replace(look=look._replace(due=second)))
        elif same:
            dropped = key._replace(row=Row(message, "drop"), decided=message.rank)
            yield system("operator drops", self.with_key(over, k, dropped))


def settle_claim(key: Key) -> Key:
    """Held says what the look-up found: the claimed version is at the target, or it is not."""
    found = key.value is not None and key.value.rank == key.claim
    return key._replace(held=Held(key.claim, True) if found else key.held, claim=(0, 0))


def drop_half(key: Key, message: Message, store: str) -> Key:
    """One of the two commits of an operator who drops a message himself."""
    key = key._replace(dropped=max(key.dropped, message.rank))
    if store == "target":
        return key._replace(held=key.held._replace(rank=max(key.held.rank, message.rank)))
    if key.row is None or key.row.message != message:
        return key
    return key._replace(row=None, row_settled=key.row_settled + 1)
