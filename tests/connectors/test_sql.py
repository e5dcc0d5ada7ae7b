"""What the SQL connector does beyond the shipped suite, the same on SQLite and PostgreSQL."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from tests.connectors.sql_databases import Database, drop, put

from tieline.connector import Change, Checkpoint, Connector, HeldRow, LegState, Record
from tieline.connectors.sql import Child, Sql, Table
from tieline.errors import ConfigurationError, Reject, RetryLater
from tieline.message import Version
from tieline.settings import SystemSettings

# --- keys


def test_ids_of_numbers_are_numbers_as_they_are_written(database: Database) -> None:
    """Of a whole-number key, 7 is an id; 007, +7, 7.0, a word and a number of 30 digits are nobody's."""
    database.run(
        "create table t (id integer primary key, note text);\ninsert into t values (7, 'seven'), (-3, 'minus')"
    )
    table = Table(f"{database.prefix}t", key="id")
    asked = ["7", "-3", "007", "+7", "7.0", "seven", "9" * 30, "", "7 ", "٧"]
    found = [record and record["note"] for record in database.lookup(table, asked)]
    assert found == ["seven", "minus", *[None] * 8]
    assert sorted(database.keys(table)) == ["-3", "7"]
    results = database.write(table, *(drop(id) for id in asked[2:]), put({"id": "8", "note": "eight"}))
    assert [result.error for result in results] == [None] * 9
    assert database.run("select id, note from t order by id") == [(-3, "minus"), (7, "seven"), (8, "eight")]


def test_a_key_of_several_columns(database: Database) -> None:
    """Rows with a key of two columns, one of them full of slashes, are read, found, written and deleted."""
    p = database.prefix
    database.run(f"""
        create table {p}stock (site text not null, sku integer not null, quantity integer, primary key (site, sku));
        create table {p}moves (site text not null, sku integer not null, n integer not null,
                               primary key (site, sku, n))
    """)
    child = Child(f"{p}moves", parent=("site", "sku"), key=("site", "sku", "n"))
    table = Table(f"{p}stock", key=("site", "sku"), children={"moves": child}, page=2)
    sites = ["A", "A/B", "A\\", "A\\/B", "/"]
    rows = [{"site": site, "sku": sku, "quantity": 1, "moves": [{"n": sku}]} for site in sites for sku in (1, 2)]
    results = database.write(table, *map(put, rows))
    ids = [result.target_id for result in results]
    assert len(set(ids)) == 10
    assert sorted(database.ids(table)) == sorted(database.keys(table)) == sorted(map(str, ids))
    assert sorted(database.records(table), key=str) == sorted(rows, key=str)
    assert database.lookup(table, [*map(str, ids), "A", "A/1/1", "A/x", "B/1"]) == [*rows, *[None] * 4]
    assert Sql(rows=table).identify("rows", rows[2]) == "A\\/B/1"
    database.write(table, put({"quantity": 5, "moves": []}, "A\\/B/1"), *(drop(str(id)) for id in ids[5:]))
    left = {record["site"]: record for record in database.records(table) if record["sku"] == 1}
    assert left["A/B"] == {"site": "A/B", "sku": 1, "quantity": 5, "moves": []}
    assert set(left) == {"A", "A/B", "A\\"}


def test_a_key_does_not_change(database: Database) -> None:
    """A record whose key is another than the row's that it is for is rejected, and says so."""
    database.run(f"create table {database.prefix}t (id text primary key, note text)")
    table = Table(f"{database.prefix}t", key="id")
    (result,) = database.write(table, put({"id": "B", "note": "x"}, "A"))
    assert isinstance(result.error, Reject)
    assert "known as 'A'" in str(result.error)


def test_a_record_without_its_key_is_rejected(database: Database) -> None:
    """None, an empty text or no field at all: there is no telling which row it is."""
    database.run(f"create table {database.prefix}t (id text primary key, note text)")
    table = Table(f"{database.prefix}t", key="id")
    results = database.write(table, put({"note": "x"}), put({"id": None}), put({"id": ""}), put({"id": "1"}))
    assert [type(result.error) for result in results] == [Reject, Reject, Reject, type(None)]
    assert results[0].error is not None
    assert "id" in str(results[0].error)


