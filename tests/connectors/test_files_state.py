"""State files: read whole when one has changed, and written whole or not at all."""

import asyncio
import os
import stat
import subprocess
import sys
import textwrap
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from uuid import UUID

import pytest
from tests.connectors.files_exchange import bad, change, last, names, opened, pages, put, records, run

from tieline.connectors.files import Csv, Files, JsonLines
from tieline.connectors.files.places import FirstPlaces
from tieline.errors import AccessRefused, ConfigurationError, Hold, Reject, Unavailable
from tieline.settings import SystemSettings

ORDERS = Csv("orders.csv", id="number")
MANY = Csv("orders/*.csv", id="number")


@pytest.fixture
def folder(tmp_path) -> Path:
    put(tmp_path / "orders.csv", "number,name,total\n1,Ada,1.50\n2,Bob,2.00\n")
    return tmp_path


# Reading


def test_a_file_that_did_not_change_is_not_read_again(folder):
    """Its checkpoint says so; a change, of whatever kind, is read."""
    connector = opened(folder, orders=ORDERS)
    checkpoint = last(pages(connector))
    assert pages(connector, since=checkpoint) == []
    for content, age in [
        ("number,name,total\n1,Ada,1.50\n2,Bob,9.00\n", 50),
        ("number,name,total\n1,Ada,1.50\n2,Bob,9.00\n", 40),
    ]:
        put(folder / "orders.csv", content, age)
        found = pages(connector, since=checkpoint)
        assert records(found)["2"]["total"] == "9.00"
        checkpoint = last(found)
    replacement = put(folder / "new", (folder / "orders.csv").read_bytes())
    os.utime(replacement, ns=(0, (folder / "orders.csv").stat().st_mtime_ns))
    replacement.replace(folder / "orders.csv")
    assert len(records(pages(connector, since=checkpoint))) == 2


def test_a_file_that_changed_just_now_is_read_again(folder):
    """A second change within the clock's grain would leave no trace, so no checkpoint is given yet."""
    put(folder / "orders.csv", "number\n1\n", age=0)
    connector = opened(folder, orders=ORDERS)
    assert last(pages(connector)) is None


def test_several_files_are_one_state(tmp_path):
    """In order of name; one change, a new file or a missing one, and all are read."""
    put(tmp_path / "orders/b.csv", "number\n3\n")
    put(tmp_path / "orders/a.csv", "number\n1\n2\n")
    put(tmp_path / "orders/.hidden.csv", "number\n9\n")
    put(tmp_path / "orders/~$a.csv", "number\n9\n")
    put(tmp_path / "orders/a.txt", "number\n9\n")
    connector = opened(tmp_path, orders=MANY)
    checkpoint = last(pages(connector))
    assert list(records(pages(connector))) == ["1", "2", "3"]
    assert pages(connector, since=checkpoint) == []
    put(tmp_path / "orders/c.csv", "number\n4\n")
    found = pages(connector, since=checkpoint)
    assert list(records(found)) == ["1", "2", "3", "4"]
    (tmp_path / "orders/a.csv").unlink()
    assert list(records(pages(connector, since=last(found)))) == ["3", "4"]


def test_an_id_in_two_files_is_named_with_both(tmp_path):
    """The value would change back and forth otherwise."""
    put(tmp_path / "orders/a.csv", "number\n1\n2\n")
    put(tmp_path / "orders/b.csv", "number\n2\n")
    found = pages(opened(tmp_path, orders=MANY))
    assert "b.csv:2: '2' stands in a.csv:3 already" in str(bad(found)[0].error)


def test_nothing_there_is_not_an_empty_state(tmp_path):
    """A missing file, folder or mount must not look like a delete of everything."""
    with pytest.raises(Unavailable, match=r"there is no file orders\.csv; an empty state is a file without rows"):
        pages(opened(tmp_path, orders=ORDERS))
    with pytest.raises(Unavailable, match="the folder orders: No such file"):
        pages(opened(tmp_path, orders=MANY))
    (tmp_path / "orders").mkdir()
    with pytest.raises(Unavailable, match="there is no file"):
        pages(opened(tmp_path, orders=MANY))
    put(tmp_path / "orders.csv", "number\n")
    assert records(pages(opened(tmp_path, orders=ORDERS))) == {}


