"""Drop folders: every file is taken over once, whatever is killed, and nothing is taken that is not ready."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from tests.connectors.files_exchange import bad, last, names, opened, pages, put, records, run

from tieline.connector import Checkpoint, Page
from tieline.connectors.files import Csv, FilesConnector, JsonLines
from tieline.errors import AccessRefused, Unavailable

ROOT = Path(__file__).parents[2]
ORDERS = Csv("in/*.csv", id="number", mode="drop")


@pytest.fixture
def folder(tmp_path) -> Path:
    put(tmp_path / "in/b.csv", "number,name\n3,Cid\n")
    put(tmp_path / "in/a.csv", "number,name\n1,Ada\n2,Bob\n")
    return tmp_path


def test_files_are_taken_in_order_of_name_and_moved_when_safe(folder):
    """A file leaves only when a later read is handed a checkpoint that covers it."""
    connector = opened(folder, orders=ORDERS)
    found = pages(connector)
    assert list(records(found)) == ["1", "2", "3"]
    assert len(names(folder / "in/work")) == 2
    assert names(folder / "in/done") == []
    assert pages(connector, since=last(found)) == []
    assert names(folder / "in") == ["done/a.csv", "done/b.csv"]
    assert pages(connector, since=last(found)) == []


def test_a_checkpoint_in_the_middle_covers_what_is_before_it(folder):
    """The rest is read again, and no more than the rest."""
    connector = opened(folder, orders=ORDERS)
    first, second = pages(connector)
    assert list(records(pages(connector, since=first.checkpoint))) == ["3"]
    assert names(folder / "in/done") == ["a.csv"]
    again = pages(connector, since=second.checkpoint)
    assert again == []
    assert names(folder / "in/done") == ["a.csv", "b.csv"]


def test_without_a_checkpoint_everything_that_is_there_is_read_again(folder):
    """Whoever lost the checkpoint, or never stored one, misses nothing."""
    connector = opened(folder, orders=ORDERS)
    pages(connector)
    put(folder / "in/0.csv", "number,name\n0,Zoë\n")
    assert list(records(pages(connector))) == ["1", "2", "3", "0"]
    found = pages(connector)
    assert list(records(found)) == ["1", "2", "3", "0"]
    pages(connector, since=last(found))
    assert names(folder / "in") == ["done/0.csv", "done/a.csv", "done/b.csv"]


def test_a_late_file_with_an_early_name_is_not_missed(folder):
    """What was taken over is told by rounds, not by names."""
    connector = opened(folder, orders=ORDERS)
    checkpoint = last(pages(connector))
    put(folder / "in/a.csv", "number,name\n9,Eve\n")
    found = pages(connector, since=checkpoint)
    assert list(records(found)) == ["9"]
    assert pages(connector, since=last(found)) == []
    assert names(folder / "in") == ["done/a-2.csv", "done/a.csv", "done/b.csv"]


@pytest.mark.parametrize(
    "since",
    [{"round": "00000001-0000000000000000", "file": 99}, {"round": "x", "file": 1, "before": ["y", "../../in"]}],
)
def test_a_foreign_checkpoint_covers_nothing(folder, since):
    """A ledger restored from long ago, or another folder's: the files are read, none is moved away unread."""
    found = pages(opened(folder, orders=ORDERS), since=since)
    assert list(records(found)) == ["1", "2", "3"]
    assert names(folder / "in/done") == []


def test_a_checkpoint_travels_as_json(folder):
    """That is how a ledger keeps it."""

    connector = opened(folder, orders=ORDERS)
    checkpoint = json.loads(json.dumps(last(pages(connector))))
    assert pages(connector, since=checkpoint) == []
    assert names(folder / "in") == ["done/a.csv", "done/b.csv"]


def test_files_may_be_taken_in_order_of_time(tmp_path):
    """Where names say nothing."""
    for name, age in [("b", 300), ("a", 100), ("c", 200)]:
        put(tmp_path / f"in/{name}.csv", f"number\n{name}\n", age)
    connector = opened(tmp_path, orders=Csv("in/*.csv", id="number", mode="drop", order="time"))
    assert list(records(pages(connector))) == ["b", "c", "a"]


