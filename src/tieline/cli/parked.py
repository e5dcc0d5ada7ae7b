"""``tieline parked``: what waits, grouped by cause, and what a person decides about it.

A decision is written on the parked row, about exactly the message that was looked at; whoever holds
the leg carries it out.
"""

import asyncio
import getpass
import os
import shlex
import socket
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeVar

import msgspec
import typer
from rich.progress import Progress
from rich.text import Text

from tieline.assembly import ledger_to_read
from tieline.cli.options import FAILED, JsonOption, ProjectOption, VerboseOption, command_app, project_at
from tieline.cli.output import Listing, err, log_to_stderr, moment, out, print_json
from tieline.entity import Entity
from tieline.errors import Outdated, Reject
from tieline.landscape import waiting
from tieline.landscape.status import declared_legs
from tieline.landscape.trace import content_of, version_text
from tieline.ledger import Ledger, ParkedRow, Stores
from tieline.message import Reason, pack_message, schema_of, unpack_message
from tieline.project.findings import meant
from tieline.runner.requests import source_topic
from tieline.system import Landscape

T = TypeVar("T")

app = command_app("Look at messages that wait, and decide what becomes of them.")

_AT_ONCE: Final = 1_000  # decisions in one commit

_REF: Final = typer.Argument(metavar="REF", help="The ref that `list --each` shows; or a leg or source, with KEY.")
RefArgument = Annotated[str, _REF]
OptionalRef = Annotated[str | None, _REF]
KeyArgument = Annotated[str | None, typer.Argument(metavar="KEY", help="The key, where REF is a leg or a source.")]
GroupOption = Annotated[str | None, typer.Option("--group", help="All of a group that `list` shows.")]
DryOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be decided, and decide nothing.")]


@app.command("list")
def list_(
    leg: Annotated[str | None, typer.Option("--leg", help="Of this leg or source only.")] = None,
    reason: Annotated[Reason | None, typer.Option("--reason", help="For this reason only.")] = None,
    each: Annotated[bool, typer.Option("--each", help="One by one instead of in groups.")] = False,
    project: ProjectOption = None,
    as_json: JsonOption = False,
    verbose: VerboseOption = False,
) -> None:
    """Show what waits, grouped by cause."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    rows, sources = _read(landscape, lambda stores: _listed(landscape, stores, leg, reason))
    if as_json:
        print_json([waiting.shown(row, sources) for row in rows] if each else waiting.groups(rows))
    elif not rows:
        err().print("nothing is parked")
    elif each:
        out().print(_each([waiting.shown(row, sources) for row in rows]))
    else:
        out().print(_groups(waiting.groups(rows)))


@app.command()
def show(
    ref: RefArgument, key: KeyArgument = None, project: ProjectOption = None, verbose: VerboseOption = False
) -> None:
    """Print one parked message as JSON. It says why it waits, and shows its envelope and its content."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    (row, entity), sources = _read(
        landscape,
        lambda stores: (_with_entity(landscape, stores, _one(stores, ref, key)), waiting.of_sources(stores)),
    )
    known = waiting.shown(row, sources)
    content = _raw(row.message) if known.of_source else _envelope(row, entity)
    print_json({**{name: getattr(known, name) for name in known.__struct_fields__}, "message": content})