def test_the_database_numbers_its_rows(database: Database) -> None:
    """A numbered table gives each new record its key, lines and all, and changes it by that key after."""
    p = database.prefix
    number = (
        "integer primary key" if database.kind == "sqlite" else "integer primary key generated always as identity"
    )
    database.run(f"""
        create table {p}sale (id {number}, note text, total numeric);
        create table {p}line (sale integer not null, n integer not null, sku text, primary key (sale, n))
    """)
    child = Child(f"{p}line", parent="sale", key=("sale", "n"))
    table = Table(f"{p}sale", key="id", numbered=True, children={"lines": child})
    new = [put({"note": f"n{i}", "lines": [{"n": n, "sku": f"s{i}"} for n in range(i)]}) for i in range(12)]
    results = database.write(table, *new)
    ids = [str(result.target_id) for result in results]
    assert len(set(ids)) == 12
    found = database.lookup(table, ids)
    assert [record and (record["note"], len(record["lines"])) for record in found] == [
        (f"n{i}", i) for i in range(12)
    ]
    changed = [
        put({"note": "changed", "lines": []}, ids[3]),
        put({"note": "lost"}, "999"),
        put({"note": "x"}, ids[4]),
    ]
    results = database.write(table, *changed)
    assert [type(result.error) for result in results] == [type(None), Reject, type(None)]
    assert database.lookup(table, [ids[3], "999"]) == [
        {"id": int(ids[3]), "note": "changed", "total": None, "lines": []},
        None,
    ]
    assert database.using(table, _facts).upsert is False


async def _facts(connector: Connector) -> Any:
    return connector.capabilities("rows")


# --- cursors


def _stamped(database: Database, count: int, moment: str = "2026-01-01 10:00:00") -> Table:
    stamp = "timestamp" if database.kind == "sqlite" else "timestamptz"
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, at {stamp}, made {stamp})")
    values = ", ".join(f"({n}, '{moment}+00:00', '{moment}+00:00')" for n in range(count))
    database.run(f"insert into {p}t values {values}")
    return Table(f"{p}t", key="id", cursor="at", page=10)


def test_rows_stamped_alike_are_all_read(database: Database) -> None:
    """Many pages of rows with one and the same cursor value are read whole, from any page on."""
    table = _stamped(database, 10)
    since = database.read(table)[-1].checkpoint
    database.run(f"update {database.prefix}t set at = '2026-01-02 10:00:00+00:00'")
    values = ", ".join(f"({n}, '2026-01-02 10:00:00+00:00')" for n in range(10, 35))
    database.run(f"insert into {database.prefix}t (id, at) values {values}")
    pages = database.read(table, since)
    assert [id for page in pages for id in page.ids] == [str(n) for n in range(35)]
    for number, page in enumerate(pages):
        rest = database.ids(table, page.checkpoint)
        assert rest == [str(n) for n in range((number + 1) * 10, 35)]


def test_a_cursor_of_several_columns_takes_the_first_that_is_there(database: Database) -> None:
    """A system that stamps a change only from the second one on is read by coalesced columns."""
    table = _stamped(database, 3)
    table = Table(table.name, key="id", cursor=("at", "made"), page=10)
    database.run(f"update {database.prefix}t set at = null")
    since = database.read(table)[-1].checkpoint
    database.run(f"insert into {database.prefix}t values (50, null, '2026-01-02 10:00:00+00:00')")
    database.run(f"update {database.prefix}t set at = '2026-01-03 10:00:00+00:00' where id = 1")
    pages = database.read(table, since)
    assert "50" in [id for page in pages for id in page.ids]
    assert pages[-1].ids[-1] == "1"
    assert database.ids(table, pages[-1].checkpoint) == []


def test_rows_with_no_cursor_value_are_never_lost(database: Database) -> None:
    """A row with NULL in its cursor is in the first reading and in each later one."""
    table = _stamped(database, 3)
    database.run(f"insert into {database.prefix}t (id) values (70), (71)")
    pages = database.read(table)
    assert {id for page in pages for id in page.ids} == {"0", "1", "2", "70", "71"}
    since = pages[-1].checkpoint
    database.run(f"insert into {database.prefix}t (id) values (72)")
    assert {"70", "71", "72"} <= set(database.ids(table, since))


def test_nothing_but_rows_with_no_cursor_value(database: Database) -> None:
    """Where no row had a cursor value, the first that gets one is read."""
    table = _stamped(database, 3)
    database.run(f"update {database.prefix}t set at = null")
    since = database.read(table)[-1].checkpoint
    database.run(f"update {database.prefix}t set at = '2026-01-03 10:00:00+00:00' where id = 1")
    pages = database.read(table, since)
    assert sorted(id for page in pages for id in page.ids) == ["0", "1", "2"]
    assert database.ids(table, pages[-1].checkpoint) == ["0", "2"]


def test_an_overlap_never_moves_the_checkpoint_back(database: Database) -> None:
    """Pages of the overlap, which lie before the checkpoint, carry the checkpoint itself."""
    table = _stamped(database, 0 + 1)
    values = ", ".join(f"({100 + n}, '2026-01-01 11:{n:02}:00+00:00')" for n in range(60))
    since = database.read(table)[-1].checkpoint
    database.run(f"insert into {database.prefix}t (id, at) values {values}")
    since = database.read(table, since)[-1].checkpoint
    for _ in range(3):
        pages = database.read(table, since, overlap=1_800)
        assert len(pages) == 4
        assert [page.checkpoint for page in pages] == [since] * 4
    assert pages[0].ids[0] == "129"


