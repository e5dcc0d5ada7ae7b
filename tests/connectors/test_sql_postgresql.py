"""What is PostgreSQL's own: its types, its rights, its locks, and connections that break."""

import asyncio
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from tests.connectors.sql_databases import Database, drop, put

from tieline.connector import Connector, HeldRow, LegState
from tieline.connectors.sql import Child, Sql, Table
from tieline.errors import AccessRefused, ConfigurationError, InDoubt, Reject, RetryLater, Unavailable
from tieline.message import Version
from tieline.settings import Secret, SystemSettings

pytestmark = pytest.mark.services


@pytest.fixture
def table(postgresql: Database) -> Table:
    """A small table with a note."""
    postgresql.run(f"create table {postgresql.prefix}t (id integer primary key, note text)")
    return Table(f"{postgresql.prefix}t", key="id")


ALL_TYPES = """
    id integer primary key, amount numeric(14, 2), wide numeric, cash money, real double precision,
    at timestamp, zoned timestamptz, day date, hour time, span interval, flag boolean,
    data jsonb, old_data json, key uuid, bytes bytea, list integer[], words text[], mood mood, host inet,
    range int4range, code char(5), short varchar(5), pieces integer
"""


def _typed(database: Database) -> Table:
    p = database.prefix
    types = ALL_TYPES.replace("mood mood", f"mood {p}mood")
    database.run(f"create type {p}mood as enum ('glad', 'sad');\ncreate table {p}t ({types})")
    return Table(f"{p}t", key="id")


RECORD: dict[str, Any] = {
    "id": 1,
    "amount": Decimal("99.95"),
    "wide": Decimal("12345678901234567890.123456789"),
    "cash": Decimal("12.50"),
    "real": 0.1,
    "at": datetime(2026, 1, 31, 10, 30, 0, 5),  # noqa: DTZ001
    "zoned": datetime(2026, 1, 31, 10, 30, tzinfo=UTC),
    "day": date(2026, 1, 31),
    "flag": True,
    "data": {"price": Decimal("12345678901234567.89"), "list": [1, None, "x"]},
    "old_data": [Decimal("0.1"), "text"],
    "key": UUID("12345678-1234-5678-1234-567812345678"),
    "bytes": b"\x00'\xff\\",
    "list": [1, 2, None],
    "words": ["a,b", 'c"d', "{e}", "", "NULL"],
    "mood": "glad",
    "host": "10.0.0.1",
    "range": "[1,5)",
    "code": "ab   ",
    "short": "12345",
    "pieces": 5,
}


@pytest.mark.parametrize("many", [1, 50])
def test_every_type_survives(postgresql: Database, many: int) -> None:
    """A value of each type is written and read back as it was, a few rows or many at a time."""
    table = _typed(postgresql)
    results = postgresql.write(table, *(put(RECORD | {"id": n}) for n in range(many)))
    assert [result.error for result in results] == [None] * many
    for number, found in enumerate(postgresql.records(table)):
        assert {name: found[name] for name in RECORD} == RECORD | {"id": number}
    assert str(found["zoned"].tzinfo) == "UTC"
    assert found["at"].tzinfo is None


@pytest.mark.parametrize("many", [0, 50])
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("amount", Decimal("0.125")),
        ("amount", Decimal("1E+13")),
        ("amount", "twelve"),
        ("at", datetime(2026, 1, 31, tzinfo=UTC)),
        ("zoned", datetime(2026, 1, 31)),  # noqa: DTZ001
        ("flag", "perhaps"),
        ("key", "not-a-uuid"),
        ("list", ["x"]),
        ("mood", "bored"),
        ("short", "123456"),
        ("short", [1]),
        ("code", {"a": 1}),
        ("host", "nowhere"),
        ("day", "31.31.2026"),
        ("id", 1.5),
        ("pieces", 1.5),
        ("pieces", True),
        ("pieces", Decimal("0.5")),
        ("id", 2**31),
        ("id", 2**70),
        ("real", "x"),
    ],
)
def test_what_does_not_fit_is_rejected_by_name(postgresql: Database, field: str, value: Any, many: int) -> None:
    """A value that a column would refuse, round or shift is rejected with the column's name, and no other."""
    table = _typed(postgresql)
    good = [put(RECORD | {"id": 100 + n}) for n in range(many)]
    *results, last = postgresql.write(table, *good, put(RECORD | {field: value}))
    assert [result.error for result in results] == [None] * many
    assert isinstance(last.error, Reject)
    assert str(last.error).startswith(f"{field}: "), str(last.error)
    assert len(postgresql.ids(table)) == many


