"""What differs between databases, behind one small interface; the rest of this package is the same."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from tieline.connector import Record
from tieline.connectors.sql.names import Name
from tieline.connectors.sql.shape import ChildShape, Column, Kind, Relation
from tieline.errors import Reject, RetryLater, TielineError

Row = tuple[Any, ...]
Fit = Callable[[Any], Any]
"""Brings a value into the form a column takes, or raises ValueError with the reason it cannot."""


S = TypeVar("S", bound="Session")


class Refusal(Reject):
    """The database's own reason against a change, with field and value as far as it tells them."""

    def __init__(self, reason: str, *, field: str | None = None, value: Any = None) -> None:
        super().__init__(reason, field=field, value=value)
        self.reason = reason


class LockTimeout(RetryLater):
    """Somebody else's lock was waited for long enough: trying the halves would only wait again."""


class Session(Protocol):
    """One connection of a driver, used by one thread. Errors are the driver's own."""

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        """Run a query and give all its rows."""

    def run(self, sql: str, parameters: Sequence[Any] = ()) -> None:
        """Run a statement."""

    def begin(self, *, writing: bool) -> None:
        """Begin a transaction, dropping one that was left open.

        One that does not write yet takes no lock; on a connection for reading it sees one moment.
        """

    def commit(self) -> None:
        """Commit it."""

    def rollback(self) -> None:
        """Roll it back; without one, do nothing."""

    def close(self) -> None:
        """Let go of the connection, whatever state it is in."""


class Dialect(Protocol[S]):
    """One database's ways, over sessions of its own driver."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the driver raises, for a value or for a connection."""

    @property
    def locks_rows(self) -> bool:
        """Whether a SELECT locks rows with FOR UPDATE; else a whole transaction is a writer's turn."""

    def connect(self, *, writing: bool) -> S:
        """A new connection; raises the driver's errors."""

    def problem(self, error: BaseException) -> TielineError:
        """What becomes of a driver's error: the error to raise, or to report of a single change."""

    def leaves_open(self, error: BaseException) -> bool:
        """Whether an error at the commit leaves open what became of the transaction."""

    def describe(self, session: S, name: Name) -> Relation | None:
        """A table or view with its columns and keys, or None."""

    def stamp(self, session: S, names: Sequence[Name]) -> Hashable:
        """What differs as soon as `describe` would say something else of one of these; one quick query."""

    def tables(self, session: S) -> list[Name]:
        """All tables and views that are neither the database's own nor Tieline's."""

    def mark(self, number: int, column: Column) -> str:
        """The placeholder of a parameter that meets this column."""

    def among(self, columns: Sequence[Column], values: Sequence[Sequence[Any]], first: int) -> tuple[str, list[Any]]:
        """A condition that the columns hold one of these rows of values; `first` numbers its parameters."""

    def wanted(self, columns: Sequence[Column], values: Sequence[Sequence[Any]]) -> tuple[str, str, list[Any]]:
        """A FROM item of these rows, numbered as `tieline_n`; how `tieline_t` joins it; its parameters."""

    def probe(
        self,
        relation: Relation,
        chosen: str,
        fixed: Sequence[tuple[Column, Any]],
        column: Column,
        values: Sequence[Any],
    ) -> tuple[str, list[Any]]:
        """A query of the rows with these fixed values and one of those in `column`: a key's columns, in its order."""

    def identity(self, text: str, column: Column) -> Any:
        """The parameter for an id's text; None where no row can have it."""

    def records(self, columns: Sequence[Column]) -> Callable[[list[Row]], list[Record]]:
        """A function that makes records of rows that begin with these columns."""

    def fit(self, column: Column) -> Fit | None:
        """How a value is brought into the column, or None where the driver does it."""

    def fit_all(self, column: Column, values: Sequence[Any]) -> Sequence[Any] | None:
        """What `fit` makes of all these values, where that is seen at a glance; None: they go one by one."""

    def savepoint(self, session: S) -> None:
        """Mark a place in the transaction."""

    def release(self, session: S, *, check: bool) -> None:
        """Forget the mark; with `check`, meet deferred constraints first."""

    def back(self, session: S) -> None:
        """Roll back to the mark and forget it."""

    def merge(
        self, session: S, relation: Relation, key: Sequence[Column], columns: Sequence[Column], rows: list[Row]
    ) -> None:
        """Insert or update rows, all with the same columns, the key's among them; keys are distinct."""

    def update(
        self, session: S, relation: Relation, key: Sequence[Column], columns: Sequence[Column], rows: list[Row]
    ) -> None:
        """Update rows that exist."""

    def insert(
        self, session: S, relation: Relation, key: Sequence[Column], columns: Sequence[Column], rows: list[Row]
    ) -> list[Row]:
        """Insert rows to which the database gives the key; gives the keys, in order."""

    def replace(
        self,
        session: S,
        child: ChildShape,
        parents: Sequence[Sequence[Any]],
        columns: Sequence[Column],
        rows: list[Row],
    ) -> None:
        """Make these the only rows of these parents; `columns` begin with the parent's."""

    def delete(
        self, session: S, relation: Relation, columns: Sequence[Column], values: Sequence[Sequence[Any]]
    ) -> None:
        """Delete the rows whose columns hold one of these rows of values."""

    def own(self, table: str) -> Name:
        """Where a table of Tieline's own stands."""

    def create(self, session: S, name: Name, columns: Mapping[str, Kind], key: Sequence[str]) -> None:
        """Make a table of Tieline's own, inside a transaction.

        Raises:
            AccessRefused: with what to ask of the database's owner.
        """

    def widen(self, session: S, name: Name, columns: Mapping[str, Kind]) -> None:
        """Add columns to a table of Tieline's own, inside a transaction; one that is there by now stays as it is.

        Raises:
            AccessRefused: with what to ask of the table's owner.
        """


AnyDialect = Dialect[Any]