def test_a_row_of_the_future_hides_no_other(database: Database) -> None:
    """A row stamped in 2099 is read, again and again, and what is changed before that time is read as well."""
    table = _stamped(database, 3)
    p = database.prefix
    database.run(f"insert into {p}t (id, at) values (99, '2099-01-01 00:00:00+00:00')")
    pages = database.read(table)
    assert "99" in [id for page in pages for id in page.ids]
    for number in (10, 11):
        stamp = datetime.now(UTC).isoformat(" ")
        database.run(f"insert into {p}t (id, at) values ({number}, '{stamp}')")
        pages = database.read(table, pages[-1].checkpoint, overlap=60)
        assert [id for page in pages for id in page.ids][-2:] == [str(number), "99"]


def test_a_cursor_that_counts_has_an_overlap_of_its_own(database: Database) -> None:
    """Of a counting cursor, `overlap` numbers are read again, whatever seconds are asked for."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, version integer)")
    database.run(f"insert into {p}t values " + ", ".join(f"({n}, {n + 100})" for n in range(1, 51)))
    table = Table(f"{p}t", key="id", cursor="version", overlap=5)
    since = database.read(table)[-1].checkpoint
    database.run(f"insert into {p}t values (51, 151)")
    since = database.read(table, since)[-1].checkpoint
    database.run(f"insert into {p}t values (60, 148)")
    assert database.ids(table, since, overlap=300) == ["46", "47", "48", "60", "49", "50", "51"]


def test_a_table_without_a_cursor_gives_no_checkpoint(database: Database) -> None:
    """It is read by key, whole each time."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key)")
    database.run(f"insert into {p}t values " + ", ".join(f"({n})" for n in range(1, 21)))
    table = Table(f"{p}t", key="id", page=10)
    pages = database.read(table)
    assert [page.checkpoint for page in pages] == [None, None]
    assert [id for page in pages for id in page.ids] == [str(n) for n in range(1, 21)]
    facts = database.using(table, _facts)
    assert (facts.incremental, facts.ordered) == (False, False)


def test_a_condition_limits_what_is_read(database: Database) -> None:
    """`where` holds for reading, keys and look-ups alike; columns named are read with the key."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, kind text, note text)")
    database.run(f"insert into {p}t values (1, 'a%', 'x'), (2, 'b', 'y'), (3, 'a%', 'z')")
    table = Table(f"{p}t", key="id", where="kind like 'a%' or kind = 'no'", columns=("note",), page=1)
    assert database.ids(table) == database.keys(table) == ["1", "3"]
    assert database.lookup(table, ["1", "2", "3"]) == [{"id": 1, "note": "x"}, None, {"id": 3, "note": "z"}]


def test_a_condition_that_is_no_sql_is_a_mistake(database: Database) -> None:
    """What the database cannot make sense of is the project's to mend, and never an empty reading."""
    database.run(f"create table {database.prefix}t (id integer primary key)")
    for where in ("id ==== 1", "no_such_column = 1", "no_such_function(id)"):
        with pytest.raises(ConfigurationError):
            database.read(Table(f"{database.prefix}t", key="id", where=where))


def test_of_several_rows_with_a_value_the_first_by_key_is_found(database: Database) -> None:
    """A look-up by a field that is not unique gives the lowest key's row."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, mail text)")
    database.run(f"insert into {p}t values (5, 'a@b'), (3, 'a@b'), (9, 'a@b'), (1, 'c@d')")
    found = database.lookup(Table(f"{p}t", key="id"), ["a@b", "c@d", "a@b"], by="mail")
    assert [record and record["id"] for record in found] == [3, 1, 3]
    with pytest.raises(ConfigurationError, match="no column 'male'"):
        database.lookup(Table(f"{p}t", key="id"), ["x"], by="male")


# --- lines


def _with_lines(database: Database, key: tuple[str, ...] = ("number", "n")) -> Table:
    p = database.prefix
    database.run(f"""
        create table {p}orders (number text primary key);
        create table {p}line (number text not null, n integer not null, sku text, extra text default 'kept',
                              primary key (number, n))
    """)
    return Table(f"{p}orders", key="number", children={"lines": Child(f"{p}line", "number", key, order_by="n")})


def test_lines_that_cannot_be_told_apart_are_rejected(database: Database) -> None:
    """Two lines with one key, a line with no key, no list: its record alone is rejected, naming the child."""
    table = _with_lines(database)
    wrong: list[Any] = [
        [{"n": 1}, {"n": 2}, {"n": 1}],
        [{"n": 1}, {"n": None}],
        [{"sku": "x"}],
        [{"n": 1, "colour": "red"}],
        {"n": 1},
        None,
        [1],
    ]
    changes = [put({"number": str(n), "lines": lines}) for n, lines in enumerate([*wrong, [{"n": 1}]])]
    results = database.write(table, *changes)
    assert [type(result.error) for result in results] == [Reject] * len(wrong) + [type(None)]
    assert all("lines" in str(result.error) for result in results[:-1])
    assert database.ids(table) == [str(len(wrong))]


def test_a_field_that_only_some_lines_have_is_null_in_the_others(database: Database) -> None:
    """Lines of one record have the same fields; records among each other need not."""
    table = _with_lines(database)
    changes = [
        put({"number": "1", "lines": [{"n": 1, "sku": "a"}, {"n": 2, "extra": "b"}]}),
        put({"number": "2", "lines": [{"n": 1}]}),
        put({"number": "3", "lines": []}),
        put({"number": "4", "lines": [{"n": 1, "sku": "c", "number": "ignored"}]}),
    ]
    for _ in range(2):
        assert not any(result.error for result in database.write(table, *changes))
        rows = database.run(f"select number, n, sku, extra from {database.prefix}line order by 1, 2")
        assert rows == [("1", 1, "a", None), ("1", 2, None, "b"), ("2", 1, None, "kept"), ("4", 1, "c", "kept")]


def test_lines_without_a_key_are_replaced(database: Database) -> None:
    """Where a child declares no key, a record's rows are what it says, however often it is written."""
    p = database.prefix
    database.run(f"create table {p}orders (number text primary key);\ncreate table {p}tag (number text, tag text)")
    table = Table(f"{p}orders", key="number", children={"tags": Child(f"{p}tag", "number", order_by="tag")})
    many = [put({"number": str(n), "tags": [{"tag": "a"}, {"tag": "a"}, {"tag": f"{n}"}]}) for n in range(12)]
    for changes in (many, many, many[:2]):
        assert not any(result.error for result in database.write(table, *changes))
        assert len(database.run(f"select 1 from {p}tag")) == 36
    database.write(table, put({"number": "0", "tags": []}), drop("1"))
    assert len(database.run(f"select 1 from {p}tag")) == 30


