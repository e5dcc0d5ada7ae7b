"""Writing: many changes in few statements, and the bad one among them found by halving.

Changes of one row are applied in their order: a list of changes is cut into rounds in which no row
comes twice. In a round, changes with the same fields go together, column by column. When a statement
fails, its piece is rolled back to a savepoint and halved, until what cannot be applied stands alone.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from operator import itemgetter
from typing import Any, Final

from tieline.connector import Change, Record, Result
from tieline.connectors.sql.dialect import AnyDialect, LockTimeout, Refusal, Row, Session
from tieline.connectors.sql.names import id_part, is_utf8, join_id, split_id
from tieline.connectors.sql.shape import ChildShape, Column, Kind, Relation, Shape
from tieline.errors import AccessRefused, ConfigurationError, Reject, TielineError, Unavailable

Fields = tuple[str, ...]
_MISFITS: Final = (ArithmeticError, TypeError, ValueError)


class _Way(Enum):
    """How rows get into the table."""

    MERGE = auto()
    UPDATE = auto()  # the database gave the key, so a row that is gone cannot be made again
    INSERT = auto()  # the database gives the key


@dataclass(frozen=True, slots=True)
class _Lines:
    """The rows of a child, of those records (`at`) of a group that have them."""

    child: ChildShape
    columns: tuple[Column, ...]  # the parent's are not among them yet
    at: Sequence[int]
    owners: Sequence[int]  # of each line, the number of its record
    values: Sequence[Sequence[Any]]  # by column


@dataclass(frozen=True, slots=True)
class _Group:
    """Changes with the same fields, as rows."""

    way: _Way
    places: list[int]
    columns: tuple[Column, ...]
    keys: list[Row]
    rows: list[Row]
    lines: list[_Lines]


class _Refused(Exception):
    """Some changes were found to be impossible before anything was sent."""

    def __init__(self, rejects: dict[int, Reject]) -> None:
        super().__init__()
        self.rejects = rejects


class Writer:
    """Writes one list of changes of one table, inside a transaction that somebody else ends.

    `refresh` describes the table again: a column may have been added since.
    """

    def __init__(
        self,
        session: Session,
        dialect: AnyDialect,
        shape: Shape,
        refresh: Callable[[], Shape],
        changes: Sequence[Change],
    ) -> None:
        self._session = session
        self._dialect = dialect
        self._shape = shape
        self._refresh: Callable[[], Shape] | None = refresh
        self._changes = changes
        self._results: list[Result] = [Result(change.target_id) for change in changes]
        self._ids: list[str | None] = []

    def write(self) -> list[Result]:
        """One result per change, in order.

        Raises:
            Unavailable: when the connection is lost; nothing is known of any change then.
            AccessRefused: when the table may not be written.
        """
        for places in list(self._rounds()):
            self._attempt(places)
        return self._results

    def _rounds(self) -> Iterator[list[int]]:
        """The places of changes in order, cut before a row comes a second time."""
        seen: set[str] = set()
        places: list[int] = []
        for place, change in enumerate(self._changes):
            try:
                id = self._id(change)
            except Reject as error:
                self._ids.append(None)
                self._results[place] = Result(change.target_id, error=error)
                continue
            self._ids.append(id)
            if id is not None:
                if id in seen:
                    yield places
                    seen, places = set(), []
                seen.add(id)
            places.append(place)
        if places:
            yield places

    def _id(self, change: Change) -> str | None:
        """The id of the row that a change is about; None where the database will give it."""
        record, known = change.record, change.target_id
        if record is None:
            return change.key if known is None else known
        shape = self._shape
        if len(shape.key) == 1:
            id = _key_text(record.get(shape.key[0].name), shape.key[0])
        else:
            values = [_key_text(record.get(column.name), column) for column in shape.key]
            missing = [column.name for column, value in zip(shape.key, values, strict=True) if value is None]
            if missing and len(missing) < len(values):
                raise Reject("the record gives a part of the key only", field=missing[0])
            id = None if missing else join_id(values)
        if id is None:
            if known is None and not shape.table.numbered:
                raise Reject("the record gives no value for the key", field=shape.key[0].name)
            return known
        if known is not None and known != id:
            text = f"the row is known as {known!r} and a key does not change"
            raise Reject(f"{text}: delete the one and create the other", field=shape.key[0].name, value=id)
        return id

    def _attempt(self, places: list[int]) -> None:
        """Apply changes, or as many of them as can be."""
        while places:
            try:
                problem = self._try(places)
            except _Refused as refused:
                for place, reject in refused.rejects.items():
                    self._fail(place, reject)
                places = [place for place in places if place not in refused.rejects]
                continue
            if problem is None:
                return
            if len(places) == 1:
                self._fail(places[0], _explained(problem, self._changes[places[0]].record, self._shape))
                return
            if isinstance(problem, LockTimeout):
                for place in places:
                    self._fail(place, problem)
                return
            self._attempt(places[: len(places) // 2])
            places = places[len(places) // 2 :]

    def _fail(self, place: int, problem: TielineError) -> None:
        self._results[place] = Result(self._changes[place].target_id, error=problem)

    def _try(self, places: list[int]) -> TielineError | None:
        """Apply all of these changes, or none of them and say why."""
        gone, groups = self._prepared(places)
        self._dialect.savepoint(self._session)
        try:
            self._drop(gone)
            for group in groups:
                self._put(group)
            self._dialect.release(self._session, check=self._deferred)
        except self._dialect.errors as error:
            problem = self._dialect.problem(error)
            if isinstance(problem, Unavailable | AccessRefused | ConfigurationError):
                raise problem from error
        else:
            return None
        self._dialect.back(self._session)
        return problem

    @property
    def _deferred(self) -> bool:
        shape = self._shape
        return shape.relation.deferred or any(child.relation.deferred for child in shape.children.values())

    # --- from changes to rows; nothing is sent here

    def _prepared(self, places: list[int]) -> tuple[list[Row], list[_Group]]:
        """The keys to delete, and the rows to write.

        Raises:
            _Refused: for changes that cannot be, as many as are found at once.
        """
        gone: list[Row] = []
        together: dict[tuple[Fields, bool, bool], list[int]] = {}
        shape, ids = self._shape, self._ids
        first = shape.key[0].name
        for place in places:
            change = self._changes[place]
            record = change.record
            if record is None:
                id = change.key if change.target_id is None else change.target_id
                self._results[place] = Result(id)
                key = self._key_of_id(id)
                if key is not None:  # what cannot be a key is not there
                    gone.append(key)
            else:
                own = record.get(first) is not None
                together.setdefault((tuple(record), own, ids[place] is None), []).append(place)
        return gone, [self._group(fields, own, new, found) for (fields, own, new), found in together.items()]

    def _group(self, fields: Fields, own: bool, new: bool, places: list[int]) -> _Group:
        keys_in = {column.name for column in self._shape.key}
        names = tuple(n for n in fields if n not in self._shape.children and (own or n not in keys_in))
        self._check_names(names, self._shape.relation, "", places)
        shape = self._shape
        columns = shape.relation.pick(names)
        records: list[Record] = [self._changes[place].record for place in places]  # type: ignore[misc]
        values = self._columns(columns, records, places, "")
        keys: list[Row] = []
        if own:
            at = [names.index(column.name) for column in shape.key]
            keys = list(zip(*(values[one] for one in at), strict=True))
        elif not new:
            keys = [self._known_key(place) for place in places]
            columns = (*columns, *shape.key)
            values += map(list, zip(*keys, strict=True))
        way = _Way.INSERT if new else _Way.UPDATE if shape.table.numbered and not own else _Way.MERGE
        rows = list(zip(*values, strict=True)) if values else [()] * len(places)
        lines = [
            one
            for child in shape.children.values()
            if child.name in fields
            for one in self._lines(child, [record[child.name] for record in records], places)
        ]
        for place in places:
            self._results[place] = Result(self._ids[place])
        return _Group(way, places, columns, keys, rows, lines)

    def _known_key(self, place: int) -> Row:
        key = self._key_of_id(self._ids[place] or "")
        if key is None:
            reject = Reject("no row can have this key", field=self._shape.key[0].name, value=self._ids[place])
            raise _Refused({place: reject})
        return key

    def _key_of_id(self, id: str) -> Row | None:
        parts = split_id(id, len(self._shape.key))
        if parts is None:
            return None
        values = tuple(self._dialect.identity(*pair) for pair in zip(parts, self._shape.key, strict=True))
        return None if None in values else values

    def _check_names(self, names: Fields, relation: Relation, path: str, places: list[int]) -> None:
        """Refuse names that are no columns, after a second look at the database."""
        unknown = [name for name in names if name not in relation.columns]
        if unknown and self._refresh is not None:
            self._shape = self._refresh()
            self._refresh = None
            fresh = {child.relation.name: child.relation for child in self._shape.children.values()}
            relation = fresh[relation.name] if path else self._shape.relation
            unknown = [name for name in names if name not in relation.columns]
        if unknown:
            text = f"{'.'.join(relation.name)} has no such column; it has {', '.join(relation.columns)}"
            raise _Refused({place: Reject(text, field=path + unknown[0]) for place in places})

    def _columns(
        self, columns: Sequence[Column], records: Sequence[Record], places: Sequence[int], path: str
    ) -> list[Sequence[Any]]:
        """The values of records by column, each brought into the form its column takes."""
        found: list[Sequence[Any]] = []
        for column in columns:
            values: Sequence[Any] = list(map(itemgetter(column.name), records))
            fit = self._dialect.fit(column)
            if fit is not None:
                at_once = self._dialect.fit_all(column, values)
                try:
                    values = list(map(fit, values)) if at_once is None else at_once
                except _MISFITS:
                    raise _Refused(dict(_misfits(fit, column, values, places, path))) from None
            found.append(values)
        return found

    def _lines(self, child: ChildShape, lists: list[Any], places: list[int]) -> list[_Lines]:
        wrong = [n for n, lines in enumerate(lists) if not _is_lines(lines)]
        if wrong:
            text = "a list of records is needed here"
            raise _Refused({places[n]: Reject(text, field=child.name, value=lists[n]) for n in wrong})
        forms = {tuple(line) for lines in lists for line in lines}
        if len(forms) <= 1:
            return [self._lines_alike(child, next(iter(forms), ()), range(len(lists)), lists, places)]
        by_form: dict[Fields, list[int]] = {}
        for n, lines in enumerate(lists):
            fields = tuple(dict.fromkeys(name for line in lines for name in line))
            # a field that only some lines of a record have is NULL in the others
            lists[n] = [dict.fromkeys(fields) | line for line in lines]
            by_form.setdefault(fields, []).append(n)
        return [self._lines_alike(child, fields, at, lists, places) for fields, at in by_form.items()]

    def _lines_alike(
        self, child: ChildShape, fields: Fields, at: Sequence[int], lists: list[Any], places: list[int]
    ) -> _Lines:
        parent = {column.name for column in child.parent}
        names = tuple(name for name in fields if name not in parent)
        owners = [n for n in at for _ in lists[n]]
        of_line = [places[n] for n in owners]
        if not owners:
            return _Lines(child, (), at, (), ())
        self._check_names(names, child.relation, f"{child.name}.", of_line)
        child = self._shape.children[child.name]
        missing = [column.name for column in child.rest if column.name not in names]
        if missing:
            reject = Reject("the lines give no value for their key", field=f"{child.name}.{missing[0]}")
            raise _Refused(dict.fromkeys(of_line, reject))
        columns = child.relation.pick(names)
        values = self._columns(columns, [line for n in at for line in lists[n]], of_line, f"{child.name}.")
        if child.key:
            told = [values[names.index(column.name)] for column in child.rest]
            _refuse_twins(child, list(zip(of_line, *told, strict=True)))
        return _Lines(child, columns, at, owners, values)

    # --- from rows to statements

    def _drop(self, gone: list[Row]) -> None:
        if gone:
            for child in self._shape.children.values():
                self._dialect.delete(self._session, child.relation, child.parent, gone)
            self._dialect.delete(self._session, self._shape.relation, self._shape.key, gone)

    def _put(self, group: _Group) -> None:
        relation, key, keys = self._shape.relation, self._shape.key, group.keys
        there: Sequence[int] = range(len(group.places))
        match group.way:
            case _Way.MERGE:
                self._dialect.merge(self._session, relation, key, group.columns, group.rows)
            case _Way.INSERT:
                keys = self._dialect.insert(self._session, relation, key, group.columns, group.rows)
                for place, given in zip(group.places, keys, strict=True):
                    self._results[place] = Result(join_id(given))
            case _Way.UPDATE:
                found = self._still_there(group)
                self._dialect.update(self._session, relation, key, group.columns, [group.rows[n] for n in found])
                there = found if len(found) < len(there) else there
        for lines in group.lines:
            self._put_lines(lines, keys, there)

    def _put_lines(self, lines: _Lines, keys: list[Row], there: Sequence[int]) -> None:
        at = lines.at
        parents = [list(map(of_record.__getitem__, lines.owners)) for of_record in zip(*keys, strict=True)]
        rows = list(zip(*parents, *lines.values, strict=True))
        if len(there) < len(keys):
            alive = set(there)
            rows = [row for row, n in zip(rows, lines.owners, strict=True) if n in alive]
            at = [n for n in at if n in alive]
        if at:
            columns = (*lines.child.parent, *lines.columns)
            self._dialect.replace(self._session, lines.child, [keys[n] for n in at], columns, rows)

    def _still_there(self, group: _Group) -> list[int]:
        """Which rows exist; the changes of the others are rejected."""
        key = self._shape.key
        condition, parameters = self._dialect.among(key, group.keys, 1)
        names = ", ".join(column.sql for column in key)
        rows = self._session.rows(f"select {names} from {self._shape.relation.sql} where {condition}", parameters)
        exist = {join_id(row) for row in rows}
        found = []
        for n, place in enumerate(group.places):
            if self._ids[place] in exist:
                found.append(n)
            else:
                self._fail(place, Reject("the row is not there any more", field=key[0].name, value=self._ids[place]))
        return found


def _key_text(value: Any, column: Column) -> str | None:
    """A key's value as it stands in an id; None where there is none."""
    if value is None or value == "":
        return None
    if type(value) is str and column.kind is Kind.TEXT:
        return value
    if column.kind is Kind.INTEGER and not isinstance(value, int):
        try:
            number = int(value)
        except (TypeError, ValueError, OverflowError):
            number = None
        if number is None or (not isinstance(value, str) and number != value):
            raise Reject("the key is a whole number", field=column.name, value=value)
        value = number
    return id_part(value)