def test_moments_that_python_does_not_know_stop_nothing(postgresql: Database) -> None:
    """Infinity and the year 12,026 come as text; the other rows of the page are as ever."""
    p = postgresql.prefix
    postgresql.run(f"""
        create table {p}t (id integer primary key, at timestamptz, plain timestamp, day date);
        insert into {p}t values (1, '2026-01-31 10:00+01', '2026-01-31 10:00', '2026-01-31'),
            (2, 'infinity', '-infinity', 'infinity'), (3, '12026-01-01', '0044-03-15 BC', '12026-01-01'),
            (4, null, null, null)
    """)
    first, second, third, fourth = postgresql.records(Table(f"{p}t", key="id"))
    assert first["at"] == datetime(2026, 1, 31, 9, tzinfo=UTC)
    assert (first["plain"], first["day"]) == (datetime(2026, 1, 31, 10), date(2026, 1, 31))  # noqa: DTZ001
    assert (second["at"], second["plain"], second["day"]) == ("infinity", "-infinity", "infinity")
    assert third["day"] == "12026-01-01"
    assert set(fourth.values()) == {4, None}
    by_time = Table(f"{p}t", key="id", cursor="at", page=1)
    since = postgresql.read(by_time)[-1].checkpoint
    assert set(postgresql.ids(by_time, since)) == {"2", "4"}


@pytest.mark.parametrize(
    ("type_", "ids", "nobody"),
    [
        ("uuid", ["12345678-1234-5678-1234-567812345678"], ["x", "", "1234"]),
        ("numeric(10,2)", ["12.50", "-1.00"], ["abc", "NaN", "1e5x", ""]),
        ("date", ["2026-01-31"], ["31.1.2026", "", "2026-02-31"]),
        ("timestamptz", ["2026-01-31T10:00:00+00:00"], ["now", ""]),
        ("boolean", ["true", "false"], ["yes", "1"]),
        ("bytea", ["00ff27"], ["xyz", "0"]),
        ("char(5)", ["ab   "], ["abcdef"]),
        ("varchar(5)", ["abc"], ["abcdef"]),
        ("bigint", ["9223372036854775807", "-9223372036854775808"], ["9223372036854775808", "1.0"]),
        ("mood", ["glad", "sad"], ["bored"]),
    ],
)
def test_keys_of_any_type(postgresql: Database, type_: str, ids: list[str], nobody: list[str]) -> None:
    """A key of any type is read, listed, found by its id and deleted by it; what is no such key is nobody's."""
    p = postgresql.prefix
    postgresql.run(f"create type {p}mood as enum ('sad', 'glad')")
    type_ = type_.replace("mood", f"{p}mood")
    postgresql.run(f"create table {p}t (id {type_} primary key, note text)")
    for id in ids:
        postgresql.run(f"insert into {p}t values ('{chr(92) + 'x' if type_ == 'bytea' else ''}{id}', 'n')")
    table = Table(f"{p}t", key="id", page=1)
    assert sorted(postgresql.ids(table)) == sorted(postgresql.keys(table)) == sorted(ids)
    found = postgresql.lookup(table, [*ids, *nobody])
    assert [record is not None for record in found] == [True] * len(ids) + [False] * len(nobody)
    results = postgresql.write(table, *(put({"note": "changed"}, id) for id in ids), *map(drop, nobody))
    assert not any(result.error for result in results)
    assert {record and record["note"] for record in postgresql.lookup(table, ids)} == {"changed"}
    assert not any(result.error for result in postgresql.write(table, *map(drop, ids)))
    assert postgresql.ids(table) == []


