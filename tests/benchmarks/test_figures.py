"""What `make bench` says of its figures."""

from typing import Any

from benchmarks.figures import as_markdown, lines_of, verdicts


def _row(**given: Any) -> dict[str, Any]:
    row = {"records_per_s": 1000, "of_bare": 0.8, "of_raw": 0.5, "of_direct": 0.9}
    return row | {"cpu_s": 1.0, "postgresql_cpu_s": 1.0, "peak_mb": 80} | given


def _summary(**ways: dict[str, Any]) -> dict[str, Any]:
    rows = {f"{way} PostgreSQL insert": row for way, row in ways.items()}
    return {"count": 10, "rounds": 1, "python": "3", "cores": 2, "ways": rows, "latency": {}, "memory": {}}


def _missed(summary: dict[str, Any]) -> list[str]:
    return [what for what, _, _, kept in verdicts(summary) if not kept]


def test_a_figure_at_its_bound_is_reached_and_one_below_it_is_missed() -> None:
    """Ratios must reach their bound, memory must stay below it."""
    assert _missed(_summary(nats=_row(of_direct=0.85, peak_mb=99.9))) == []
    assert _missed(_summary(nats=_row(of_direct=0.84))) == ["nats PostgreSQL insert, of direct"]
    assert _missed(_summary(nats=_row(peak_mb=100))) == ["nats, MB"]


def test_latency_is_judged_by_both_its_figures() -> None:
    """Half may be quick while some wait long: both are goals, on every way."""
    summary = _summary() | {"latency": {"kafka": {"p50_ms": 4.9, "p99_ms": 50.0}}}
    assert _missed(summary) == ["kafka, p99 ms"]


def test_a_limit_has_no_goal_and_what_was_not_measured_is_left_blank() -> None:
    """With some ways only there is nothing to divide by: no ratio, and no verdict about it."""
    summary = _summary(raw=_row(of_direct=None), nats=_row(of_bare=None, of_raw=None, of_direct=None))
    assert _missed(summary) == []
    assert lines_of(summary)[1][4:7] == ("", "", "")
    assert "| nats | PostgreSQL | insert | 1,000 |  |  |  |" in as_markdown(summary)