def test_lines_are_updated_in_place(database: Database) -> None:
    """A line that stays keeps the columns that the record does not give."""
    table = _with_lines(database)
    database.write(table, put({"number": "1", "lines": [{"n": 1, "extra": "mine"}, {"n": 2}]}))
    database.write(table, put({"number": "1", "lines": [{"n": 1, "sku": "new"}]}))
    assert database.run(f"select n, sku, extra from {database.prefix}line") == [(1, "new", "mine")]


# --- bad changes


def test_rejections_name_column_and_value(database: Database) -> None:
    """NOT NULL, unique, an unknown column: each bad change of a large batch tells what and where."""
    p = database.prefix
    database.run(f"""
        create table {p}t (id integer primary key, mail text unique, note text not null check (note <> 'bad'));
        insert into {p}t values (1000, 'taken@x', 'n')
    """)
    table = Table(f"{p}t", key="id")
    records: list[dict[str, Any]] = [{"id": n, "mail": f"{n}@x", "note": "n"} for n in range(100)]
    records[10]["note"] = None
    records[20]["mail"] = "taken@x"
    records[30]["nota"] = "x"
    records[40]["note"] = "bad"
    records[50] = {"id": "fifty", "note": "n"}
    records[60] = {"id": 60, "mail": "60@x"}
    results = database.write(table, *map(put, records))
    errors = {number: str(result.error) for number, result in enumerate(results) if result.error is not None}
    assert set(errors) == {10, 20, 30, 40, 50, 60}
    assert all(isinstance(results[number].error, Reject) for number in errors)
    assert errors[10].startswith("note")
    assert errors[20].startswith("mail")
    assert "taken@x" in errors[20]
    assert errors[40].startswith("note: ")
    assert errors[40].endswith("(got 'bad')")
    assert errors[30].startswith("nota")
    assert "it has id, mail, note" in errors[30]
    assert errors[50].startswith("id")
    assert "'fifty'" in errors[50]
    assert errors[60].startswith("note")
    assert len(database.ids(table)) == 95


@pytest.mark.parametrize("size", [3, 50])
def test_a_record_may_leave_out_what_must_be_there(database: Database, size: int) -> None:
    """Without a NOT NULL column a row that exists is changed, lines too; a new one is rejected alone."""
    p = database.prefix
    database.run(f"""
        create table {p}t (id integer primary key, note text not null, total integer);
        create table {p}l (t integer not null, n integer not null, sku text not null, price integer,
                           primary key (t, n))
    """)
    table = Table(f"{p}t", key="id", children={"lines": Child(f"{p}l", "t", ("t", "n"))})
    whole = {"note": "kept", "total": 1, "lines": [{"n": 1, "sku": "kept", "price": 1}]}
    database.write(table, *(put({"id": n} | whole) for n in range(size)))
    changes = [put({"id": n, "total": 2, "lines": [{"n": 1, "price": 2}]}) for n in range(size)]
    changes[1] = put({"id": 999, "total": 2, "lines": []})
    results = database.write(table, *changes)
    assert [n for n, result in enumerate(results) if result.error is not None] == [1]
    assert str(results[1].error).startswith("note")
    changed = {"note": "kept", "total": 2, "lines": [{"n": 1, "sku": "kept", "price": 2}]}
    assert database.records(table) == [{"id": n} | (whole if n == 1 else changed) for n in range(size)]


