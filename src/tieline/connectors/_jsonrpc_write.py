"""Writing models in bulk: one look-up, one create, one write and one delete for all changes."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tieline.connector import Change, Record, Result
from tieline.connectors._bulk import behind, failed, following, halving, in_waves, stops
from tieline.connectors._http_errors import Effect
from tieline.connectors._jsonrpc_model import Model
from tieline.connectors._tryton import Field, Remote
from tieline.connectors._tryton_values import fitted, is_commands, number
from tieline.errors import Hold, InDoubt, Reject, TielineError

_LISTS: Final = frozenset({"one2many", "many2many"})


class Writer:
    """Writes one model of one system; a writer lives for one batch."""

    def __init__(self, remote: Remote, model: Model) -> None:
        self._remote = remote
        self._model = model
        self._name = model.model
        self._stop: TielineError | None = None

    async def write(self, changes: Sequence[Change]) -> list[Result]:
        """One result per change, in order. After an outage nothing more is sent."""
        results: dict[int, Result] = {}
        latest: dict[str, int] = {}
        for wave in in_waves(changes):
            pending: dict[int, Change] = {}
            for place in wave:
                change, earlier = changes[place], latest.get(changes[place].key)
                before = None if earlier is None else results[earlier]
                error = self._stop or behind(before)
                if error is not None:
                    results[place] = Result(error=error)
                else:
                    pending[place] = following(change, None if earlier is None else changes[earlier], before)
            results |= await self._wave(pending)
            latest |= {changes[place].key: place for place in wave}
        return [results[place] for place in range(len(changes))]

    async def act(self, action: str, ids: Sequence[str]) -> list[Result]:
        """Take an action on all rows in one call; where that fails, on halves."""
        known = list(dict.fromkeys(ids))  # Tryton refuses a call that names a row twice

        async def attempt(part: Sequence[str]) -> list[Result]:
            rows = [number("id", id) for id in part]
            await self._remote.call(f"model.{self._name}.{action}", rows, effect=Effect.ONCE)
            return [Result(id) for id in part]

        results = dict(zip(known, await halving(known, attempt), strict=True))
        return [results[id] for id in ids]

    async def _wave(self, changes: Mapping[int, Change]) -> dict[int, Result]:
        """Write changes of different keys: look them up, then delete, write and create."""
        results: dict[int, Result] = {}
        try:
            ids = await self._ids(changes, results)
            there = await self._there(changes, [row for row in ids.values() if row is not None])
            values = await self._values(changes, ids, there, results)
        except TielineError as error:
            result = failed(error)
            self._stop = stops(result)
            return dict.fromkeys(changes, result)

        async def delete(part: Sequence[int]) -> list[Result]:
            rows = [ids[place] for place in part]
            await self._call("delete", rows, effect=Effect.REPEAT)
            return [Result(str(row)) for row in rows]

        async def update(part: Sequence[int]) -> list[Result]:
            pairs = [one for place in part for one in ([ids[place]], values[place])]
            await self._call("write", *pairs, effect=Effect.REPEAT)
            return [Result(str(ids[place])) for place in part]

        async def create(part: Sequence[int]) -> list[Result]:
            effect = Effect.ONCE if self._model.match else Effect.BLIND
            rows = await self._call("create", [values[place] for place in part], effect=effect)
            if not isinstance(rows, list) or len(rows) != len(part):
                raise InDoubt(f"{self._name}.create gave {str(rows)[:80]} for {len(part)} rows")
            return [Result(str(row)) for row in rows]

        waiting = [place for place in changes if place not in results]
        deletes = [place for place in waiting if changes[place].record is None]
        updates = [place for place in waiting if place in values and ids[place] is not None]
        creates = [place for place in waiting if place in values and ids[place] is None]
        for places, attempt in ((deletes, delete), (updates, update), (creates, create)):
            if self._stop is not None:
                results.update((place, Result(error=self._stop)) for place in places)
                continue
            done = await halving(places, attempt)
            results.update(zip(places, done, strict=True))
            self._stop = next((said for result in done if (said := stops(result)) is not None), None)
        return results

    async def _call(self, method: str, *parameters: Any, effect: Effect) -> Any:
        return await self._remote.call(f"model.{self._name}.{method}", *parameters, effect=effect)

    async def _ids(self, changes: Mapping[int, Change], results: dict[int, Result]) -> dict[int, int | None]:
        """The row of each change, None where there is none yet; what cannot be told is a Reject in `results`."""
        ids: dict[int, int | None] = {}
        wanted: dict[str, int] = {}
        match = self._model.match
        for place, change in changes.items():
            try:
                ids[place] = None if change.target_id is None else number("id", change.target_id)
                if ids[place] is not None or (match is None and change.record is not None):
                    continue
                value = self._matched(change)
                if value in wanted:
                    other = changes[wanted[value]].key
                    raise Reject(f"{other!r} has the same; correct one of the two", field=match, value=value)
                wanted[value] = place
            except Reject as error:
                results[place] = Result(error=error)
        if match is None or not wanted:
            return ids
        found = await matching(self._remote, self._model, match, list(wanted), inactive=True)
        for value, place in wanted.items():
            rows = found.get(value, [])
            if len(rows) > 1:
                shown = " and ".join(str(row["id"]) for row in rows[:5])
                several = Reject(f"rows {shown} there have it; merge them there", field=match, value=value)
                results[place] = Result(error=several)
            elif rows:
                ids[place] = rows[0]["id"]
            elif changes[place].record is None:
                results[place] = Result()  # nothing of it is there
        return ids

    def _matched(self, change: Change) -> str:
        match = self._model.match
        if match is None:
            raise Reject("nothing tells which row there this was; declare match=… for the model")
        value = change.key if change.record is None else change.record.get(match)
        if value is None or value == "":
            raise Reject("finds the row there and is empty", field=match, value=value)
        return str(value)

    async def _there(self, changes: Mapping[int, Change], rows: Sequence[int]) -> dict[int, Record]:
        """What is there of the rows to be written: their state, and the rows in the lists to be replaced."""
        if not rows:
            return {}
        fields = await self._remote.fields(self._name)
        asked = {name for change in changes.values() for name in change.record or () if is_list(fields.get(name))}
        if self._model.state in fields:
            asked.add(self._model.state)
        domain = [["id", "in", list(rows)], *also_inactive(fields)]
        return {row["id"]: row for row in await self._remote.search_read(self._name, domain, sorted(asked))}

    async def _values(
        self,
        changes: Mapping[int, Change],
        ids: Mapping[int, int | None],
        there: Mapping[int, Record],
        results: dict[int, Result],
    ) -> dict[int, Record]:
        """What to write for each change, as the model takes it."""
        values: dict[int, Record] = {}
        for place, change in changes.items():
            if place in results:
                continue
            row = ids[place]
            known = None if row is None else there.get(row)
            try:
                if change.record is None:
                    if known is None:
                        results[place] = Result(change.target_id)  # gone already
                elif row is not None and known is None:
                    raise Reject("this row is not there any more", field="id", value=row)
                else:
                    given = change.record if known is None else self._lasting(change.record)
                    values[place] = await self._fitted(self._name, given, known)
            except Reject as error:
                results[place] = Result(error=error)
        return values

    def _lasting(self, record: Record) -> Record:
        return {name: value for name, value in record.items() if name not in self._model.create_only}

    async def _fitted(self, model: str, record: Record, known: Record | None) -> Record:
        fields = await self._remote.fields(model)
        fit: Record = {}
        for name, value in record.items():
            field = fields.get(name)
            if field is None:
                raise Reject(f"{model} has no such field", field=name, value=value)
            if is_list(field) and isinstance(value, list | tuple) and not is_commands(value):
                commands = await self._commands(field, name, value, known)
                if commands or known is None:
                    fit[name] = commands
            else:
                fit[name] = fitted(field.kind, name, value)
        return fit

    async def _commands(self, field: Field, name: str, values: Sequence[Any], known: Record | None) -> list[Any]:
        """Tryton's commands that make a list hold exactly `values`."""
        there = set() if known is None else set(known.get(name) or ())
        if field.kind == "many2many":
            wanted = {number(name, value) for value in values}
            return _without_empty([["remove", sorted(there - wanted)], ["add", sorted(wanted - there)]])
        state = None if known is None else known.get(self._model.state)
        if state is not None and state not in self._model.draft:
            open_ = " or ".join(self._model.draft)
            raise Reject(f"is replaced only while {self._model.state} is {open_}", field=name, value=state)
        kept: list[Any] = []
        new = []
        for value in values:
            if not isinstance(value, Mapping):
                raise Reject("takes rows as objects", field=name, value=value)
            row = value.get("id")
            fit = await self._fitted(field.relation, {k: v for k, v in value.items() if k != "id"}, None)
            if row is None:
                new.append(fit)
            else:
                there.discard(number("id", row))
                kept.append(["write", [number("id", row)], fit])
        return _without_empty([["delete", sorted(there)], *kept, ["create", new]])


