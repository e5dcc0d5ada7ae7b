"""Reading: pages in an order that rows coming and going do not disturb, from a place that JSON can keep.

A table without a cursor is read by key, all of it. A table with one is first *scanned* by key as well
(its key has an index, and rows with no cursor value are there too); the newest cursor value was noted
before, and from it on the table is then read by (cursor, key). Such a reading has up to three phases:
rows with no cursor value; the overlap, for rows that were committed late; and what is new. Each page
of each phase has a checkpoint from which nothing after it is lost:

- ``{"scan": [key], "from": cursor}``: in the middle of the scan
- ``{"cursor": cursor, "key": [key]}``: up to this row; key null: up to somewhere among the rows of this cursor
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import inf
from operator import itemgetter
from typing import Any, Final, NamedTuple, Protocol

from tieline.connector import Checkpoint, Page, Record
from tieline.connectors.sql.dialect import AnyDialect, Row, Session
from tieline.connectors.sql.names import id_part, join_id, split_id
from tieline.connectors.sql.shape import ChildShape, Column, Shape
from tieline.errors import Unavailable

KEYS_AT_ONCE: Final = 10_000
_TRUSTED: Final = 1.0  # seconds for which a table that shows nothing is taken to be as it was found


class Term(NamedTuple):
    """An expression that rows are ordered by, and the column whose type it has."""

    sql: str
    column: Column


class Query:
    """A statement in the making: gives each value its placeholder."""

    def __init__(self, dialect: AnyDialect) -> None:
        self.parameters: list[Any] = []
        self._dialect = dialect

    def mark(self, value: Any, column: Column) -> str:
        """The placeholder of a value as `raw` gave it."""
        self.parameters.append(bytes.fromhex(value["hex"]) if isinstance(value, dict) else value)
        return self._dialect.mark(len(self.parameters), column)

    def compare(self, terms: Sequence[Term], sign: str, values: Sequence[Any]) -> str:
        """A comparison of some terms with as many values, from the first one on."""
        left = [term.sql for term in terms[: len(values)]]
        right = [self.mark(value, term.column) for term, value in zip(terms, values, strict=False)]
        return f"({', '.join(left)}) {sign} ({', '.join(right)})" if len(left) > 1 else f"{left[0]} {sign} {right[0]}"


@dataclass(frozen=True, slots=True)
class Phase:
    """A stretch of a reading: which rows, in which order, from where, and what a page's checkpoint is."""

    terms: tuple[Term, ...]
    conditions: Callable[[Query], list[str]]
    checkpoint: Callable[[list[Any]], Checkpoint]
    after: list[Any] | None = None
    at_end: Checkpoint = None


def plan(session: Session, dialect: AnyDialect, shape: Shape, since: Checkpoint, seconds: float) -> list[Phase]:
    """The phases of a reading; `seconds` is how far before its cursor times are read again."""
    keys = tuple(Term(column.sql, column) for column in shape.key)
    if not shape.cursor:
        return [Phase(keys, lambda _: [], lambda _: None)]
    cursor = _cursor(shape)
    if since is None or "scan" in since:
        begin = sober(_newest(session, shape, cursor)) if since is None else since["from"]
        after = None if since is None else since["scan"]
        end = {"cursor": begin, "key": None}
        return [Phase(keys, lambda _: [], lambda place: {"scan": place, "from": begin}, after, end)]
    terms = (cursor, *keys)
    value, key = since["cursor"], since["key"]
    phases = []
    if all(column.nullable for column in shape.cursor):
        phases.append(Phase(keys, lambda _: [f"{cursor.sql} is null"], lambda _: since))
    if value is None:
        fresh = Phase(terms, lambda _: [f"{cursor.sql} is not null"], _place)
        return [*phases, fresh]
    last = [value] if key is None else [value, *key]
    back = earlier(value, seconds, shape.table.overlap)
    if back != value or key is None:
        phases.append(
            Phase(
                terms,
                lambda query: [query.compare(terms, ">=", [back]), query.compare(terms, "<=", last)],
                lambda _: since,
            )
        )
    return [*phases, Phase(terms, lambda query: [query.compare(terms, ">", last)], _place)]


class ShapeOf(Protocol):
    """Gives the shape of a table, as `SqlConnector` knows or finds it."""

    def __call__(self, session: Session, *, fresh: bool = False, within: float = inf) -> Shape:
        """The shape as it was last found, `within` so many seconds, or `fresh` as it is now."""
        ...