def test_a_missing_row_that_it_refers_to_may_come_later(database: Database) -> None:
    """A foreign key that finds nothing is no dead letter: it is tried again."""
    p = database.prefix
    database.run(f"""
        create table {p}customer (id integer primary key);
        create table {p}t (id integer primary key, customer integer references {p}customer);
        insert into {p}customer values (1)
    """)
    records = [{"id": n, "customer": 2 if n == 7 else 1} for n in range(20)]
    results = database.write(Table(f"{p}t", key="id"), *map(put, records))
    assert [number for number, result in enumerate(results) if isinstance(result.error, RetryLater)] == [7]
    assert [number for number, result in enumerate(results) if result.error is not None] == [7]
    (result,) = database.write(Table(f"{p}customer", key="id"), drop("1"))
    assert isinstance(result.error, RetryLater)


def test_a_value_may_move_from_one_row_to_another(database: Database) -> None:
    """Changes that only fit in their order, such as a unique number that is handed on, are applied in it."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, slot text unique)")
    table = Table(f"{p}t", key="id")
    database.write(table, *(put({"id": n, "slot": f"s{n}"}) for n in range(20)))
    handed = [put({"id": 3, "slot": "free"}), drop("5"), put({"id": 4, "slot": "s3"}), put({"id": 6, "slot": "s5"})]
    fillers = [put({"id": 100 + n, "slot": f"f{n}"}) for n in range(20)]
    results = database.write(table, *handed, *fillers)
    assert [result.error for result in results] == [None] * 24
    slots = dict(database.run(f"select id, slot from {p}t"))
    assert (slots[3], slots[4], slots[6], 5 in slots) == ("free", "s3", "s5", False)


def test_a_column_added_later_is_written(database: Database) -> None:
    """A column that is new since the connector looked is found when a record names it."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key)")

    async def work(connector: Connector) -> list[Any]:
        first = await connector.write("rows", [put({"id": n}) for n in range(20)])
        database.run(f"alter table {p}t add column note text")
        second = await connector.write("rows", [put({"id": n, "note": "x"}) for n in range(20)])
        pages = [page async for page in connector.read("rows")]
        return [*first, *second, *(record["note"] for page in pages for record in page.records)]

    *results, _ = database.using(Table(f"{p}t", key="id"), work)
    assert not any(getattr(result, "error", None) for result in results)
    assert results[-1] == "x"


def test_a_column_that_went_is_said_clearly(database: Database) -> None:
    """A table that lost a column the adapter needs raises a configuration error, never an empty page."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, note text)")
    database.run(f"insert into {p}t values (1, 'x')")

    async def work(connector: Connector) -> None:
        assert await connector.lookup("rows", ["1"]) == [{"id": 1, "note": "x"}]
        database.run(f"alter table {p}t rename column note to remark")
        with pytest.raises(ConfigurationError):
            await connector.lookup("rows", ["1"])
        pages = [page async for page in connector.read("rows")]
        assert pages[0].records == [{"id": 1, "remark": "x"}]
        database.run(f"alter table {p}t rename to other")
        with pytest.raises(ConfigurationError, match="there is no table"):
            [page async for page in connector.read("rows")]

    database.using(Table(f"{p}t", key="id"), work)


def test_a_table_altered_between_two_reads_is_read_as_it_is(database: Database) -> None:
    """What the connector knows of a table is looked at again before each read, whatever was changed."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, note text)")
    database.run(f"create table {p}lines (owner integer, at integer, primary key (owner, at))")
    changes: list[tuple[list[str], dict[str, Any]]] = [
        ([], {"id": 1, "note": "x", "lines": []}),
        ([f"alter table {p}t add column more text default 'm'"], {"id": 1, "note": "x", "more": "m", "lines": []}),
        ([f"alter table {p}t drop column note"], {"id": 1, "more": "m", "lines": []}),
        (
            [f"alter table {p}lines add column sku text", f"insert into {p}lines values (1, 7, 's')"],
            {"id": 1, "more": "m", "lines": [{"at": 7, "sku": "s"}]},
        ),
        (
            [f"drop table {p}t", f"create table {p}t (id integer primary key)", f"insert into {p}t values (1)"],
            {"id": 1, "lines": [{"at": 7, "sku": "s"}]},
        ),
    ]
    database.run(f"insert into {p}t values (1, 'x')")

    async def work(connector: Connector) -> list[Any]:
        found = []
        for statements, _ in changes:
            for statement in statements:
                database.run(statement)
            found += [record async for page in connector.read("rows") for record in page.records]
        return found

    lines = Child(f"{p}lines", parent="owner", key=("owner", "at"))
    assert database.using(Table(f"{p}t", key="id", children={"lines": lines}), work) == [e for _, e in changes]