def test_what_is_still_written_is_left_alone(folder):
    """By its age, by its name, by what it is."""
    put(folder / "in/young.csv", "number\n9\n", age=0)
    for name in (
        ".hidden.csv",
        "~x.csv",
        "x.csv.part",
        "x.csv.tmp",
        "x.csv.filepart",
        "x.csv.crdownload",
        "#x.csv",
        "x.txt",
    ):
        put(folder / "in" / name, "number\n9\n")
    (folder / "in/folder.csv").mkdir()
    os.mkfifo(folder / "in/pipe.csv")
    put(folder / "secret.csv", "number\n9\n")
    (folder / "in/link.csv").symlink_to(folder / "secret.csv")
    os.link(folder / "secret.csv", folder / "in/hard.csv")
    connector = opened(folder, orders=ORDERS)
    assert list(records(pages(connector))) == [
        "1",
        "2",
        "3",
        "9",
    ]  # the 9 of hard.csv, which is a file like any other
    assert (folder / "in/young.csv").exists()
    assert (folder / "in/link.csv").is_symlink()
    impatient = opened(folder, orders=Csv("in/*.csv", id="number", mode="drop", settle=0))
    put(folder / "in/young.csv", "number\n10\n", age=0)
    assert "10" in [one for page in pages(impatient) for one in page.ids]


def test_a_file_from_a_clock_that_is_ahead_is_taken(folder):
    """Its time lies in the future, and waiting for it would take as long."""
    put(folder / "in/a.csv", "number,name\n1,Ada\n", age=-3600)
    assert list(records(pages(opened(folder, orders=ORDERS)))) == ["1", "3"]


def test_a_ready_marker_is_waited_for(folder):
    """It is taken away with its file, so that it cannot speak for the next one."""
    settings = Csv("in/*.csv", id="number", mode="drop", ready=".ready")
    connector = opened(folder, orders=settings)
    assert pages(connector) == []
    put(folder / "in/b.csv.ready", "")
    found = pages(connector)
    assert list(records(found)) == ["3"]
    assert names(folder / "in")[0] == "a.csv"
    assert not (folder / "in/b.csv.ready").exists()
    put(folder / "in/b.csv", "number,name\n4,Dan\n")
    assert pages(connector, since=last(found)) == []


def test_a_ready_marker_speaks_for_no_later_file(folder):
    """One that was left behind by a kill is older than the next file of its name."""
    put(folder / "in/b.csv.ready", "", age=90)
    connector = opened(folder, orders=Csv("in/*.csv", id="number", mode="drop", ready=".ready"))
    assert pages(connector) == []


def test_rows_without_an_id_are_known_by_file_and_line(tmp_path):
    """A payment file gives each line once."""
    put(tmp_path / "in/pay-1.csv", "amount\n5\n\n7\n")
    put(tmp_path / "in/pay-2.jsonl", '{"amount":5}\n')
    assert list(records(pages(opened(tmp_path, orders=Csv("in/*.csv", mode="drop"))))) == [
        "pay-1.csv:2",
        "pay-1.csv:4",
    ]
    assert list(records(pages(opened(tmp_path, orders=JsonLines("in/*.jsonl", mode="drop"))))) == ["pay-2.jsonl:1"]


def test_the_same_id_in_two_files_is_a_change(tmp_path):
    """In one file it is a mistake."""
    put(tmp_path / "in/1.csv", "number,name\n1,Ada\n1,Ann\n")
    put(tmp_path / "in/2.csv", "number,name\n1,Eve\n")
    found = pages(opened(tmp_path, orders=ORDERS))
    assert [row["name"] for page in found for row in page.records] == ["Ada", "Eve"]
    assert [one.place for one in bad(found)] == ["1.csv:3"]


