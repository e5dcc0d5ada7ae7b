"""Judges a trial by what source and target themselves hold and went through, not by what Tieline says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tieline.connector import Record
from tieline.connectors.memory import Store
from tieline.ledger import Stores
from tieline.message import Reason
from tieline.runner.ways import RETIRED

Content = Any
"""What matters of a record, such as its value; None: it is gone."""

GONE: Final = None


@dataclass(slots=True)
class History:
    """What a table in memory went through, effect by effect; `watch` makes one.

    `effects` are (key, content) in order, one for each write and delete, also of what was there
    already. `doubles` are keys that had two rows at a time.
    """

    resource: str
    key: Callable[[Record], str]
    content: Callable[[Record], Content]
    effects: list[tuple[str, Content]] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    _rows: dict[str, tuple[int, Record]] = field(default_factory=dict)

    def of(self, key: str) -> list[Content]:
        """What became of one key."""
        return [content for of, content in self.effects if of == key]

    def now(self) -> dict[str, Content]:
        """What is there."""
        return {self.key(record): self.content(record) for _, record in self._rows.values()}

    def look(self, store: Store) -> list[tuple[str, Content]]:
        """Note what changed since the last look; gives it."""
        rows = store.contents.table(self.resource)
        now = {id: (at, rows.by_id[id]) for id, at in rows.changed.items()}
        new: list[tuple[int, str, Content]] = []
        for id, (at, record) in now.items():
            before = self._rows.get(id)
            if before is None or before[0] != at:
                new.append((at, self.key(record), self.content(record)))
        for id, (_, record) in self._rows.items():
            if id not in now:
                new.append((rows.gone.get(id, 0), self.key(record), GONE))
        self._rows = now
        keys = [self.key(record) for _, record in now.values()]
        if len(keys) > len(set(keys)):
            self.doubles += sorted({key for key in keys if keys.count(key) > 1})
        found = [(key, content) for _, key, content in sorted(new, key=lambda one: one[0])]
        self.effects += found
        return found


def watch(
    store: Store,
    note: Callable[[str], None],
    **tables: tuple[Callable[[Record], str], Callable[[Record], Content]],
) -> dict[str, History]:
    """Keep a history of a store's tables, each given by what its key and its content are.

    Takes the store's hook; `note` is told of each effect.
    """
    histories = {name: History(name, key, content) for name, (key, content) in tables.items()}

    async def hook(moment: str) -> None:
        if moment.endswith(".done"):
            for name, history in histories.items():
                for key, content in history.look(store):
                    note(f"        {name} {key} = {content}")

    store.hook = hook
    return histories


def differences(expected: Mapping[str, Content], found: Mapping[str, Content]) -> list[str]:
    """Where a target is not what it should be."""
    missing, nothing = object(), "no row"
    wrong = []
    for key in sorted(expected.keys() | found.keys()):
        want, have = expected.get(key, missing), found.get(key, missing)
        if want != have:
            shown = [nothing if value is missing else value for value in (want, have)]
            wrong.append(f"{key}: should be {shown[0]}, is {shown[1]}")
    return wrong


def out_of_order(source: Sequence[Content], target: Sequence[Content]) -> str | None:
    """What a key went through at the target must be a part, in order, of what it went through at the source.

    The same content twice in a row at the target counts once. None where that is so.
    """
    place = 0
    last: Content = GONE
    for content in target:
        if content == last:
            continue
        try:
            place = source.index(content, place) + 1
        except ValueError:
            return f"{content} after {last}; the source went {' → '.join(map(str, source))}"
        last = content
    return None


def twice(effects: Iterable[Content]) -> list[Content]:
    """Contents that were written although they were there already."""
    found, last = [], object()
    for content in effects:
        if content == last:
            found.append(content)
        last = content
    return found


@dataclass(frozen=True, slots=True)
class Account:
    """One leg's books: what came in, what became of it, and what waits."""

    leg: str
    entered: int
    outcomes: Mapping[str, int]
    parked: Mapping[Reason, int]

    @property
    def balanced(self) -> bool:
        """Whether in = outcomes + parked, once nothing is in flight."""
        return self.entered == sum(self.outcomes.values()) + sum(self.parked.values())

    def __str__(self) -> str:
        came = f"{sum(self.outcomes.values())} {dict(self.outcomes)}"
        return f"{self.leg}: {self.entered} came in; {came} + {sum(self.parked.values())} {dict(self.parked)}"


def accounts(stores: Stores) -> list[Account]:
    """Every leg's books; for `Trial.look`."""
    return [
        Account(row.leg, row.entered, stores.legs.totals(row.leg), stores.parked.counts(row.leg))
        for row in stores.legs.all()
        if row.paused != RETIRED
    ]