class Reading:
    """A reading of a table, page by page.

    It begins with the shape as it was last found. Once there is something to show, the catalogue is asked
    whether that is still so, and if not, it begins again: so a look that finds nothing costs no more than
    its queries, and no row is shown without a column that it has.
    """

    def __init__(self, dialect: AnyDialect, shape_of: ShapeOf, since: Checkpoint, seconds: float) -> None:
        self.over = False
        self._dialect = dialect
        self._shape_of = shape_of
        self._since = since
        self._seconds = seconds
        self._shape: Shape | None = None
        self._phases: list[Phase] = []
        self._after: list[Any] | None = None

    def following(self, session: Session) -> Page | None:
        """The next page that shows something, or a checkpoint; None, and `over`, where there is none."""
        return self._first(session) if self._shape is None else self._next(session, self._shape)

    def _first(self, session: Session) -> Page | None:
        shape = self._shape_of(session, fresh=self._since is None, within=_TRUSTED)
        try:
            page = self._begin(session, shape)
        except self._dialect.errors as error:
            if isinstance(self._dialect.problem(error), Unavailable):
                raise
            session.rollback()
            now = self._shape_of(session, fresh=True)
            if now is shape:
                raise
            page = self._begin(session, now)
        else:
            if page is not None and (now := self._shape_of(session, fresh=True)) is not shape:
                page = self._begin(session, now)
        return page

    def _begin(self, session: Session, shape: Shape) -> Page | None:
        self._phases = plan(session, self._dialect, shape, self._since, self._seconds)
        self._after, self.over = self._phases[0].after, False
        found = self._next(session, shape)
        self._shape = shape
        return found

    def _next(self, session: Session, shape: Shape) -> Page | None:
        while self._phases:
            found, after = page(session, self._dialect, shape, self._phases[0], self._after)
            if after is None:
                self._phases = self._phases[1:]
                after = self._phases[0].after if self._phases else None
            self._after, self.over = after, not self._phases
            if found.ids or found.checkpoint is not None:
                return found
        return None


def _place(place: list[Any]) -> Checkpoint:
    value = sober(place[0])
    return {"cursor": value, "key": place[1:] if value == place[0] else None}


def _cursor(shape: Shape) -> Term:
    names = [column.sql for column in shape.cursor]
    return Term(names[0] if len(names) == 1 else f"coalesce({', '.join(names)})", shape.cursor[0])


def _newest(session: Session, shape: Shape, cursor: Term) -> Any:
    limit = f" where {shape.table.where}" if shape.table.where else ""
    return raw(session.rows(f"select max({cursor.sql}) from {shape.relation.sql}{limit}")[0][0])


def sober(value: Any) -> Any:
    """A cursor value, but no time that is yet to come: behind one row of the year 2099, all others would be missed.

    A time without a zone is given a day, for it may be meant in any.
    """
    moment = _as_moment(value)
    if moment is None:
        return value
    now = datetime.now(UTC) if moment.tzinfo else datetime.now(UTC).replace(tzinfo=None) + timedelta(hours=26)
    return value if moment <= now else _like(value, now)


def earlier(value: Any, seconds: float, numbers: int) -> Any:
    """A cursor value so many seconds, or numbers, before another; the same one where neither applies."""
    if isinstance(value, int):
        return value - numbers
    moment = _as_moment(value)
    if moment is None or not seconds:
        return value
    try:
        return _like(value, moment - timedelta(seconds=seconds))
    except OverflowError:
        return value


def _as_moment(value: Any) -> datetime | None:
    if not isinstance(value, str) or value[4:5] != "-":
        return None
    try:
        return datetime.fromisoformat(value)
    except ValueError:
        return None


def _like(value: str, moment: datetime) -> str:
    """A moment, down to the second, as the value is written."""
    whole = moment.replace(microsecond=0)
    return whole.date().isoformat() if len(value) == len("2026-01-31") else whole.isoformat(value[10])


def raw(value: Any) -> Any:
    """A value as the driver gave it, in a form that JSON carries and that `Query.mark` takes back."""
    if value is None or (isinstance(value, str | int | float) and not isinstance(value, bool)):
        return value
    return {"hex": value.hex()} if isinstance(value, bytes) else id_part(value)


def page(
    session: Session, dialect: AnyDialect, shape: Shape, phase: Phase, after: list[Any] | None
) -> tuple[Page, list[Any] | None]:
    """The page that follows a place, and the place where the next one begins (None: this is the last)."""
    query = Query(dialect)
    by_cursor = len(phase.terms) > len(shape.key)
    chosen = [column.selected for column in shape.columns] + ([phase.terms[0].sql] if by_cursor else [])
    conditions = phase.conditions(query)
    if after is not None:
        conditions.append(query.compare(phase.terms, ">", after))
    sql = (
        f"select {', '.join(chosen)} from {shape.relation.sql}{_where(shape, conditions)} "
        f"order by {', '.join(term.sql for term in phase.terms)} limit {shape.table.page}"
    )
    rows, records = _with_children(session, dialect, shape, lambda: session.rows(sql, query.parameters))
    place = None
    if rows:
        key = [raw(rows[-1][at]) for at in shape.key_at]
        place = [raw(rows[-1][-1]), *key] if by_cursor else key
    full = len(rows) == shape.table.page
    checkpoint = phase.at_end if place is None or (phase.at_end and not full) else phase.checkpoint(place)
    return Page(ids_of(shape, records), records, checkpoint), place if full else None


