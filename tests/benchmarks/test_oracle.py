"""What a benchmark's oracle finds in a target that was tampered with."""

from collections.abc import Iterator

import psycopg
import pytest
from benchmarks.peers import oracle
from benchmarks.peers.oracle import OURS, Verdict

from benchmarks import workload

SOURCE = {"a": "paid", "b": "v2"}
GOOD = [("a", "INSERT", "paid"), ("b", "INSERT", "paid"), ("b", "UPDATE", "v1"), ("b", "UPDATE", "v2")]


def test_a_target_that_followed_the_source_is_clean() -> None:
    """Every version once, in its order, and the last one stands: nothing to say."""
    assert oracle.judge(SOURCE, SOURCE.items(), GOOD) == Verdict(0, 0, 0)


def test_an_order_that_never_came_and_one_that_stayed_behind_are_lost() -> None:
    """Lost is what the target does not have as the source has it, whatever the reason."""
    assert oracle.judge(SOURCE, [("b", "v1")], GOOD[1:3]) == Verdict(2, 0, 0)


def test_a_write_that_says_nothing_new_is_doubled() -> None:
    """The same version over itself, after a restart for instance."""
    assert oracle.judge(SOURCE, SOURCE.items(), [*GOOD, ("b", "UPDATE", "v2")]).doubled == 1


def test_a_row_that_stands_twice_is_doubled() -> None:
    """A target without a key may hold an order twice."""
    assert oracle.judge(SOURCE, [*SOURCE.items(), ("a", "paid")], GOOD).doubled == 1


def test_an_older_version_over_a_newer_one_went_back_even_if_the_newer_comes_again() -> None:
    """What was wrong for a while was wrong; the history remembers."""
    history = [*GOOD, ("b", "UPDATE", "v1"), ("b", "UPDATE", "v2")]
    found = oracle.judge(SOURCE, SOURCE.items(), history)
    assert (found.lost, found.back) == (0, 1)


@pytest.fixture
def target(postgresql_database: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Three orders in a source, and the same in a target whose history is kept."""
    workload.fill(postgresql_database, 3)
    workload.clear_target(postgresql_database)
    oracle.attach(postgresql_database, OURS)
    with psycopg.connect(postgresql_database, autocommit=True) as db:
        db.execute(
            "insert into bench_target.sales select number, customer, email, placed_at, currency, total, status "
            "from bench_source.orders"
        )
        yield db


@pytest.mark.services
def test_the_trigger_sees_what_was_planted(
    postgresql_database: str, target: psycopg.Connection[tuple[object, ...]]
) -> None:
    """One order removed, one written twice, one put back: each is found, and only that."""
    assert oracle.look(postgresql_database, OURS) == Verdict(0, 0, 0)
    assert oracle.differing(postgresql_database, OURS) == 0
    target.execute("delete from bench_target.sales where reference = 'WEB-00000000'")
    target.execute("update bench_target.sales set state = 'paid' where reference = 'WEB-00000001'")
    target.execute("update bench_target.sales set state = 'v5' where reference = 'WEB-00000002'")
    target.execute("update bench_target.sales set state = 'paid' where reference = 'WEB-00000002'")
    assert oracle.look(postgresql_database, OURS) == Verdict(lost=1, doubled=1, back=1)
    assert oracle.differing(postgresql_database, OURS) == 1
