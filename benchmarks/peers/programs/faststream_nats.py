"""FastStream on NATS JetStream: per message, or by its batch subscriber."""

import asyncio
import os

import job
import nats.js.api
from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, PullSub

BATCH = os.environ.get("PEER_BATCH") == "1"
STREAM = JStream(
    job.QUEUE,
    subjects=[job.QUEUE],
    retention=nats.js.api.RetentionPolicy.WORK_QUEUE,
    storage=nats.js.api.StorageType.FILE,
)
# A fetch waits until it is full or its time is over: by default 5 s, which the last, partial one would wait.
WAIT = 0.05
PULL = PullSub(batch=True, batch_size=job.CHUNK, timeout=WAIT) if BATCH else PullSub(batch_size=100, timeout=WAIT)
broker = NatsBroker(job.BROKER, apply_types=False, logger=None)
app = FastStream(broker)
sink = job.Sink()


async def as_it_came(message: object) -> object:
    """A decoder of our own, msgspec in the handler, instead of the framework's JSON and pydantic."""
    return message.body  # type: ignore[attr-defined]


# What was begun by a worker that died comes again after this time; JetStream's own default is 30 s.
CONFIG = nats.js.api.ConsumerConfig(ack_wait=5, max_ack_pending=2 * job.CHUNK)


if BATCH:

    @broker.subscriber(
        job.QUEUE,
        stream=STREAM,
        pull_sub=PULL,
        durable="sink",
        config=CONFIG,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=as_it_came,
    )
    async def write_batch(bodies: list[bytes]) -> None:
        """One transaction for what was fetched at once; the messages are acknowledged after it."""
        sink.merge(job.decode(body) for body in bodies)

else:

    @broker.subscriber(
        job.QUEUE,
        stream=STREAM,
        pull_sub=PULL,
        durable="sink",
        config=CONFIG,
        ack_policy=AckPolicy.NACK_ON_ERROR,
        decoder=as_it_came,
    )
    async def write(body: bytes) -> None:
        """One transaction for each message."""
        sink.write(job.decode(body))


@app.after_startup
async def ready() -> None:
    """The harness waits for this."""
    job.said("ready")


async def publish() -> None:
    """Publish a page, many at a time, and wait for all acknowledgements."""
    cursor = job.Cursor()
    source = NatsBroker(job.BROKER, logger=None)
    await source.connect()
    for page in job.pages(cursor):
        for piece in job.chunked(page):
            await asyncio.gather(
                *(source.publish(job.encode(order), job.QUEUE, stream=job.QUEUE, timeout=30) for order in piece)
            )
        cursor.save(page[-1].version)
    await source.stop()


if __name__ == "__main__":
    role = job.asked("work", "publish")
    try:
        import uvloop

        uvloop.install()
    except ImportError:
        pass
    asyncio.run(app.run() if role == "work" else publish())
