"""What was killed and stopped where, for the tables at the end of a run."""

from collections import Counter
from dataclasses import dataclass, field
from io import StringIO

from rich.console import Console
from rich.table import Table

from tieline.runner.gaps import Gap


@dataclass(slots=True)
class Row:
    """One company of programs, what its workers met at which place, and the oracle's verdict on the end of it."""

    met: Counter[str] = field(default_factory=Counter)
    verdict: str = "not judged: it broke off"


killed: dict[str, Row] = {}
stopped: dict[str, Row] = {}
fallen: dict[str, Row] = {}
moved: dict[str, Row] = {}


def shown() -> str:
    """The tables as text."""
    out = StringIO()
    console = Console(file=out, width=140)
    for title, rows in (
        ("Killed for real: SIGKILL at each place, with a new worker after each", killed),
        ("Stopped for real: SIGSTOP past the lease, taken over, and let go on or killed", stopped),
        ("Taken away and brought back while workers were at work", fallen),
        ("Moved from way to way, with `tieline move` or workers killed meanwhile", moved),
    ):
        if rows:
            console.print(title)
            console.print(_places(rows))
            for number, (name, row) in enumerate(rows.items(), 1):
                console.print(f"({number}) {name}: {row.verdict}", highlight=False)
            console.print()
    return out.getvalue()


def _places(rows: dict[str, Row]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column("place")
    for number in range(1, len(rows) + 1):
        table.add_column(f"({number})", justify="right")
    table.add_column("all", justify="right")
    met = {place for row in rows.values() for place in row.met}
    for place in [gap.name for gap in Gap if gap.name in met] + sorted(met - {gap.name for gap in Gap}):
        counts = [row.met[place] for row in rows.values()]
        table.add_row(place, *(str(count or "") for count in counts), str(sum(counts)))
    sums = [row.met.total() for row in rows.values()]
    table.add_row("all", *map(str, sums), str(sum(sums)))
    return table
