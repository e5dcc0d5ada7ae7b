"""What the measurements come to: a table, the goals, and the same for the page of the docs."""

from typing import Any

from rich.console import Console
from rich.table import Table

GOALS = {"direct": (0.7, 0.4), "sqlite": (0.7, 0.35), "postgresql": (0.7, 0.35)}  # of bare loop, of raw limit
MOST_MB, MOST_P50 = 120, 10.0
COLUMNS = ("way", "source", "kind", "records/s", "of bare loop", "of raw limit", "CPU s", "PG CPU s", "peak MB")


def lines_of(summary: dict[str, Any]) -> list[tuple[str, ...]]:
    """The table's lines, as text."""
    return [
        (
            *name.split(),
            f"{row['records_per_s']:,.0f}",
            f"{row['of_bare']:.2f}",
            f"{row['of_raw']:.2f}",
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
        if name.split()[0] in GOALS:
            for of, bound in zip(("bare", "raw"), GOALS[name.split()[0]], strict=True):
                found.append((f"{name}, of {of}", row[f"of_{of}"], bound, row[f"of_{of}"] >= bound))
    if memory := summary["memory"]:
        found.append(("memory, MB", memory["peak_mb"], MOST_MB, memory["peak_mb"] < MOST_MB))
    if delay := summary["latency"].get("sqlite"):
        found.append(("sqlite, p50 ms", delay["p50_ms"], MOST_P50, delay["p50_ms"] < MOST_P50))
    return found


def as_markdown(summary: dict[str, Any]) -> str:
    """The figures for the page."""
    head = f"| {' | '.join(COLUMNS)} |\n| {' | '.join(['---'] * 3 + ['---:'] * 6)} |"
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