def test_a_column_that_comes_while_nothing_else_does_is_seen_with_the_first_row(database: Database) -> None:
    """A look that shows nothing does not ask the catalogue; one that shows a row does, however soon it comes."""
    p = database.prefix
    database.run(f"create table {p}t (id int primary key, changed int not null)")
    table = Table(f"{p}t", key="id", cursor="changed")

    async def work(connector: Connector) -> None:
        async def following(since: Checkpoint) -> tuple[list[Record], Checkpoint]:
            pages = [page async for page in connector.read("rows", since)]
            return [record for page in pages for record in page.records], pages[-1].checkpoint if pages else since

        _, cursor = await following(None)
        database.run(f"insert into {p}t values (1, 1)")
        records, cursor = await following(cursor)
        assert records == [{"id": 1, "changed": 1}]
        assert await following(cursor) == ([], cursor)
        database.run(f"alter table {p}t add column note text;\ninsert into {p}t values (2, 2, 'new')")
        records, cursor = await following(cursor)
        assert records == [{"id": 2, "changed": 2, "note": "new"}]
        database.run(f"alter table {p}t drop column note;\ninsert into {p}t values (3, 3)")
        assert (await following(cursor))[0] == [{"id": 3, "changed": 3}]

    database.using(table, work)


# --- held, where a database is shared or only read


def test_two_systems_in_one_database_do_not_share_held_rows(database: Database) -> None:
    """Held rows and fences belong to a system, by its name and generation."""
    database.run(f"create table {database.prefix}t (id integer primary key)")
    table = Table(f"{database.prefix}t", key="id")

    async def keep(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 5})
            await transaction.keep("Order", [HeldRow("1", "s", Version(1, 1), b"i" * 16)])

    async def look(connector: Connector) -> tuple[list[HeldRow], dict[int, LegState]]:
        async with connector.transaction() as transaction:
            return await transaction.held("Order", ["1"]), await transaction.fence("leg", {0: 1})

    database.using(table, keep, name="erp")
    assert database.using(table, look, name="bi") == ([], {0: LegState()})
    assert database.using(table, look, name="erp", generation=2) == ([], {0: LegState()})


def test_nothing_is_made_in_a_database_that_is_only_read(database: Database) -> None:
    """Asking for held rows makes no table; there are none."""
    database.run(f"create table {database.prefix}t (id integer primary key)")

    async def work(connector: Connector) -> tuple[list[HeldRow], list[str]]:
        async with connector.transaction() as transaction:
            held = await transaction.held("Order", ["1"])
        names = {found.name.rpartition(".")[2] for found in await connector.discover()}
        return held, sorted(names & {"t", "tieline_held", "tieline_leg"})

    assert database.using(Table(f"{database.prefix}t", key="id"), work) == ([], ["t"])
    catalog = "sqlite_schema" if database.kind == "sqlite" else "pg_class"
    name = "name" if database.kind == "sqlite" else "relname"
    space = "" if database.kind == "sqlite" else f" and relnamespace = '{database.prefix[:-1]}'::regnamespace"
    assert database.run(f"select 1 from {catalog} where {name} = 'tieline_held'{space}") == []


def _made_by_an_earlier_version(database: Database) -> Table:
    """A table whose held row and fence row lack the columns that were thought of last."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key)")
    table = Table(f"{p}t", key="id")

    async def keep(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 5})
            await transaction.keep("Order", [HeldRow("1", "s", Version(1, 1), b"i" * 16, step=2)])
            await transaction.move("leg", {0: LegState(7, 7, 5, {"done": 7}, made=9)})

    database.using(table, keep)
    database.run(f"alter table {p}tieline_leg drop column made;\nalter table {p}tieline_held drop column step")
    return table


def test_our_tables_of_an_earlier_version_get_the_columns_they_lack(database: Database) -> None:
    """What stands in them stays; what is new begins empty, and is kept from then on."""
    table = _made_by_an_earlier_version(database)

    async def work(connector: Connector) -> None:
        async with connector.transaction() as transaction:
            assert [row.step for row in await transaction.held("Order", ["1"])] == [0]
            assert await transaction.fence("leg", {0: 6}) == {0: LegState(7, 7, 5, {"done": 7})}
            await transaction.move("leg", {0: LegState(8, 8, 6, made=10)})
        async with connector.transaction() as transaction:
            assert await transaction.fence("leg", {0: 6}) == {0: LegState(8, 8, 6, made=10)}

    database.using(table, work)


def test_a_column_is_added_once_where_two_workers_begin_with_an_older_table(database: Database) -> None:
    """The second finds it missing while the first adds it, waits, and goes on."""
    table = _made_by_an_earlier_version(database)

    async def fence(connector: Connector, partition: int) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {partition: 6})
            await transaction.move("leg", {partition: LegState(partition, made=partition)})

    async def work(connector: Connector) -> dict[int, LegState]:
        other = Sql(rows=table).open(database.system)
        try:
            async with connector.transaction() as transaction:
                await transaction.fence("leg", {1: 6})
                second = asyncio.create_task(fence(other, 2))
                await asyncio.sleep(0.3)
                assert not second.done()
            await second
            async with connector.transaction() as transaction:
                return await transaction.fence("leg", {1: 6, 2: 6})
        finally:
            await other.close()

    assert database.using(table, work) == {1: LegState(token=6), 2: LegState(2, token=6, made=2)}


def test_held_may_be_switched_off(database: Database) -> None:
    """With held = false the resource is not transactional, and says what to set if it is used so."""
    database.run(f"create table {database.prefix}t (id integer primary key)")

    async def work(connector: Connector) -> bool:
        with pytest.raises(ConfigurationError, match="held = true"):
            async with connector.transaction():
                pass
        return connector.capabilities("rows").transactional

    options = {**database.system.options, "held": False}
    assert database.using(Table(f"{database.prefix}t", key="id"), work, options=options) is False


def test_a_row_and_its_held_row_are_never_apart(database: Database) -> None:
    """Workers that are cancelled at any moment of their transactions leave as many rows as held rows."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key)")
    table = Table(f"{p}t", key="id")

    async def one(connector: Connector, number: int) -> None:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 1})
            await transaction.write("rows", [put({"id": number})])
            await transaction.keep("Order", [HeldRow(str(number), "s", Version(1, 1), b"i" * 16)])

    async def work(connector: Connector) -> list[HeldRow]:
        await one(connector, 0)
        for number in range(1, 40):
            task = asyncio.create_task(one(connector, number))
            await asyncio.sleep(number * 0.0003)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        async with connector.transaction() as transaction:
            return await transaction.held("Order", [str(number) for number in range(40)])

    held = database.using(table, work)
    assert sorted(int(row.key) for row in held) == [id for (id,) in database.run(f"select id from {p}t order by id")]