def test_a_file_that_changes_while_it_is_read_is_refused(folder):
    """Half of an old state and half of a new one are no state."""
    put(folder / "orders.csv", "number\n" + "".join(f"{n}\n" for n in range(10_000)))
    connector = opened(folder, orders=ORDERS)

    async def disturbed():
        async for _ in connector.read("orders"):
            with (folder / "orders.csv").open("a") as file:
                file.write("new\n")

    with pytest.raises(Unavailable, match=r"orders\.csv was changed while it was read"):
        run(disturbed())


def test_a_file_that_is_replaced_while_it_is_read_is_read_as_it_was(folder):
    """That is how a state is best renewed; the next read shows the new one."""
    put(folder / "orders.csv", "number\n" + "".join(f"{n}\n" for n in range(5000)))
    connector = opened(folder, orders=ORDERS)
    found = []

    async def replaced():
        async for page in connector.read("orders"):
            found.append(page)
            put(folder / "new", "number\n1\n").replace(folder / "orders.csv")

    run(replaced())
    assert len(records(found)) == 5000
    assert list(records(pages(connector, since=last(found)))) == ["1"]


def test_a_pipe_is_not_waited_for(tmp_path):
    """Nor is a folder read as a file."""
    os.mkfifo(tmp_path / "orders.csv")
    with pytest.raises(Unavailable, match="is no regular file"):
        pages(opened(tmp_path, orders=ORDERS))
    (tmp_path / "orders.csv").unlink()
    (tmp_path / "orders.csv").mkdir()
    with pytest.raises(Unavailable):
        pages(opened(tmp_path, orders=ORDERS))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_rights_is_refused(folder):
    """Only its owner can mend that."""
    (folder / "orders.csv").chmod(0)
    with pytest.raises(AccessRefused, match="give Tieline's user the right to it"):
        pages(opened(folder, orders=ORDERS))


def test_reading_can_be_given_up(folder):
    """Cancelled in the middle, it leaves nothing running and nothing open."""
    put(folder / "orders.csv", "number\n" + "".join(f"{n}\n" for n in range(50_000)))

    async def given_up():
        connector = opened(folder, orders=ORDERS)

        async def read():
            async for _ in connector.read("orders"):
                await asyncio.sleep(0)

        task = asyncio.create_task(read())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    before = len(os.listdir("/proc/self/fd"))
    run(given_up())
    assert len(os.listdir("/proc/self/fd")) <= before


def test_keys_are_the_ids_of_all_rows(folder):
    """A row that cannot be read exists all the same."""
    put(folder / "orders.csv", "number,name\n1,Ada\n2\n3,Cid\n")

    async def keys():
        return [one async for ids in opened(folder, orders=ORDERS).keys("orders") for one in ids]

    assert sorted(run(keys())) == ["1", "2", "3"]


def test_rows_are_looked_up_by_id_or_by_a_field(folder):
    """In the order asked for, None where there is none."""
    connector = opened(folder, orders=ORDERS)
    found = run(connector.lookup("orders", ["2", "9", "1", "2"]))
    assert [row and row["name"] for row in found] == ["Bob", None, "Ada", "Bob"]
    found = run(connector.lookup("orders", ["Ada", "Zoë"], by="name"))
    assert [row and row["number"] for row in found] == ["1", None]


def test_a_row_that_cannot_be_read_is_not_looked_up_as_missing(folder):
    """None would mean deleted. Whoever uses the row is told what is wrong with it."""
    put(folder / "orders.csv", "number,name\n1,Ada\n2\n")
    (row,) = run(opened(folder, orders=ORDERS).lookup("orders", ["2"]))
    assert row is not None
    for use in (lambda: row["name"], lambda: row.get("name"), lambda: Files(orders=ORDERS).identify("orders", row)):
        with pytest.raises(Reject, match=r"orders\.csv:3: has 1 of 2 fields"):
            use()


def test_ids_are_remembered_beyond_memory():
    """What no longer fits in memory is still found, with its place."""
    places = FirstPlaces(in_memory=100)
    for start in range(1, 1001, 50):
        assert places.meet([str(n) for n in range(start, start + 50)], range(start, start + 50)) == {}
    assert places.meet(["new", "7", "999", "new", "7"], [2001, 2002, 2003, 2004, 2005]) == {
        1: 7,
        2: 999,
        3: 2001,
        4: 7,
    }
    assert places.meet(["new"], [3000]) == {0: 2001}
    assert places.meet(["other", "8"], [3001, 3002]) == {1: 8}
    places.close()


