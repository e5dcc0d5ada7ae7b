"""Publishing: every message in the order in which it was handed over, and done when the cluster has said so."""

import asyncio
import contextlib
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from tieline.buses.kafka.clients import Clients
from tieline.buses.kafka.failures import GONE, Failures, Gone
from tieline.errors import TielineError, Unavailable

_FULL: Final = 0.02  # seconds between attempts while as much waits to be sent as may
_POLL: Final = 1.0  # seconds; a report ends the wait


@dataclass(frozen=True, slots=True)
class Record:
    """A message of the engine; no value deletes what its key had in a compacted topic."""

    partition: int
    value: bytes | None
    key: bytes | None = None
    messages: int = 0  # of ours, that are whole with it


class Writer:
    """Publishes to topics of one limit, in bytes. `write` belongs to one event loop."""

    def __init__(self, clients: Clients, failures: Failures, limit: int) -> None:
        self._clients = clients
        self._failures = failures
        self._limit = limit
        self._entering = asyncio.Lock()
        self._line: _Line | None = None

    async def write(self, topic: str, records: Sequence[Record]) -> None:
        """Returns when all of them are acknowledged.

        Raises:
            Gone: where the topic is not there.
        """
        async with self._entering:  # nobody's messages come between the pieces of one batch
            if self._line is None or self._line.broken:
                await self.close()
                self._line = _Line(self._clients.producer(self._limit))
            line = self._line
            reports = _Reports(len(records))
            for record in records:
                await self._enter(line, topic, record, reports)
        failed = await reports.all_in
        if failed is None:
            self._failures.answered()
            return
        raise self._named(line, failed, topic)

    async def _enter(self, line: "_Line", topic: str, record: Record, reports: "_Reports") -> None:
        while True:
            try:
                line.enter(topic, record, reports)
            except BufferError:
                await asyncio.sleep(_FULL)
            except KafkaException as error:
                raise self._named(line, error.args[0], topic) from None
            else:
                return

    def _named(self, line: "_Line", error: KafkaError, topic: str) -> TielineError | Gone:
        if error.code() in GONE:
            return Gone(topic)
        named = self._failures.named(error, topic)
        # Whether the broker has the message nobody knows, and so not either how the producer's count goes on.
        line.broken = isinstance(named, Unavailable)
        return named

    async def close(self) -> None:
        """What is not acknowledged yet is given up."""
        if self._line is not None:
            line, self._line = self._line, None
            await asyncio.to_thread(line.close)


class _Reports:
    """Collects the reports on several messages; `all_in` gives the first error among them."""

    def __init__(self, count: int) -> None:
        self._loop = asyncio.get_running_loop()
        self.all_in: asyncio.Future[KafkaError | None] = self._loop.create_future()
        self._left = count
        self._error: KafkaError | None = None
        if not count:
            self.all_in.set_result(None)

    def report(self, error: KafkaError | None, _: Message) -> None:
        """The library's `on_delivery`, on the producer's thread."""
        with contextlib.suppress(RuntimeError):  # a loop that has ended waits for nothing
            self._loop.call_soon_threadsafe(self._count, error)

    def _count(self, error: KafkaError | None) -> None:
        self._error = self._error or error
        self._left -= 1
        if not self._left and not self.all_in.done():
            self.all_in.set_result(self._error)


class _Line:
    """A producer and the thread that hears its reports; the thread sleeps while nothing is under way."""

    def __init__(self, producer: Producer) -> None:
        self.broken = False  # the next message goes by a new producer
        self._producer = producer
        self._entered = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._hear, name="tieline-kafka-reports", daemon=True)
        self._thread.start()

    def enter(self, topic: str, record: Record, reports: _Reports) -> None:
        self._producer.produce(
            topic,
            record.value,
            record.key,
            record.partition,
            on_delivery=reports.report,
            headers=[("messages", b"%d" % record.messages)],
        )
        self._entered.set()

    def close(self) -> None:
        self._closed = True
        self._producer.purge()
        self._producer.flush(1.0)
        self._entered.set()
        self._thread.join()
        del self._producer

    def _hear(self) -> None:
        while not self._closed:
            self._entered.wait()
            self._entered.clear()
            while len(self._producer):
                self._producer.poll(_POLL)