def test_a_file_with_bad_rows_ends_in_failed_with_what_is_wrong(folder):
    """Its good rows are taken over; the text beside it names each bad one and what to do."""
    put(folder / "in/a.csv", "number,name\n1,Ada\n2\n,x\n4,Dan\n")
    connector = opened(folder, orders=ORDERS)
    found = pages(connector)
    assert list(records(found)) == ["1", "4", "3"]
    assert [one.place for one in bad(found)] == ["a.csv:3", "a.csv:4"]
    pages(connector, since=last(found))
    assert names(folder / "in") == ["done/b.csv", "failed/a.csv", "failed/a.csv.error"]
    text = (folder / "in/failed/a.csv.error").read_text()
    assert text.startswith("a.csv: rows taken over: 2; problems: 2.\n")
    assert "drop the file again" in text
    assert "a.csv:3: has 1 of 2 fields → look for a missing or unquoted delimiter" in text


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "a.csv:1: is empty: there is no header"),
        ("name\nAda\n", "a.csv:1: there is no field 'number' in the header → it has: name"),
        ("number,name\n1,Ada\n".encode("utf-16"), "a.csv: is utf-16, not utf-8"),
        (b"PK\x03\x04", "a.csv: is a ZIP archive"),
        ("number,name\n" + "1\n" * 1001, "more than 1000 rows cannot be read"),
    ],
)
def test_a_file_that_cannot_be_read_does_not_stop_the_others(folder, content, complaint):
    """It waits for a person, in the ledger and in `failed`."""
    put(folder / "in/a.csv", content)
    connector = opened(folder, orders=ORDERS)
    found = pages(connector)
    assert list(records(found)) == ["3"]
    assert complaint in str(bad(found)[-1].error)
    assert bad(found)[-1].id == "a.csv"
    pages(connector, since=last(found))
    assert names(folder / "in") == ["done/b.csv", "failed/a.csv", "failed/a.csv.error"]
    assert complaint in (folder / "in/failed/a.csv.error").read_text()


def test_a_mended_file_is_read_like_any_other(folder):
    """Dropped again under its name; the first one and its text stay where they are."""
    put(folder / "in/a.csv", "number,name\n1\n")
    connector = opened(folder, orders=ORDERS)
    checkpoint = last(pages(connector))
    put(folder / "in/a.csv", "number,name\n1,Ada\n")
    found = pages(connector, since=checkpoint)
    assert list(records(found)) == ["1"]
    pages(connector, since=last(found))
    assert names(folder / "in") == ["done/a.csv", "done/b.csv", "failed/a.csv", "failed/a.csv.error"]


def test_many_bad_rows_are_counted_and_the_first_named(tmp_path):
    """A text of a thousand complaints is read by nobody."""
    put(tmp_path / "in/a.csv", "number,name\n" + "1\n" * 500)
    connector = opened(tmp_path, orders=ORDERS)
    pages(connector, since=last(pages(connector)))
    lines = (tmp_path / "in/failed/a.csv.error").read_text().splitlines()
    assert len(lines) == 104
    assert lines[-1] == "… and 400 more"


@pytest.mark.parametrize(
    "name",
    [
        "a\nb.csv",
        "a b;rm -rf.csv",
        "$(x).csv",
        "ä.csv",
        b"\xff\xfe.csv",
        "x.csv.csv",
        "1.2.csv",
        "-x.csv",
    ],
)
def test_hostile_names_are_only_names(tmp_path, name):
    """They are shown, moved and forgotten; none becomes a path of its own."""
    (tmp_path / "in").mkdir()
    path = os.path.join(os.fsencode(tmp_path / "in"), os.fsencode(name))
    with open(path, "wb") as file:
        file.write(b"number,name\n1,Ada\n2\n")
    os.utime(path, (0, 0))
    connector = opened(tmp_path, orders=ORDERS)
    found = pages(connector)
    assert list(records(found)) == ["1"]
    bad(found)[0].place.encode()
    pages(connector, since=last(found))
    assert os.listdir(os.fsencode(tmp_path / "in/failed")).count(os.fsencode(name)) == 1
    assert len(os.listdir(tmp_path / "in/failed")) == 2


def test_a_name_as_long_as_names_can_be_is_shortened(tmp_path):
    """It must not stand in the way of all others; its ending stays."""
    put(tmp_path / "in" / ("ä" * 125 + ".csv"), "number,name\n1,Ada\n2\n")
    connector = opened(tmp_path, orders=ORDERS)
    found = pages(connector)
    assert list(records(found)) == ["1"]
    pages(connector, since=last(found))
    error, file = sorted(os.listdir(tmp_path / "in/failed"), key=len, reverse=True)
    assert error == f"{file}.error"
    assert file.endswith("ä.csv")


