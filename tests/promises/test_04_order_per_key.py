"""Promise 4: no target goes from a newer version to an older one."""

from tests.promises.checks import order_is_kept

from tieline.testing import clock


def test_a_worker_that_is_frozen_at_any_point_and_thaws_after_it_was_taken_over_changes_nothing() -> None:
    clock.run(order_is_kept())
