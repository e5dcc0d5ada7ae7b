"""Rows of the system that records refer to by what people know them by: an account's code, a unit's symbol."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from tieline.connector import Change, Record, Result
from tieline.connectors._bulk import failed
from tieline.connectors._tryton import Remote
from tieline.errors import Reject, TielineError

_AT_ONCE: Final = 200

_Known = tuple[str, tuple[tuple[str, Any], ...]]


class Find:
    """Stands in a record for the id of the row of `model` whose fields have these values.

    Found once and remembered, until a change that refers to it is rejected; where several rows fit, it is
    the one with the lowest id.
    """

    __slots__ = ("what",)

    def __init__(self, model: str, **by: Any) -> None:
        values = {name: str(value) if isinstance(value, str) else value for name, value in by.items()}
        self.what: _Known = (model, tuple(sorted(values.items())))

    def __repr__(self) -> str:
        model, by = self.what
        return f"{model} with {', '.join(f'{name} {value!r}' for name, value in by)}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Find) and other.what == self.what

    def __hash__(self) -> int:
        return hash(self.what)


class Finder:
    """Puts ids in the place of every Find of a batch, with one search per model and kind of question."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._ids: dict[_Known, int] = {}

    async def resolve(self, changes: Sequence[Change]) -> tuple[list[Change], dict[int, Result]]:
        """The changes with ids, and by place the result of those that refer to nothing.

        An outage is the result of every change.
        """
        asked = {find.what for change in changes for find in _finds(change.record)}
        try:
            await self._learn(asked - self._ids.keys())
        except TielineError as error:
            return list(changes), dict.fromkeys(range(len(changes)), failed(error))
        resolved: list[Change] = []
        missing: dict[int, Result] = {}
        for place, change in enumerate(changes):
            unknown = [find for find in _finds(change.record) if find.what not in self._ids]
            if unknown:
                missing[place] = Result(error=Reject(f"the system has no {unknown[0]!r}"))
            resolved.append(change if unknown else msgspec.structs.replace(change, record=self._put(change.record)))
        return resolved, missing

    def forget(self, change: Change) -> None:
        """Search again for what a refused change refers to: it may have been replaced there."""
        for find in _finds(change.record):
            self._ids.pop(find.what, None)

    async def _learn(self, asked: set[_Known]) -> None:
        kinds: dict[tuple[str, tuple[str, ...]], list[_Known]] = {}
        for what in asked:
            kinds.setdefault((what[0], tuple(name for name, _ in what[1])), []).append(what)
        for (model, names), wanted in kinds.items():
            for start in range(0, len(wanted), _AT_ONCE):
                part = wanted[start : start + _AT_ONCE]
                domain = ["OR", *([[name, "=", value] for name, value in by] for _, by in part)]
                rows = await self._remote.search_read(model, [domain], sorted({*names, "id"}), order=[["id", "DESC"]])
                for row in rows:
                    self._ids[model, tuple((name, row[name]) for name in names)] = row["id"]

    def _put(self, value: Any) -> Any:
        if isinstance(value, Find):
            return self._ids[value.what]
        if isinstance(value, dict):
            return {name: self._put(inner) for name, inner in value.items()}
        if isinstance(value, list | tuple):
            return [self._put(inner) for inner in value]
        return value


def _finds(value: Record | Any) -> Iterable[Find]:
    if isinstance(value, Find):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _finds(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _finds(inner)
