"""A worker that is told to end while a slow system has its calls."""

import signal
import time
from pathlib import Path

import pytest
from tests.connectors.rest_server import Server, serving
from tests.workers.site import Site, wait_for
from tests.workers.test_limits import PROJECT

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_does_not_wait_for_calls(second: signal.Signals, tmp_path: Path):
    """The first one lets the calls in work end, for seconds; another one, of either kind, ends it at once."""
    with serving(Server(pause=20)) as desk:
        project = PROJECT.format(url=desk.url, timeout="30s", per_second=0, at_once=4)
        with Site(tmp_path, project) as site:
            site.fill(20)
            worker = site.begin()
            wait_for("calls are open", lambda: desk.at_once)
            worker.terminate()
            time.sleep(1.5)
            assert worker.poll() is None, "it did not wait for its calls"
            began = time.monotonic()
            worker.send_signal(second)
            assert worker.wait(10) != 0
            assert time.monotonic() - began < 5


def test_a_slow_batch_is_left_where_it_is(tmp_path: Path):
    """Thousands of calls are ahead; a worker that is told to end makes those it has begun, and goes."""
    with serving(Server(pause=0.2)) as desk:
        project = PROJECT.format(url=desk.url, timeout="30s", per_second=0, at_once=2)
        with Site(tmp_path, project) as site:
            site.fill(2_000)
            worker = site.begin()
            wait_for("calls are made", lambda: len(desk.calls) > 10)
            took = site.end(worker)
            made = len(desk.rows)
            print(f"ended in {took:.1f} s, {made} of 2,000 orders made")
            assert made < 1_000
            assert took < 5
