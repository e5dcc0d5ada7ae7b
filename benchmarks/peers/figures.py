"""What the lines come to: medians, ratios, verdicts on the goals, and the same for the page of the docs."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.peers.lines import CHUNKS, DLT, FASTSTREAM, SINGER, Line

DIRECT: Final = "tieline direct"
TIMES: Final = {FASTSTREAM: (4.0, 6.0), CHUNKS: (2.0, 3.0), DLT: (5.0, 5.0), SINGER: (4.0, 8.0)}  # goal, aim
OF_DIRECT: Final = 0.85
MOST_MB, MOST_P50, MOST_P99 = 100.0, 5.0, 50.0
COLUMNS: Final = (
    "line",
    "records/s",
    "direct is",
    "slowest engine is",
    "CPU s / 10,000",
    "MB, sum",
    "MB, most",
    "start s",
)
AFTER_KILL: Final = (
    "line",
    "killed at",
    "whole again after s",
    "lost",
    "doubled",
    "back",
    "without held: lost, doubled, back",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """One goal."""

    what: str
    figure: float
    goal: str
    kept: bool


def summed(done: dict[str, Any], lines: Sequence[Line]) -> dict[str, Any]:
    """The medians of each line's rounds, what its kill and its latency were, and its errors."""
    found: dict[str, Any] = {}
    for line in lines:
        steps = {
            step.partition(":")[2]: figures for step, figures in done.items() if step.startswith(f"{line.name}:")
        }
        if not steps:
            continue
        runs = [figures for step, figures in steps.items() if step.startswith("speed") and "error" not in figures]
        row: dict[str, Any] = {"group": line.group, "ours": line.ours, "each": line.each}
        if runs:
            row |= {name: round(statistics.median(run[name] for run in runs), 2) for name in runs[0]}
            row["runs"] = [run["records_per_s"] for run in runs]
        for step in ("kill", "kill plain", "latency"):
            if step in steps and "error" not in steps[step]:
                row[step] = steps[step]
        if errors := {step: figures["error"] for step, figures in steps.items() if "error" in figures}:
            row["errors"] = errors
        found[line.name] = row
    return {"lines": found}


def _measured(summary: dict[str, Any]) -> dict[str, Any]:
    return {name: row for name, row in summary["lines"].items() if "records_per_s" in row}


def slowest_engine(summary: dict[str, Any]) -> float | None:
    """The speed of Tieline over the engine on which it is slowest."""
    return min(
        (row["records_per_s"] for name, row in _measured(summary).items() if row["ours"] and name != DIRECT),
        default=None,
    )


def verdicts(summary: dict[str, Any]) -> list[Verdict]:
    """Each goal with its figure, in the order of the lines."""
    found: list[Verdict] = []
    measured = _measured(summary)
    ours = {name: row for name, row in measured.items() if row["ours"]}
    for name, row in ours.items():
        for peer, other in measured.items():
            if other["group"] in TIMES:
                goal, aim = TIMES[other["group"]]
                times = round(row["records_per_s"] / other["records_per_s"], 2)
                found.append(Verdict(f"{name} / {peer}", times, f"{goal:g}, aim {aim:g}", times >= goal))
    for name, row in ours.items():
        if name != DIRECT and DIRECT in ours:
            part = round(row["records_per_s"] / ours[DIRECT]["records_per_s"], 2)
            found.append(Verdict(f"{name} / direct", part, f"{OF_DIRECT:g}", part >= OF_DIRECT))
    for name, row in ours.items():
        found.append(Verdict(f"{name}, MB a process", row["most_mb"], f"< {MOST_MB:g}", row["most_mb"] < MOST_MB))
    for name, row in summary["lines"].items():
        if row["ours"] and (delay := row.get("latency")):
            for what, most in (("p50", MOST_P50), ("p99", MOST_P99)):
                figure = delay[f"{what}_ms"]
                found.append(Verdict(f"{name}, {what} ms", figure, f"< {most:g}", figure < most))
        if row["ours"] and (kill := row.get("kill")):
            wrong = kill["lost"] + kill["doubled"] + kill["back"]
            found.append(Verdict(f"{name}, wrong after a kill", wrong, "0", wrong == 0))
    return found