def test_generated_columns_and_domains(postgresql: Database) -> None:
    """A domain is taken for what is behind it; what the database generates needs no value."""
    p = postgresql.prefix
    postgresql.run(f"""
        create domain {p}price as numeric(10, 2) not null check (value >= 0);
        create table {p}t (id integer primary key, price {p}price,
                           twice numeric generated always as (price * 2) stored)
    """)
    table = Table(f"{p}t", key="id")
    prices = [Decimal("1.50"), Decimal("-1.00"), Decimal("0.125")]
    results = postgresql.write(table, *(put({"id": n, "price": price}) for n, price in enumerate(prices)))
    assert [type(result.error) for result in results] == [type(None), Reject, Reject]
    assert postgresql.records(table) == [{"id": 0, "price": Decimal("1.50"), "twice": Decimal("3.00")}]


@pytest.mark.parametrize("many", [3, 50])
def test_a_constraint_that_is_checked_at_the_commit_fails_its_change_alone(postgresql: Database, many: int) -> None:
    """Deferred constraints are met before a piece counts as written."""
    p = postgresql.prefix
    postgresql.run(f"""
        create table {p}c (id integer primary key);
        create table {p}t (id integer primary key, c integer references {p}c deferrable initially deferred);
        insert into {p}c values (1)
    """)
    changes = [put({"id": n, "c": 2 if n == 1 else 1}) for n in range(many)]
    results = postgresql.write(Table(f"{p}t", key="id"), *changes)
    assert [n for n, result in enumerate(results) if result.error is not None] == [1]
    assert isinstance(results[1].error, RetryLater)


# --- connections


def _backends(database: Database, name: str = "tieline") -> list[int]:
    found = database.run(
        f"select pid from pg_stat_activity where application_name = '{name}' and pid <> pg_backend_pid()"
        " and datname = current_database() order by backend_start"
    )
    return [pid for (pid,) in found]


def _terminate(database: Database) -> None:
    for pid in _backends(database):
        database.run(f"select pg_terminate_backend({pid}, 5000)")


def test_a_connection_that_broke_while_idle_is_no_outage(postgresql: Database, table: Table) -> None:
    """After the server dropped idle connections, the next call simply works."""

    async def work(connector: Connector) -> None:
        await connector.write("rows", [put({"id": n}) for n in range(20)])
        assert await connector.lookup("rows", ["1"]) == [{"id": 1, "note": None}]
        _terminate(postgresql)
        assert await connector.lookup("rows", ["1"]) == [{"id": 1, "note": None}]
        (result,) = await connector.write("rows", [put({"id": 2, "note": "after"})])
        assert result.error is None
        _terminate(postgresql)
        async with connector.transaction() as transaction:
            assert await transaction.fence("leg", {0: 1}) == {0: LegState()}
            results = await transaction.write("rows", [put({"id": n, "note": "again"}) for n in range(20)])
            assert not any(result.error for result in results)

    postgresql.using(table, work)


def test_reading_goes_on_over_a_broken_connection(postgresql: Database, table: Table) -> None:
    """Connections that are dropped between any two pages lose no row."""
    postgresql.run(f"insert into {table.name} select n from generate_series(1, 40) n")

    async def work(connector: Connector) -> list[str]:
        found = []
        async for page in connector.read("rows"):
            found += page.ids
            _terminate(postgresql)
        return found

    paged = Table(table.name, key="id", page=10)
    assert postgresql.using(paged, work) == [str(n) for n in range(1, 41)]


