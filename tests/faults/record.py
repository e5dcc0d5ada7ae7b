"""What was killed where, for the table at the end of a run."""

from dataclasses import dataclass
from io import StringIO

from rich.console import Console
from rich.table import Table


@dataclass(slots=True)
class Row:
    """One cell and gap; the verdict is the cell's."""

    cell: str
    gap: str
    kills: int = 0
    restarts: int = 0
    verdict: str = "not judged"


rows: dict[tuple[str, str], Row] = {}


def row(cell: str, gap: str) -> Row:
    """The row of a cell and gap."""
    return rows.setdefault((cell, gap), Row(cell, gap))


def shown() -> str:
    """The table as text."""
    table = Table(title="Killed for real", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for name in ("cell", "gap", "kills", "restarts", "verdict"):
        table.add_column(name, justify="right" if name in {"kills", "restarts"} else "left")
    for one in rows.values():
        table.add_row(one.cell, one.gap, str(one.kills), str(one.restarts), one.verdict)
    out = StringIO()
    Console(file=out, width=140).print(table)
    return out.getvalue()
