"""What the database says of a table, and a declared table bound to it."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum, auto
from functools import cached_property

from tieline.connectors.sql.names import Name
from tieline.connectors.sql.tables import Child, Columns, Table, as_columns
from tieline.errors import Mistake


class Kind(Enum):
    """What sort of values a column holds."""

    INTEGER = auto()
    DECIMAL = auto()
    FLOAT = auto()
    TEXT = auto()
    BOOLEAN = auto()
    DATE = auto()
    ZONED = auto()  # a moment with its time zone
    NAIVE = auto()  # a moment without
    JSON = auto()
    UUID = auto()
    BYTES = auto()
    ARRAY = auto()
    OTHER = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its declared type, the type a parameter is cast to, and what it demands.

    `sql` is the quoted name. `required` means NOT NULL with nothing to fall back on. `scale` is the
    number of decimals a column keeps, `digits` those before the point; a whole number is below `limit`.
    `read` is the expression that reads it, where that is not the column itself.
    """

    name: str
    sql: str
    type: str
    kind: Kind
    cast: str = ""
    nullable: bool = True
    required: bool = False
    scale: int | None = None
    digits: int = 0
    limit: int | None = None
    read: str = ""

    @property
    def selected(self) -> str:
        """What a SELECT names to read it."""
        return self.read or self.sql


@dataclass(frozen=True, eq=False)
class Relation:
    """A table or view as the database describes it.

    `sql` is the quoted name. `unique` are the sets of columns of which a unique index exists.
    `deferred` tells of constraints that are checked at the commit only.
    """

    name: Name
    sql: str
    columns: Mapping[str, Column]
    primary: tuple[str, ...] = ()
    unique: frozenset[frozenset[str]] = frozenset()
    view: bool = False
    deferred: bool = False

    @cached_property
    def signature(self) -> Hashable:
        """What is equal for two descriptions of the same table in the same form."""
        return (self.name, tuple(self.columns.values()))

    @cached_property
    def required(self) -> frozenset[str]:
        """Columns without which a new row cannot be."""
        return frozenset(name for name, column in self.columns.items() if column.required)

    def pick(self, names: Sequence[str]) -> tuple[Column, ...]:
        """These columns, in this order."""
        return tuple(self.columns[name] for name in names)


@dataclass(frozen=True, eq=False)
class ChildShape:
    """A declared child bound to its table; `rest` are the columns of its key beside the parent's."""

    name: str
    relation: Relation
    columns: tuple[Column, ...]
    parent: tuple[Column, ...]
    key: tuple[Column, ...]
    rest: tuple[Column, ...]
    order_by: tuple[Column, ...]


@dataclass(frozen=True, eq=False)
class Shape:
    """A declared table bound to what the database has: all that reading and writing need."""

    resource: str
    table: Table
    relation: Relation
    columns: tuple[Column, ...]
    key: tuple[Column, ...]
    cursor: tuple[Column, ...] = ()
    children: Mapping[str, ChildShape] = field(default_factory=dict)

    @cached_property
    def key_at(self) -> tuple[int, ...]:
        """Where the key's columns stand in `columns`."""
        names = [column.name for column in self.columns]
        return tuple(names.index(column.name) for column in self.key)


def bind(
    where: str, resource: str, table: Table, relations: Mapping[str, Relation | None], tables: Sequence[str]
) -> tuple[Shape | None, list[Mistake]]:
    """The shape of a declared table, or everything in which the declaration and the database differ.

    `relations` holds what the database has under each declared name, None where there is nothing.
    `tables` are the names that it does have, where one is missing.
    """
    binding = _Binding(where, [])
    for name, found in relations.items():
        if found is None:
            near = get_close_matches(name, tables, 1, 0.4)
            remedy = f"did you mean {near[0]!r}?" if near else "correct the name, or let its owner grant access"
            binding.wrong(f"there is no table {name}", remedy)
    relation = relations[table.name]
    if relation is None:
        return None, binding.mistakes
    key = binding.columns(relation, table.key)
    cursor = binding.columns(relation, table.cursor)
    columns = tuple(relation.columns.values())
    if table.columns:
        chosen = dict.fromkeys((*as_columns(table.key), *table.columns))
        columns = binding.columns(relation, tuple(chosen))
    if not binding.mistakes:
        binding.identifies(relation, key, table)
    children = {}
    for name, child in table.children.items():
        if name in relation.columns:
            binding.wrong(f"{table.name} has a column {name} itself", "give the child another name")
        bound = binding.child(name, child, key, relations[child.table])
        if bound is not None:
            children[name] = bound
    if binding.mistakes:
        return None, binding.mistakes
    return Shape(resource, table, relation, columns, key, cursor, children), []


@dataclass(slots=True)
class _Binding:
    where: str
    mistakes: list[Mistake]

    def wrong(self, what: str, remedy: str) -> None:
        self.mistakes.append(Mistake(self.where, what, remedy))

    def columns(self, relation: Relation, names: Columns) -> tuple[Column, ...]:
        found = []
        for name in as_columns(names):
            column = relation.columns.get(name)
            if column is None:
                near = get_close_matches(name, relation.columns, 1, 0.4)
                remedy = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(relation.columns)}"
                self.wrong(f"{'.'.join(relation.name)} has no column {name!r}", remedy)
            else:
                found.append(column)
        return tuple(found)

    def identifies(self, relation: Relation, key: Sequence[Column], table: Table) -> None:
        if relation.view:
            return
        names = [column.name for column in key]
        if frozenset(names) not in relation.unique:
            primary = f"use its primary key, key={relation.primary!r}, or " if relation.primary else ""
            index = f"create unique index on {relation.sql} ({', '.join(column.sql for column in key)})"
            self.wrong(f"rows of {table.name} are not unique by {', '.join(names)}", primary + index)
        for column in key:
            if column.nullable and not table.where:
                remedy = f"declare it NOT NULL, or leave such rows out with where='{column.sql} is not null'"
                self.wrong(f"{table.name}.{column.name} may be NULL, and is a key", remedy)

    def child(self, name: str, child: Child, key: Sequence[Column], relation: Relation | None) -> ChildShape | None:
        if relation is None:
            return None
        before = len(self.mistakes)
        parent = self.columns(relation, child.parent)
        child_key = self.columns(relation, child.key)
        order_by = self.columns(relation, child.order_by) or child_key
        whole = len(child_key) == len(as_columns(child.key)) > 0
        if whole and not relation.view and frozenset(one.name for one in child_key) not in relation.unique:
            index = f"create unique index on {relation.sql} ({', '.join(one.sql for one in child_key)})"
            self.wrong(f"rows of {child.table} are not unique by {', '.join(one.name for one in child_key)}", index)
        for above, below in zip(key, parent, strict=False):
            if above.kind is not below.kind:
                what = f"{child.table}.{below.name} ({below.type}) cannot hold {above.name} ({above.type})"
                self.wrong(what, "give both columns the same type")
        if len(self.mistakes) > before:
            return None
        names = {column.name for column in parent}
        columns = tuple(column for column in relation.columns.values() if column.name not in names)
        rest = tuple(column for column in child_key if column.name not in names)
        return ChildShape(name, relation, columns, parent, child_key, rest, order_by)


def listed(columns: Iterable[Column]) -> str:
    """The quoted names, separated by commas."""
    return ", ".join(column.sql for column in columns)
