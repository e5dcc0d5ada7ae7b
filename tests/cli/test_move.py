"""`tieline move`: a flow goes another way while its worker runs; the word is written, and can be taken back."""

import contextlib
import errno
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from tests.cli.shop import Shop

OWN = "sqlite:///night.db"


@pytest.fixture
def worker(shop: Shop) -> Iterator["subprocess.Popen[bytes]"]:
    """A worker over the shop, reading every second."""
    toml = shop.folder / "tieline.toml"
    toml.write_text(toml.read_text().replace('"every 1m"', '"every 1s"'))
    command = [sys.executable, "-c", "from tieline.cli import main; main()", "run"]
    with subprocess.Popen(command, cwd=shop.folder, stderr=subprocess.DEVNULL) as process:
        until(lambda: "orders>office" in shop("status").stdout)
        yield process
        process.terminate()


def until(holds: object, seconds: float = 30.0) -> None:
    """Wait until something holds."""
    assert callable(holds)
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.1)


def way(shop: Shop) -> str:
    """Where the orders go, by the ledger."""
    row = shop.ledger(lambda stores: stores.legs.get("orders>office"))
    assert row is not None
    return " → ".join(way.bus for way in row.ways)


def word(shop: Shop, key: str = "via") -> str | None:
    """What the file says of the orders; the word with its comment."""
    found = re.search(rf"\[flows.orders\][^\[]*?^{key} *= *(.*)$", (shop.folder / "tieline.toml").read_text(), re.M)
    return found and found[1]


def sell(shop: Shop, number: int) -> None:
    """An order more in the shop's file."""
    with (shop.folder / "shop" / "orders.csv").open("a") as orders:
        orders.write(f"{number},C-1,2026-11-03T10:00:00,1.00,EUR,paid\n")


def arrived(shop: Shop) -> int:
    """How many orders the office was given."""
    leg = next(leg for leg in shop.json("status", "--json")["legs"] if leg["leg"] == "orders>office")
    return int(leg["outcomes"].get("done", 0))


def test_a_flow_moves_while_its_worker_runs_and_the_word_is_written(
    shop: Shop, worker: "subprocess.Popen[bytes]"
) -> None:
    """To a bus, to a new one at an address, and back; the comment behind the word stays."""
    until(lambda: arrived(shop) == 3)
    assert "orders goes bus with 4 partitions" in shop("move", "orders", "--to", "bus").stdout
    assert (way(shop), word(shop)) == ("main", '"bus"                   # one word away from "bus"')
    shop("move", "orders", "--to", OWN, "--partitions", "2")
    assert (way(shop), word(shop, "partitions")) == ("sqlite", "2")
    assert f'[buses.sqlite]\nurl = "{OWN}"' in (shop.folder / "tieline.toml").read_text()
    shop("move", "orders", "--undo")
    assert (way(shop), word(shop, "partitions")) == ("main", "4")
    shop("move", "orders", "--to", "sqlite")
    assert way(shop) == "sqlite"
    assert worker.poll() is None


def test_where_nobody_runs_the_next_run_goes_on(shop: Shop) -> None:
    """The word is written at once, and what is under way is not lost."""
    shop("run", "--once")
    shop("move", "orders", "--to", "bus")
    assert way(shop) == "direct → main"
    shop("run", "--once")
    assert (way(shop), arrived(shop)) == ("main", 3)


def test_a_dry_run_changes_nothing(shop: Shop) -> None:
    """It says from where to where."""
    shop("run", "--once")
    assert "orders: from direct to bus with 4 partitions" in shop("move", "orders", "--to", "bus", "--dry-run").stdout
    assert (way(shop), word(shop)) == ("direct", '"direct"                   # one word away from "bus"')


def test_a_file_that_cannot_be_written_is_said_and_the_move_stands(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The ledger keeps it until the file says the same."""

    def refused(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    shop("run", "--once")
    with monkeypatch.context() as patch:
        patch.setattr("tieline.project.editing.tempfile.mkstemp", refused)
        said = shop("move", "orders", "--to", "bus", code=1).stderr
    assert 'write via = "bus" there' in said
    shop("run", "--once")
    assert way(shop) == "main"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nothing", "--to", "bus"], "there is no flow 'nothing'"),
        (["orders"], "say where"),
        (["orders", "--to", "buss"], "there is no bus 'buss'"),
        (["orders", "--to", "postgresql://me:secret@host/bus"], "a password stands here in the open"),
        (["orders", "--to", "ftp://host"], "a bus cannot be at ftp://"),
        (["orders", "--to", "memory://"], "acknowledges before its data is on disk"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_changes(shop: Shop, arguments: list[str], said: str) -> None:
    """An exact flow is not moved to a bus that forgets; no address is written that cannot be used."""
    before = (shop.folder / "tieline.toml").read_text()
    result = shop("move", *arguments, code=None)
    assert result.exit_code in {1, 2}
    assert said in re.sub(r"\s+", " ", result.stderr.replace("│", " "))
    assert (shop.folder / "tieline.toml").read_text() == before


def test_an_address_may_hold_references_and_is_written_with_them(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands behind them is asked for at once; the file never gets it. The same address is the same bus."""
    shop("run", "--once")
    shop("move", "orders", "--to", "sqlite:///${env:NIGHT}.db", code=1)
    monkeypatch.setenv("NIGHT", "quiet")
    shop("move", "orders", "--to", "sqlite:///${env:NIGHT}.db")
    shop("run", "--once")
    assert (way(shop), (shop.folder / "quiet.db").exists()) == ("sqlite", True)
    assert not list(shop.folder.glob("*NIGHT*"))  # which the command itself would have reached
    assert 'url = "sqlite:///${env:NIGHT}.db"' in (shop.folder / "tieline.toml").read_text()
    assert "orders goes sqlite already" in shop("move", "orders", "--to", "sqlite:///quiet.db").stderr


def test_an_undo_that_was_cut_off_is_gone_on_with(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Given again, it does not go forward again."""

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    shop("run", "--once")
    shop("move", "orders", "--to", "bus")
    shop("run", "--once")
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("tieline.cli.move.write_way", cut_off)
        shop("move", "orders", "--undo", code=None)
    assert word(shop) == '"bus"                   # one word away from "bus"'
    shop("move", "orders", "--undo")
    assert word(shop) == '"direct"                   # one word away from "bus"'
    assert "was taken back to direct already" in shop("move", "orders", "--undo").stderr
    shop("run", "--once")
    assert way(shop) == "direct"


def test_a_move_of_which_nothing_came_is_taken_back_by_undo(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not the one before it."""

    def cut_off(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    shop("run", "--once")
    shop("move", "orders", "--to", "bus")
    shop("run", "--once")
    with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
        patch.setattr("tieline.cli.move.begin", cut_off)
        shop("move", "orders", "--to", OWN, code=None)
    assert "nothing had changed yet" in shop("move", "orders", "--undo").stderr
    shop("run", "--once")
    assert (way(shop), word(shop)) == ("main", '"bus"                   # one word away from "bus"')


def test_a_move_to_where_it_is_says_so(shop: Shop) -> None:
    """And one that never was cannot be undone."""
    assert "orders goes direct already" in shop("move", "orders", "--to", "direct").stderr
    assert "orders has not been moved" in shop("move", "orders", "--undo").stderr