# --- mistakes in a project


def test_check_names_every_mistake_at_once(database: Database) -> None:
    """Tables and columns that are not there are all listed, with the nearest name or what there is."""
    p = database.prefix
    database.run(f"""
        create table {p}orders (number text not null primary key, updated_at text, lines text, soft text);
        create table {p}line (number text not null, n integer not null, primary key (number, n))
    """)
    sql = Sql(
        orders=Table(f"{p}orders", key="nummer", cursor="updatet_at"),
        lines=Table(f"{p}lines", key="n"),
        lined=Table(f"{p}orders", key="number", children={"x": Child(f"{p}nowhere", "number")}),
        named=Table(f"{p}orders", key="number", children={"lines": Child(f"{p}line", "number", ("number", "m"))}),
        loose=Table(f"{p}line", key="number"),
        typed=Table(f"{p}line", key=("number", "n"), children={"of": Child(f"{p}line", ("number", "number"))}),
        soft=Table(f"{p}orders", key="soft"),
    )

    async def work() -> None:
        connector = sql.open(database.system)
        try:
            await connector.check()
        finally:
            await connector.close()

    with pytest.raises(ConfigurationError) as raised:
        asyncio.run(work())
    told = [str(mistake) for mistake in raised.value.mistakes]
    expected = [
        ("erp.orders", "no column 'nummer'", "did you mean 'number'?"),
        ("erp.orders", "no column 'updatet_at'", "did you mean 'updated_at'?"),
        ("erp.lines", "there is no table", "did you mean"),
        ("erp.lined", f"there is no table {p}nowhere", ""),
        ("erp.named", "has a column lines itself", "another name"),
        ("erp.named", "no column 'm'", "it has number, n"),
        ("erp.loose", "not unique by number", "key=('number', 'n')"),
        ("erp.typed", "cannot hold n", "same type"),
        ("erp.soft", "not unique by soft", "create unique index"),
        ("erp.soft", "may be NULL", "NOT NULL"),
    ]
    for parts in expected:
        assert any(all(part in line for part in parts) for line in told), (parts, told)
    assert len(told) == len(expected)


def test_a_view_is_read_by_the_key_that_is_declared(database: Database) -> None:
    """A view has no key of its own; it is believed."""
    p = database.prefix
    database.run(f"""
        create table {p}t (id integer primary key, a integer);
        create view {p}v as select id, a * 2 as twice from {p}t;
        insert into {p}t values (1, 5), (2, 6)
    """)
    assert database.records(Table(f"{p}v", key="id", writes=False)) == [
        {"id": 1, "twice": 10},
        {"id": 2, "twice": 12},
    ]
    facts = database.using(Table(f"{p}v", key="id", writes=False), _facts)
    assert (facts.writes, facts.deletes, facts.upsert, facts.transactional) == (False,) * 4