def test_nothing_is_written_after_a_transaction_broke(postgresql: Database, table: Table) -> None:
    """What comes after a lost connection is not written on a new one, outside any transaction."""

    async def cut_off(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 1})
            await transaction.write("rows", [put({"id": 1})])
            _terminate(postgresql)
            for _ in range(2):
                with pytest.raises(Unavailable):
                    await transaction.write("rows", [put({"id": 2})])

    async def work(connector: Connector) -> None:
        with pytest.raises(Unavailable):
            await cut_off(connector)
        assert [page async for page in connector.read("rows")] == []
        async with connector.transaction() as transaction:
            await transaction.write("rows", [put({"id": 3})])

    postgresql.using(table, work)
    assert postgresql.ids(table) == ["3"]


def test_a_transaction_in_which_something_failed_is_not_committed(postgresql: Database, table: Table) -> None:
    """Whoever swallows an error inside learns at the end that nothing was committed."""

    async def swallow(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 1})
            await transaction.write("rows", [put({"id": 1})])
            await transaction.keep("Order", [HeldRow("k", "s", Version(1, 2**70), b"m" * 16)])
            with pytest.raises(Reject):
                await transaction.held("Order", ["k"])

    async def work(connector: Connector) -> None:
        with pytest.raises(RetryLater, match="cannot be committed"):
            await swallow(connector)

    postgresql.using(table, work)
    assert postgresql.ids(table) == []


