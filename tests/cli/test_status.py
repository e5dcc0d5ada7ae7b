"""Every message that came in is shown as what it became, and the sum is shown too."""

import pytest
from msgspec.structs import replace
from tests.cli.shop import CHANNEL, message, parked

from tieline.connector import LegState
from tieline.ledger import NEVER, SourceState, Way
from tieline.message import Reason


@pytest.fixture
def running(shop):
    """Ten orders came in: four are settled, three parked, three under way."""
    shop.begin()
    shop.publish([message(str(n), n) for n in range(7)], sequence=1)
    shop.publish([message(str(n), n) for n in range(7, 10)], sequence=2)
    shop.ledger(
        lambda stores: stores.legs.move(
            "orders>office",
            CHANNEL,
            {0: LegState(position=1, sequence=1, token=1, counts={"done": 3, "filtered": 1})},
        )
    )
    rows = [parked("4", 4), parked("5", 5, Reason.RETRY), parked("6", 6, Reason.REFERENCE)]
    shop.ledger(lambda stores: stores.parked.put([replace(row, position=1) for row in rows]))
    shop.ledger(lambda stores: stores.sources.put("shop.order", SourceState(sequence=2, read_at=stores.now() - 90)))
    return shop


def leg(shop, name: str = "orders>office", code: int = 3) -> dict:
    return next(one for one in shop.json("status", "--json", code=code)["legs"] if one["leg"] == name)


def test_a_project_that_never_ran_shows_its_legs(shop):
    """Before the first run every declared leg is there, with nothing; and looking makes no ledger."""
    found = shop.json("status", "--json")
    assert {one["leg"]: one["started"] for one in found["legs"]} == {
        "customers>office": False,
        "orders>office": False,
    }
    assert "orders>office: has not run yet" in shop("status").stdout
    assert not (shop.folder / ".tieline").exists()


def test_what_came_in_is_accounted_for(running):
    """in = outcomes + parked + in flight, where in flight is counted in the channel, not derived."""
    found = leg(running)
    assert found["entered"] == 10
    assert found["outcomes"] == {"done": 3, "filtered": 1}
    assert found["parked"] == {"dead letter": 1, "retry": 1, "reference": 1}
    assert (found["in_flight"], found["counted"], found["off_by"]) == (3, True, 0)
    assert found["balance"] == "in 10 = 3 done + 1 filtered + 3 parked + 3 in flight"
    assert found["lag"] > 0
    assert "orders>office: in 10 = 3 done + 1 filtered + 3 parked + 3 in flight" in running("status", code=3).stdout


def test_something_for_a_person_is_exit_code_3(running):
    """A dead letter waits for a person; retries and references do not."""
    assert running.json("status", "--json", code=3)["for_a_person"] == 1
    running.ledger(lambda stores: stores.parked.remove("orders>office", [("4", parked("4", 4).message_id)]))
    running.ledger(lambda stores: stores.legs.count("orders>office", counts={"dropped": 1}))
    assert leg(running, code=0)["off_by"] == 0


@pytest.mark.parametrize(
    ("row", "waits"),
    [
        (parked("4", 4), 1),
        (replace(parked("4", 4), decision="replay"), 0),
        (replace(parked("4", 4, Reason.DOUBT), not_before=1.0), 0),
        (replace(parked("4", 4, Reason.DOUBT), not_before=NEVER), 1),
        (replace(parked("4", 4, Reason.DOUBT), not_before=NEVER, decision="drop"), 0),
        (parked("4", 4, Reason.RETRY), 0),
    ],
    ids=["dead", "decided", "in doubt, will be looked up", "in doubt, cannot be", "in doubt, decided", "retry"],
)
def test_only_what_nothing_but_a_decision_moves_waits_for_a_person(shop, row, waits):
    """A call in doubt that is looked up by itself is nobody's business, nor is what was decided already."""
    shop.begin()
    shop.park(row)
    assert leg(shop, code=3 if waits else 0)["for_a_person"] == waits
    (listed,) = shop.json("parked", "list", "--each", "--json")
    assert listed["for_a_person"] is bool(waits)
    assert ("a person" in shop("parked", "list", "--each").stdout) is bool(waits)


def test_a_record_that_waits_at_its_source_is_for_a_person_until_somebody_decides(shop):
    """It counts as parked until the decision is carried out."""
    shop.begin()
    shop.ledger(lambda stores: stores.sources.put("shop.order", SourceState()))
    shop.park(replace(parked(), leg="shop.order"), leg="shop.order")
    assert shop.json("status", "--json", code=3)["for_a_person"] == 1
    shop("parked", "replay", "shop.order", "1001")
    now = shop.json("status", "--json", code=0)
    assert (now["for_a_person"], [source["parked"] for source in now["sources"]]) == (0, [0, 1])


def test_a_message_that_vanished_is_seen(running):
    """If one is in no place, the line does not add up, and says so."""
    running.ledger(lambda stores: stores.parked.remove("orders>office", [("6", parked("6", 6).message_id)]))
    found = leg(running)
    assert found["off_by"] == 1
    assert "≠" in found["balance"]
    assert "orders>office: does not add up by +1" in running("status", code=3).stdout


def test_what_is_addressed_to_another_leg_is_not_counted(running):
    """A backfill for another leg stands in the same channel, and is no message of this one."""
    running.publish([message("1"), message("2")], sequence=3, to="orders>warehouse")
    assert (leg(running)["in_flight"], leg(running)["off_by"]) == (3, 0)