async def matching(
    remote: Remote,
    model: Model,
    name: str,
    values: Sequence[str],
    fields: Sequence[str] = (),
    *,
    inactive: bool = False,
) -> dict[str, list[Record]]:
    """Rows by the value of the field `name`, lowest id first; with `inactive`, also those set aside there.

    Raises:
        Hold: where the model has no such field.
    """
    known = await remote.fields(model.model)
    if name not in known:
        raise Hold(f"{model.model} has no field {name!r} → correct the model's match in the adapter")
    domain = [*model.domain, [name, "in", [fitted(known[name].kind, name, value) for value in values]]]
    if inactive:
        domain += also_inactive(known)
    rows = await remote.search_read(model.model, domain, {*fields, name}, order=[["id", "ASC"]])
    found: dict[str, list[Record]] = {}
    for row in rows:
        found.setdefault(str(row[name]), []).append(row)
    return found


def is_list(field: Field | None) -> bool:
    """Whether a field holds rows of another model."""
    return field is not None and field.kind in _LISTS


def also_inactive(fields: Mapping[str, Field]) -> list[Any]:
    """The clause that shows rows which are set aside there, which a search leaves out by itself."""
    return [["active", "in", [True, False]]] if "active" in fields else []


def _without_empty(commands: list[Any]) -> list[Any]:
    return [command for command in commands if command[1]]