def test_a_connection_goes_on_after_a_rollback(postgresql: Database, table: Table) -> None:
    """What a connection made for itself in a transaction that failed is made again in the next."""
    many = [put({"id": n, "note": "x"}) for n in range(50)]

    async def fail(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            await transaction.write("rows", many)
            raise ZeroDivisionError

    async def work(connector: Connector) -> list[Any]:
        with pytest.raises(ZeroDivisionError):
            await fail(connector)
        return [result.error for result in await connector.write("rows", many)]

    assert postgresql.using(table, work) == [None] * 50


def _dying_at_commit(database: Database, table: Table) -> None:
    p = database.prefix
    database.run(f"""
        create table {p}log (note text);
        create function {p}note() returns trigger language plpgsql as
            $$ begin insert into {p}log values (new.note); return new; end $$;
        create trigger note after insert on {table.name} for each row execute function {p}note();
        create function {p}die() returns trigger language plpgsql as
            $$ begin perform pg_terminate_backend(pg_backend_pid()); return null; end $$;
        create constraint trigger die after insert on {p}log deferrable initially deferred
            for each row when (new.note = 'die') execute function {p}die()
    """)


def test_a_write_that_was_cut_off_at_the_commit_is_in_doubt(postgresql: Database, table: Table) -> None:
    """Nobody knows what became of it, and the results say so; before the commit it is an outage."""
    _dying_at_commit(postgresql, table)
    results = postgresql.write(table, put({"id": 1, "note": "die"}), put({"id": 2, "note": "x"}))
    assert [type(result.error) for result in results] == [InDoubt, InDoubt]


def test_a_frozen_worker_loses_its_locks(postgresql: Database, table: Table) -> None:
    """A worker that stops inside a transaction is dropped by the server; another takes over; the first learns it."""

    told: list[Any] = []

    async def take_over(other: Connector) -> None:
        begun = time.monotonic()
        async with other.transaction() as transaction:
            told.append(await transaction.fence("leg", {0: 2}))
            await transaction.write("rows", [put({"id": 1, "note": "second"})])
        told.append(time.monotonic() - begun)

    async def freeze(connector: Connector, other: Connector) -> None:
        async with connector.transaction() as frozen:
            await frozen.fence("leg", {0: 1})
            await frozen.write("rows", [put({"id": 1, "note": "frozen"})])
            await take_over(other)
            await frozen.write("rows", [put({"id": 2, "note": "frozen"})])

    async def work(connector: Connector) -> None:
        other = Sql(rows=table).open(postgresql.settings(timeout=10.0))
        with pytest.raises(Unavailable):
            await freeze(connector, other)
        await other.close()

    postgresql.using(table, work, timeout=1.0)
    states, waited = told
    assert states == {0: LegState()}
    assert 0.5 < waited < 8.0
    assert postgresql.run(f"select * from {table.name}") == [(1, "second")]


def test_a_row_locked_by_others_is_tried_later_and_not_waited_for_again(postgresql: Database, table: Table) -> None:
    """A lock that outlasts the timeout is waited for once, not once for each half of the batch."""
    postgresql.run(f"insert into {table.name} select n from generate_series(0, 63) n")
    postgresql.run(f"begin;\nselect from {table.name} where id = 40 for update")
    begun = time.monotonic()
    try:
        results = postgresql.write(table, *(put({"id": n, "note": "x"}) for n in range(64)), timeout=1.0)
    finally:
        postgresql.run("rollback")
    assert {type(result.error) for result in results} <= {RetryLater, type(results[0].error)}
    assert all(isinstance(result.error, RetryLater) for result in results)
    assert time.monotonic() - begun < 6.0


def test_two_workers_that_lock_crosswise_both_finish(postgresql: Database, table: Table) -> None:
    """A deadlock costs a repetition, and no change."""
    postgresql.run(f"insert into {table.name} select n from generate_series(0, 199) n")
    ids = list(range(200))

    async def work(connector: Connector) -> list[Any]:
        other = Sql(rows=table).open(postgresql.system)
        try:
            forth = [connector.write("rows", [put({"id": n, "note": f"a{i}"}) for n in ids]) for i in range(4)]
            back = [other.write("rows", [put({"id": n, "note": f"b{i}"}) for n in reversed(ids)]) for i in range(4)]
            batches = await asyncio.gather(*forth, *back)
            return [result.error for results in batches for result in results]
        finally:
            await other.close()

    errors = postgresql.using(table, work)
    assert [error for error in errors if error is not None and not isinstance(error, RetryLater)] == []


# --- rights


@pytest.fixture
def reader(postgresql: Database) -> Iterator[str]:
    """A role that may look into the schema."""
    role = f"tieline_{uuid4().hex}"
    schema = postgresql.prefix[:-1]
    postgresql.run(f"create role {role} login;\ngrant usage on schema {schema} to {role}")
    yield role
    postgresql.run(f"drop owned by {role};\ndrop role {role}")


def _as(database: Database, role: str) -> dict[str, Any]:
    return {"auth": {"user": role, "password": Secret("hunter2")}, "name": "erp"}


def test_rights_that_are_missing_are_refused_access(postgresql: Database, table: Table, reader: str) -> None:
    """Without the right to read, to write, to make our tables or to widen them: refused, with what to ask for."""
    as_reader = _as(postgresql, reader)

    async def read(connector: Connector) -> None:
        [page async for page in connector.read("rows")]

    async def write(connector: Connector) -> None:
        await connector.write("rows", [put({"id": 1}), put({"id": 2})])

    async def fence(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 1})

    with pytest.raises(AccessRefused, match="permission denied for table t"):
        postgresql.using(table, read, **as_reader)
    postgresql.run(f"grant select on {table.name} to {reader}")
    postgresql.using(table, read, **as_reader)
    with pytest.raises(AccessRefused, match="permission denied for table t"):
        postgresql.using(table, write, **as_reader)
    with pytest.raises(AccessRefused, match=r"ask its owner: create table .* or set held = false"):
        postgresql.using(table, fence, **as_reader)
    postgresql.using(table, fence)
    postgresql.run(f"""
        alter table {postgresql.prefix}tieline_leg drop column made;
        grant select, insert, update, delete on {postgresql.prefix}tieline_leg to {reader}
    """)
    with pytest.raises(AccessRefused, match=r'ask its owner: alter table .* add column if not exists "made" bigint'):
        postgresql.using(table, fence, **as_reader)


