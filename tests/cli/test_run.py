"""Running, ending, and the exit codes that scripts rely on."""

import signal
import subprocess
import sys
import time

import pytest


def add_order(shop, line: str) -> None:
    with (shop.folder / "shop" / "orders.csv").open("a") as file:
        file.write(line + "\n")


def test_once_tells_what_it_did(shop):
    """Results go to stdout: what each source gave, and the balance of each leg."""
    done = shop.process("run", "--once")
    assert done.returncode == 0
    assert "shop.order: 4 records read, 3 messages" in done.stdout
    assert "orders>office: in 3 = 3 done" in done.stdout
    add_order(shop, "1009,C-1,2026-11-05T08:00:00,20.00,EUR,paid")
    again = shop.process("run", "--once")
    assert "shop.order: 5 records read, 1 message\n" in again.stdout
    assert "orders>office: in 4 = 4 done" in again.stdout


def test_one_flow_is_run_alone(shop):
    """Named flows are read and delivered, others are not touched."""
    shop("run", "customers", "--once")
    legs = {leg["leg"]: leg["entered"] for leg in shop.json("status", "--json")["legs"]}
    assert legs == {"customers>office": 3, "orders>office": 0}


def test_an_unknown_flow_is_wrong_use(shop):
    """The nearest known one is offered."""
    assert "did you mean 'orders'?" in shop("run", "order", "--once", code=2).stderr
    assert "did you mean 'orders'?" in shop("backfill", "order", code=2).stderr
    assert (
        "does not lead to 'ofice'; did you mean 'office'?"
        in shop("backfill", "orders", "--to", "ofice", code=2).stderr
    )


def test_a_record_that_cannot_be_read_waits_for_a_person(shop):
    """Everything else is delivered, and the exit code is 3."""
    add_order(shop, '1005,C-1,2026-11-05T08:00:00,"1.000,00",EUR,paid')
    done = shop.process("run", "--once")
    assert done.returncode == 3
    assert "1 parked" in done.stdout
    assert "1 for a person to decide about" in done.stderr
    assert "orders>office: in 3 = 3 done" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_reference_waits_without_a_person(shop):
    """An order whose customer is not there yet waits; that is no failure; then it is delivered."""
    add_order(shop, "1005,C-9,2026-11-05T08:00:00,10.00,EUR,paid")
    assert "in 4 = 3 done + 1 parked" in shop("run", "--once").stdout
    with (shop.folder / "shop" / "customers.csv").open("a") as file:
        file.write("C-9,Carla,carla@example.org\n")
    shop("run", "--once")
    assert "orders>office: in 4 = 4 done" in shop("run", "--once").stdout


def test_a_dropped_message_is_counted_as_dropped(shop):
    """A person's decision is carried out by the next run, and shows in the balance."""
    add_order(shop, "1005,C-9,2026-11-05T08:00:00,10.00,EUR,paid")
    shop("run", "--once")
    shop("parked", "drop", "orders>office", "1005", "--reason", "no such customer")
    assert "in 4 = 3 done + 1 dropped" in shop("run", "--once").stdout
    assert shop.parked() == []


def test_an_edited_message_is_delivered(shop):
    """The order goes to the office as it was corrected."""
    add_order(shop, "1005,C-9,2026-11-05T08:00:00,10.00,EUR,paid")
    shop("run", "--once")
    shop("parked", "edit", "orders>office", "1005", "--set", "customer=C-1")
    assert "in 4 = 4 done" in shop("run", "--once").stdout
    assert shop.json("trace", "Order", "1005", "--json")[-1]["version"][2] == 1


def test_a_source_that_cannot_be_read_is_a_failure(shop):
    """What can be delivered is; the exit code is 1, and the reason stands on stderr."""
    (shop.folder / "shop" / "orders.csv").unlink()
    (shop.folder / "shop" / "orders.csv").mkdir()
    done = shop.process("run", "--once")
    assert done.returncode == 1
    assert "shop.order: " in done.stderr
    assert "customers>office: in 3 = 3 done" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_project_with_mistakes_does_not_run(shop):
    """Every mistake is told, one a line, and nothing was begun."""
    file = shop.folder / "tieline.toml"
    file.write_text(file.read_text().replace('from   = "shop"', 'from = "shoop"').replace('"exact"', '"exakt"'))
    done = shop.process("run", "--once")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(": ")[0] for line in lines] == ["tieline.toml:20", "tieline.toml:29"]
    assert not (shop.folder / ".tieline").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_run_in_good_order(shop, number):
    """What was there is delivered, the leases are given up, and the exit code is 0."""
    with subprocess.Popen(
        [sys.executable, "-m", "tieline", "run"], cwd=shop.folder, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and shop.json("status", "--json")["legs"][1]["outcomes"].get("done", 0) < 3:
            time.sleep(0.5)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "stopping" in err
    assert "Traceback" not in err
    assert shop.ledger(lambda stores: stores.leases.holders()) == {}


def test_a_backfill_is_done_here_where_no_worker_runs(shop):
    """Held decides: what the office has already is unchanged; --again writes it all the same."""
    shop("run", "--once")
    assert "in 6 = 3 done + 3 unchanged" in shop("backfill", "orders").stdout
    assert "in 9 = 6 done + 3 unchanged" in shop("backfill", "orders", "--to", "office", "--again").stdout


def test_a_backfill_is_left_to_the_worker_that_runs(shop):
    """Where somebody runs, it is only asked for."""
    shop("run", "--once")

    def alive(stores):
        stores.leases.beat("somebody", 600)
        stores.leases.acquire(["worker:somebody"], "somebody")

    shop.ledger(alive)
    assert "asked for: orders>office" in shop("backfill", "orders").stderr
    assert len(shop.ledger(lambda stores: stores.notes.starting("request/shop.order/backfill/"))) == 1


def label(shop, **labels: str) -> None:
    """Give flows a label each."""
    file = shop.folder / "tieline.toml"
    text = file.read_text()
    for flow, word in labels.items():
        text = text.replace(f"[flows.{flow}]\n", f'[flows.{flow}]\nlabels = "{word}"\n')
    file.write_text(text)


@pytest.mark.parametrize(
    ("words", "runs"),
    [
        (["--only", "plant"], {"customers"}),
        (["--only", "plant", "--only", "sales"], {"customers", "orders"}),
        (["--except", "plant"], {"orders"}),
        (["orders", "--only", "sales"], {"orders"}),
    ],
)
def test_a_worker_runs_the_flows_that_its_labels_choose(shop, words, runs):
    """`--only` and `--except` choose by label, and narrow what is named; the others are not touched."""
    label(shop, customers="plant", orders="sales")
    shop("run", *words, "--once")
    legs = shop.json("status", "--json")["legs"]
    assert {leg["flow"] for leg in legs if leg["started"]} == runs
    assert {leg["flow"]: leg["labels"] for leg in legs} == {"customers": ["plant"], "orders": ["sales"]}


def test_an_unknown_label_and_a_choice_of_nothing_are_wrong_use(shop):
    """The nearest known label is offered; a worker without any flow is a slip."""
    label(shop, customers="plant", orders="sales")
    assert "did you mean 'plant'?" in shop("run", "--only", "plants", "--once", code=2).stderr
    assert "did you mean 'sales'?" in shop("run", "--except", "sale", "--once", code=2).stderr
    assert "no flow is left" in shop("run", "orders", "--except", "sales", "--once", code=2).stderr
