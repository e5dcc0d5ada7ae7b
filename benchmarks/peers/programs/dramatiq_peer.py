"""Dramatiq: a message for each order, on Redis or RabbitMQ."""

import sys
from functools import cache

import dramatiq
import job
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.brokers.redis import RedisBroker

if job.BROKER.startswith("redis"):
    # What a dead worker had comes again after this; Dramatiq's own default is a minute.
    broker: dramatiq.Broker = RedisBroker(url=job.BROKER, heartbeat_timeout=10_000, maintenance_chance=100_000)
else:
    broker = RabbitmqBroker(url=job.BROKER, confirm_delivery=True)


class Ready(dramatiq.Middleware):
    """The harness waits for this."""

    def after_worker_boot(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        """All threads have begun."""
        job.said("ready")


broker.add_middleware(Ready())
dramatiq.set_broker(broker)


@cache
def sink() -> job.Sink:
    """One connection for each process; each has one thread."""
    return job.Sink()


@dramatiq.actor(queue_name=job.QUEUE, max_retries=3)
def write(body: str) -> None:
    """One transaction for each order; the message is acknowledged after it."""
    sink().write(job.decode(body))


if __name__ == "__main__":
    if job.asked("work", "publish") == "publish":
        cursor = job.Cursor()
        for page in job.pages(cursor):
            for order in page:
                write.send(job.encode(order).decode())
            cursor.save(page[-1].version)
    else:
        from dramatiq.cli import main, make_argument_parser

        arguments = make_argument_parser().parse_args(["dramatiq_peer", "-p", "2", "-t", "1"])
        sys.exit(main(arguments))