def ids_of(shape: Shape, records: list[Record]) -> list[str]:
    """The id of each record."""
    names = [column.name for column in shape.key]
    if len(names) == 1:
        values = list(map(itemgetter(names[0]), records))
        return values if set(map(type, values)) == {str} else list(map(id_part, values))
    return [join_id([record[name] for name in names]) for record in records]


def _where(shape: Shape, conditions: Sequence[str]) -> str:
    every = [*conditions, f"({shape.table.where})"] if shape.table.where else list(conditions)
    return f" where {' and '.join(every)}" if every else ""


def _with_children(
    session: Session, dialect: AnyDialect, shape: Shape, query: Callable[[], list[Row]]
) -> tuple[list[Row], list[Record]]:
    """The rows of a query, and their records with children: of one moment, all of it."""
    make = dialect.records(shape.columns)
    if not shape.children:
        rows = query()
        return rows, make(rows)
    session.begin(writing=False)
    rows = query()
    records = make(rows)
    keys = _picked(rows, shape.key_at)
    for child in shape.children.values():
        lists = _children(session, dialect, child, keys) if keys else {}
        for record, key in zip(records, keys, strict=True):
            record[child.name] = lists.get(key, [])
    session.commit()
    return rows, records


def _children(session: Session, dialect: AnyDialect, child: ChildShape, keys: list[Row]) -> dict[Row, list[Record]]:
    condition, parameters = dialect.among(child.parent, keys, 1)
    chosen = [column.selected for column in (*child.columns, *child.parent)]
    order = ", ".join(dict.fromkeys(column.sql for column in (*child.parent, *child.order_by)))
    rows = session.rows(
        f"select {', '.join(chosen)} from {child.relation.sql} where {condition} order by {order}", parameters
    )
    lists: dict[Row, list[Record]] = defaultdict(list)
    parents = _picked(rows, range(len(child.columns), len(chosen)))
    for parent, record in zip(parents, dialect.records(child.columns)(rows), strict=True):
        lists[parent].append(record)
    return lists


def _picked(rows: Sequence[Row], places: Sequence[int]) -> list[Row]:
    """These columns of each row, as a row."""
    if len(places) == 1:
        return list(zip(map(itemgetter(places[0]), rows), strict=True))
    return list(map(itemgetter(*places), rows))


def keys(session: Session, dialect: AnyDialect, shape: Shape, after: list[Any] | None) -> tuple[list[str], list[Any]]:
    """The ids that follow a place, up to 10,000 of them, and the last one's place."""
    query = Query(dialect)
    terms = [Term(column.sql, column) for column in shape.key]
    conditions = [] if after is None else [query.compare(terms, ">", after)]
    names = ", ".join(term.sql for term in terms)
    rows = session.rows(
        f"select {names} from {shape.relation.sql}{_where(shape, conditions)} order by {names} limit {KEYS_AT_ONCE}",
        query.parameters,
    )
    place = [raw(value) for value in rows[-1]] if rows else []
    return ids_of(shape, dialect.records(shape.key)(rows)), place


def lookup(
    session: Session, dialect: AnyDialect, shape: Shape, ids: Sequence[str], columns: tuple[Column, ...]
) -> list[Record | None]:
    """The record of each id, in order; of several rows with one value, the first by key."""
    found: list[Record | None] = [None] * len(ids)
    asked = list(_asked(dialect, ids, columns))
    if not asked:
        return found
    wanted, join, parameters = dialect.wanted(columns, [values for _, values in asked])
    chosen = ", ".join([*(column.selected for column in shape.columns), "tieline_n"])
    order = ", ".join(["tieline_n", *(column.sql for column in shape.key)])
    sql = (
        f"select {chosen} from {wanted} join {shape.relation.sql} as tieline_t on {join}"
        f"{_where(shape, [])} order by {order}"
    )
    rows, records = _with_children(session, dialect, shape, lambda: session.rows(sql, parameters))
    for row, record in zip(rows, records, strict=True):
        place = asked[row[-1] - 1][0]
        if found[place] is None:
            found[place] = record
    return found


def _asked(dialect: AnyDialect, ids: Sequence[str], columns: tuple[Column, ...]) -> Iterator[tuple[int, list[Any]]]:
    for place, id in enumerate(ids):
        parts = split_id(id, len(columns))
        if parts is None:
            continue
        values = [dialect.identity(part, column) for part, column in zip(parts, columns, strict=True)]
        if None not in values:
            yield place, values