# Writing


def write(connector, *changes):
    return run(connector.write("orders", changes))


def errors(results):
    return [str(result.error) if result.error else None for result in results]


def test_rows_are_merged_by_id(folder):
    """A known row keeps its other fields and its place, a new one is added, a deleted one is gone."""
    connector = opened(folder, orders=ORDERS)
    results = write(
        connector,
        change("a", {"number": "2", "total": Decimal("2.50")}, "2"),
        change("b", {"number": "3", "name": "Cid"}),
        change("c", None, "1"),
        change("d", None, "77"),
    )
    assert errors(results) == [None] * 4
    assert [result.target_id for result in results] == ["2", "3", "1", "77"]
    assert (folder / "orders.csv").read_text() == "number,name,total\n2,Bob,2.50\n3,Cid,\n"


@pytest.mark.parametrize("settings", [ORDERS, JsonLines("orders.csv", id="number")])
def test_changes_of_a_key_are_in_order(tmp_path, settings):
    """The last one counts; after a delete a row begins anew."""
    connector = opened(tmp_path, orders=settings)
    write(
        connector, change("1", {"number": "1", "name": "A", "total": "1"}), change("1", {"number": "1", "name": "B"})
    )
    assert records(pages(connector)) == {"1": {"number": "1", "name": "B", "total": "1"}}
    write(connector, change("1", None), change("1", {"number": "1", "name": "C"}))
    assert records(pages(connector))["1"].get("total") in {"", None}
    write(connector, change("1", {"number": "1", "name": "D"}), change("1", None, "1"))
    assert records(pages(connector)) == {}


@pytest.mark.parametrize("settings", [ORDERS, JsonLines("orders.csv", id="number")])
def test_writing_the_same_twice_changes_nothing(tmp_path, settings):
    """Byte by byte."""
    connector = opened(tmp_path, orders=settings)
    changes = [change(str(n), {"number": str(n), "name": "x", "total": Decimal("1.10")}) for n in range(100)]
    write(connector, *changes)
    before = (tmp_path / "orders.csv").read_bytes()
    write(connector, *changes)
    assert (tmp_path / "orders.csv").read_bytes() == before


def test_values_become_text_that_means_the_same(tmp_path):
    """Exact numbers, ISO times; nothing is a row of its own."""
    settings = Csv("orders.csv", id="number", newline="\r\n")
    record = {
        "number": 1,
        "total": Decimal("1E+2"),
        "rate": 0.1,
        "paid": True,
        "note": None,
        "day": date(2026, 1, 31),
        "at": datetime(2026, 1, 31, 12, tzinfo=UTC),
        "guid": UUID(int=5),
        "text": 'a,"b"\nc',
    }
    connector = opened(tmp_path, orders=settings)
    assert errors(write(connector, change("1", record))) == [None]
    assert (tmp_path / "orders.csv").read_bytes() == (
        b"number,total,rate,paid,note,day,at,guid,text\r\n"
        b"1,100,0.1,true,,2026-01-31,2026-01-31T12:00:00+00:00,00000000-0000-0000-0000-000000000005,"
        b'"a,""b""\nc"\r\n'
    )
    assert records(pages(connector))["1"]["text"] == 'a,"b"\nc'


def test_json_keeps_numbers_exact(tmp_path):
    """Written as they are, read as Decimals."""
    connector = opened(tmp_path, orders=JsonLines("orders.jsonl", id="number"))
    write(connector, change("1", {"number": "1", "total": Decimal("12345678901234567890.10"), "lines": [{"n": 1}]}))
    assert (
        tmp_path / "orders.jsonl"
    ).read_text() == '{"number":"1","total":12345678901234567890.10,"lines":[{"n":1}]}\n'
    assert records(pages(connector))["1"]["total"] == Decimal("12345678901234567890.10")


