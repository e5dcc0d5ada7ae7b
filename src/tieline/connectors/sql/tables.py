"""What an adapter's author writes down: tables, their keys, cursors and children."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tieline.connector import Capabilities
from tieline.connectors.sql.names import parse_name
from tieline.errors import Mistake

Columns = str | tuple[str, ...]


def as_columns(columns: Columns) -> tuple[str, ...]:
    """One or several column names, always as a tuple; nothing is an empty one."""
    if isinstance(columns, str):
        return (columns,) if columns else ()
    return tuple(columns)


@dataclass(frozen=True, slots=True)
class Child:
    """Rows that are part of a record, such as an order's lines: a list under the child's name.

    `parent` are the columns that hold the parent's key, in its order; they are left out of the rows
    in a record. `key` is what identifies a row: a row that a written record no longer has is removed,
    the others are updated in place. Without `key`, all rows of a written record are replaced.
    `order_by` sorts the list; the key does where it is left out.
    """

    table: str
    parent: Columns
    key: Columns = ()
    order_by: Columns = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view, named as in SQL: "orders", "sales.orders".

    `key` identifies a row, and is NOT NULL and unique. `cursor` is a column that grows whenever a
    row changes, or several of which the first that is not NULL counts; an index on it makes polling
    cheap. A cursor of times is read again over the source's overlap; `overlap` is the same for a
    cursor that counts: how many numbers below the last one are read again. Rows with no cursor value
    are read every time. `where` is a condition in the database's own SQL that limits what is read.
    `numbered` says that the database gives the key to a new row. `columns` limits what is read.
    """

    name: str
    key: Columns = ()
    cursor: Columns = ()
    children: Mapping[str, Child] = field(default_factory=dict)
    where: str = ""
    columns: tuple[str, ...] = ()
    numbered: bool = False
    writes: bool = True
    overlap: int = 0
    page: int = 2_000

    def capabilities(self, held: bool) -> Capabilities:
        """The facts that follow; `held` tells whether the held table may stand beside the rows."""
        return Capabilities(
            incremental=bool(self.cursor),
            ordered=bool(self.cursor),
            keys=True,
            lookup=True,
            writes=self.writes,
            deletes=self.writes,
            upsert=self.writes and not self.numbered,
            transactional=self.writes and held,
            bulk=2_000,
        )


def mistakes_of(where: str, table: Table) -> list[Mistake]:
    """What is wrong with a declaration without looking at the database."""
    found = []
    if not as_columns(table.key):
        remedy = 'write key="…", the column or columns that identify a row'
        found.append(Mistake(where, f"{table.name} has no key", remedy))
    for name in (table.name, *(child.table for child in table.children.values())):
        try:
            parse_name(name)
        except ValueError as error:
            found.append(Mistake(where, str(error), 'write "orders", "sales.orders" or \'"odd.name"\''))
    for name, child in table.children.items():
        if len(as_columns(child.parent)) != len(as_columns(table.key)):
            what = f"{name} names {len(as_columns(child.parent))} parent columns for a key of another number"
            found.append(Mistake(where, what, f"name one column of {child.table} per column of the key"))
    return found