@pytest.mark.parametrize(
    ("user", "database", "error", "told"),
    [
        ("nobody_at_all", None, AccessRefused, "nobody_at_all"),
        (None, "no_such_database", ConfigurationError, "no_such_database"),
    ],
)
def test_refused_at_the_door(
    postgresql: Database, table: Table, user: str | None, database: str | None, error: type[Exception], told: str
) -> None:
    """An unknown user is refused access; an unknown database is a mistake; neither shows the password."""
    auth = {"user": user, "password": Secret("hunter2")} if user else {}
    url = postgresql.system.url
    if database:
        address, mark, query = url.partition("?")
        url = f"{address.rpartition('/')[0]}/{database}{mark}{query}"

    async def check(connector: Connector) -> None:
        await connector.check()

    with pytest.raises(error, match=told) as raised:
        postgresql.using(table, check, url=url, auth=auth)
    assert "hunter2" not in str(raised.value)


def test_a_url_keeps_its_secrets(postgresql: Database) -> None:
    """An address where nobody answers is named without its password."""
    system = SystemSettings("erp", "postgresql://me:hunter2@127.0.0.1:1/db?connect_timeout=2")

    async def work() -> None:
        connector = Sql(rows=Table("t", key="id")).open(system)
        try:
            await connector.check()
        finally:
            await connector.close()

    with pytest.raises(Unavailable) as raised:
        asyncio.run(work())
    assert "hunter2" not in str(raised.value)
    assert "127.0.0.1" in str(raised.value)
    assert "\n" not in str(raised.value), "one line, whatever the client library writes"


def test_load_tables_follow_the_table(postgresql: Database, table: Table) -> None:
    """A column that changes its type between two batches of one connection is written with the new type."""
    p = postgresql.prefix

    async def work(connector: Connector) -> list[Any]:
        first = await connector.write("rows", [put({"id": n, "note": "5"}) for n in range(20)])
        postgresql.run(f"alter table {table.name} add column total numeric(6, 1), alter column id type bigint")
        big = 10**12
        second = await connector.write("rows", [put({"id": big + n, "total": Decimal("1.5")}) for n in range(20)])
        return [result.error for result in (*first, *second)]

    assert set(postgresql.using(table, work)) == {None}
    assert len(postgresql.run(f"select * from {p}t where total = 1.5")) == 20


def test_a_column_that_went_is_said_once(postgresql: Database, table: Table) -> None:
    """A table that changed under a connector is a mistake to look at, and is described anew for the next call."""
    many = [put({"id": n}) for n in range(50)]

    async def work(connector: Connector) -> list[Any]:
        await connector.write("rows", many)
        postgresql.run(f"alter table {table.name} drop column note")
        _terminate(postgresql)
        with pytest.raises(ConfigurationError, match="note"):
            await connector.write("rows", many)
        return [result.error for result in await connector.write("rows", many)]

    assert postgresql.using(table, work) == [None] * 50


def test_lines_of_a_page_belong_to_its_records(postgresql: Database) -> None:
    """While orders change with their lines, no reading shows one version's order with another's lines."""
    p = postgresql.prefix
    postgresql.run(f"""
        create table {p}o (id integer primary key, version integer);
        create table {p}l (o integer, n integer, version integer, primary key (o, n));
        insert into {p}o select n, 0 from generate_series(1, 50) n;
        insert into {p}l select o, n, 0 from generate_series(1, 50) o, generate_series(1, 3) n
    """)
    table = Table(f"{p}o", key="id", children={"lines": Child(f"{p}l", "o", ("o", "n"))}, page=10)

    async def change(connector: Connector) -> None:
        for version in range(1, 60):
            lines = [{"n": n, "version": version} for n in range(1, 4)]
            records = [{"id": id, "version": version, "lines": lines} for id in range(1, 51)]
            await connector.write("rows", [put(record) for record in records])

    async def work(connector: Connector) -> tuple[set[int], int]:
        versions, wrong = set(), 0
        changing = asyncio.create_task(change(connector))
        while not changing.done():
            async for page in connector.read("rows"):
                for record in page.records:
                    versions.add(record["version"])
                    wrong += {line["version"] for line in record["lines"]} != {record["version"]}
        await changing
        return versions, wrong

    versions, wrong = postgresql.using(table, work)
    assert wrong == 0
    assert len(versions) > 2


