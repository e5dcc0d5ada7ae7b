"""Walks every state a small model can reach and reports the ones that came to rest wrong.

A model is a start state and a function from a state to its steps. A state is an immutable, hashable value
(a NamedTuple with named fields). A step is either the *system*'s, which Tieline takes sooner or later, or the
*world*'s, which may happen or not: an edit, a crash, a frozen worker, an operator. A state in which the system
has no step left is *quiet*; what must hold in the end is asked there. What must hold at every moment (the
accounting) is asked in every state.

The walk is breadth-first, so the first trace found for a kind of wrong is a shortest one.
"""

import gc
import os
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Generic, Literal, NamedTuple, TypeVar

State = TypeVar("State", bound=Hashable)

Verdict = Callable[[State], Iterable[str]]
"""Names each kind of wrong in a state; names none when all is well."""

LONG = os.environ.get("TIELINE_MODELS") == "long"
"""True when the larger sizes were asked for (``TIELINE_MODELS=long``)."""

UNSETTLED = "never comes to rest"
"""The kind of wrong for a state from which the system's own steps cannot reach a quiet one."""

MOST_STATES = 10_000_000 if LONG else 1_000_000
"""A model that grows past this is a mistake in its sizes, not a reason to wait."""


class Step(NamedTuple, Generic[State]):
    """One thing that can happen next."""

    by: Literal["system", "world"]
    name: str
    then: State


def system(name: str, then: State) -> Step[State]:
    """A step Tieline takes sooner or later."""
    return Step("system", name, then)


def world(name: str, then: State) -> Step[State]:
    """A step that may happen or may never happen."""
    return Step("world", name, then)


@dataclass
class Report:
    """What a walk saw: how many states, how many quiet ones, and each kind of wrong with a shortest trace."""

    states: int = 0
    quiet: int = 0
    wrong: dict[str, int] = field(default_factory=dict)
    traces: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        """One line of figures, then a shortest trace for each kind of wrong."""
        lines = [f"states={self.states} quiet={self.quiet} wrong={self.wrong or 'none'}"]
        lines += [f"  {kind}: {' > '.join(trace)}" for kind, trace in self.traces.items()]
        return "\n".join(lines)


def no_verdict(_state: Hashable) -> Iterator[str]:
    """Finds nothing wrong, ever."""
    return iter(())


def explore(
    start: State,
    steps: Callable[[State], Iterable[Step[State]]],
    *,
    at_rest: Verdict[State],
    always: Verdict[State] = no_verdict,
    until: str | None = None,
) -> Report:
    """Walk every state reachable from `start`.

    `at_rest` judges quiet states, `always` judges every state. With `until` the walk ends at the first state
    that is wrong in that way: enough where the question is whether a rule is needed. Without it the walk is
    complete, and a state that can no longer come to rest is reported as `UNSETTLED`.

    Raises OverflowError when the model has more than `MOST_STATES` states.
    """
    gc.disable()  # states hold no cycles, and looking for some takes a quarter of the time
    try:
        return _walk(start, steps, at_rest, always, until)
    finally:
        gc.enable()


def _walk(
    start: State,
    steps: Callable[[State], Iterable[Step[State]]],
    at_rest: Verdict[State],
    always: Verdict[State],
    until: str | None,
) -> Report:
    report = Report()
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    reached_by: dict[State, list[State]] = {}
    quiet: list[State] = []
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        found = set(always(state))
        at_work = False
        for by, name, then in steps(state):
            if by == "system":
                at_work = True
                if until is None:
                    reached_by.setdefault(then, []).append(state)
            if then not in came_from:
                came_from[then] = (state, name)
                waiting.append(then)
        if not at_work:
            quiet.append(state)
            found.update(at_rest(state))
        _note(report, found, state, came_from)
        if until in found:
            break
        if len(came_from) > MOST_STATES:
            raise OverflowError(f"more than {MOST_STATES} states: give the model less to do")
    report.states, report.quiet = len(came_from), len(quiet)
    if until is None:
        settled = _all_behind(quiet, reached_by)
        for state in came_from:
            if state not in settled:
                _note(report, {UNSETTLED}, state, came_from)
    return report


def _note(report: Report, found: set[str], state: State, came_from: dict[State, tuple[State, str] | None]) -> None:
    """Count each kind of wrong; the first of its kind keeps the way that led there."""
    for kind in found:
        report.wrong[kind] = report.wrong.get(kind, 0) + 1
        if kind not in report.traces:
            report.traces[kind] = tuple(_way_to(state, came_from))


def _way_to(state: State, came_from: dict[State, tuple[State, str] | None]) -> list[str]:
    names: list[str] = []
    before = came_from[state]
    while before is not None:
        state, name = before
        names.append(name)
        before = came_from[state]
    return names[::-1]


def _all_behind(ends: list[State], reached_by: dict[State, list[State]]) -> set[State]:
    """The ends and every state from which system steps lead to one of them."""
    settled = set(ends)
    waiting = deque(ends)
    while waiting:
        for before in reached_by.get(waiting.popleft(), ()):
            if before not in settled:
                settled.add(before)
                waiting.append(before)
    return settled


Item = TypeVar("Item")


def put(items: tuple[Item, ...], place: int, item: Item) -> tuple[Item, ...]:
    """The same tuple with one item replaced."""
    return (*items[:place], item, *items[place + 1 :])
