"""What the measurements come to: a table, the goals, and the same for the page of the docs."""

from typing import Any

from rich.console import Console
from rich.table import Table

OF = {"of_bare": "of bare loop", "of_raw": "of raw limit", "of_direct": "of direct"}
GOALS = {
    "direct": {"of_bare": 0.7, "of_raw": 0.4},
    "sqlite": {"of_bare": 0.7, "of_raw": 0.35, "of_direct": 0.85},
    "postgresql": {"of_bare": 0.7, "of_raw": 0.35, "of_direct": 0.85},
    "nats": {"of_direct": 0.85},
    "rabbitmq": {"of_direct": 0.85},
    "kafka": {"of_direct": 0.85},
}
MOST_MB, MOST_P50, MOST_P99 = 100, 5.0, 50.0
COLUMNS = ("way", "source", "kind", "records/s", *OF.values(), "CPU s", "PG CPU s", "peak MB")


def lines_of(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table's lines, as text."""
    return [
        (
            *name.split(),
            f"{row['records_per_s']:,.0f}",
            *("" if row[of] is None else f"{row[of]:.2f}" for of in OF),
            f"{row['cpu_s']:.1f}",
            f"{row['postgresql_cpu_s']:.1f}",
            f"{row['peak_mb']:.0f}",
        )
        for name, row in summary["ways"].items()
    ]


def title(summary: dict[str, Any]) -> str:
    """What was done."""
    return f"{summary['count']:,} orders of two lines, PostgreSQL target, median of {summary['rounds']}"


def besides(summary: dict[str, Any]) -> list[str]:
    """What is measured apart from speed, as sentences."""
    said = [
        f"{way}: from the source's commit to the target's at 100 orders a second: p50 {delay['p50_ms']} ms, "
        f"p99 {delay['p99_ms']} ms"
        for way, delay in summary["latency"].items()
    ]
    if memory := summary["memory"]:
        said.append(f"memory: {memory['count']:,} orders direct, as inserts: at most {memory['peak_mb']:.0f} MB")
    return said


def verdicts(summary: dict[str, Any]) -> list[tuple[str, float, float, bool]]:
    """Each goal: what it is about, the figure, the bound, and whether it is kept."""
    found: list[tuple[str, float, float, bool]] = []
    for name, row in summary["ways"].items():
        for of, bound in GOALS.get(name.split()[0], {}).items():
            if row[of] is not None:
                found.append((f"{name}, {OF[of]}", row[of], bound, row[of] >= bound))
    for way in GOALS:
        if most := max(
            (row["peak_mb"] for name, row in summary["ways"].items() if name.split()[0] == way), default=0
        ):
            found.append((f"{way}, MB", most, MOST_MB, most < MOST_MB))
    if memory := summary["memory"]:
        found.append(("memory of many, MB", memory["peak_mb"], MOST_MB, memory["peak_mb"] < MOST_MB))
    for way, delay in summary["latency"].items():
        for what, bound in (("p50", MOST_P50), ("p99", MOST_P99)):
            found.append((f"{way}, {what} ms", delay[f"{what}_ms"], bound, delay[f"{what}_ms"] < bound))
    return found


def as_markdown(summary: dict[str, Any]) -> str:
    """The figures for the page."""
    head = f"| {' | '.join(COLUMNS)} |\n| {' | '.join(['---'] * 3 + ['---:'] * (len(COLUMNS) - 3))} |"
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines_of(summary))
    missed = [f"{what}: {figure} (goal {bound})" for what, figure, bound, kept in verdicts(summary) if not kept]
    kept = f"Goals not reached: {'; '.join(missed)}." if missed else "All goals are reached."
    said = "\n".join(f"- {line}" for line in besides(summary))
    python = f"Python {summary['python']}, {summary['cores']} cores shared with the database"
    return f"{title(summary)}. {python}.\n\n{head}\n{table}\n\n{said}\n\n{kept}"


def show(summary: dict[str, Any], console: Console) -> None:
    """Print the table, the rest, and which goals are kept."""
    table = Table(title=title(summary))
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in COLUMNS[:3] else "right")
    for line in lines_of(summary):
        table.add_row(*line)
    console.print(table)
    for line_ in besides(summary):
        console.print(line_)
    for what, figure, bound, kept in verdicts(summary):
        console.print(f"{'reached' if kept else '[red]missed[/]':9} {what}: {figure} (goal {bound})")