@app.command()
def edit(
    ref: RefArgument,
    key: KeyArgument = None,
    fields: Annotated[
        list[str] | None, typer.Option("--set", help="field=value, such as total.amount=12.50; several are allowed.")
    ] = None,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Correct a parked message, and send it. In $EDITOR or with --set; it is checked against its entity first."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    row, entity = _read(landscape, lambda stores: _with_entity(landscape, stores, _one(stores, ref, key)))
    if entity is None:
        raise typer.BadParameter(f"{row.key!r} is a record of {row.leg}: correct it there, then replay it")
    try:
        content = msgspec.json.decode(waiting.upcast_content(row, entity))
    except Reject:  # what no upcaster can make, a person can
        content = content_of(unpack_message(row.message))
    except Outdated as error:
        raise typer.BadParameter(str(error)) from error
    if content is None:
        raise typer.BadParameter(f"{row.key!r} was deleted, there is nothing to edit; replay or drop it")
    try:
        data = waiting.with_fields(content, _pairs(fields)) if fields else [_typed(content)]
        packed = pack_message(waiting.edited(row, entity, data), entity.__version__)
    except Reject as error:
        err().print(f"not taken: {error}", style="red", markup=False)
        raise typer.Exit(FAILED) from error
    asyncio.run(_decide(landscape, [row], "edit", _who(), packed=packed))


@app.command()
def replay(
    ref: OptionalRef = None,
    key: KeyArgument = None,
    group: GroupOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything that waits for a person.")] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.0, help="So many a second at most; 0: at once.")] = 0.0,
    dry_run: DryOption = False,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Try parked messages again. One, a group, or all that wait for a person."""
    log_to_stderr(verbose=verbose, quiet=True)
    landscape = project_at(project).landscape
    rows = _read(landscape, lambda stores: _chosen(stores, ref, key, group, everything))
    if dry_run:
        _would("replay", rows)
        return
    asyncio.run(_decide(landscape, rows, "replay", _who(), rate=rate))


@app.command()
def drop(
    reason: Annotated[str, typer.Option("--reason", help="Why it may go; kept with the decision.")],
    ref: OptionalRef = None,
    key: KeyArgument = None,
    group: GroupOption = None,
    dry_run: DryOption = False,
    project: ProjectOption = None,
    verbose: VerboseOption = False,
) -> None:
    """Let parked messages go. One, or a group; they count as dropped by a person."""
    log_to_stderr(verbose=verbose, quiet=True)
    if not reason.strip():
        raise typer.BadParameter("say why, in a few words", param_hint="--reason")
    landscape = project_at(project).landscape
    rows = _read(landscape, lambda stores: _chosen(stores, ref, key, group, everything=False))
    if dry_run:
        _would("drop", rows)
        return
    asyncio.run(_decide(landscape, rows, "drop", f"{_who()}: {reason.strip()}"))


# -- choosing -------------------------------------------------------------------------------------------


def _read(landscape: Landscape, look: Callable[[Stores], T]) -> T:
    async def read() -> T:
        ledger = ledger_to_read(landscape.store, landscape.folder)
        try:
            return await ledger.transact(look)
        finally:
            await ledger.close()

    return asyncio.run(read())


def _listed(
    landscape: Landscape, stores: Stores, leg: str | None, reason: Reason | None
) -> tuple[list[ParkedRow], frozenset[str]]:
    """The rows of a leg or source, or all, and the names of the sources."""
    sources = waiting.of_sources(stores)
    known = {row.leg for row in stores.legs.all()} | declared_legs(landscape).keys() | sources
    if leg is not None and leg not in known:
        raise typer.BadParameter(f"there is no leg or source {leg!r}; {meant(leg, known)}", param_hint="--leg")
    return waiting.rows(stores, leg, reason), sources


def _one(stores: Stores, ref: str, key: str | None) -> ParkedRow:
    rows = waiting.rows(stores) if key is None else stores.parked.by_key(ref, [key])
    found = [row for row in rows if key is not None or waiting.ref(row) == ref.lower()]
    if not found:
        what = f"{ref!r}" if key is None else f"{key!r} at {ref!r}"
        raise typer.BadParameter(f"nothing is parked as {what}, or not any more; see `tieline parked list --each`")
    return found[0]


def _chosen(stores: Stores, ref: str | None, key: str | None, group: str | None, everything: bool) -> list[ParkedRow]:
    """The rows meant, those left out that a person has decided about already."""
    if [ref is not None, group is not None, everything].count(True) != 1:
        raise typer.BadParameter("say which: a REF, or --group, or --all where there is one")
    if ref is not None:
        return [_one(stores, ref, key)]
    rows = waiting.rows(stores)
    if group is not None:
        rows = [row for row in rows if waiting.group_of(row) == group.lower()]
        if not rows:
            raise typer.BadParameter(f"there is no group {group!r}, or not any more; see `tieline parked list`")
    else:
        rows = [row for row in rows if row.for_a_person]
    return [row for row in rows if not row.decision]


def _with_entity(landscape: Landscape, stores: Stores, row: ParkedRow) -> tuple[ParkedRow, type[Entity] | None]:
    leg = stores.legs.get(row.leg)
    return row, None if leg is None else landscape.entities.get(leg.entity)


# -- deciding -------------------------------------------------------------------------------------------


async def _decide(
    landscape: Landscape,
    rows: Sequence[ParkedRow],
    decision: str,
    by: str,
    *,
    packed: bytes = b"",
    rate: float = 0.0,
) -> None:
    """Write the decision on every row, `rate` a second; exit code 1 where a row holds another message by now."""
    if not rows:
        err().print("nothing waits that is not decided about already")
        return
    ledger = ledger_to_read(landscape.store, landscape.folder)
    each = max(1, min(_AT_ONCE, int(rate))) if rate else _AT_ONCE
    changed: list[ParkedRow] = []
    try:
        console = err()
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            task = progress.add_task(decision, total=len(rows))
            for start in range(0, len(rows), each):
                part = rows[start : start + each]
                if start and rate:
                    await asyncio.sleep(len(part) / rate)
                changed += await _write(ledger, part, decision, by, packed)
                progress.advance(task, len(part))
        workers = await ledger.transact(lambda stores: len(set(stores.leases.holders().values())))
    finally:
        await ledger.close()
    done = len(rows) - len(changed)
    err().print(f"{done:,} decided: {decision}" + ("" if workers else "; carried out by the next `tieline run`"))
    for row in changed:
        err().print(f"{row.leg} {row.key}: another message waits there by now; look again", style="red", markup=False)
    if changed:
        raise typer.Exit(FAILED)


async def _write(
    ledger: Ledger, rows: Sequence[ParkedRow], decision: str, by: str, message: bytes
) -> list[ParkedRow]:
    """Rows on which the decision was not written, because they hold another message by now."""

    def work(stores: Stores) -> list[ParkedRow]:
        changed = []
        for row in rows:
            if not stores.parked.decide(row.leg, row.key, row.message_id, decision, by, message):
                changed.append(row)
        for name in {row.leg for row in rows}:
            stores.notify(source_topic(name))
        return changed

    return await ledger.transact(work)


def _who() -> str:
    return f"{getpass.getuser()}@{socket.gethostname()}"


def _would(decision: str, rows: Sequence[ParkedRow]) -> None:
    err().print(f"would {decision} {len(rows):,}:")
    out().print(_each([waiting.shown(row, frozenset()) for row in rows]))


# -- editing --------------------------------------------------------------------------------------------


def _pairs(fields: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for one in fields:
        name, equals, value = one.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{one!r}: write field=value", param_hint="--set")
        pairs.append((name, value))
    return pairs


def _typed(content: Any) -> bytes:
    """What a person makes of the content in their editor."""
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not editor:
        raise typer.BadParameter("set $EDITOR, or give --set field=value")
    with tempfile.TemporaryDirectory(prefix="tieline-") as folder:
        file = Path(folder, "message.json")
        file.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=2))
        try:
            subprocess.run([*shlex.split(editor), str(file)], check=True)  # noqa: S603 - the user's own editor
        except (OSError, ValueError, subprocess.CalledProcessError) as error:
            raise typer.BadParameter(f"the editor {editor!r} failed: {error}") from error
        return file.read_bytes()


# -- showing --------------------------------------------------------------------------------------------


def _groups(found: Sequence[waiting.Group]) -> Listing:
    return Listing(
        ["group", "leg", "reason", "count", "since", "cause", "such as"],
        [
            (
                one.group,
                one.leg,
                _coloured(one),
                f"{one.count:,}" + (f" ({one.decided:,} decided)" if one.decided else ""),
                moment(one.since),
                one.cause,
                ", ".join(one.keys),
            )
            for one in found
        ],
        right=["count"],
        long=["cause"],
    )


def _each(found: Sequence[waiting.Waiting]) -> Listing:
    return Listing(
        ["ref", "leg", "key", "version", "reason", "since", "tries", "next", "error"],
        [
            (
                one.ref,
                one.leg,
                one.key,
                one.version,
                _coloured(one),
                moment(one.since),
                str(one.attempt),
                _next(one),
                one.error,
            )
            for one in found
        ],
        right=["tries"],
        long=["next", "error"],
    )


def _next(one: waiting.Waiting) -> str:
    if one.decision:
        return f"{one.decision} ({one.decided_by})"
    if one.for_a_person:
        return "a person"
    return f"waits for {one.waits_for}" if one.waits_for else moment(one.not_before)


def _coloured(one: waiting.Waiting | waiting.Group) -> Text:
    return Text(one.reason.value, "red" if one.for_a_person else "yellow")


def _envelope(row: ParkedRow, entity: type[Entity] | None) -> dict[str, Any]:
    """A message as it was parked; `upcast` is what this project makes of one of an earlier version."""
    message, schema = unpack_message(row.message), schema_of(row.message)
    older = entity is not None and schema < entity.__version__ and not message.deleted
    return {
        "id": message.id.hex(),
        "key": message.key,
        "version": version_text(message.version),
        "origin": message.origin,
        "subject": message.subject,
        "deleted": message.deleted,
        "schema": schema,
        "data": content_of(message),
        **({"upcast": _upcast(row, entity)} if entity is not None and older else {}),
    }


def _upcast(row: ParkedRow, entity: type[Entity]) -> dict[str, Any]:
    try:
        return {"schema": entity.__version__, "data": _raw(waiting.upcast_content(row, entity))}
    except Reject as error:
        return {"schema": entity.__version__, "error": str(error)}


def _raw(data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.DecodeError:
        return data.decode(errors="replace")