def speed_lines(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of speeds, as text."""
    direct = summary["lines"].get(DIRECT, {}).get("records_per_s")
    slowest = slowest_engine(summary)
    found = []
    for name, row in summary["lines"].items():
        if "records_per_s" not in row:
            found.append((name, "failed", *[""] * (len(COLUMNS) - 2)))
            continue
        speed = row["records_per_s"]
        found.append(
            (
                f"{name} *" if row["each"] else name,
                f"{speed:,.0f}",
                f"{direct / speed:.2f}x" if direct else "",
                f"{slowest / speed:.2f}x" if slowest else "",
                f"{row['cpu_s'] * 10_000 / row['count']:.1f}",
                f"{row['sum_mb']:.0f}",
                f"{row['most_mb']:.0f}",
                f"{row['startup_s']:.1f}",
            )
        )
    return found


def kill_lines(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of kills, as text."""
    found = []
    for name, row in summary["lines"].items():
        if kill := row.get("kill"):
            plain = row.get("kill plain")
            without = f"{plain['lost']}, {plain['doubled']}, {plain['back']}" if plain else ""
            after = kill["back_after_s"]
            found.append(
                (
                    name,
                    f"{kill['killed_at']:,} of {kill['count']:,}",
                    "never" if after is None else f"{after:.0f}",
                    *(f"{kill[what]:,}" for what in ("lost", "doubled", "back")),
                    without,
                )
            )
    return found


def latency_lines(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table of latencies, as text."""
    return [
        (name, f"{row['latency']['p50_ms']:.1f}", f"{row['latency']['p99_ms']:.1f}")
        for name, row in summary["lines"].items()
        if "latency" in row
    ]


def errors(summary: dict[str, Any]) -> list[str]:
    """What failed, with the last words."""
    return [
        f"{name}, {step}: {' '.join(error.split())[-300:]}"
        for name, row in summary["lines"].items()
        for step, error in row.get("errors", {}).items()
    ] + [
        f"{name}, after the kill, does not begin again: {' '.join(row['kill']['stuck'].split())[-300:]}"
        for name, row in summary["lines"].items()
        if row.get("kill", {}).get("stuck")
    ]


def title(summary: dict[str, Any]) -> str:
    """What was done."""
    return (
        f"{summary['count']:,} orders of two lines as inserts, median of {summary['rounds']}; "
        f"Python {summary['python']}, {summary['cores']} cores shared with database and broker"
    )


TABLES: Final = (
    (COLUMNS, speed_lines),
    (AFTER_KILL, kill_lines),
    (("line", "p50 ms", "p99 ms"), latency_lines),
)


def as_markdown(summary: dict[str, Any]) -> str:
    """The figures for the page."""
    parts = [f"{title(summary)}."]
    for columns, lines in TABLES:
        if rows := lines(summary):
            head = f"| {' | '.join(columns)} |\n| {' | '.join(['---', *['---:'] * (len(columns) - 1)])} |"
            parts.append("\n".join([head, *(f"| {' | '.join(row)} |" for row in rows)]))
    found = verdicts(summary)
    kept = sum(verdict.kept for verdict in found)
    head = f"{kept} of {len(found)} goals are reached.\n\n| goal | figure | bound | |\n| --- | ---: | ---: | --- |"
    goals = [f"| {v.what} | {v.figure:g} | {v.goal} | {'reached' if v.kept else 'missed'} |" for v in found]
    parts.append("\n".join([head, *goals]))
    parts += [f"Failed: {error}" for error in errors(summary)]
    return "\n\n".join(parts)


def show(summary: dict[str, Any], console: Console) -> None:
    """Print the tables and which goals are kept."""
    console.print(title(summary))
    for columns, lines in TABLES:
        table = Table()
        for number, column in enumerate(columns):
            table.add_column(column, justify="right" if number else "left")
        for row in lines(summary):
            table.add_row(*row)
        if table.rows:
            console.print(table)
    for verdict in verdicts(summary):
        kept = "reached" if verdict.kept else "[red]missed[/] "
        console.print(f"{kept} {verdict.what}: {verdict.figure:g} (goal {verdict.goal})", highlight=False)
    for error in errors(summary):
        console.print(f"failed {error}", highlight=False, markup=False)
