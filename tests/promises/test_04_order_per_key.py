"""Promise 4: no target goes from a newer version to an older one."""

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import Final

import pytest
from tests.promises.checks import BACK, BOOKS, LOST, order_is_kept, sales_history
from tests.runner.cells import Interrupt, order, run_in_virtual_time
from tests.runner.company import CREATING, MERGING, SQL, Company, Kind, Order

from tieline.connector import Change
from tieline.errors import RetryLater, TielineError, Unavailable
from tieline.message import MAX_MESSAGES
from tieline.testing import Scene, Trial, Worker, clock
from tieline.testing.oracle import History, accounts, out_of_order

KEYS: Final = "abcd"
ROUNDS: Final = 30  # of changes, one a second
FROZEN: Final = 12.0  # seconds; leases last 3, a frozen worker's session at a server 5, doubts 10
FREEZES: Final = (3.0, 16.0)  # seconds from which on whoever comes to the place stands still

COMMITS: Final = ("READ", "TAKEN", "PARKED", "WRITTEN", "COMMITTED")
CELLS: Final = [
    *((SQL, via, place) for via in ("direct", "bus") for place in COMMITS),
    *((kind, "bus", place) for kind in (CREATING, MERGING) for place in ("TAKEN", "CONFIRMED", "MOVED")),
    *((CREATING, via, "CLAIMED") for via in ("direct", "bus", "far")),
    (MERGING, "direct", "PUBLISHED"),
    (SQL, "far", "RELAYED"),
]
CUTS: Final = [
    *((SQL, place) for place in ("WRITTEN", "COMMITTED")),
    *((kind, place) for kind in (CREATING, MERGING) for place in ("CALLED", "CONFIRMED")),
]


def _named(value: Kind | str) -> str:
    return value if isinstance(value, str) else value.name


def test_a_worker_that_is_frozen_at_any_point_and_thaws_after_it_was_taken_over_changes_nothing() -> None:
    clock.run(order_is_kept())


@pytest.mark.parametrize(("kind", "via", "place"), CELLS, ids=_named)
def test_hot_keys_keep_their_order_whoever_freezes_and_whatever_is_retried(kind: Kind, via: str, place: str) -> None:
    run_in_virtual_time(lambda: hot_keys(kind, via, place))


@pytest.mark.parametrize("kind", [CREATING, MERGING], ids=_named)
def test_the_one_exception_is_a_call_that_a_frozen_worker_finishes_late_and_it_is_flagged_and_put_right(
    kind: Kind,
) -> None:
    run_in_virtual_time(lambda: a_call_that_lands_late(kind))


@pytest.mark.parametrize(("kind", "place"), CUTS, ids=_named)
def test_who_takes_over_writes_nothing_older_though_it_takes_less_at_a_time(kind: Kind, place: str) -> None:
    run_in_virtual_time(lambda: a_shorter_slice(kind, place))


async def hot_keys(kind: Kind, via: str, place: str) -> None:
    """Two workers share orders that change all the time; who comes to the place is taken over, and thaws."""
    company = Company(erp=kind, scene=Scene(every=0.3, sweep=1e6))
    company.scene.flow(Order, "shop", "erp", via=via)
    freezing, refusing = Freezing(place, *FREEZES), Refusing()
    async with Trial(company.scene.landscape(), faults=freezing, spoil=refusing, foreign=["far"]) as trial:
        history = sales_history(company, trial)
        trial.start()
        trial.start()
        await _change_for_a_while(company)
        assert freezing.left == [], f"nobody came to {place}"
        assert max(refusing.asked.values()) > 1, "nothing was tried again"
        _change(company, ROUNDS + 1)
        await asyncio.sleep(30)
        told = "\n".join(trial.trace[-60:])
        assert not (wrong := _fell(history)), f"{BACK} {wrong}\n{told}"
        assert history.now() == dict.fromkeys(KEYS, ROUNDS + 1), f"{LOST} {told}"
        (account,) = await trial.look(accounts)
        assert account.balanced, f"{BOOKS}: {account}\n{told}"
        assert not account.parked, f"{LOST} {account}\n{told}"


