"""A lease has one holder, who lives by its heartbeat, and a token that grows with each new one."""

import asyncio
import time
from collections.abc import Callable

import pytest

from tieline.errors import Fenced
from tieline.ledger import Fence, Stores
from tieline.testing.ledger.bench import Bench, Suite


def _take(owner: str, *names: str, seconds: float = 60) -> Callable[[Stores], dict[str, int]]:
    def work(stores: Stores) -> dict[str, int]:
        stores.leases.beat(owner, seconds)
        return stores.leases.acquire(names, owner)

    return work


class LeasesKept(Suite):
    """What `Stores.leases` promises."""

    def test_a_free_lease_is_given(self, bench: Bench) -> None:
        """Who asks first gets it, with a token."""
        tokens = bench(_take("w1", "a", "b"))
        assert tokens.keys() == {"a", "b"}
        assert bench(lambda stores: stores.leases.holders()) == {"a": "w1", "b": "w1"}

    def test_a_lease_has_one_holder(self, bench: Bench) -> None:
        """While its holder lives, nobody else gets it; what is free is given all the same."""
        bench(_take("w1", "a"))
        assert bench(_take("w2", "a", "b")).keys() == {"b"}

    def test_asking_again_changes_nothing(self, bench: Bench) -> None:
        """The holder gets the token it has."""
        assert bench(_take("w1", "a")) == bench(_take("w1", "a"))

    def test_holders_are_found_by_how_a_lease_begins(self, bench: Bench) -> None:
        """Letter by letter, the living ones."""
        bench(_take("w1", "leg:a/0", "leg:a/1", "leg:ab/0", "read:a"))
        bench(_take("w2", "leg:a/2", seconds=0))
        found = bench(lambda stores: stores.leases.holders("leg:a/"))
        assert found == {"leg:a/0": "w1", "leg:a/1": "w1"}
        assert bench(lambda stores: stores.leases.holders("seat:")) == {}

    def test_a_dead_worker_s_lease_passes_with_a_higher_token(self, bench: Bench) -> None:
        """When a holder's time is over, the next gets its lease, and so on."""
        tokens = [bench(_take(f"w{number}", "a", seconds=0))["a"] for number in range(4)]
        assert tokens == sorted(set(tokens))

    def test_a_heartbeat_counts_in_real_time(self, bench: Bench) -> None:
        """A worker that stops beating is dead after as many seconds as it said, not before, by this clock."""
        began = time.monotonic()
        bench(_take("w1", "a", seconds=0.5))
        while not bench(_take("w2", "a")):
            time.sleep(0.02)
        assert 0.45 < time.monotonic() - began < 5

    def test_a_heartbeat_keeps_all_of_a_worker_s_leases(self, bench: Bench) -> None:
        """One beat extends every lease of its owner, and of nobody else."""
        bench(_take("w1", "a", "b", seconds=0))
        bench(_take("w2", "c", seconds=0))
        bench(lambda stores: stores.leases.beat("w1", 60))
        assert bench(lambda stores: stores.leases.holders()) == {"a": "w1", "b": "w1"}
        assert bench(_take("w3", "a", "b", "c")).keys() == {"c"}

    def test_who_lives_is_known_with_the_time_that_is_left(self, bench: Bench) -> None:
        """Each beat moves the end of its owner's time; who is dead is not listed, and who has left is."""
        bench(_take("w1", "a", seconds=60))
        bench(_take("w2", "b", seconds=0))
        alive, now = bench(lambda stores: (stores.leases.alive(), stores.now()))
        assert alive.keys() == {"w1"}
        assert now + 50 < alive["w1"] <= now + 60
        bench(lambda stores: stores.leases.beat("w1", 600))
        assert bench(lambda stores: stores.leases.alive())["w1"] > alive["w1"]

    def test_a_worker_that_never_beat_holds_nothing_for_long(self, bench: Bench) -> None:
        """Without a heartbeat a lease is free for the next who asks."""
        bench(lambda stores: stores.leases.acquire(["a"], "w1"))
        assert bench(_take("w2", "a")) == {"a": 2}

    def test_a_lease_given_back_is_free_and_its_token_grows_on(self, bench: Bench) -> None:
        """A release keeps the count of holders, so that no token is given twice."""
        first = bench(_take("w1", "a"))
        bench(lambda stores: stores.leases.release(["a"], "w1"))
        assert bench(lambda stores: stores.leases.holders()) == {}
        second = bench(_take("w1", "a"))
        assert second["a"] > first["a"]

    def test_nobody_gives_back_another_s_lease(self, bench: Bench) -> None:
        """A release by somebody who is not the holder does nothing."""
        bench(_take("w1", "a"))
        bench(lambda stores: stores.leases.release(["a"], "w2"))
        assert bench(lambda stores: stores.leases.holders()) == {"a": "w1"}

    def test_of_many_who_ask_at_once_one_gets_it(self, bench: Bench, sharing: None) -> None:
        """Workers that ask for the same leases at the same moment share them out; none is given twice."""
        names = [f"lease {number}" for number in range(10)]
        workers = [bench.another() for _ in range(5)]

        async def all_at_once() -> list[dict[str, int]]:
            asked = (
                worker.ledger.transact(_take(f"w{number}", *(names if number % 2 else names[::-1])))
                for number, worker in enumerate(workers)
            )
            return await asyncio.gather(*asked)

        given = [name for tokens in bench.run(all_at_once()) for name in tokens]
        assert sorted(given) == sorted(names)

    def test_leases_begin_at_a_token(self, bench: Bench) -> None:
        """Who held one holds it no more; those that were there and those that come later get higher tokens."""
        before = bench(_take("w1", "a"))
        bench(lambda stores: stores.leases.begin_at(2**50))
        assert bench(lambda stores: stores.leases.holders()) == {}
        with pytest.raises(Fenced):
            bench(lambda stores: None, Fence("a", before["a"]))
        after = bench(_take("w2", "a", "b"))
        assert min(after.values()) > 2**50
        bench(lambda stores: stores.leases.begin_at(1))
        again = bench(_take("w3", "a", "b", "c"))
        assert again["a"] > after["a"]
        assert again["b"] > after["b"]
        assert again["c"] > 2**50
