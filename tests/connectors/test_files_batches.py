"""Files written batch by batch: each is there whole or not at all, under a name that sorts after the last."""

import csv
import os
import subprocess
import sys
import textwrap
import time
from decimal import Decimal
from pathlib import Path

import pytest
from tests.connectors.files_exchange import change, names, opened, put, run

from tieline.connectors.files import Csv, JsonLines
from tieline.connectors.files import batches as batches_module
from tieline.errors import AccessRefused, InDoubt, Reject, Unavailable

OUT = Csv("out/orders-*.csv", id="number", mode="batches")


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path


def write(connector, *changes):
    return run(connector.write("orders", changes))


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_write_makes_one_file(folder):
    """Its rows in the order of the changes, its name in the order of the writes."""
    connector = opened(folder, orders=OUT)
    for turn in range(20):
        changes = [change(f"{turn}-{n}", {"number": f"{turn}-{n}", "total": Decimal("1.50")}) for n in range(3)]
        results = write(connector, *changes)
        assert [(result.target_id, result.error) for result in results] == [(f"{turn}-{n}", None) for n in range(3)]
    written = names(folder / "out")
    assert len(written) == 20
    assert [row["number"] for name in written for row in rows(folder / "out" / name)] == [
        f"{turn}-{n}" for turn in range(20) for n in range(3)
    ]


def test_names_sort_although_the_clock_goes_back(folder, monkeypatch):
    """A receiver that takes files in order of name takes them in order."""
    connector = opened(folder, orders=OUT)
    moments = iter([5_000_000_000, 1_000_000_000, 4_000_000_000, 9_000_000_000])
    monkeypatch.setattr(batches_module.time, "time_ns", lambda: next(moments))
    for turn in range(4):
        write(connector, change(str(turn), {"number": str(turn)}))
    assert [rows(folder / "out" / name)[0]["number"] for name in names(folder / "out")] == ["0", "1", "2", "3"]


@pytest.mark.parametrize("key", ["../../etc/x", "a/b", "\0", "*", "..", "a\nb", "x" * 5000])
def test_nothing_in_a_name_comes_from_a_record(folder, key):
    """Keys are what others call their things; paths are ours."""
    write(opened(folder, orders=OUT), change(key, {"number": "1", "path": key.replace("\0", "")}))
    (name,) = names(folder)
    assert name.startswith("out/orders-")
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyzTZ0123456789-./")


def test_a_bad_change_leaves_the_others_alone(folder):
    """It is rejected; the file holds the rest."""
    settings = Csv("out/*.csv", id="number", mode="batches", columns=["number", "name"])
    results = write(
        opened(folder, orders=settings),
        change("1", {"number": "1"}),
        change("2", {"number": "2", "name": []}),
        change("3", {"number": "3", "colour": "red"}),
        change("4", {"number": "4", "name": "Dan"}),
    )
    assert [type(result.error) for result in results] == [type(None), Reject, Reject, type(None)]
    (name,) = names(folder / "out")
    assert rows(folder / "out" / name) == [{"number": "1", "name": ""}, {"number": "4", "name": "Dan"}]


def test_nothing_to_write_makes_no_file(folder):
    """Nor does a batch of which every change is rejected."""
    connector = opened(folder, orders=OUT)
    assert write(connector) == []
    assert isinstance(write(connector, change("1", {"number": []}))[0].error, Reject)
    assert names(folder) == []


def test_without_declared_columns_a_file_has_those_of_its_rows(folder):
    """In the order in which they are met."""
    write(opened(folder, orders=OUT), change("1", {"number": "1", "b": "x"}), change("2", {"a": "y", "number": "2"}))
    (name,) = names(folder / "out")
    assert (folder / "out" / name).read_text() == "number,b,a\n1,x,\n2,,y\n"


def test_a_delete_is_a_row_where_a_field_says_so(folder):
    """Elsewhere it is rejected: a receiver could not know it from a change."""
    with_operation = Csv("out/*.csv", id="number", mode="batches", columns=["number", "name"], operation="op")
    results = write(
        opened(folder, orders=with_operation),
        change("1", {"number": "1", "name": "Ada"}),
        change("2", None, "2"),
        change("3", None),
    )
    assert [(result.target_id, result.error) for result in results] == [("1", None), ("2", None), ("3", None)]
    (name,) = names(folder / "out")
    assert (folder / "out" / name).read_text() == "op,number,name\nchange,1,Ada\ndelete,2,\ndelete,3,\n"
    (result,) = write(opened(folder, orders=OUT), change("1", None))
    assert "say operation=" in str(result.error)
    several = Csv("out/*.csv", id=["a", "b"], mode="batches", operation="op")
    assert "a delete needs one field for the id" in str(
        write(opened(folder, orders=several), change("1", None))[0].error
    )