async def a_call_that_lands_late(kind: Kind) -> None:
    """A worker freezes inside a call to a target without transactions. Nothing newer comes after it thaws."""
    company = Company(erp=kind, scene=Scene(every=0.3, sweep=1e6))
    company.scene.flow(Order, "shop", "erp")
    freezing = Freezing("erp.sales.write", ROUNDS - 2.0)
    async with Trial(company.scene.landscape(), faults=freezing) as trial:
        history = sales_history(company, trial)
        trial.start()
        trial.start()
        await _change_for_a_while(company)
        await asyncio.sleep(60)
        told = "\n".join(trial.trace[-60:])
        late = await trial.look(lambda s: {note["key"] for note in s.notes.starting("late/orders>erp/").values()})
        assert freezing.left == []
        assert _fell(history).keys() <= late, f"{BACK}, and nobody says so: {late} {told}"
        assert late == set(KEYS), told
        assert history.now() == dict.fromkeys(KEYS, ROUNDS), f"{LOST} {told}"


async def a_shorter_slice(kind: Kind, place: str) -> None:
    """A reader hands its own leg two batches at once, which writes the newer of two versions, and ends right there.

    Who takes over has to fetch them, which is one at a time when they are large: the older version by itself.
    """
    company = Company(erp=kind, scene=Scene(every=0.3, sweep=1e6))
    company.scene.flow(Order, "shop", "erp", "bi")  # while one of them is well, reading goes on
    cut = Interrupt(place)
    async with Trial(company.scene.landscape(), faults=cut) as trial:
        history = sales_history(company, trial)
        first = trial.start()
        await asyncio.sleep(1)
        company.scene.store("erp").failure = Unavailable("down")
        for total in (1, 2):
            for number in range(MAX_MESSAGES * 3 // 4):
                order(company, str(number), total)
            await asyncio.sleep(1)
        company.scene.store("erp").failure = None
        cut.armed = True
        await first.over()
        trial.start()
        await asyncio.sleep(30)
        assert not (wrong := _fell(history, ["0"])), f"{BACK} {wrong}"
        assert set(history.now().values()) == {2}, LOST


class Freezing:
    """Whoever comes to `place` first after each of these moments stands still, for longer than its lease lasts."""

    def __init__(self, place: str, *moments: float) -> None:
        self.left = list(moments)
        self._place = place

    def __call__(self, worker: Worker, place: str) -> float:
        """See `Faults`."""
        if place == self._place and self.left and asyncio.get_running_loop().time() > self.left[0]:
            del self.left[0]
            worker.freeze(FROZEN, f"at {place}")
        return 0.0


class Refusing:
    """A target that has no time for every fifth version, until it is asked a fourth time, or a newer one comes."""

    def __init__(self) -> None:
        self.asked = Counter[tuple[str, int]]()

    def __call__(self, system: str, resource: str, change: Change) -> TielineError | None:
        """See `Spoil`."""
        assert change.record is not None
        version = change.key, int(change.record["total"])
        self.asked[version] += 1
        return RetryLater("not now") if version[1] % 5 == 0 and self.asked[version] < 4 else None


async def _change_for_a_while(company: Company) -> None:
    for total in range(1, ROUNDS + 1):
        _change(company, total)
        await asyncio.sleep(1)


def _change(company: Company, total: int) -> None:
    for key in KEYS:
        order(company, key, total)


def _fell(history: History, keys: Iterable[str] = KEYS) -> dict[str, str]:
    """The orders that went back, though their totals only grew in the shop."""
    totals = list(range(ROUNDS + 2))
    return {key: wrong for key in keys if (wrong := out_of_order(totals, history.of(key)))}
