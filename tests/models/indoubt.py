"""In doubt: a target that can only create, and whose look-up shows a new row late.

Two flows bring the same key to one target. Creating is claim, call, confirm. A worker is killed in any gap or
freezes before its call, requests and answers get lost, and what was created is visible only after a while. After
the *settling time* every request has arrived or never will, and whatever was created can be seen. One thing no
settling time covers: a worker frozen inside the call itself, after its last look at its lease. The ledger may be
restored from a back-up taken at the start: it has forgotten what was claimed, created and passed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from tests.models.explorer import Report, Step, explore, put, system, world


class Rule(StrEnum):
    """Each rule that may be left out, and why it is there."""

    CLAIM_BEFORE_CALL = "without a claim nobody knows after a crash that a call may have been made"
    CLAIM_PER_KEY = "two flows with claims of their own create one customer twice"
    HELD_IN_CLAIM_COMMIT = "between the look into held and the claim the other flow may have created the key"
    LOOK_UP_FIRST = "trying again blindly creates twice"
    SETTLING_TIME = "a look-up that says none may only be early"
    NEWER_WAITS = "a newer message of the key, taken for a create as well, creates it twice"
    LEASE_BEFORE_CALL = "a worker that thaws before its call must not make it if its lease is gone"
    LOOK_UP_AFTER_RESTORE = "a restored ledger that holds nothing of the key may have forgotten that it was created"
    CONFIRM_IS_FENCED = "a late answer that confirms a claim taken over hides that there are two"


class Request(NamedTuple):
    """A create, on its way or done."""

    token: int
    stage: str  # sent, hidden or visible


class Work(NamedTuple):
    """What a worker has in memory."""

    phase: str
    token: int = 0


class Flow(NamedTuple):
    """One flow: its messages of the key, and its worker."""

    waiting: int
    work: Work | None = None
    frozen: Work | None = None


class Left(NamedTuple):
    """What the world may still do."""

    kills: int
    losses: int
    freezes: int
    freezes_inside: int
    restores: int


class State(NamedTuple):
    """All of it."""

    left: Left
    flows: tuple[Flow, ...]
    token: int = 0
    claims: tuple[int, ...] = (0, 0)  # the first alone where the claim is the key's
    held: bool = False
    requests: tuple[Request, ...] = ()
    flagged: bool = False
    forgotten: bool = False  # the ledger was restored


TWICE = "created twice"
UNSEEN = "created twice and nobody was told"
LOST = "passed but never created"
STUCK = "waits for ever"


@dataclass(frozen=True)
class InDoubt:
    """The model: how much the world may do, what the target can do, and which rules are left out."""

    messages: tuple[int, int] = (2, 1)
    kills: int = 1
    losses: int = 1
    freezes: int = 0
    freezes_inside: int = 0
    restores: int = 0
    can_look_up: bool = True
    left_out: frozenset[Rule] = frozenset()

    def explore(self, until: str | None = None) -> Report:
        """Walk all of it, or until it is wrong in the way named."""
        left = Left(self.kills, self.losses, self.freezes, self.freezes_inside, self.restores)
        start = State(left, tuple(Flow(count) for count in self.messages))
        return explore(start, self.steps, at_rest=self.at_rest, until=until)

    # What must hold

    def at_rest(self, state: State) -> Iterator[str]:
        """When all is quiet the key was created once and every message is passed, or a person is asked."""
        if len(state.requests) > 1:
            yield TWICE if state.flagged or not self.freezes_inside else UNSEEN
        asked = (any(state.claims) or state.forgotten) and not self.can_look_up
        if any(flow.waiting for flow in state.flows) and not asked:
            yield STUCK
        if not any(flow.waiting for flow in state.flows) and not state.requests:
            yield LOST

    # What can happen

    def steps(self, state: State) -> Iterator[Step[State]]:
        """Everything that can happen next."""
        for f in range(len(state.flows)):
            yield from self.work(state, f)
            yield from self.thaw(state, f)
        yield from self.arrive(state)
        yield from self.restore(state)

    def restore(self, state: State) -> Iterator[Step[State]]:
        """The ledger goes back to its back-up, with everything stopped but what is frozen; tokens go on above."""
        if state.left.restores:
            fewer = state.left._replace(restores=state.left.restores - 1)
            flows = tuple(
                Flow(count, frozen=flow.frozen) for count, flow in zip(self.messages, state.flows, strict=True)
            )
            lost = state._replace(left=fewer, flows=flows, claims=(0, 0), held=False, forgotten=True)
            yield world("ledger is restored", lost)

    def work(self, state: State, f: int) -> Iterator[Step[State]]:
        """A worker goes on, is killed, or freezes before or inside its call."""
        flow, left = state.flows[f], state.left
        if flow.work is None:
            if flow.waiting:
                yield from self.begin(state, f)
            return
        work = flow.work
        gone = with_flow(state, f, flow._replace(work=None))
        yield from self.advance(state, f, work)
        if left.kills:
            killed = gone._replace(left=left._replace(kills=left.kills - 1))
            yield world(f"flow {f} is killed before {work.phase}", killed)
        if work.phase == "call" and flow.frozen is None:
            if left.freezes:
                frozen = with_flow(gone, f, flow._replace(work=None, frozen=work))
                yield world(f"flow {f} freezes", frozen._replace(left=left._replace(freezes=left.freezes - 1)))
            if left.freezes_inside:
                frozen = with_flow(gone, f, flow._replace(work=None, frozen=work._replace(phase="inside")))
                fewer = left._replace(freezes_inside=left.freezes_inside - 1)
                yield world(f"flow {f} freezes inside the call", frozen._replace(left=fewer))

    def begin(self, state: State, f: int) -> Iterator[Step[State]]:
        """Look into held: an update, which is simply repeated; a create; or a key in doubt."""
        flow = state.flows[f]
        claim = state.claims[self.slot(f)]
        if claim == 0:
            if state.held:
                yield system(f"flow {f}: update", with_flow(state, f, flow._replace(waiting=0)))
            elif state.forgotten and Rule.LOOK_UP_AFTER_RESTORE not in self.left_out:
                yield from self.settle(state, f)
            else:
                phase = "call" if Rule.CLAIM_BEFORE_CALL in self.left_out else "claim"
                yield system(f"flow {f}: is to be created", with_flow(state, f, flow._replace(work=Work(phase))))
            return
        alive = any(other.work and other.work.token == claim for other in state.flows)
        if not alive:
            yield from self.settle(state, f)

    def settle(self, state: State, f: int) -> Iterator[Step[State]]:
        """The claim's worker or the claim is gone: look up, and believe a "none" only after the settling time."""
        slot, flow = self.slot(f), state.flows[f]
        settled = all(request.stage == "visible" for request in state.requests)
        visible = any(request.stage == "visible" for request in state.requests)
        retried = self.claimed(state, f)
        found = state._replace(held=True, claims=put(state.claims, slot, 0))
        if Rule.LOOK_UP_FIRST in self.left_out:
            yield system(f"flow {f}: tries again blindly", retried)
            return
        if Rule.NEWER_WAITS in self.left_out and flow.waiting > 1:
            yield system(f"flow {f}: leaves it in doubt, creates the newer", retried)
        if self.can_look_up:
            if visible:
                yield system(f"flow {f}: look-up finds it", found)
            elif settled or Rule.SETTLING_TIME in self.left_out:
                yield system(f"flow {f}: look-up says none", retried)
        elif settled:
            yield world("a person has looked", found if visible else retried)

    def advance(self, state: State, f: int, work: Work) -> Iterator[Step[State]]:
        """Claim, call, answer, confirm."""
        flow = state.flows[f]
        idle = with_flow(state, f, flow._replace(work=None))
        match work.phase:
            case "claim":
                known = state.held and Rule.HELD_IN_CLAIM_COMMIT not in self.left_out
                if known or state.claims[self.slot(f)]:
                    yield system(f"flow {f}: no longer to be created", idle)
                else:
                    yield system(f"flow {f}: claim", self.claimed(state, f))
            case "call":
                sent = state._replace(requests=(*state.requests, Request(work.token, "sent")))
                called = flow._replace(work=Work("answer", work.token))
                yield system(f"flow {f}: call", with_flow(sent, f, called))
            case "answer":
                stages = [request.stage for request in state.requests if request.token == work.token]
                if "hidden" in stages or "visible" in stages:
                    answered = flow._replace(work=Work("confirm", work.token))
                    yield system(f"flow {f}: answer", with_flow(state, f, answered))
                    if state.left.losses:
                        fewer = state.left._replace(losses=state.left.losses - 1)
                        yield world(f"flow {f}: the answer is lost", idle._replace(left=fewer))
                elif not stages:
                    yield system(f"flow {f}: times out", idle)
            case _:
                yield system(f"flow {f}: confirm", self.confirm(state, f, work))

    def confirm(self, state: State, f: int, work: Work) -> State:
        """One ledger commit: held, the claim closed, the position. A lost claim is refused and flagged."""
        slot, flow = self.slot(f), state.flows[f]
        state = with_flow(state, f, flow._replace(work=None))
        claims = Rule.CLAIM_BEFORE_CALL not in self.left_out
        if claims and state.claims[slot] != work.token and Rule.CONFIRM_IS_FENCED not in self.left_out:
            return state._replace(flagged=True)
        state = with_flow(state, f, flow._replace(work=None, waiting=0))
        return state._replace(held=True, claims=put(state.claims, slot, 0))

    def thaw(self, state: State, f: int) -> Iterator[Step[State]]:
        """A frozen worker wakes up: before its call it looks at its lease, inside the call it cannot."""
        flow = state.flows[f]
        if flow.frozen is None or flow.work is not None:
            return
        inside = flow.frozen.phase == "inside"
        awake = with_flow(state, f, flow._replace(frozen=None))
        if not inside and Rule.LEASE_BEFORE_CALL not in self.left_out:
            yield system(f"flow {f} thaws: its lease is gone", awake)
            return
        late = flow._replace(frozen=None, work=Work("answer", flow.frozen.token))
        sent = state._replace(requests=(*state.requests, Request(flow.frozen.token, "sent")))
        yield system(f"flow {f} thaws and calls", with_flow(sent, f, late))

    def arrive(self, state: State) -> Iterator[Step[State]]:
        """A request arrives or is lost; what was created becomes visible."""
        for r, request in enumerate(state.requests):
            if request.stage == "visible":
                continue
            later = request._replace(stage="hidden" if request.stage == "sent" else "visible")
            requests = put(state.requests, r, later)
            yield system(f"request {r} is {later.stage}", state._replace(requests=requests))
            if request.stage == "sent" and state.left.losses:
                rest = state.requests[:r] + state.requests[r + 1 :]
                fewer = state.left._replace(losses=state.left.losses - 1)
                yield world(f"request {r} is lost", state._replace(requests=rest, left=fewer))

    def claimed(self, state: State, f: int) -> State:
        """The claim commit: a new token, and the worker before its call."""
        token = state.token + 1
        state = with_flow(state, f, state.flows[f]._replace(work=Work("call", token)))
        return state._replace(token=token, claims=put(state.claims, self.slot(f), token))

    def slot(self, f: int) -> int:
        """Whose claim it is: the target's key's, so both flows share one."""
        return f if Rule.CLAIM_PER_KEY in self.left_out else 0


def with_flow(state: State, f: int, flow: Flow) -> State:
    """The state with one flow replaced."""
    return state._replace(flows=put(state.flows, f, flow))
