"""The lines of the comparison: which programs, in which environment, with which servers, and what is fair to say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from benchmarks.one import WAYS
from benchmarks.peers.oracle import OURS, Where

TIELINE: Final = "tieline"

NODE: Final = "node-red"
AFTER_AN_HOUR: Final = 120.0  # Celery looks every 100 s for what a dead worker had; and waits an hour unless told
SHARE: Final = 20  # of a run's orders, every 20th for what writes one order in one transaction


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line. `group` names the goal that it belongs to; `each`: a transaction for each order."""

    name: str
    environment: str
    program: str = ""
    roles: tuple[str, ...] = ("work", "publish")
    server: str = ""
    group: str = ""
    each: bool = False
    runs_again: bool = False  # ends when it has done what there was, and is begun anew
    settings: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    where: Where = OURS
    lines: str = "bench_target.sale_lines"
    latency: bool = True
    quiet: float = 25.0  # seconds without any change after which nothing more is expected
    plain: bool = True  # is killed a second time with a sink that knows no versions

    @property
    def ours(self) -> bool:
        """Whether this is Tieline."""
        return self.environment == TIELINE


BATCH: Final = MappingProxyType({"PEER_BATCH": "1"})
FASTSTREAM, CHUNKS, DLT, SINGER = "FastStream batch", "Celery chunks", "dlt", "Singer"

_TIELINE = [
    Line(
        name=f"tieline {way}",
        environment=TIELINE,
        roles=("publish",),
        plain=False,
        server=way if way in {"nats", "rabbitmq", "kafka"} else "",
    )
    for way in WAYS
]
_PEERS = [
    Line(
        name="faststream nats batch",
        environment="faststream",
        program="faststream_nats.py",
        server="nats",
        group=FASTSTREAM,
        settings=BATCH,
    ),
    Line(
        name="faststream nats-unsynced batch",
        environment="faststream",
        program="faststream_nats.py",
        server="nats-unsynced",
        group=FASTSTREAM,
        settings=BATCH,
        plain=False,
    ),
    Line(
        name="faststream rabbitmq packed",
        environment="faststream",
        program="faststream_rabbitmq.py",
        server="rabbitmq",
        group=FASTSTREAM,
        settings=BATCH,
    ),
    Line(
        name="celery rabbitmq chunks",
        environment="celery",
        program="celery_peer.py",
        server="rabbitmq",
        group=CHUNKS,
        settings=BATCH,
    ),
    Line(
        name="celery redis chunks",
        environment="celery",
        program="celery_peer.py",
        server="redis",
        group=CHUNKS,
        settings=BATCH,
        quiet=AFTER_AN_HOUR,
        plain=False,
    ),
    Line(
        name="dlt",
        environment="dlt",
        program="dlt_peer.py",
        roles=("publish",),
        group=DLT,
        runs_again=True,
        plain=False,
        where=Where("bench_dlt.sales", "reference", "state"),
        lines="bench_dlt.sales__lines",
        latency=False,
    ),
    Line(
        name="singer",
        environment="singer",
        program="singer_peer.py",
        roles=("publish",),
        group=SINGER,
        runs_again=True,
        plain=False,
        where=Where("bench_singer.orders", "number", "status"),
        lines="bench_singer.order_lines",
        latency=False,
    ),
    Line(name="node-red", environment=NODE, roles=("publish",)),
    Line(name="faststream nats", environment="faststream", program="faststream_nats.py", server="nats", each=True),
    Line(
        name="faststream rabbitmq",
        environment="faststream",
        program="faststream_rabbitmq.py",
        server="rabbitmq",
        each=True,
    ),
    Line(name="celery rabbitmq", environment="celery", program="celery_peer.py", server="rabbitmq", each=True),
    Line(
        name="celery redis",
        environment="celery",
        program="celery_peer.py",
        server="redis",
        each=True,
        quiet=AFTER_AN_HOUR,
        plain=False,
    ),
    Line(name="dramatiq rabbitmq", environment="dramatiq", program="dramatiq_peer.py", server="rabbitmq", each=True),
    Line(name="dramatiq redis", environment="dramatiq", program="dramatiq_peer.py", server="redis", each=True),
]
LINES: Final = {line.name: line for line in (*_TIELINE, *_PEERS)}


def chosen(words: str) -> list[Line]:
    """The lines whose names contain one of these words; all of them where there are none.

    Raises:
        ValueError: naming a word that is in no name.
    """
    if not words:
        return list(LINES.values())
    for word in words.split(","):
        if not any(word in name for name in LINES):
            raise ValueError(f"no line is named {word!r}; there are: {', '.join(LINES)}")
    return [line for line in LINES.values() if any(word in line.name for word in words.split(","))]