def test_a_message_parked_ahead_of_its_leg_is_counted_once(running):
    """A message on its way may be parked a moment before its leg moves past it."""
    running.ledger(lambda stores: stores.parked.put([replace(parked("8", 8), position=2)]))
    found = leg(running)
    assert (found["in_flight"], sum(found["parked"].values()), found["off_by"]) == (3, 3, 0)


def test_what_a_process_makes_was_not_never_read(shop):
    """A process's leg shows a dash: its messages arrive, nobody reads them."""
    (shop.folder / "processes").mkdir()
    (shop.folder / "processes" / "welcome.py").write_text(
        "from entities import Customer, Order\nfrom tieline import Process\n\nwelcome = Process()\n\n\n"
        "@welcome.rule(Order, Customer)\ndef customer(order):\n    return Customer(number='x', name='')\n"
    )
    with (shop.folder / "tieline.toml").open("a") as file:
        file.write('[processes.welcome]\n[flows.welcomes]\nentity = "Customer"\nfrom = "welcome"\nto = "office"\n')
        file.write('[flows.ordered]\nentity = "Order"\nfrom = "shop"\nto = "welcome"\n')
    lines = {line.split()[0]: line.split()[-1] for line in shop("status").stdout.splitlines() if "direct" in line}
    assert (lines["welcomes>office"], lines["ordered>welcome"]) == ("-", "never")


def test_a_leg_that_changes_its_way_is_counted_on_both(running):
    """What is under way on the old channel and on the new one belongs to the leg."""

    def change(stores):
        row = stores.legs.get("orders>office")
        old = replace(row.ways[0], until=2)
        new = Way(bus="main", channel="main:shop.order/1", partitions=1, after=2)
        stores.legs.put(replace(row, ways=[old, new]))
        stores.channels.declare(new.channel, 1, ["orders>office"])
        stores.legs.move("orders>office", new.channel, {0: LegState()})

    running.ledger(change)
    found = leg(running)
    assert (found["way"], found["leaving"]) == ("main", "direct")
    assert (found["in_flight"], found["off_by"]) == (3, 0)
    assert "direct → main" in running("status", code=3).stdout


def test_a_way_in_another_engine_is_derived_and_says_so(running):
    """Where the engine keeps what is under way, the number is what is missing, with a tilde."""

    def change(stores):
        row = stores.legs.get("orders>office")
        stores.legs.put(replace(row, ways=[Way(bus="nats", channel="nats:shop.order/4", partitions=4)]))

    running.ledger(change)
    found = leg(running)
    assert (found["in_flight"], found["counted"], found["off_by"]) == (3, False, 0)
    assert "~3" in running("status", code=3).stdout


def test_pauses_and_failures_are_told(running):
    """Why a leg stands still and why a source could not be read stand below the table."""

    def trouble(stores):
        stores.legs.put(replace(stores.legs.get("orders>office"), paused="office: connection refused"))
        stores.sources.put("shop.order", replace(stores.sources.get("shop.order"), failure="no such folder"))

    running.ledger(trouble)
    shown = running("status", code=3).stdout
    assert "orders>office: paused: office: connection refused" in shown
    assert "shop.order: no such folder" in shown
    assert leg(running)["last_read"] > 0


def test_legs_that_no_flow_claims_are_told(running):
    """A flow that was taken out of the file leaves its leg in the ledger: status and check say so."""
    text = (running.folder / "tieline.toml").read_text()
    (running.folder / "tieline.toml").write_text(text.partition("[flows.orders]")[0])
    assert "orders>office: no flow claims it any more" in running("status", code=3).stdout
    assert leg(running)["claimed"] is False


def test_watch_shows_it_again_and_again(running):
    """--watch goes on until it is stopped; with SIGINT it ends without a traceback."""
    process = running.watching("status", "--watch")
    assert process.returncode in {0, 3}
    assert process.stdout.count("orders>office") >= 2
    assert "Traceback" not in process.stderr


def test_the_backlog_is_one_number(shop):
    """For scripts that scale: what is in flight on all legs; by leg with --json."""
    assert shop("status", "--backlog").stdout == "0\n"
    shop("run", "--once")
    shop.publish([message("1008", 8), message("1009", 9)], sequence=50)
    assert shop("status", "--backlog").stdout == "2\n"
    now = shop.json("status", "--backlog", "--json")
    assert now["in_flight"] == 2
    legs = {leg["leg"]: leg for leg in now["legs"]}
    assert legs["orders>office"]["in_flight"] == 2
    assert legs["orders>office"]["lag"] > 0
    assert legs["customers>office"]["in_flight"] == 0


def test_who_runs_what_is_told_and_what_nobody_runs(running):
    """Each worker with what it reads and holds; a leg that no worker runs though others do is warned of."""

    def begin(stores):
        stores.leases.beat("w1", 60)
        stores.leases.acquire(
            ["worker:w1", "read:shop.order", f"seat:leg:orders>office|{CHANNEL}/0", f"leg:orders>office|{CHANNEL}/0"],
            "w1",
        )

    assert not leg(running)["unattended"]
    running.ledger(begin)
    assert (leg(running)["workers"], leg(running)["unattended"]) == ({"w1": [0]}, False)
    assert leg(running, "customers>office")["unattended"]
    shown = running("status", code=3).stdout
    assert "worker w1: reads shop.order; orders>office: 0" in shown
    assert "customers>office: no worker runs it, though others run" in shown
    checked = running.json("check", "--json", code=None)
    alone = [warning["where"] for warning in checked["warnings"] if "no worker runs it" in warning["what"]]
    assert len(alone) == 1
    assert "flow customers" in alone[0]
