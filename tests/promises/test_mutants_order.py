"""Defects put in on purpose turn promises 4 and 11 red: no fence, no version, ways that are not emptied in order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import msgspec
import pytest
from tests.promises import test_04_order_per_key as order_per_key
from tests.promises import test_11_same_result_on_every_way as every_way
from tests.promises.checks import BACK, BOOKS, LOST
from tests.promises.mutants import red
from tests.runner import test_crash_cells as crash_cells
from tests.runner.cells import run_in_virtual_time
from tests.runner.company import CREATING, MERGING, SQL, Kind

from tieline.connector import LegState
from tieline.connectors.memory import MemoryTransaction
from tieline.ledger import Fence, Ledger, LegRow, Stores
from tieline.ledgers.memory import MemoryLedger
from tieline.message import Outcome, split
from tieline.runner import applying, leg, ways, worker
from tieline.runner.claimed import ClaimedApplier
from tieline.runner.decide import Decision
from tieline.runner.leg import Leg

Patch = pytest.MonkeyPatch


# -- promise 4 -------------------------------------------------------------------------------------------------


def without_leases(patch: Patch, prefix: str) -> None:
    """The ledger lets through whoever had such a lease once."""
    real = MemoryLedger.transact

    async def transact(self: MemoryLedger, work: Any, fences: Sequence[Fence] = ()) -> Any:
        return await real(self, work, [fence for fence in fences if not fence.name.startswith(prefix)])

    patch.setattr(MemoryLedger, "transact", transact)


def without_tokens(patch: Patch) -> None:
    """The target lets through whoever had the partition once."""
    real = MemoryTransaction.fence

    async def fence(self: MemoryTransaction, leg: str, partitions: Mapping[int, int]) -> dict[int, LegState]:
        return await real(self, leg, dict.fromkeys(partitions, 10**9))

    patch.setattr(MemoryTransaction, "fence", fence)


def without_positions(patch: Patch) -> None:
    """Nobody sees that the target has passed a batch already."""
    real = MemoryTransaction.fence

    async def fence(self: MemoryTransaction, leg: str, partitions: Mapping[int, int]) -> dict[int, LegState]:
        states = await real(self, leg, partitions)
        return {p: msgspec.structs.replace(state, position=0, sequence=0) for p, state in states.items()}

    patch.setattr(MemoryTransaction, "fence", fence)


def without_versions(patch: Patch) -> None:
    """What is older than what the target has is written all the same."""
    real = applying.decide

    def decide(*arguments: Any, **options: Any) -> Decision:
        decision = real(*arguments, **options)
        decision.apply += [work for work, outcome in decision.settled if outcome is Outcome.STALE]
        decision.settled = [one for one in decision.settled if one[1] is not Outcome.STALE]
        return decision

    patch.setattr(applying, "decide", decide)


GUARDS: Final[Mapping[str, Callable[[Patch], None]]] = {
    "token": without_tokens,
    "position": without_positions,
    "version": without_versions,
}
"""What keeps a thawed worker from writing below what its successor wrote, at a target with transactions."""


def test_without_the_readers_lease_a_thawed_reader_counts_its_versions_from_before(monkeypatch: Patch) -> None:
    without_leases(monkeypatch, "read:")
    with red(LOST):
        run_in_virtual_time(lambda: order_per_key.hot_keys(SQL, "direct", "READ"))


def test_without_the_legs_lease_a_thawed_worker_calls_with_what_it_had(monkeypatch: Patch) -> None:
    without_leases(monkeypatch, "leg:")
    with red(BACK):
        run_in_virtual_time(lambda: order_per_key.hot_keys(CREATING, "bus", "CLAIMED"))


@pytest.mark.parametrize("left", ["token", "position"])
def test_in_a_transaction_of_the_target_one_guard_is_enough_for_the_order(monkeypatch: Patch, left: str) -> None:
    for name in GUARDS.keys() - {left}:
        GUARDS[name](monkeypatch)
    run_in_virtual_time(lambda: order_per_key.hot_keys(SQL, "bus", "TAKEN"))


def test_the_version_by_itself_keeps_the_order_and_not_the_books(monkeypatch: Patch) -> None:
    without_tokens(monkeypatch)
    without_positions(monkeypatch)
    with red(BOOKS):
        run_in_virtual_time(lambda: order_per_key.hot_keys(SQL, "bus", "TAKEN"))


def test_without_all_three_a_thawed_worker_writes_what_it_had(monkeypatch: Patch) -> None:
    for take_away in GUARDS.values():
        take_away(monkeypatch)
    with red(BACK):
        run_in_virtual_time(lambda: order_per_key.hot_keys(SQL, "bus", "TAKEN"))


def test_without_the_token_a_thawed_worker_applies_what_its_successor_has_parked(monkeypatch: Patch) -> None:
    without_tokens(monkeypatch)
    with pytest.raises(AssertionError, match=r"assert {'1': \(1, ''\)} == {}"):
        crash_cells.test_a_worker_that_thaws_cannot_apply_what_its_successor_has_parked()


@pytest.mark.parametrize("kind", [CREATING, MERGING], ids=lambda kind: kind.name)
@pytest.mark.parametrize("place", ["CALLED", "CONFIRMED"])
def test_without_the_version_an_older_one_that_comes_again_is_written(
    monkeypatch: Patch, kind: Kind, place: str
) -> None:
    without_versions(monkeypatch)
    with red(BACK):
        run_in_virtual_time(lambda: order_per_key.a_shorter_slice(kind, place))


def test_without_the_announcement_an_older_one_that_is_seen_by_itself_is_written(monkeypatch: Patch) -> None:
    async def announce(self: ClaimedApplier, calls: Sequence[Any], holding: Any) -> None:
        return

    monkeypatch.setattr(ClaimedApplier, "_announce", announce)
    with red(BACK):
        run_in_virtual_time(lambda: order_per_key.a_shorter_slice(MERGING, "CALLED"))


# -- promise 11 ------------------------------------------------------------------------------------------------


def test_an_old_way_that_is_left_at_once_takes_its_backlog_with_it(monkeypatch: Patch) -> None:
    real = worker.settle_ways

    def settle_ways(stores: Stores, plans: Any, publisher: Any) -> list[str]:
        said = real(stores, plans, publisher)
        for row in stores.legs.all():
            stores.legs.put(msgspec.structs.replace(row, ways=row.ways[-1:]))
        return said

    monkeypatch.setattr(worker, "settle_ways", settle_ways)
    with red(LOST):
        run_in_virtual_time(lambda: every_way.a_change_over(SQL, "direct", "bus"))


def test_an_outbox_that_is_not_waited_for_loses_what_is_in_it(monkeypatch: Patch) -> None:
    monkeypatch.setattr(leg, "relayed", lambda stores, way: True)
    with red(LOST):
        run_in_virtual_time(lambda: every_way.a_change_over(SQL, "far", "direct"))


def test_a_new_way_that_is_taken_before_the_old_one_is_empty_puts_events_out_of_order(monkeypatch: Patch) -> None:
    begin, turn = Leg.__init__, Leg._turn

    def begin_so(self: Leg, plan: Any, ledger: Ledger, *others: Any) -> None:
        begin(self, plan, Mirror(ledger), *others)

    async def take_turns(self: Leg) -> None:
        self._ledger.turned = not self._ledger.turned  # type: ignore[attr-defined]
        self._known = None
        await turn(self)

    monkeypatch.setattr(Leg, "__init__", begin_so)
    monkeypatch.setattr(Leg, "_turn", take_turns)
    with red(BACK):
        run_in_virtual_time(lambda: every_way.a_change_over(SQL, "direct", "bus"))


class Mirror:
    """A ledger that shows a leg its ways from the last one to the first while it is turned."""

    def __init__(self, ledger: Ledger) -> None:
        self.turned = False
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def transact(self, work: Callable[[Stores], Any], fences: Sequence[Fence] = ()) -> Any:
        found = await self._ledger.transact(work, fences)
        if isinstance(found, tuple):
            return tuple(map(self._seen, found))
        return self._seen(found)

    def _seen(self, found: Any) -> Any:
        if self.turned and isinstance(found, LegRow):
            return msgspec.structs.replace(found, ways=found.ways[::-1])
        return found


def test_a_bus_that_keeps_one_part_of_a_batch_gives_another_result(monkeypatch: Patch) -> None:
    monkeypatch.setattr(ways, "split", lambda batch, partitions: dict([*split(batch, partitions).items()][:1]))
    with red(every_way.OTHERWISE):
        run_in_virtual_time(lambda: every_way.the_same_as_direct("bus"))