def _is_lines(lines: Any) -> bool:
    return isinstance(lines, list | tuple) and set(map(type, lines)) <= {dict}


def _misfits(
    fit: Callable[[Any], Any], column: Column, values: Iterable[Any], places: Iterable[int], path: str
) -> Iterator[tuple[int, Reject]]:
    for place, value in zip(places, values, strict=True):
        try:
            fit(value)
        except _MISFITS as error:
            yield place, Reject(str(error), field=path + column.name, value=value)


def _refuse_twins(child: ChildShape, told: list[Row]) -> None:
    """Refuse the changes in whose lines a key is missing or comes twice; `told` begin with the place."""
    if len(set(told)) == len(told) and not any(None in one for one in told):
        return
    rejects: dict[int, Reject] = {}
    seen: set[Row] = set()
    for one in told:
        if None in one:
            rejects[one[0]] = Reject("a line has no key", field=child.name)
        elif one in seen:
            rejects[one[0]] = Reject("two of the lines have the same key", field=child.name, value=one[1:])
        seen.add(one)
    raise _Refused(rejects)


def _explained(problem: TielineError, record: Record | None, shape: Shape) -> TielineError:
    """The problem, with field and value where the database did not tell them and the record does."""
    if not isinstance(problem, Refusal):
        return problem
    field, value, reason = problem.field, problem.value, problem.reason
    if record is not None and field is None:
        field, value = _suspect(record, shape, reason)
    elif record is not None and value is None:
        value = record.get(str(field))
    return Reject(reason, field=field, value=value)