def test_json_lines_are_written_as_they_are(folder):
    """With exact numbers, and the operation where it is asked for."""
    settings = JsonLines("out/*.jsonl", id="id", mode="batches", operation="op")
    write(opened(folder, orders=settings), change("1", {"id": 1, "total": Decimal("0.10")}), change("2", None, "2"))
    (name,) = names(folder / "out")
    assert (folder / "out" / name).read_text() == '{"op":"change","id":1,"total":0.10}\n{"op":"delete","id":"2"}\n'


def test_a_ready_marker_follows_its_file(folder):
    """For receivers that cannot tell a whole file from half of one."""
    write(opened(folder, orders=Csv("out/*.csv", mode="batches", ready=".ok")), change("1", {"number": "1"}))
    file, marker = names(folder / "out")
    assert marker == f"{file}.ok"
    assert (folder / "out" / marker).stat().st_mtime_ns >= (folder / "out" / file).stat().st_mtime_ns


def test_what_is_written_can_be_dropped_elsewhere(folder):
    """One system's batches are another's drop folder."""
    write(
        opened(folder, orders=Csv("out/*.csv", id="number", mode="batches", ready=".ok")),
        change("1", {"number": "1"}),
    )
    taking = opened(folder, orders=Csv("out/*.csv", id="number", mode="drop", ready=".ok", settle=0))

    async def read():
        return [one async for page in taking.read("orders") for one in page.ids]

    assert run(read()) == ["1"]


def test_a_folder_that_is_gone_is_an_outage(tmp_path):
    """Nothing was written, and everything can be tried again."""
    results = write(opened(tmp_path, orders=OUT), change("1", {"number": "1"}), change("2", {"number": []}))
    assert isinstance(results[0].error, Unavailable)
    assert isinstance(results[1].error, Reject)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_is_refused(folder):
    """Only its owner can mend that."""
    (folder / "out").chmod(0o500)
    results = write(opened(folder, orders=OUT), change("1", {"number": "1"}))
    (folder / "out").chmod(0o700)
    assert isinstance(results[0].error, AccessRefused)


def test_a_full_disk_leaves_nothing_behind(folder, monkeypatch):
    """The half of a file is taken away again."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    (result,) = write(opened(folder, orders=OUT), change("1", {"number": "1"}))
    assert isinstance(result.error, Unavailable)
    assert "No space left" in str(result.error)
    assert list((folder / "out").iterdir()) == []


def test_a_failure_after_the_name_is_there_is_in_doubt(folder, monkeypatch):
    """The file may be taken already: writing it again could double it."""

    def failing(_: Path) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("tieline.connectors.files.disk.sync_folder", failing)
    (result,) = write(opened(folder, orders=OUT), change("1", {"number": "1"}))
    assert isinstance(result.error, InDoubt)


def test_what_a_killed_writer_left_is_tidied_away(folder):
    """After an hour: before that it may be another writer's work."""
    put(folder / "out/.orders-old.csv.part", "x", age=4000)
    put(folder / "out/.orders-new.csv.part", "x", age=60)
    put(folder / "out/.invoices-old.csv.part", "x", age=4000)
    write(opened(folder, orders=OUT), change("1", {"number": "1"}))
    left = sorted(path.name for path in (folder / "out").iterdir() if path.name.startswith("."))
    assert left == [".invoices-old.csv.part", ".orders-new.csv.part"]


def test_what_batches_can_do(folder):
    """They are written; a repeated write is a repeated row."""
    facts = opened(folder, orders=OUT).capabilities("orders")
    assert (facts.reads, facts.writes, facts.deletes, facts.upsert, facts.lookup) == (
        False,
        True,
        False,
        False,
        False,
    )


def test_a_writer_that_is_killed_leaves_whole_files_only(folder):
    """At any moment: every file that has its name has all its rows."""
    program = textwrap.dedent("""
        import asyncio, sys
        from pathlib import Path
        from tests.connectors.files_exchange import change, opened
        from tieline.connectors.files import Csv
        connector = opened(Path(sys.argv[1]), orders=Csv("out/*.csv", mode="batches"))
        async def work():
            while True:
                rows = [{"number": str(n), "text": "x" * 100} for n in range(2000)]
                await connector.write("orders", [change(row["number"], row) for row in rows])
                print("x", flush=True)
        asyncio.run(work())
    """)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    for turn in range(6):
        command = [sys.executable, "-c", program, str(folder)]
        worker = subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE)
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(0.003 * turn)
        worker.kill()
        worker.wait()
        worker.stdout.close()
    written = [name for name in names(folder / "out") if not name.startswith(".")]
    assert len(written) >= 6
    assert {len(rows(folder / "out" / name)) for name in written} == {2000}
