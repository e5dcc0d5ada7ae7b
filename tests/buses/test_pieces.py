"""What is cut for an engine is whole again behind it, whoever publishes beside."""

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from tieline.buses._pieces import Joiner, cut

batches = st.binary(max_size=400).map(lambda data: b"{" + data)
limits = st.integers(30, 200)


def joined(bodies: list[bytes]) -> list[bytes]:
    """What comes out of a partition that holds these bodies."""
    joiner = Joiner()
    return [whole for body in bodies if (whole := joiner.add(body)) is not None]


@given(st.lists(batches), limits)
def test_batches_come_out_as_they_went_in(sent: list[bytes], most: int) -> None:
    bodies = [body for data in sent for body in cut(data, most)]
    assert all(len(body) <= most for body in bodies)
    assert joined(bodies) == sent


def test_what_fits_is_sent_as_it_is() -> None:
    assert cut(b"{}", 30) == [b"{}"]


@given(batches, batches, limits, st.randoms())
def test_two_publishers_do_not_mix(one: bytes, other: bytes, most: int, chance: Random) -> None:
    """Pieces of two publishings, each in its order and in any order among them."""
    left, right = cut(one, most), cut(other, most)
    bodies = []
    while left or right:
        side = left if left and (not right or chance.random() < 0.5) else right
        bodies.append(side.pop(0))
    assert sorted(joined(bodies)) == sorted([one, other])


@given(batches, limits, st.integers(1))
def test_a_publishing_that_was_cut_off_is_left_out_and_its_repetition_is_whole(
    data: bytes, most: int, lost: int
) -> None:
    first = cut(data, most)
    kept = first[: lost % len(first)]
    assert joined([*kept, *cut(data, most)]) == [data]


@given(batches, limits, st.integers(1))
def test_what_began_before_the_place_that_is_read_from_is_not_joined(data: bytes, most: int, skipped: int) -> None:
    bodies = cut(data, most)
    later = bodies[skipped % len(bodies) :]
    assert joined([*later, *cut(b"{}", most)]) == ([data] if later == bodies else []) + [b"{}"]


@given(batches, limits, st.integers(0))
def test_a_piece_tells_how_many_stand_before_it(data: bytes, most: int, skipped: int) -> None:
    """So that a reader that began in the middle knows how far it has to go back."""
    bodies = cut(data, most)
    number = skipped % len(bodies)
    assert Joiner().misses(bodies[number]) == number
    joiner = Joiner()
    for body in bodies:
        assert joiner.misses(body) == 0
        joiner.add(body)