@pytest.mark.parametrize(
    ("settings", "record", "complaint"),
    [
        (ORDERS, {"name": "x"}, "key: a key part is text or a whole number"),
        (ORDERS, {"number": ""}, "key: a key part is text or a whole number"),
        (
            ORDERS,
            {"number": "1", "colour": "red"},
            "colour: the file has no column 'colour' (it has: number, name, total)",
        ),
        (ORDERS, {"number": "1", "name": ["x"]}, "name: a CSV field holds one value, no list"),
        (ORDERS, {"number": "1", "name": {}}, "name: a CSV field holds one value, no dict"),
        (ORDERS, {"number": "1", "name": float("nan")}, "name: a CSV field holds one value"),
        (ORDERS, {"number": "1", "name": Decimal("NaN")}, "name: a CSV field holds one value"),
        (ORDERS, {"number": "1", "name": "a\0b"}, "name: a CSV file holds no NUL character"),
        (ORDERS, {"number": "1", "name": "\ud800"}, "name: utf-8 has no character"),
        (
            Csv("orders.csv", id="number", encoding="cp1252"),
            {"number": "1", "name": "Žluťoučký"},
            "name: cp1252 has no character 'ť'",
        ),
        (
            Csv("orders.csv", id="number", quote=""),
            {"number": "1", "name": "a,b"},
            "name: without quotes a value holds no delimiter",
        ),
        (
            JsonLines("other.jsonl", id="number"),
            {"number": "1", "name": float("inf")},
            "name: JSON has no such number",
        ),
        (JsonLines("other.jsonl", id="number"), {"number": "1", "name": object()}, "name: JSON cannot hold it"),
        (JsonLines("other.jsonl", id="number"), {"number": "1", "name": "\ud800"}, "name: JSON cannot hold it"),
    ],
)
def test_a_change_that_cannot_be_written_leaves_the_others_alone(folder, settings, record, complaint):
    """It is rejected by field, and the file has the rest."""
    connector = opened(folder, orders=settings)
    results = write(connector, change("7", {"number": "7"}), change("8", record), change("9", {"number": "9"}))
    assert complaint in str(results[1].error)
    assert isinstance(results[1].error, Reject)
    assert errors(results)[::2] == [None, None]
    assert {"7", "9"} <= records(pages(connector)).keys()


def test_a_row_keeps_its_id(folder):
    """Renaming a row would leave two systems with two ideas of it."""
    connector = opened(folder, orders=ORDERS)
    assert "a row of a file keeps its id, '1'" in errors(write(connector, change("1", {"number": "5"}, "1")))[0]
    assert errors(write(connector, change("1", {"name": "Ann"}, "1"))) == [None]
    assert records(pages(connector))["1"]["name"] == "Ann"


def test_text_that_a_spreadsheet_would_run_is_defused_on_request(tmp_path):
    """Text only: a negative number is no formula."""
    settings = Csv("orders.csv", id="number", escape_formulas=True)
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "plain"]
    connector = opened(tmp_path, orders=settings)
    write(
        connector,
        *(change(str(n), {"number": str(n), "name": text, "total": Decimal(-5)}) for n, text in enumerate(texts)),
    )
    rows = records(pages(connector)).values()
    assert [row["name"] for row in rows] == ["'=1+1", "'+1", "'-1", "'@x", "'\tx", "plain"]
    assert {row["total"] for row in rows} == {"-5"}


def test_a_file_with_a_bad_row_is_not_rewritten(folder):
    """What nobody could read would be lost; the message says which row to mend."""
    content = "number,name,total\n1,Ada,1.50\n2,Bob\n"
    put(folder / "orders.csv", content)
    (result,) = write(opened(folder, orders=ORDERS), change("7", {"number": "7"}))
    assert isinstance(result.error, Unavailable)
    assert "orders.csv:3: has 2 of 3 fields" in str(result.error)
    assert (folder / "orders.csv").read_text() == content
    assert names(folder) == ["orders.csv"]


def test_a_file_is_replaced_at_once_and_keeps_its_rights(folder):
    """Whoever reads meanwhile sees the old file or the new one."""
    (folder / "orders.csv").chmod(0o640)
    old = (folder / "orders.csv").open()
    write(opened(folder, orders=ORDERS), change("7", {"number": "7"}))
    assert old.read().endswith("2,Bob,2.00\n")
    assert stat.S_IMODE((folder / "orders.csv").stat().st_mode) == 0o640
    old.close()


def test_a_link_is_followed_and_stays(folder):
    """The file behind it is the one that is replaced."""
    (folder / "orders.csv").rename(folder / "real.csv")
    (folder / "orders.csv").symlink_to("real.csv")
    write(opened(folder, orders=ORDERS), change("7", {"number": "7"}))
    assert (folder / "orders.csv").is_symlink()
    assert "7,," in (folder / "real.csv").read_text()


