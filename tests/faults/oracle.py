"""What may and may not have happened, read from the databases alone: nothing of the code under test is used.

Triggers copied every change of a target into its history, so nothing that was done can be undone unseen.
"""

import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

import psycopg

Database = Path | str
"""A SQLite file, or the address of a PostgreSQL database."""

INSERT, UPDATE, DELETE, CONFIRM = "insert", "update", "delete", "confirm"


@dataclass(slots=True)
class Verdict:
    """What is wrong, and what was only repeated: `again` are updates that set what was set already,
    `fell` the changes that put an older version over a newer one."""

    wrong: list[str] = field(default_factory=list)
    again: list[tuple[str, int]] = field(default_factory=list)
    fell: list[tuple[str, int, int]] = field(default_factory=list)
    changes: int = 0


def source_rows(database: Database) -> dict[str, int]:
    """What the source says now: version by key."""
    with _reading(database) as connection:
        return dict(connection.execute("SELECT number, version FROM orders"))


def edits(database: Database) -> int:
    """How often the source has changed."""
    with _reading(database) as connection:
        return int(connection.execute("SELECT coalesce(max(changed), 0) FROM orders").fetchone()[0])


def keys(database: Database) -> set[str]:
    """Every key that the target ever had."""
    with _reading(database) as connection:
        return {key for (key,) in connection.execute("SELECT DISTINCT reference FROM history").fetchall()}


def target_rows(database: Database) -> list[tuple[str, int]]:
    """What the target holds now: key and version of each row."""
    with _reading(database) as connection:
        return list(connection.execute("SELECT reference, version FROM orders"))


def arrived(source: Database, target: Database) -> bool:
    """Whether the target is what the source is."""
    return sorted(target_rows(target)) == sorted(source_rows(source).items())


def judge(source: Database, target: Database, *, confirmed: bool = False) -> Verdict:
    """Look through the target's whole history; `confirmed`: each of its orders is to be confirmed, once."""
    with _reading(target) as connection:
        events = connection.execute("SELECT reference, n, op, version FROM history ORDER BY reference, n").fetchall()
        unconfirmed = connection.execute("SELECT reference FROM orders WHERE confirmed = 0").fetchall()
    verdict = Verdict(changes=len(events))
    for key, changes in groupby(events, key=lambda event: event[0]):
        _follow(key, [(op, version) for _, _, op, version in changes], confirmed, verdict)
    if confirmed:
        verdict.wrong += [f"{key} was never confirmed" for (key,) in unconfirmed]
    rows, wanted = target_rows(target), source_rows(source)
    verdict.wrong += [f"{key} is there {n} times" for key, n in Counter(key for key, _ in rows).items() if n > 1]
    if dict(rows) != wanted:
        odd = sorted(dict(rows).items() ^ wanted.items())
        verdict.wrong.append(f"the end differs from the source: {odd[:10]}")
    return verdict


def _follow(key: str, changes: list[tuple[str, int]], confirmed: bool, verdict: Verdict) -> None:
    """One key from its first change to its last. No key comes back after its delete in these tests."""
    made = Counter(op for op, _ in changes)
    for op in (INSERT, DELETE, *((CONFIRM,) if confirmed else ())):
        if made[op] > 1:
            verdict.wrong.append(f"{key}: {op} was done {made[op]} times")
    if changes[0][0] != INSERT:
        verdict.wrong.append(f"{key} begins with {changes[0][0]}")
    if made[DELETE] and changes[-1][0] != DELETE:
        verdict.wrong.append(f"{key} was changed after its delete")
    last = 0
    for op, version in changes:
        if op not in {INSERT, UPDATE}:
            continue
        if version == last:
            verdict.again.append((key, version))
        elif version < last:
            verdict.fell.append((key, last, version))
        last = version


def paid(database: Database) -> dict[str, int]:
    """How many payments the source has for each account."""
    with _reading(database) as connection:
        return dict(connection.execute("SELECT account, max(n) FROM payments GROUP BY account"))


def all_paid(source: Database, target: Database) -> bool:
    """Whether the target has as many payments as the source."""
    with _reading(target) as connection:
        there = dict(connection.execute("SELECT account, count(*) FROM payments GROUP BY account"))
    return there == paid(source)


def paid_there(database: Database) -> Counter[str]:
    """How many payments a target has for each account."""
    with _reading(database) as connection:
        return Counter(account for (account,) in connection.execute("SELECT account FROM payments"))


def judge_payments(source: Database, target: Database) -> list[str]:
    """What is wrong with the payments: those of an account arrive each once, in the order of their numbers."""
    with _reading(target) as connection:
        found = connection.execute("SELECT account, op, n FROM ledger ORDER BY account, at").fetchall()
    came = {account: [(op, n) for _, op, n in lines] for account, lines in groupby(found, key=lambda line: line[0])}
    wrong = []
    for account, last in paid(source).items():
        wanted = [(INSERT, n) for n in range(1, last + 1)]
        lines = came.pop(account, [])
        if lines != wanted:
            at = next(
                (n for n, pair in enumerate(zip(lines, wanted, strict=False)) if pair[0] != pair[1]), len(wanted)
            )
            wrong.append(f"{account}: {lines[at : at + 5]} where {wanted[at : at + 5]} should be, of {last}")
    return wrong + [f"{account} was never paid to" for account in came]


@contextmanager
def _reading(database: Database) -> Iterator[Any]:
    if isinstance(database, Path):
        file = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)
        try:
            yield file
        finally:
            file.close()
    else:
        with psycopg.connect(database, autocommit=True) as server:
            yield server