def _suspect(record: Record, shape: Shape, reason: str) -> tuple[str | None, Any]:
    """The field that a database's reason is most likely about, and its value: the reason quotes one or the other."""
    leaves = list(_leaves(record, shape))
    for rule in (_quotes_value_and_type, _quotes_value, _is_too_long, _cannot_be_sent, _is_nested, _is_checked):
        for path, value, column in leaves:
            if value is not None and rule(value, column, reason):
                return path, value
    return None, None


def _leaves(record: Record, shape: Shape) -> Iterator[tuple[str, Any, Column]]:
    for name, value in record.items():
        child = shape.children.get(name)
        if child is None:
            yield name, value, shape.relation.columns[name]
        elif isinstance(value, list):
            for line in value:
                known = child.relation.columns
                yield from ((f"{name}.{field}", of_line, known[field]) for field, of_line in line.items())


def _quotes_value(value: Any, column: Column, reason: str) -> bool:
    values = value if isinstance(value, list) and column.kind is Kind.ARRAY else [value]
    return any(f'"{id_part(one)}"' in reason for one in values if one is not None)


def _quotes_value_and_type(value: Any, column: Column, reason: str) -> bool:
    types = {column.cast, column.type.partition("(")[0].removesuffix("[]")} - {""}
    return any(name in reason for name in types) and _quotes_value(value, column, reason)


def _is_too_long(value: Any, column: Column, reason: str) -> bool:
    if not isinstance(value, str) or "too long" not in reason or column.type not in reason:
        return False
    limit = column.type.partition("(")[2].removesuffix(")")
    return limit.isdigit() and len(value) > int(limit)


def _cannot_be_sent(value: Any, column: Column, reason: str) -> bool:
    return isinstance(value, str) and ("\0" in value or not is_utf8(value))


def _is_nested(value: Any, column: Column, reason: str) -> bool:
    return isinstance(value, dict | list) and column.kind not in {Kind.JSON, Kind.ARRAY}


def _is_checked(value: Any, column: Column, reason: str) -> bool:
    """A check is told of by its condition or its name, and the column's own name is usually part of either."""
    names = rf"(?<![^\W_]){re.escape(column.name)}(?![^\W_])"
    return "check constraint" in reason.lower() and re.search(names, reason) is not None
