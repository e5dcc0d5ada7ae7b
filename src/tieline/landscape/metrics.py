"""Metrics in Prometheus' text format (version 0.0.4): one function from a backlog to text."""

from collections.abc import Iterable, Mapping
from typing import Final

from tieline.landscape.backlog import Backlog

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

_Sample = tuple[Mapping[str, str], float]


def as_metrics(now: Backlog) -> str:
    """Everything an autoscaler or a dashboard asks for; names are in docs/how-to/deploy.md."""
    legs = [({"leg": leg.leg, "flow": leg.flow, "target": leg.target, "way": leg.way}, leg) for leg in now.legs]
    families = [
        _family("tieline_in_flight", "gauge", "messages under way on all legs together", [({}, now.in_flight)]),
        _family("tieline_workers", "gauge", "workers that run", [({}, len(now.workers))]),
        _family(
            "tieline_leg_in_flight",
            "gauge",
            "messages read, and not yet come to an outcome or parked: the leg's backlog",
            [(labels, leg.in_flight) for labels, leg in legs],
        ),
        _family(
            "tieline_leg_lag_seconds",
            "gauge",
            "age of the oldest batch under way; absent where an engine elsewhere has it",
            [(labels, leg.lag) for labels, leg in legs if leg.lag is not None],
        ),
        _family(
            "tieline_leg_paused",
            "gauge",
            "1 while the leg stands still",
            [(lab, bool(leg.paused)) for lab, leg in legs],
        ),
        _family(
            "tieline_leg_parked",
            "gauge",
            "messages that wait in the ledger",
            [(labels | {"reason": reason.value}, n) for labels, leg in legs for reason, n in leg.parked.items()],
        ),
        _family(
            "tieline_leg_entered_total",
            "counter",
            "messages that came in",
            [(labels, leg.entered) for labels, leg in legs],
        ),
        _family(
            "tieline_leg_outcomes_total",
            "counter",
            "messages that came to an outcome",
            [(labels | {"outcome": name}, n) for labels, leg in legs for name, n in sorted(leg.outcomes.items())],
        ),
        _family(
            "tieline_source_failing",
            "gauge",
            "1 where the source could not be read",
            [({"source": name}, bool(state.failure)) for name, state in sorted(now.sources.items())],
        ),
        _family(
            "tieline_source_read_timestamp_seconds",
            "gauge",
            "when the source was last read to its end",
            [({"source": name}, state.read_at) for name, state in sorted(now.sources.items())],
        ),
    ]
    return "".join(families)


def _family(name: str, kind: str, about: str, samples: Iterable[_Sample]) -> str:
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    lines += [f"{name}{_labels(labels)} {float(value)!r}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
