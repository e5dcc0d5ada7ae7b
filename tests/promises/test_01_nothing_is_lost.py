"""Promise 1, with 2 and 5 beside it: nothing is lost, done twice or miscounted, whatever is killed."""

from tests.promises.checks import nothing_is_lost

from tieline.testing import clock


def test_a_worker_killed_at_any_point_loses_nothing_and_does_nothing_twice() -> None:
    clock.run(nothing_is_lost())
