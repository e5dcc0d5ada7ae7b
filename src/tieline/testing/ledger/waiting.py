"""Notifications wake who waits, in this process and in others, and are not missed in between."""

import asyncio
import time

from tieline.ledger import Ledger, Stores
from tieline.testing.ledger.bench import Bench, Suite

LONG = 20.0  # seconds: a wait that ends long before was woken
SHORT = 0.2


async def _seconds(ledger: Ledger, topic: str, seconds: float, since: int | None = None) -> float:
    began = time.monotonic()
    await ledger.wait([topic], seconds, since)
    return time.monotonic() - began


def _ring(stores: Stores) -> None:
    stores.notify("t")


class Waiting(Suite):
    """What `Ledger.wait` promises."""

    def test_a_wait_ends_when_its_time_is_over(self, bench: Bench) -> None:
        """Without a notification it takes about as long as it was told."""

        async def scenario() -> float:
            await bench.ledger.wait(["t"], SHORT)
            return await _seconds(bench.ledger, "t", SHORT)

        assert SHORT * 0.9 <= bench.run(scenario()) < LONG / 2

    def test_a_notification_wakes_who_waits(self, bench: Bench) -> None:
        """All who wait for the topic, as soon as it is committed."""

        async def scenario() -> list[float]:
            await bench.ledger.wait(["t"], SHORT)
            waits = [asyncio.create_task(_seconds(bench.ledger, "t", LONG)) for _ in range(3)]
            await asyncio.sleep(0.05)
            await bench.ledger.transact(_ring)
            return await asyncio.gather(*waits)

        assert max(bench.run(scenario())) < LONG / 2

    def test_another_topic_wakes_nobody(self, bench: Bench) -> None:
        """Who waits for one thing sleeps through another, also when it comes from elsewhere."""
        other = bench.another()

        async def scenario() -> float:
            await bench.ledger.wait(["u"], SHORT)
            waiting = asyncio.create_task(_seconds(bench.ledger, "u", SHORT))
            await asyncio.sleep(0.05)
            await bench.ledger.transact(_ring)
            await other.ledger.transact(_ring)
            return await waiting

        assert bench.run(scenario()) >= SHORT * 0.9

    def test_a_notification_before_the_wait_is_not_missed(self, bench: Bench) -> None:
        """What was notified after the last wait ends the next one at once; only that one."""

        async def scenario() -> tuple[float, float]:
            await bench.ledger.wait(["t"], SHORT)
            await bench.ledger.transact(_ring)
            await asyncio.sleep(0.05)
            return await _seconds(bench.ledger, "t", LONG), await _seconds(bench.ledger, "t", SHORT)

        first, second = bench.run(scenario())
        assert first < LONG / 2
        assert second >= SHORT * 0.9

    def test_two_who_look_and_wait_miss_nothing(self, bench: Bench) -> None:
        """Each notes `rung` before it looks, so that the other's wait takes nothing from it."""

        async def scenario() -> tuple[float, float]:
            await bench.ledger.wait(["t"], SHORT)
            noted = bench.ledger.rung
            await bench.ledger.transact(_ring)
            first = await _seconds(bench.ledger, "t", LONG, noted)
            return first, await _seconds(bench.ledger, "t", LONG, noted)

        assert max(bench.run(scenario())) < LONG / 2

    def test_an_undone_transaction_rings_nothing(self, bench: Bench) -> None:
        """Only what is committed is told."""

        def work(stores: Stores) -> None:
            stores.notify("t")
            raise LookupError

        async def scenario() -> float:
            await bench.ledger.wait(["t"], SHORT)
            waiting = asyncio.create_task(_seconds(bench.ledger, "t", SHORT))
            await asyncio.sleep(0)
            await asyncio.gather(bench.ledger.transact(work), return_exceptions=True)
            await bench.ledger.transact(lambda stores: stores.notes.put("n", 1))
            return await waiting

        assert bench.run(scenario()) >= SHORT * 0.9

    def test_another_worker_s_notification_wakes_too(self, bench: Bench, sharing: None) -> None:
        """Promptly, and each time."""
        other = bench.another()

        async def scenario() -> list[float]:
            await bench.ledger.wait(["t"], SHORT)
            latencies = []
            for _ in range(5):
                waiting = asyncio.create_task(_seconds(bench.ledger, "t", LONG))
                await asyncio.sleep(0.05)
                await other.ledger.transact(_ring)
                latencies.append(await waiting)
            return latencies

        assert max(bench.run(scenario())) < LONG / 2

    def test_another_worker_s_notification_before_the_wait_is_not_missed(self, bench: Bench, sharing: None) -> None:
        """Also where nobody of this process was waiting when it came."""
        other = bench.another()

        async def scenario() -> list[float]:
            await bench.ledger.wait(["t"], SHORT)
            latencies = []
            for _ in range(5):
                noted = bench.ledger.rung
                await other.ledger.transact(_ring)
                latencies.append(await _seconds(bench.ledger, "t", LONG, noted))
            return latencies

        assert max(bench.run(scenario())) < LONG / 2

    def test_nothing_is_missed_from_the_very_first_wait(self, bench: Bench, sharing: None) -> None:
        """A notification between the first look and the first wait of a new ledger counts as well."""
        other = bench.another()

        async def scenario() -> float:
            noted = bench.ledger.rung
            await bench.ledger.transact(lambda stores: stores.notes.get("n"))
            await other.ledger.transact(_ring)
            return await _seconds(bench.ledger, "t", LONG, noted)

        assert bench.run(scenario()) < LONG / 2

    def test_who_listens_is_told_each_time(self, bench: Bench) -> None:
        """Of its own topics and no others, until it has heard enough; who awaited the notifying goes on first."""
        told: list[str] = []

        async def scenario() -> None:
            stop = bench.ledger.listen(["t", "v"], lambda: told.append("heard"))
            bench.ledger.listen(["u"], lambda: told.append("another"))
            await asyncio.sleep(SHORT)
            told.clear()  # a new line may have told everybody
            for _ in range(2):
                await bench.ledger.transact(_ring)
                told.append("rung")
                await asyncio.sleep(0.05)
            stop()
            await bench.ledger.transact(_ring)
            await asyncio.sleep(0.05)

        bench.run(scenario())
        assert told == ["rung", "heard", "rung", "heard"]

    def test_who_listens_hears_of_other_workers_too(self, bench: Bench, sharing: None) -> None:
        """Promptly."""
        other = bench.another()

        async def scenario() -> None:
            heard = asyncio.Event()
            bench.ledger.listen(["t"], heard.set)
            await asyncio.sleep(SHORT)
            heard.clear()
            await other.ledger.transact(_ring)
            async with asyncio.timeout(LONG / 2):
                await heard.wait()

        bench.run(scenario())

    def test_what_nobody_waits_for_any_more_rings_all_the_same(self, bench: Bench) -> None:
        """A transaction whose caller was cancelled may be kept; then it is told as well."""

        def slowly(stores: Stores) -> None:
            time.sleep(SHORT)
            stores.notify("t")

        async def scenario() -> float:
            await bench.ledger.wait(["t"], SHORT)
            noted = bench.ledger.rung
            job = asyncio.create_task(bench.ledger.transact(slowly))
            await asyncio.sleep(SHORT / 4)
            job.cancel()
            waited = await _seconds(bench.ledger, "t", LONG, noted)
            await asyncio.gather(job, return_exceptions=True)
            return waited

        assert bench.run(scenario()) < LONG / 2
