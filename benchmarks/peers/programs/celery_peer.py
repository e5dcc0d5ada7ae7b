"""Celery: a task for each order, or one for each 500, chunked by hand."""

import os
from functools import cache

import job
from celery import Celery
from celery.signals import worker_ready

CHUNKS = os.environ.get("PEER_BATCH") == "1"
REDIS = job.BROKER.startswith("redis")
app = Celery("orders", broker=job.BROKER)
app.conf.update(
    task_acks_late=True,
    task_reject_on_worker_lost=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=4 if CHUNKS else 64,
    worker_redirect_stdouts=False,
    worker_enable_remote_control=False,
    worker_send_task_events=False,
    task_default_queue=job.QUEUE,
    broker_connection_retry_on_startup=True,
    # On Redis what a dead worker had comes again after this; Celery's own default is an hour.
    broker_transport_options={"visibility_timeout": 10} if REDIS else {"confirm_publish": True},
)
if not REDIS:
    app.conf.update(task_default_queue_type="quorum", worker_detect_quorum_queues=True)


@cache
def sink() -> job.Sink:
    """One connection for each process of the pool."""
    return job.Sink()


@app.task
def write(body: str) -> None:
    """One transaction for each order."""
    sink().write(job.decode(body))


@app.task
def write_chunk(body: str) -> None:
    """One transaction for 500 orders."""
    sink().merge(job.decode_many(body))


@worker_ready.connect
def ready(**_: object) -> None:
    """The harness waits for this."""
    job.said("ready")


def publish() -> None:
    """Send a task for each order, or for each chunk."""
    cursor = job.Cursor()
    with app.producer_pool.acquire(block=True) as producer:
        for page in job.pages(cursor):
            if CHUNKS:
                for piece in job.chunked(page):
                    write_chunk.apply_async((job.encode(piece).decode(),), producer=producer)
            else:
                for order in page:
                    write.apply_async((job.encode(order).decode(),), producer=producer)
            cursor.save(page[-1].version)


if __name__ == "__main__":
    if job.asked("work", "publish") == "publish":
        publish()
    else:
        app.worker_main(
            ["worker", "-c", "2", "--without-gossip", "--without-mingle", "--without-heartbeat", "-l", "ERROR"]
        )
