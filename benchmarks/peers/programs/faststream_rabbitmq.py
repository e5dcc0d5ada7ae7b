"""FastStream on RabbitMQ quorum queues: per message; or 500 orders packed into one message by hand.

FastStream has no batches on RabbitMQ, so whoever wants them packs by hand.
"""

import asyncio
import os

import job
from faststream import AckPolicy, FastStream
from faststream.rabbit import Channel, QueueType, RabbitBroker, RabbitQueue

PACKED = os.environ.get("PEER_BATCH") == "1"
QUEUE = RabbitQueue(job.QUEUE, queue_type=QueueType.QUORUM, durable=True)
broker = RabbitBroker(
    job.BROKER, apply_types=False, logger=None, default_channel=Channel(prefetch_count=4 if PACKED else 200)
)
app = FastStream(broker)
sink = job.Sink()


async def as_it_came(message: object) -> object:
    """A decoder of our own, msgspec in the handler, instead of the framework's JSON and pydantic."""
    return message.body  # type: ignore[attr-defined]


@broker.subscriber(QUEUE, ack_policy=AckPolicy.NACK_ON_ERROR, decoder=as_it_came)
async def write(body: bytes) -> None:
    """One transaction for each message, which is acknowledged after it."""
    if PACKED:
        sink.merge(job.decode_many(body))
    else:
        sink.write(job.decode(body))


@app.after_startup
async def ready() -> None:
    """The harness waits for this."""
    job.said("ready")


async def publish() -> None:
    """Publish a page, many at a time, and wait for the broker's confirmations."""
    cursor = job.Cursor()
    source = RabbitBroker(job.BROKER, logger=None)
    await source.connect()
    for page in job.pages(cursor):
        if PACKED:
            bodies = [job.encode(piece) for piece in job.chunked(page)]
        else:
            bodies = [job.encode(order) for order in page]
        for piece in job.chunked(bodies):
            await asyncio.gather(*(source.publish(body, job.QUEUE, persist=True) for body in piece))
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
