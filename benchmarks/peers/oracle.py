"""What may not have happened, read from the databases alone: a trigger copies every change of the target.

It knows no peer and no Tieline. A version is the text of an order's state: the harness counts it up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import psycopg

HISTORY: Final = """
create schema if not exists bench_oracle;
drop table if exists bench_oracle.history;
create table bench_oracle.history (n bigserial primary key, op text not null, key text not null, state text);
"""
TRIGGER: Final = """
create or replace function bench_oracle.keep_{name}() returns trigger language plpgsql as $$
begin
  if tg_op = 'DELETE' then
    insert into bench_oracle.history (op, key, state) values (tg_op, old.{key}, null);
    return old;
  end if;
  insert into bench_oracle.history (op, key, state) values (tg_op, new.{key}, new.{state});
  return new;
end $$;
create trigger bench_keep after insert or update or delete on {table}
for each row execute function bench_oracle.keep_{name}();
"""


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many orders are not as the source says, how many writes said nothing new, how many went back."""

    lost: int
    doubled: int
    back: int


@dataclass(frozen=True, slots=True)
class Where:
    """The target's table of orders, and its columns of key and state."""

    table: str = "bench_target.sales"
    key: str = "reference"
    state: str = "state"


OURS: Final = Where()
"""The target of all who write into tables that stand there already."""


def attach(dsn: str, where: Where) -> None:
    """Begin a new history of the target."""
    with psycopg.connect(dsn, autocommit=True) as db:
        db.execute(HISTORY.encode())
        name = where.table.replace(".", "_")
        db.execute(f"drop trigger if exists bench_keep on {where.table}".encode())
        db.execute(TRIGGER.format(name=name, table=where.table, key=where.key, state=where.state).encode())


def judge(
    source: Mapping[str, str], target: Iterable[tuple[str, str]], history: Iterable[tuple[str, str, str]]
) -> Verdict:
    """`history` is (key, operation, state), by key and in order."""
    rows = list(target)
    held = dict(rows)
    lost = sum(held.get(key) != state for key, state in source.items())
    doubled = len(rows) - len(held)
    back = 0
    for _, changes in groupby(history, key=lambda change: change[0]):
        newest = -1
        for _, operation, state in changes:
            if operation == "DELETE":
                newest = -1
                continue
            version = version_of(state)
            if version < newest:
                back += 1
            elif version == newest:
                doubled += 1
            newest = max(newest, version)
    return Verdict(lost, doubled, back)


def version_of(state: str) -> int:
    """The number in a state such as `paid` (0) or `v17`."""
    return int(state[1:]) if state[:1] == "v" and state[1:].isdigit() else 0


def look(dsn: str, where: Where) -> Verdict:
    """Read the three tables, and judge."""
    with psycopg.connect(dsn) as db:
        return judge(_pairs(db, "select number, status from bench_source.orders"), *_target(db, where))


def differing(dsn: str, where: Where) -> int:
    """How many orders of the source the target does not have as they are."""
    with psycopg.connect(dsn) as db:
        found = db.execute(
            f"select count(*) from bench_source.orders o left join {where.table} t on t.{where.key} = o.number "
            f"where t.{where.key} is null or t.{where.state} <> o.status".encode()
        ).fetchone()
    return int(found[0]) if found else 0


def _pairs(db: psycopg.Connection[Any], statement: str) -> dict[str, str]:
    return dict(db.execute(statement.encode()).fetchall())


def _target(db: psycopg.Connection[Any], where: Where) -> tuple[list[tuple[str, str]], list[tuple[str, str, str]]]:
    rows = db.execute(f"select {where.key}, {where.state} from {where.table}".encode()).fetchall()
    history = db.execute(b"select key, op, coalesce(state, '') from bench_oracle.history order by key, n").fetchall()
    return rows, history
