"""What two SQL dialects do differently, as one open connection; the parts of the ledger are written over it once."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, ClassVar, TypeAlias

from tieline.errors import ConfigurationError, Mistake

Row: TypeAlias = tuple[Any, ...]


@dataclass(frozen=True)
class Merge:
    """Insert rows or, where the key is there, replace the other columns (if `guard` agrees).

    `columns` and `key` are names separated by spaces, `types` are PostgreSQL's, in the same order.
    """

    table: str
    columns: str
    types: str
    key: str
    guard: str = ""

    @cached_property
    def names(self) -> list[str]:
        """The columns, in order."""
        return self.columns.split()

    @cached_property
    def places(self) -> list[int]:
        """Where in a row the key's columns stand."""
        return [self.names.index(name) for name in self.key.split()]

    @cached_property
    def conflict(self) -> str:
        """The clause that makes an insert a merge."""
        key = self.key.split()
        changed = ", ".join(f"{name} = excluded.{name}" for name in self.names if name not in key)
        action = f"update set {changed}" if changed else "nothing"
        guard = f" where {self.guard}" if self.guard else ""
        return f"on conflict ({', '.join(key)}) do {action}{guard}"


class Session(ABC):
    """One connection and at most one transaction on it; used by one thread at a time.

    Statements are written with `?` for each value.
    """

    among: ClassVar[str]  # "column {among}" with `listed(values)` is true for each of the values
    lock: ClassVar[str]  # ends a select whose rows nobody may change until we are done
    share: ClassVar[str]  # ends a select whose rows nobody may change, though others may do the same
    looks_back: ClassVar[bool]  # who waited for another transaction may still see the state before it
    migrations: ClassVar[str]  # the folder of this dialect's migrations

    @abstractmethod
    def begin(self, *, fresh: bool = False) -> None:
        """Open a transaction: it sees one state, or a `fresh` one with each statement."""

    @abstractmethod
    def commit(self, topics: Iterable[str]) -> None:
        """Ring the topics and make all of it durable."""

    @abstractmethod
    def rollback(self) -> None:
        """Forget all of it; never raises."""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection; never raises."""

    @abstractmethod
    def rows(self, text: str, *values: Any) -> list[Row]:
        """What a query gives."""

    @abstractmethod
    def run(self, text: str, *values: Any) -> int:
        """The number of rows changed."""

    @abstractmethod
    def many(self, text: str, rows: Sequence[Row]) -> int:
        """Run for each row of values; the number of rows changed in all."""

    @abstractmethod
    def merge(self, merge: Merge, rows: Sequence[Row]) -> None:
        """Merge in bulk; of two rows with one key the last counts."""

    @abstractmethod
    def listed(self, values: Iterable[str] | Iterable[int]) -> Any:
        """A list as one value, for `among`."""

    @abstractmethod
    def join(self, given: str, columns: str, table: str, where: str, index: str = "") -> str:
        """A query that looks up rows for each row of `given`, by an index, whatever the planner believes.

        `given` is of `wanted` or `pairs`; `where` compares the table's columns with those of w.
        """

    @abstractmethod
    def walk(self) -> None:
        """From here on in this transaction, rows in an index's order come by it, whatever the planner believes."""

    @abstractmethod
    def wanted(self, values: Iterable[str]) -> tuple[str, tuple[Any, ...]]:
        """A table expression with the different values as column w.v, and its values."""

    @abstractmethod
    def pairs(self, pairs: Iterable[tuple[int, int]]) -> tuple[str, tuple[Any, ...]]:
        """A table expression with the integer columns w.a and w.b, and its values."""

    @abstractmethod
    def now(self) -> float:
        """Seconds since 1970 by the ledger's clock."""

    @abstractmethod
    def script(self, text: str) -> None:
        """Run several statements inside the open transaction."""

    def migrate(self, lock: Callable[[], None], where: str) -> None:
        """Bring the tables to the version of this code; `lock` keeps others out until the commit.

        Raises:
            ConfigurationError: where the store was written by a newer version.
        """
        folder = files("tieline.ledgers") / "migrations" / self.migrations
        known = sorted((item for item in folder.iterdir() if item.name.endswith(".sql")), key=lambda f: f.name)
        self.begin(fresh=True)
        try:
            lock()
            self.script("create table if not exists migration (number integer primary key, name text, at text)")
            done = {number for (number,) in self.rows("select number from migration")}
            newer = max(done, default=0)
            if newer > len(known):
                raise ConfigurationError(
                    Mistake(
                        where,
                        f"the store is at migration {newer}, this version of Tieline knows {len(known)}",
                        "run the version of Tieline that wrote it, or a newer one",
                    )
                )
            for number, file in enumerate(known, start=1):
                if number not in done:
                    self.script(file.read_text("utf-8"))
                    self.run(
                        "insert into migration (number, name, at) values (?, ?, cast(current_timestamp as text))",
                        number,
                        file.name,
                    )
            self.commit(())
        except BaseException:
            self.rollback()
            raise