def test_a_clock_of_another_zone_changes_nothing(postgresql: Database) -> None:
    """Moments are compared and given in UTC, whatever zone the database is set to."""
    p = postgresql.prefix
    postgresql.run(f"create table {p}t (id integer primary key, at timestamptz)")
    postgresql.run(f"insert into {p}t values (1, '2026-10-25 00:30+00'), (2, '2026-10-25 01:30+00')")
    table = Table(f"{p}t", key="id", cursor="at")
    since = postgresql.read(table)[-1].checkpoint
    assert since == {"cursor": "2026-10-25T01:30:00+00:00", "key": None}
    postgresql.run(f"insert into {p}t values (3, '2026-10-25 02:30+01')")
    assert postgresql.ids(table, since, overlap=timedelta(hours=1).total_seconds()) == ["1", "2", "3"]
    assert postgresql.ids(table, since) == ["2", "3"]


@pytest.mark.parametrize("many", [1, 30])
def test_a_row_that_is_as_it_should_be_is_not_written(postgresql: Database, many: int) -> None:
    """So its triggers stay quiet; what its type merely calls equal, such as 1.0 and 1.00, is another value."""
    name = f"{postgresql.prefix}spelled"
    postgresql.run(f"""
        create table {name} (id integer primary key, amount numeric, fixed numeric(8,2), label text,
          at timestamptz, gone json);
    """)
    table = Table(name, key="id")
    rows = [
        {"id": n, "amount": Decimal("1.0"), "fixed": Decimal(1), "label": "a", "at": datetime(2026, 1, 1, tzinfo=UTC)}
        | {"gone": None}
        for n in range(many)
    ]

    def stamps() -> list[tuple[Any, ...]]:
        return postgresql.run(f"select id, xmin::text from {name} order by id")

    postgresql.write(table, *(put(row) for row in rows))
    first = stamps()
    postgresql.write(table, *(put(row) for row in rows))
    assert stamps() == first
    for change in ({"amount": Decimal("1.00")}, {"label": "A"}, {"fixed": Decimal("1.01")}, {"gone": {"a": 1}}):
        before = stamps()
        rows[0] |= change
        postgresql.write(table, *(put(row) for row in rows))
        assert [now == was for now, was in zip(stamps(), before, strict=True)] == [False] + [True] * (many - 1)
    ((amount, label),) = postgresql.run(f"select amount::text, label from {name} where id = 0")
    assert (amount, label) == ("1.00", "A")


@pytest.mark.parametrize("bad", ["1000.00", "-1000.00", "12345678901234567890.12", "NaN"])
def test_a_decimal_of_the_right_scale_that_is_too_large_names_its_column(postgresql: Database, bad: str) -> None:
    """A column of decimals is looked at as a whole; one that does not fit is found all the same."""
    name = f"{postgresql.prefix}t"
    postgresql.run(f"create table {name} (id integer primary key, price numeric(5, 2))")
    rows = [{"id": n, "price": Decimal("999.99" if n % 2 else "-999.99")} for n in range(20)]
    rows[7]["price"] = Decimal(bad)
    results = postgresql.write(Table(name, key="id"), *map(put, rows))
    assert [n for n, result in enumerate(results) if result.error is not None] == [7]
    assert str(results[7].error).startswith("price: the column keeps 3 digits" if bad != "NaN" else "price")
