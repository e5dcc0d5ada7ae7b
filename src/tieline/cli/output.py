"""What commands print: results to stdout, progress and logs to stderr."""

import logging
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import repeat
from typing import Any, Final

import msgspec
import structlog
from rich.console import Console, ConsoleOptions, JustifyMethod, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tieline.errors import Mistake

_UNITS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"), (1, "s"))
_ENDLESS: Final = 10_000  # columns: wider than any table


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
        console.width = _ENDLESS  # lines break where a window ends, and here is none
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


class Listing:
    """A table of texts that fits its window: with less space between columns where it is too wide for it, and
    at last with its long columns below each row. Markup in the texts is shown as it stands.

    `right` are columns of numbers, which are never broken; `long` are columns of sentences.
    """

    def __init__(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        *,
        right: Sequence[str] = (),
        long: Sequence[str] = (),
    ) -> None:
        self._columns = columns
        self._rows = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
        self._right = right
        self._long = [place for place, column in enumerate(columns) if column in long]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        every = range(len(self._columns))
        for space in (2, 1):
            whole = self._table(every, self._rows, space)
            if Measurement.get(console, options.update(width=_ENDLESS), whole).maximum <= options.max_width:
                break
        else:
            if self._long:
                yield from self._with_lines_below(options.max_width)
                return
        yield whole

    def _with_lines_below(self, window: int) -> RenderResult:
        short = [place for place in range(len(self._columns)) if place not in self._long]
        widths = [max([len(self._columns[place]), *(row[place].cell_len for row in self._rows)]) for place in short]
        texts = [number for number, place in enumerate(short) if self._columns[place] not in self._right]
        while sum(widths) + 2 * len(widths) > window and any(widths[number] > 1 for number in texts):
            widths[max(texts, key=widths.__getitem__)] -= 1
        for number, row in enumerate(self._rows):
            yield self._table(short, [row], 2, widths, header=number == 0)
            for place in self._long:
                if row[place]:
                    yield Padding(Text.assemble(f"{self._columns[place]}: ", row[place]), (0, 0, 0, 2))

    def _table(
        self,
        places: Sequence[int],
        rows: Iterable[Sequence[Text]],
        space: int,
        widths: Sequence[int] | None = None,
        *,
        header: bool = True,
    ) -> Table:
        made = Table(box=None, pad_edge=False, padding=(0, space, 0, 0), show_header=header)
        for place, width in zip(places, widths or repeat(None, len(places)), strict=True):
            column = self._columns[place]
            number = column in self._right
            justify: JustifyMethod = "right" if number else "left"
            made.add_column(column, justify=justify, overflow="fold", no_wrap=number, width=width)
        for row in rows:
            made.add_row(*(row[place] for place in places))
        return made


def mistakes_listing(mistakes: Iterable[Mistake], style: str) -> Listing:
    """Mistakes by place, what and remedy."""
    rows = [(Text(mistake.where, style), mistake.what, mistake.remedy) for mistake in mistakes]
    return Listing(["place", "what", "remedy"], rows, long=["what", "remedy"])


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
