"""The parts that HTTP connectors share: halving, waves, waiting times, Link headers."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.connector import Change, Result
from tieline.connectors._bulk import halving, in_waves
from tieline.connectors._http_errors import retry_after
from tieline.connectors._paging import next_of
from tieline.errors import InDoubt, Reject, Unavailable


@settings(deadline=None)
@given(st.lists(st.booleans(), max_size=40))
def test_halving_leaves_every_bad_one_alone(good: list[bool]) -> None:
    """Whatever mixture of good and bad: the good are done once, in place, and each bad one has its reason."""
    done: list[int] = []

    async def attempt(part: Sequence[int]) -> list[Result]:
        if not all(good[item] for item in part):
            raise Reject("one of them is bad")
        done.extend(part)
        return [Result(str(item)) for item in part]

    results = asyncio.run(halving(range(len(good)), attempt))
    assert [result.error is None for result in results] == good
    assert [result.target_id for result in results] == [str(i) if ok else None for i, ok in enumerate(good)]
    assert sorted(done) == [i for i, ok in enumerate(good) if ok]


def test_halving_costs_few_calls() -> None:
    """One bad among a thousand costs about twice the logarithm, not a thousand calls."""
    calls = 0

    async def attempt(part: Sequence[int]) -> list[Result]:
        nonlocal calls
        calls += 1
        if 700 in part:
            raise Reject("700")
        return [Result() for _ in part]

    results = asyncio.run(halving(range(1000), attempt))
    assert sum(result.error is not None for result in results) == 1
    assert calls <= 2 * 10 + 1


@pytest.mark.parametrize(("raised", "rest"), [(Unavailable, Unavailable), (InDoubt, Unavailable)])
def test_an_outage_is_never_halved(raised: type[Exception], rest: type[Exception]) -> None:
    """A call that met an outage or was cut off is not tried in parts, and nothing is sent after it."""
    calls: list[Sequence[int]] = []

    async def attempt(part: Sequence[int]) -> list[Result]:
        calls.append(part)
        if len(part) == 4:
            raise Reject("halve me")
        raise raised("down")

    results = asyncio.run(halving([0, 1, 2, 3], attempt))
    assert calls == [[0, 1, 2, 3], [0, 1]]
    assert [type(result.error) for result in results] == [raised, raised, rest, rest]


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcd")))
def test_waves_keep_the_order_of_each_key(keys: list[str]) -> None:
    """In no wave is a key met twice; over all waves each key's changes stand in their order."""
    waves = list(in_waves([Change(key, b"", {}) for key in keys]))
    order = [place for wave in waves for place in wave]
    assert sorted(order) == list(range(len(keys)))
    for wave in waves:
        assert len({keys[place] for place in wave}) == len(wave)
    for key in set(keys):
        places = [place for place in order if keys[place] == key]
        assert places == sorted(places)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("7", 7), ("0", 0), ("1.5", 1.5), ("-3", 0), ("999999999", 86_400), ("soon", 10), ("", 10), ("nan", 10)],
)
def test_a_waiting_time_is_read_safely(header: str, seconds: float) -> None:
    """Seconds are taken as they are, within a day; nonsense is a short wait."""
    assert retry_after({"Retry-After": header}) == seconds


def test_a_waiting_time_may_be_a_date() -> None:
    """A date counts from the system's own clock where it tells it."""
    there = datetime(2020, 1, 1, 12, 0, tzinfo=UTC)
    until = format_datetime(there + timedelta(seconds=90), usegmt=True)
    assert retry_after({"Retry-After": until, "Date": format_datetime(there, usegmt=True)}) == 90
    assert retry_after({"Retry-After": until}) == 0
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < retry_after({"Retry-After": soon}) <= 60


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ('<https://a.example/?page=2>; rel="next"', "https://a.example/?page=2"),
        ('</a>; rel=prev, </b,c;d>; title="x, <y>; rel=next"; rel="last next"', "/b,c;d"),
        ("</b>;REL=NEXT", "/b"),
        ('</a>; rel="nextish"', None),
        ("nonsense", None),
        ("<broken", None),
        ("", None),
    ],
)
def test_the_next_page_is_found_in_a_link_header(header: str, address: str | None) -> None:
    """RFC 8288: commas and semicolons may stand inside addresses and quotes."""
    assert next_of(header) == address


@settings(deadline=None)
@given(st.text(max_size=60))
def test_no_link_header_is_too_strange(header: str) -> None:
    """Whatever a hostile server sends, it is an address or none."""
    found = next_of(header)
    assert found is None or found in header
