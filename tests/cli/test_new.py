"""A new project runs at once, and is what its README says."""

import re
import sqlite3
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from tieline.cli import app


def office(shop, query: str) -> list[tuple]:
    connection = sqlite3.connect(shop.folder / "office.db")
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


def test_every_command_of_its_readme_works(shop):
    """check, run --once, status, trace and its own unit test, each as its user types it."""
    readme = (shop.folder / "README.md").read_text()
    commands = [line.split("#")[0].split() for line in readme.splitlines() if line.startswith("    tieline ")]
    assert [command[1] for command in commands] == ["check", "run", "status", "trace", "run"]
    for command in commands[:-1]:
        done = shop.process(*command[1:])
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    tested = subprocess.run(pytest_, cwd=shop.folder, capture_output=True, text=True, timeout=120, check=False)
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr


def test_its_orders_arrive_to_the_cent(shop):
    """What the CSV files hold is what the office has; the basket is no order; money is as it was written."""
    shop("run", "--once")
    assert office(shop, "select number, customer, total, currency from orders order by number") == [
        ("1001", "C-1", "129.90", "EUR"),
        ("1002", "C-2", "1850.00", "EUR"),
        ("1004", "C-3", "79.00", "EUR"),
    ]
    assert office(shop, "select name from customers where number = 'C-3'") == [("Café Ünal",)]


def test_one_word_changes_the_way(shop):
    """via = "direct" becomes "bus", and nothing else has to change."""
    shop("run", "--once")
    file = shop.folder / "tieline.toml"
    file.write_text(file.read_text().replace('via        = "direct"', 'via = "bus"'))
    orders = shop.folder / "shop" / "orders.csv"
    orders.write_text(orders.read_text().replace("79.00", "80.00"))
    shop("run", "--once")
    assert office(shop, "select total from orders where number = '1004'") == [("80.00",)]
    ways = {leg["leg"]: leg["way"] for leg in shop.json("status", "--json")["legs"]}
    assert ways == {"customers>office": "direct", "orders>office": "main"}


@pytest.mark.parametrize(
    ("folder", "name"),
    [("Müller & Söhne GmbH", "m-ller-s-hne-gmbh"), ("acme", "acme"), ("...x", "x"), ("§", "project")],
)
def test_its_name_is_made_from_the_folder(tmp_path, folder, name):
    """Whatever the folder is called, the project is good."""
    result = CliRunner().invoke(app, ["new", str(tmp_path / folder)])
    assert result.exit_code == 0
    assert re.search(r'^name = "(.*)"$', (tmp_path / folder / "tieline.toml").read_text(), re.M)[1] == name
    assert CliRunner().invoke(app, ["check", "--offline", "--project", str(tmp_path / folder)]).exit_code == 0


def test_a_folder_in_use_is_left_alone(tmp_path):
    """Nothing is overwritten: a folder with anything in it, or a file, is wrong use."""
    (tmp_path / "notes.txt").write_text("mine")
    for place in (tmp_path, tmp_path / "notes.txt"):
        assert CliRunner().invoke(app, ["new", str(place)]).exit_code == 2
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    """Where the folder cannot be made, it is said which."""
    (tmp_path / "file").write_text("")
    result = CliRunner().invoke(app, ["new", str(tmp_path / "file" / "below")])
    assert result.exit_code == 2
    assert "Not a directory" in result.stderr
