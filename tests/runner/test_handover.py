"""What a level leg is handed over: the newest batches, in turn, and never past a hole."""

from datetime import UTC, datetime

from tieline.bus import Delivery
from tieline.message import Batch, Message, Version
from tieline.runner.ways import Handover

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def delivery(partition: int, position: int, count: int = 1) -> Delivery:
    messages = [Message(id=b"%d" % n, key=str(n), version=Version(0, n)) for n in range(count)]
    return Delivery(
        partition, position, Batch(source="s", entity="E", schema=1, sequence=position, time=NOW, messages=messages)
    )


def places(handover: Handover, after: dict[int, int], most: int = 100) -> list[tuple[int, int]]:
    return [(d.partition, d.position) for d in handover.take("c", after, most)[0]]


def handed(*positions: tuple[int, int]) -> Handover:
    handover = Handover(most=3)
    for partition, position in positions:
        handover.add("c", delivery(partition, position), {})
    return handover


def test_partitions_take_turns_and_none_is_left_behind() -> None:
    handover = handed((0, 1), (1, 1), (0, 2), (1, 2))
    assert places(handover, {0: 0, 1: 0}) == [(0, 1), (1, 1), (0, 2), (1, 2)]
    assert places(handover, {0: 0, 1: 0}, most=2) == [(0, 1), (1, 1)]
    assert places(handover, {0: 0, 1: 1}, most=2) == [(0, 1), (1, 2)]


def test_nothing_is_taken_past_what_is_remembered() -> None:
    handover = handed((0, 1), (0, 2), (0, 3), (0, 4), (1, 1))
    assert places(handover, {0: 0, 1: 0}) == [], "the first of partition 0 is forgotten: all is read from the bus"
    assert places(handover, {0: 1, 1: 0}) == [(0, 2), (1, 1), (0, 3), (0, 4)]


def test_a_hole_ends_what_is_handed_over() -> None:
    """Another worker read the source in between: what it published is on the bus alone."""
    assert places(handed((0, 1), (0, 3)), {0: 0}) == [(0, 1)]
    assert places(handed((0, 1), (0, 3)), {0: 1}) == []