def test_a_long_file_is_covered_by_its_last_page_only(tmp_path):
    """Before that it is read again from its start: what was taken over already changes nothing."""
    put(tmp_path / "in/a.csv", "number\n" + "".join(f"{n}\n" for n in range(5000)))
    found = pages(opened(tmp_path, orders=ORDERS))
    assert [len(page.ids) for page in found] == [2000, 2000, 1000]
    assert [page.checkpoint is not None for page in found] == [False, False, True]


def test_a_file_of_whole_pages_ends_with_its_checkpoint(tmp_path):
    """And an empty file is done with as well."""
    put(tmp_path / "in/a.csv", "number\n" + "".join(f"{n}\n" for n in range(2000)))
    put(tmp_path / "in/b.csv", "number\n")
    found = pages(opened(tmp_path, orders=ORDERS))
    assert [(len(page.ids), page.checkpoint is not None) for page in found] == [(2000, True), (0, True)]


def test_a_missing_folder_is_an_outage(tmp_path):
    """A mount that is gone is not an empty folder."""
    with pytest.raises(Unavailable, match="the drop folder in: No such file or directory"):
        pages(opened(tmp_path, orders=ORDERS))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_refused(folder):
    """A file that cannot be moved away would be read again and again."""
    (folder / "in").chmod(0o500)
    try:
        with pytest.raises(AccessRefused):
            run(opened(folder, orders=ORDERS).check())
    finally:
        (folder / "in").chmod(0o700)


def test_what_a_drop_folder_can_do(folder):
    """It cannot be looked up in, and shows no keys: what is done is gone from it."""
    facts = opened(folder, orders=ORDERS).capabilities("orders")
    assert (facts.reads, facts.incremental, facts.ordered) == (True, True, True)
    assert (facts.keys, facts.lookup, facts.writes, facts.deletes) == (False, False, False, False)


# Killed anywhere


class Killed(BaseException):
    """As kill -9: nothing of ours runs after it."""


class Ledger:
    """What a runner does with pages: rows and checkpoint in one commit, and a change only once."""

    def __init__(self) -> None:
        self.checkpoint: Checkpoint = None
        self.rows: dict[str, dict[str, Any]] = {}
        self.changes: Counter[tuple[str, str]] = Counter()
        self.covered: set[str] = set()  # rows of files whose checkpoint is stored
        self._open: set[str] = set()

    def commit(self, page: Page) -> None:
        assert self.covered.isdisjoint(page.ids), "a file was read again that is covered by the stored checkpoint"
        for one, record in zip(page.ids, page.records, strict=True):
            if self.rows.get(one) != record:
                self.rows[one] = record
                self.changes[one, record["name"]] += 1
        self._open |= set(page.ids)
        if page.checkpoint is not None:
            self.checkpoint = page.checkpoint
            self.covered |= self._open
            self._open = set()


def test_killed_at_any_step_nothing_is_lost_or_doubled(tmp_path_factory, monkeypatch):
    """Before and after each thing done to the disk, before and after each commit: every row comes once, every
    file ends in its place, and none that is covered is read again."""
    steps = limit = 0
    armed = False

    def step(moment: str) -> None:
        nonlocal steps, armed
        steps += armed
        if armed and steps == limit:
            armed = False
            raise Killed(moment)

    def watched(name: str) -> None:
        original = getattr(Path, name)

        def doing(self: Path, *arguments: Any, **options: Any) -> Any:
            step(f"before {name}")
            result = original(self, *arguments, **options)
            step(f"after {name}")
            return result

        monkeypatch.setattr(Path, name, doing)

    for name in ("rename", "unlink", "mkdir", "rmdir", "write_text", "write_bytes"):
        watched(name)

    def one_run(folder: Path, ledger: Ledger) -> None:
        async def read() -> None:
            connector = opened(folder, orders=Csv("in/*.csv", id="number", mode="drop", ready=".ok"))
            async for page in connector.read("orders", ledger.checkpoint):
                step("before commit")
                ledger.commit(page)
                step("after commit")

        run(read())

    reached = True
    while reached:
        limit += 1
        folder, ledger = tmp_path_factory.mktemp("killed"), Ledger()
        put(folder / "in/a.csv", "number,name\n1,Ada\n2,Bob\n")
        put(folder / "in/b.csv", "number,name\n3\n4,Dan\n")
        put(folder / "in/c.csv", "number,name\n" + "".join(f"{n},x\n" for n in range(100, 2500)))
        for name in "abc":
            put(folder / f"in/{name}.csv.ok", "")
        steps, armed = 0, True
        for turn in range(6):
            if turn == 2:
                was, armed = armed, False
                put(folder / "in/a.csv", "number,name\n5,Eve\n")
                put(folder / "in/a.csv.ok", "")
                armed = was
            with suppress(Killed):
                one_run(folder, ledger)
        reached, armed = not armed, False
        assert ledger.rows.keys() == {"1", "2", "4", "5", *map(str, range(100, 2500))}
        assert set(ledger.changes.values()) == {1}
        expected = ["done/a-2.csv", "done/a.csv", "done/c.csv", "failed/b.csv", "failed/b.csv.error"]
        assert names(folder / "in") == expected
    assert limit > 40


