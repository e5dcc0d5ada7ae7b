"""Reading models: whole rows with their children, in the order in which they changed."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from tieline.connector import BadRecord, Checkpoint, Page, Record
from tieline.connectors._jsonrpc_model import Child, Model
from tieline.connectors._tryton import Remote
from tieline.errors import Hold, Reject, RetryLater, TielineError

# The date of the last change is empty until the first one.
_DATES: Final = ("create_date", "write_date")
_NEVER_WRITTEN: Final = [["write_date", "=", None]]
_NEVER_TOUCHED: Final = [["write_date", "=", None], ["create_date", "=", None]]
_BY_ID: Final = [["id", "ASC"]]

Place = tuple[str, int]
"""How far a reading has come: a time as ISO 8601 text, and the last row's id at that time."""


class Reader:
    """Reads one model of one system."""

    def __init__(self, remote: Remote, model: Model) -> None:
        self._remote = remote
        self._model = model

    async def changed(self, since: Checkpoint, overlap: timedelta, filters: Mapping[str, Any]) -> AsyncIterator[Page]:
        """Pages of what was created or written since a checkpoint; of everything where there is none."""
        domain = [*self._model.domain, *([name, "=", value] for name, value in filters.items())]
        passes = _passes(self._model)
        places: dict[str, Place | None]
        if since is None:
            started = (self._remote.answered.replace(tzinfo=None).isoformat(), 0)
            places = {name: started if "." in name else None for name in passes}
            reached = dict(places)
            async for page, _ in self._rows([*domain, *_NEVER_TOUCHED], "", None):
                yield page
        else:
            places = {name: _from(since.get(name), overlap) for name in passes}
            # What the overlap shows again does not move the checkpoint back.
            reached = {name: _from(since.get(name), timedelta()) for name in passes}
        # What was only created comes first: a row that is written meanwhile is met in the second pass.
        for name in list(places):
            child, _, column = name.rpartition(".")
            if child:
                pages = self._parents(self._model.children[child], domain, column, places[name])
            else:
                only = _NEVER_WRITTEN if column == "create_date" else []
                pages = self._rows([*domain, *only], column, places[name])
            async for page, place in pages:
                reached[name] = max(filter(None, (reached[name], place)))
                checkpoint = {pass_: None if at is None else list(at) for pass_, at in reached.items()}
                yield Page(page.ids, page.records, checkpoint, bad=page.bad)

    async def page(self, ids: Sequence[int], column: str = "") -> Page:
        """The rows with these ids, in this order; where one cannot be read, the others can."""
        found: dict[int, Record] = {}
        failed: dict[int, TielineError] = {}
        waiting = [list(ids)] if ids else []
        while waiting:
            part = waiting.pop()
            try:
                found.update((row["id"], row) for row in await self._load([["id", "in", part]], column))
            except (Hold, RetryLater) as error:
                if len(part) == 1:
                    failed[part[0]] = error
                else:
                    middle = len(part) // 2
                    waiting += [part[middle:], part[:middle]]
        if failed and not found:
            # All of them: the rows may be sound and the question wrong. Another row tells.
            await self._load([*self._model.domain, ["id", "not in", list(failed)]], column, limit=1)
        records = {str(id): found[id] for id in ids if id in found}
        return Page(list(records), list(records.values()), bad=[self._bad(id, error) for id, error in failed.items()])

    def _bad(self, id: int, error: TielineError) -> BadRecord:
        return BadRecord(str(id), f"{self._model.model} {id}", "", Reject(f"cannot be read there: {error}"))

    async def _rows(
        self, domain: Sequence[Any], column: str, place: Place | None
    ) -> AsyncIterator[tuple[Page, Place | None]]:
        """The model's rows in the order of a date (or of their ids), from a place on."""
        size, last = self._model.page, 0
        order = [[column, "ASC"], *_BY_ID] if column else _BY_ID
        while True:
            after = [*domain, _after(column, place) if column else ["id", ">", last]]
            try:
                rows = heads = await self._load(after, column, limit=size, order=order)
                page = Page([str(row["id"]) for row in rows], rows)
            except (Hold, RetryLater):
                name, asked = self._model.model, {column} - {""}
                heads = await self._remote.search_read(name, after, asked, limit=size, order=order)
                page = await self.page([row["id"] for row in heads], column)
            if not heads:
                return
            last = heads[-1]["id"]
            place = _reached(heads[-1], column)
            self._drop(column, page.records)
            yield page, place
            if len(heads) < size:
                return

    async def _parents(
        self, child: Child, domain: Sequence[Any], column: str, place: Place | None
    ) -> AsyncIterator[tuple[Page, Place | None]]:
        """The rows of which a child was changed, in the order of its date."""
        size = self._model.page
        while True:
            after = [_after(column, place)]
            order = [[column, "ASC"], *_BY_ID]
            rows = await self._remote.search_read(child.model, after, {child.parent, column}, limit=size, order=order)
            if not rows:
                return
            place = _reached(rows[-1], column)
            parents = sorted({row[child.parent] for row in rows if row[child.parent] is not None})
            inside = await self._remote.search_read(self._model.model, [*domain, ["id", "in", parents]], [])
            yield await self.page([row["id"] for row in inside]), place
            if len(rows) < size:
                return

    async def _load(
        self, domain: Sequence[Any], column: str = "", *, limit: int | None = None, order: Any = None
    ) -> list[Record]:
        """Rows with their fields, a date besides, and their children."""
        model = self._model
        rows = await self._remote.search_read(
            model.model, domain, {*model.fields, column} - {""}, limit=limit, order=order
        )
        ids = [row["id"] for row in rows]
        for name, child in model.children.items() if ids else ():
            groups: dict[int, list[Record]] = {id: [] for id in ids}
            asked = {*child.fields, child.parent}
            for row in await self._remote.search_read(child.model, [[child.parent, "in", ids]], asked):
                parent = row[child.parent] if child.parent in child.fields else row.pop(child.parent)
                groups[parent].append(row)
            for row in rows:
                row[name] = groups[row["id"]]
        return rows

    def _drop(self, column: str, records: Iterable[Record]) -> None:
        """Leave out the date that was read for us alone."""
        if column and column not in self._model.fields:
            for record in records:
                del record[column]


def _passes(model: Model) -> list[str]:
    """The readings that together show every change: by each date, of the model and of watched children."""
    watched = [name for name, child in model.children.items() if child.watched]
    return [*_DATES, *(f"{name}.{date}" for name in watched for date in _DATES)]


def _after(column: str, place: Place | None) -> list[Any]:
    if place is None:
        return [column, "!=", None]
    moment = datetime.fromisoformat(place[0])
    return ["OR", [column, ">", moment], [[column, "=", moment], ["id", ">", place[1]]]]


def _reached(row: Record, column: str) -> Place | None:
    return (row[column].replace(tzinfo=None).isoformat(), row["id"]) if column else None


def _from(place: Sequence[Any] | None, overlap: timedelta) -> Place | None:
    """Where to begin, from a checkpoint's place."""
    if place is None or not overlap:
        return None if place is None else (place[0], place[1])
    return (datetime.fromisoformat(place[0]) - overlap).isoformat(), 0
