"""How workers share partitions: each holds its part of them, and gives up what is too much."""

import asyncio
from collections.abc import Iterable, Mapping, Sized
from itertools import count
from typing import Final

from tieline.errors import Unavailable
from tieline.ledger import Ledger, Stores
from tieline.runner.pulse import Pulse

_LOOK_EVERY: Final = 1.0  # seconds between looks at who else is there


class Shares:
    """This worker's heartbeat and its leases. One per worker."""

    def __init__(self, ledger: Ledger, worker: str, lease: float) -> None:
        self.worker = worker
        self.pulse = Pulse(lease)
        self._ledger = ledger
        self._lease = lease
        self._looked: dict[str, float] = {}

    async def join(self) -> None:
        """Show the first sign of life."""
        await self._ledger.transact(self._beat)
        self.pulse.beat()

    def _beat(self, stores: Stores) -> None:
        stores.leases.beat(self.worker, self._lease)
        stores.leases.acquire([f"worker:{self.worker}"], self.worker)

    async def live(self, stopping: asyncio.Event) -> None:
        """Beat until told to stop."""
        while not stopping.is_set():
            try:
                await self._ledger.transact(self._beat)
            except Unavailable as error:
                self.pulse.missed(str(error))
                await asyncio.sleep(0.5)
                continue
            self.pulse.beat()
            try:
                await asyncio.wait_for(stopping.wait(), self._lease / 3)
            except TimeoutError:
                continue

    def token(self, stores: Stores, name: str) -> int | None:
        """The token of a lease, if it can be had; a part of a transaction."""
        return stores.leases.acquire([name], self.worker).get(name)

    async def one(self, name: str) -> int | None:
        """The token of a lease, if it can be had."""
        return await self._ledger.transact(lambda s: self.token(s, name))

    async def holder(self, name: str) -> tuple[str, float] | None:
        """Who has a lease, and until when if no beat follows."""

        def look(stores: Stores) -> tuple[str, float] | None:
            owner = stores.leases.holders(name).get(name, "")
            until = stores.leases.alive().get(owner)
            return None if until is None else (owner, until)

        return await self._ledger.transact(look)

    async def of(self, lease: str, partitions: int, holding: Mapping[int, int]) -> dict[int, int]:
        """Tokens of this worker's share of the partitions of `lease`; asks about once a second."""
        now = asyncio.get_running_loop().time()
        if holding and now - self._looked.get(lease, 0.0) < _LOOK_EVERY:
            return dict(holding)
        self._looked[lease] = now

        def share(stores: Stores) -> dict[int, int]:
            # Who runs other flows only takes no part in this one.
            if _seat(stores, lease, self.worker) is None:
                stores.leases.acquire([_free_seat(stores, lease)], self.worker)
            # Of this lease alone: a worker may have thousands of others.
            holders = stores.leases.holders(f"{lease}/")
            most = self._most(stores, lease, partitions)
            owners = {p: holders.get(f"{lease}/{p}") for p in range(partitions)}
            # What this worker let go of in a hurry is still its own by the ledger, and nobody else will take it.
            own = [p for p, owner in owners.items() if owner == self.worker and p not in holding]
            free = [p for p, owner in owners.items() if owner is None and p not in holding]
            names = {f"{lease}/{p}": p for p in [*sorted(holding), *own, *free][:most]}
            surplus = [f"{lease}/{p}" for p in [*holding, *own] if f"{lease}/{p}" not in names]
            stores.leases.release(surplus, self.worker)
            return {names[n]: token for n, token in stores.leases.acquire(list(names), self.worker).items()}

        return await self._ledger.transact(share)

    async def are_too_many(self, lease: str, partitions: int, holding: Sized) -> bool:
        """Whether this worker holds more than its share of the partitions; asks about once a second."""
        now = asyncio.get_running_loop().time()
        if now - self._looked.get(lease, 0.0) < _LOOK_EVERY:
            return False
        self._looked[lease] = now
        most = await self._ledger.transact(lambda s: self._most(s, lease, partitions))
        if len(holding) <= most:
            return False
        del self._looked[lease]
        return True

    def _most(self, stores: Stores, lease: str, partitions: int) -> int:
        """The share of each worker that takes part."""
        workers = {*_seats(stores, lease).values(), self.worker}
        return -(-partitions // len(workers))

    async def release(self, name: str) -> None:
        """Give up one lease."""
        await self._ledger.transact(lambda s: s.leases.release([name], self.worker))

    def lost(self) -> None:
        """A fence was refused: look again at once."""
        self._looked.clear()

    async def give_up(self, lease: str, partitions: Iterable[int]) -> None:
        """Give up partitions of `lease`, and take no part in it."""
        names = [f"{lease}/{partition}" for partition in partitions]

        def work(stores: Stores) -> None:
            seat = _seat(stores, lease, self.worker)
            stores.leases.release([*names, seat] if seat else names, self.worker)

        await self._ledger.transact(work)

    async def let_go(self, name: str) -> None:
        """Release one lease, for somebody else to take."""
        await self._ledger.transact(lambda s: s.leases.release([name], self.worker))

    async def led_elsewhere(self, lease: str) -> bool:
        """Whether another worker has a partition of `lease`."""

        def look(stores: Stores) -> bool:
            holders = stores.leases.holders()
            return any(name.startswith(f"{lease}/") and owner != self.worker for name, owner in holders.items())

        return await self._ledger.transact(look)

    async def leave(self) -> None:
        """Give everything up."""

        def work(stores: Stores) -> None:
            mine = [name for name, owner in stores.leases.holders().items() if owner == self.worker]
            stores.leases.release(mine, self.worker)

        await self._ledger.transact(work)


def _seats(stores: Stores, lease: str) -> dict[str, str]:
    """The leases that show who takes part in another one, and their owners."""
    return stores.leases.holders(f"seat:{lease}/")


def _seat(stores: Stores, lease: str, worker: str) -> str | None:
    return next((name for name, owner in _seats(stores, lease).items() if owner == worker), None)


def _free_seat(stores: Stores, lease: str) -> str:
    """Seats are numbered and used again: leases named after workers would pile up."""
    taken = _seats(stores, lease)
    return next(name for number in count() if (name := f"seat:{lease}/{number}") not in taken)
