"""What commands print: results to stdout, progress and logs to stderr."""

import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import structlog
from rich.console import Console
from rich.table import Table
from rich.text import Text

from tieline.errors import Mistake

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))


class _Stderr:
    """Stderr as it is at the moment of writing: a progress display may have taken its place."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


def out() -> Console:
    """For results."""
    return _console(stderr=False)


def err() -> Console:
    """For progress and remarks."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False)
    if not console.is_terminal:
        console.width = 200  # lines break where a window ends, and here is none
    return console


def log_to_stderr(*, verbose: bool, quiet: bool = False) -> None:
    """Send logs to stderr: to be read on a terminal, as JSON otherwise; `quiet` keeps warnings only."""
    human = sys.stderr.isatty()
    level = logging.DEBUG if verbose else logging.WARNING if quiet else logging.INFO
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if human else "iso", utc=not human),
            structlog.dev.ConsoleRenderer() if human else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(_Stderr()),  # type: ignore[arg-type]  # it writes, as asked
        cache_logger_on_first_use=False,
    )


def print_json(value: Any) -> None:
    """A value as JSON on stdout, structs as objects."""
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(value, enc_hook=str), indent=2).decode() + "\n")


def table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]], *, right: Sequence[str] = ()) -> Table:
    """A table of texts; markup in them is shown as it stands."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        made.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        made.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in row))
    return made


def mistakes_table(mistakes: Iterable[Mistake], style: str) -> Table:
    """Mistakes by place, what and remedy."""
    return table(["place", "what", "remedy"], [(Text(m.where, style), m.what, m.remedy) for m in mistakes])


def moment(at: float) -> str:
    """A time by this machine's clock and zone; a dash for never."""
    if not at:
        return "-"
    return datetime.fromtimestamp(at, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def counted(count: int, what: str) -> str:
    """A number of things, such as 1 message, 1,000 messages."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def how_long(seconds: float) -> str:
    """A time span in its largest unit: 90 → 1m."""
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return "0s"