def test_a_folder_that_is_gone_is_an_outage(tmp_path):
    """For every change of the batch, and nothing is made in its place."""
    connector = opened(tmp_path / "gone", orders=ORDERS)
    results = write(connector, change("1", {"number": "1"}), change("2", {"number": "2"}))
    assert all(isinstance(result.error, Unavailable) for result in results)
    assert not (tmp_path / "gone").exists()


def test_two_processes_do_not_lose_each_others_rows(tmp_path):
    """Each rewrites the whole file, one after the other."""
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from tests.connectors.files_exchange import change, opened
        from tieline.connectors.files import Csv
        connector = opened(Path(sys.argv[1]), orders=Csv("orders.csv", id="number"))
        async def work():
            for n in range(40):
                one = f"{sys.argv[2]}{n}"
                results = await connector.write("orders", [change(one, {"number": one})])
                assert results[0].error is None, results
        asyncio.run(work())
    """)
    root = Path(__file__).parents[2]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), name],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        for name in "ab"
    ]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert len(records(pages(opened(tmp_path, orders=ORDERS)))) == 80


def test_a_writer_that_is_killed_leaves_the_old_file_or_the_new_one(tmp_path):
    """At any moment, again and again; nothing of it lies around afterwards."""
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from tests.connectors.files_exchange import change, opened
        from tieline.connectors.files import Csv
        connector = opened(Path(sys.argv[1]), orders=Csv("orders.csv", id="number"))
        async def work():
            for turn in range(1000000):
                rows = [{"number": str(n), "name": str(turn)} for n in range(500)]
                await connector.write("orders", [change(row["number"], row) for row in rows])
                print("x", flush=True)
        asyncio.run(work())
    """)
    root = Path(__file__).parents[2]
    connector = opened(tmp_path, orders=ORDERS)
    put(tmp_path / "orders.csv", "number,name\n" + "".join(f"{n},start\n" for n in range(500)))
    for turn in range(8):
        worker = subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        try:
            worker.wait(0.005 * turn)
        except subprocess.TimeoutExpired:
            worker.kill()
        worker.wait()
        worker.stdout.close()
        rows = records(pages(connector))
        assert len(rows) == 500
        assert len({row["name"] for row in rows.values()}) == 1
    write(connector, change("500", {"number": "500", "name": "end"}))
    assert names(tmp_path) == ["orders.csv"]


# The connector as a whole


def test_only_a_single_state_file_is_written(tmp_path):
    """Several files leave open which one a new row belongs to."""
    connector = opened(tmp_path, orders=MANY)
    facts = connector.capabilities("orders")
    assert (facts.reads, facts.keys, facts.lookup, facts.writes, facts.deletes, facts.upsert) == (
        True,
        True,
        True,
        False,
        False,
        False,
    )
    with pytest.raises(ConfigurationError, match="cannot be written"):
        run(connector.write("orders", []))
    facts = opened(tmp_path, orders=ORDERS).capabilities("orders")
    assert (facts.writes, facts.deletes, facts.upsert, facts.transactional, facts.bulk) == (
        True,
        True,
        True,
        False,
        2000,
    )


def test_what_files_cannot_do_is_said(folder):
    """By system and resource, with what to do instead."""
    connector = opened(folder, orders=ORDERS, drop=Csv("in/*.csv", mode="drop"), out=Csv("out/*.csv", mode="batches"))
    with pytest.raises(ConfigurationError, match=r"exchange\.orders: files do not push"):
        connector.listen("orders")
    with pytest.raises(ConfigurationError, match="has no action 'confirm'"):
        run(connector.call("orders", "confirm", ["1"]))
    with pytest.raises(NotImplementedError):
        connector.transaction()
    with pytest.raises(ConfigurationError, match="mode 'drop' answers no look-up"):
        run(connector.lookup("drop", ["1"]))
    with pytest.raises(ConfigurationError, match="its files are written, not read"):
        pages(connector, "out")
    with pytest.raises(ConfigurationError, match="has no id to find a row by"):
        Files(drop=Csv("in/*.csv", mode="drop")).identify("drop", {})
    run(connector.close())