def test_discovers_tables_with_fields_and_keys(database: Database) -> None:
    """Tables and views are found with their columns and keys; Tieline's own are not among them."""
    p = database.prefix
    database.run(f"""
        create table {p}t (b text not null, a integer not null, amount numeric(12, 2), primary key (a, b));
        create view {p}v as select a from {p}t
    """)

    async def work(connector: Connector) -> dict[str, Any]:
        async with connector.transaction() as transaction:
            await transaction.fence("leg", {0: 1})
        return {found.name: found for found in await connector.discover()}

    found = database.using(Table(f"{p}t", key=("a", "b")), work)
    mine = {name: one for name, one in found.items() if name.startswith(p)}
    assert set(mine) == {f"{p}t", f"{p}v"}
    assert mine[f"{p}t"].key == ("a", "b")
    assert list(mine[f"{p}t"].fields) == ["b", "a", "amount"]
    assert "12,2" in mine[f"{p}t"].fields["amount"].replace(" ", "")
    assert (mine[f"{p}v"].kind, mine[f"{p}v"].key) == ("view", ())


def test_what_a_table_cannot_do_is_said(database: Database) -> None:
    """Listening and actions are no table's; the error says what to write instead."""
    database.run(f"create table {database.prefix}t (id integer primary key)")

    async def work(connector: Connector) -> None:
        with pytest.raises(ConfigurationError, match="every 5m"):
            connector.listen("rows")
        with pytest.raises(ConfigurationError, match="no action 'confirm'"):
            await connector.call("rows", "confirm", ["1"])

    database.using(Table(f"{database.prefix}t", key="id"), work)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nonsense", "no database's address"),
        ("postgresql://me:hunter2@host:port/db", "postgresql://me:••••@host:port/db' is no database's address"),
        ("mysql://host/db", "mysql is not a database that this connector knows"),
        ("sqlite://", "one user only"),
        ("sqlite:///:memory:", "one user only"),
    ],
)
def test_an_address_it_does_not_know_is_a_mistake(url: str, told: str) -> None:
    """The address is read when the connector is opened, before anything is connected."""
    with pytest.raises(ConfigurationError, match=told):
        Sql(t=Table("t", key="id")).open(SystemSettings("erp", url))


def test_declarations_that_cannot_work_are_all_named_at_once() -> None:
    """No key, a name that is none, a child that does not match its parent's key, and the address too."""
    sql = Sql(
        a=Table("a"),
        b=Table('b"', key="id"),
        c=Table("c", key=("x", "y"), children={"lines": Child("l", parent="x")}),
        d=Table("d..e", key="id"),
    )
    with pytest.raises(ConfigurationError) as raised:
        sql.open(SystemSettings("erp", "nonsense"))
    assert [mistake.where for mistake in raised.value.mistakes] == [
        "systems.erp.a",
        "systems.erp.b",
        "systems.erp.c",
        "systems.erp.d",
        "systems.erp",
    ]
    assert 'write key="…"' in raised.value.mistakes[0].remedy


def test_a_large_batch_is_as_exact_as_a_small_one(database: Database) -> None:
    """Three changes and three hundred are taken or refused alike, whatever way they travel."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, amount numeric(20, 4), note text)")
    table = Table(f"{p}t", key="id")
    values: list[Any] = [
        *(Decimal("0.1"), Decimal("12345678901234.5678"), Decimal("1E+2"), "0.30", 5, None, Decimal("0.12345"), 0.25),
        *(Decimal("12345678901234567.89"), [1], {"a": 1}, 10**40),
    ]
    for value in values:
        outcomes = []
        for size in (1, 300):
            database.run(f"delete from {p}t")
            fillers = [put({"id": 1000 + n, "amount": Decimal("1.5"), "note": "x"}) for n in range(size - 1)]
            results = database.write(table, put({"id": 1, "amount": value, "note": "x"}), *fillers)
            assert not any(result.error for result in results[1:])
            (found,) = database.lookup(table, ["1"])
            outcomes.append(found["amount"] if found else type(results[0].error))
        assert outcomes[0] == outcomes[1], value
        if outcomes[0] is not Reject:
            assert outcomes[0] == (None if value is None else Decimal(str(value))), value


def test_changes_of_all_kinds_in_one_batch(database: Database) -> None:
    """Records with different fields, deletes and repeated keys in one batch end as if one by one."""
    p = database.prefix
    database.run(f"create table {p}t (id integer primary key, a text, b text default 'B')")
    table = Table(f"{p}t", key="id")
    wanted: dict[int, dict[str, Any]] = {}
    changes: list[Change] = []
    for n in range(400):
        id = (n * 7) % 60
        match n % 5:
            case 0:
                changes.append(drop(str(id)))
                wanted.pop(id, None)
                continue
            case 1:
                record = {"id": id, "a": f"a{n}"}
            case 2:
                record = {"b": f"b{n}", "id": id}
            case 3:
                record = {"a": f"a{n}", "b": None, "id": id}
            case _:
                record = {"id": id}
        changes.append(put(record))
        wanted[id] = {"id": id, "a": None, "b": "B"} | wanted.get(id, {}) | record
    results = database.write(table, *changes)
    assert not any(result.error for result in results)
    assert {record["id"]: record for record in database.records(table)} == wanted