def test_really_killed_again_and_again(tmp_path):
    """A process that takes files over is killed at random while another writes them; every row comes once."""
    program = textwrap.dedent("""
        import asyncio, json, sqlite3, sys
        from pathlib import Path
        from tests.connectors.files_exchange import opened
        from tieline.connectors.files import Csv
        folder = Path(sys.argv[1])
        ledger = sqlite3.connect(folder / "ledger.db")
        ledger.executescript("create table if not exists rows (id text primary key, changes int);"
                             "create table if not exists cursor (one int primary key, checkpoint text)")
        async def work():
            connector = opened(folder, orders=Csv("in/*.csv", id="number", mode="drop", settle=0))
            while True:
                known = ledger.execute("select checkpoint from cursor").fetchone()
                async for page in connector.read("orders", known and json.loads(known[0])):
                    with ledger:
                        ids = [(one,) for one in page.ids]
                        ledger.executemany("insert into rows values (?, 1) on conflict do nothing", ids)
                        if page.checkpoint is not None:
                            text = json.dumps(page.checkpoint)
                            ledger.execute("insert or replace into cursor values (1, ?)", [text])
                if not any((folder / "in").glob("*.csv")) and not any((folder / "in/work").rglob("*.csv")):
                    return
        asyncio.run(work())
    """)
    (tmp_path / "in").mkdir()
    count = 0

    def drop(files: int) -> None:
        nonlocal count
        for _ in range(files):
            rows = range(count * 1000, count * 1000 + 700)
            put(tmp_path / "in/next.part", "number\n" + "".join(f"{n}\n" for n in rows)).rename(
                tmp_path / f"in/{count:04d}.csv"
            )
            count += 1

    random_ = random.Random(7)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for _ in range(12):
        drop(8)
        worker = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment)
        try:
            worker.wait(0.25 + random_.random() * 0.25)
        except subprocess.TimeoutExpired:
            worker.kill()
        worker.wait()
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT, env=environment, check=True, timeout=120)
    ledger = sqlite3.connect(tmp_path / "ledger.db")
    found = {int(one) for (one,) in ledger.execute("select id from rows")}
    ledger.close()
    assert found == {n for file in range(count) for n in range(file * 1000, file * 1000 + 700)}
    assert names(tmp_path / "in") == [f"done/{n:04d}.csv" for n in range(count)]


def test_a_reader_that_thaws_does_no_harm(folder):
    """It was frozen in the middle of a file while another took over: both see whole files, none is lost."""
    slow: FilesConnector = opened(folder, orders=ORDERS)
    quick: FilesConnector = opened(folder, orders=ORDERS)

    async def both() -> tuple[list[Page], list[Page]]:
        frozen = slow.read("orders")
        seen = [await anext(frozen)]
        taken = [page async for page in quick.read("orders")]
        [page async for page in quick.read("orders", last(taken))]
        seen += [page async for page in frozen]
        return seen, taken

    seen, taken = run(both())
    assert list(records(taken)) == ["1", "2", "3"]
    assert set(records(seen)) <= {"1", "2", "3"}
    assert names(folder / "in") == ["done/a.csv", "done/b.csv"]