def test_check_finds_folders_that_are_missing(folder):
    """Before anything is read from them."""
    run(opened(folder, orders=ORDERS).check())
    with pytest.raises(Unavailable, match=r"there is no folder .*/in; make it, or mount it"):
        run(opened(folder, drop=Csv("in/*.csv", mode="drop")).check())
    with pytest.raises(Unavailable, match="there is no folder"):
        run(opened(folder / "gone", orders=ORDERS).check())


def test_check_names_every_column_that_a_header_lacks(tmp_path):
    """With the file, the nearest name or all there are; of files that are not there, or not whole yet, nothing."""
    put(tmp_path / "orders.csv", "Number,customer,totals\n1,C-1,1.50\n")
    put(tmp_path / "days/monday.csv", "day;hours\n1;8\n")
    put(tmp_path / "days/tuesday.csv", "day,hours\n1,8\n")
    put(tmp_path / "in/a.csv", "nr\n1\n")
    put(tmp_path / "in/b.csv", "num", age=0)
    put(tmp_path / "wide.csv", "day\n".encode("utf-16") + b"\x00\xd8")
    put(tmp_path / "bare.csv", "1,2\n")
    put(tmp_path / "lines.jsonl", "{}\n")
    connector = opened(
        tmp_path,
        orders=Csv("orders.csv", id="number", columns=["number", "customer", "total", "vat"]),
        days=Csv("days/*.csv", id="day"),
        dropped=Csv("in/*.csv", id="number", mode="drop"),
        wide=Csv("wide.csv", id="day", encoding="utf-16"),
        bare=Csv("bare.csv", id="a", columns=["a", "b"], header=False),
        gone=Csv("gone.csv", id="number"),
        lines=JsonLines("lines.jsonl", id="number"),
    )
    with pytest.raises(ConfigurationError) as raised:
        run(connector.check())
    assert [str(one) for one in raised.value.mistakes] == [
        "exchange.orders: orders.csv:1: there is no field 'number' in the header → did you mean 'Number'?",
        "exchange.orders: orders.csv:1: there is no field 'total' in the header → did you mean 'totals'?",
        "exchange.orders: orders.csv:1: there is no field 'vat' in the header → it has: Number, customer, totals",
        "exchange.days: monday.csv:1: there is no field 'day' in the header → say delimiter=';'",
        "exchange.dropped: a.csv:1: there is no field 'number' in the header → it has: nr",
        "exchange.wide: wide.csv: is not utf-16 → save it again, or name its encoding in the adapter",
    ]


def test_discovery_shows_files_and_their_fields(folder):
    """Declared ones by their resource, others by their path; one that cannot be read is there all the same."""
    put(folder / "other/events.jsonl", '{"id":1,"kind":"x"}\n')
    put(folder / "other/broken.csv", "")
    put(folder / "other/.hidden.csv", "a\n")
    put(folder / "readme.txt", "a\n")
    found = {one.name: one for one in run(opened(folder, sales=ORDERS).discover())}
    assert found.keys() == {"sales", "other/events.jsonl", "other/broken.csv"}
    assert found["sales"].key == ("number",)
    assert list(found["sales"].fields) == ["number", "name", "total"]
    assert list(found["other/events.jsonl"].fields) == ["id", "kind"]
    assert found["sales"].kind == "folder"


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///srv/x", "/srv/x"),
        ("file://localhost/srv/x", "/srv/x"),
        ("file:/srv/x", "/srv/x"),
        ("file:data/x", "/project/data/x"),
        ("file://./data", "/project/data"),
        ("data", "/project/data"),
        ("file:///srv/my%20files", "/srv/my files"),
    ],
)
def test_the_url_is_a_folder(url, path):
    """Absolute, or within the project."""
    connector = Files(orders=ORDERS).open(SystemSettings(name="x", url=url, folder=Path("/project")))
    assert connector._root == Path(path)


@pytest.mark.parametrize("url", ["", "file:", "file://", "https://x/y", "file://server/share"])
def test_another_address_is_refused(url):
    """With what to write instead."""
    with pytest.raises(ConfigurationError, match="file:///folder"):
        Files(orders=ORDERS).open(SystemSettings(name="x", url=url))


def test_holding_is_for_people():
    """A broken state file is nobody's outage."""
    assert not issubclass(Hold, Unavailable)
