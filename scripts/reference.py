"""`make docs`: write docs/reference from the code. `--check` writes nothing and fails where it would."""

import argparse
import dataclasses
import enum
import importlib
import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import msgspec
import typer

from tieline.cli import COMMANDS, app
from tieline.connector import Capabilities, ConnectorSettings
from tieline.connectors import files, jsonrpc, memory, rest, sql
from tieline.settings import Secret, SystemSettings

FOLDER: Final = Path(__file__).parents[1] / "docs" / "reference"
NOTE: Final = "<!-- Written by scripts/reference.py from the code; change the code, then run `make docs`. -->\n"

# Facts of a connector follow from what an adapter declares; these declarations stand for the usual ones.
EXAMPLES: Final[dict[str, dict[str, ConnectorSettings]]] = {
    "memory": {"`Table()`": memory.Memory(x=memory.Table())},
    "sql": {
        "`Table(key=…)`": sql.Sql(x=sql.Table("x", key="id")),
        "`Table(key=…, cursor=…)`": sql.Sql(x=sql.Table("x", key="id", cursor="changed")),
        "`Table(key=…, writes=False)`": sql.Sql(x=sql.Table("x", key="id", writes=False)),
    },
    "rest": {
        "`Resource(path)`": rest.Rest(x=rest.Resource("/x/")),
        "`Resource(path, since=…)`": rest.Rest(x=rest.Resource("/x/", since=rest.Since("since", "changed"))),
        "`Resource(path, create=…, update=…, delete=True)`": rest.Rest(
            x=rest.Resource("/x/", create="POST", update="PATCH", delete=True)
        ),
    },
    "jsonrpc": {
        "`Model(name, fields=…)`": jsonrpc.JsonRpc(x=jsonrpc.Model("x.y", fields=["code"], actions=["post"]))
    },
    "files": {
        "`Csv(path, id=…)`": files.Files(x=files.Csv("x.csv", id="id")),
        '`Csv(path, mode="drop")`': files.Files(x=files.Csv("x/*.csv", mode="drop")),
        '`Csv(path, mode="batches")`': files.Files(x=files.Csv("x/*.csv", mode="batches")),
    },
}
LOGIN: Final = {"user": "nobody", "password": Secret("none")}
SYSTEMS: Final = {  # nothing is connected to
    "memory": SystemSettings("x", "memory://reference"),
    "sql": SystemSettings("x", "sqlite:///x.db"),
    "rest": SystemSettings("x", "http://127.0.0.1:1"),
    "jsonrpc": SystemSettings("x", "http://127.0.0.1:1/x/", auth=LOGIN),
    "files": SystemSettings("x", "."),
}


def main() -> int:
    """Write what changed, or say what would."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 where pages are out of date")
    check = parser.parse_args().check
    stale = [name for name, text in written().items() if _differs(FOLDER / name, text)]
    stale += [file.name for file in FOLDER.glob("*.md") if file.name not in PAGES]
    if check:
        for name in stale:
            sys.stderr.write(f"docs/reference/{name} is out of date; run `make docs`\n")
        return 1 if stale else 0
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in stale:
        if name in PAGES:
            (FOLDER / name).write_text(PAGES[name](), encoding="utf-8")
        else:
            (FOLDER / name).unlink()
    return 0


def written() -> dict[str, str]:
    """Each page of the reference as the code has it now."""
    return {name: page() for name, page in PAGES.items()}


def _differs(file: Path, text: str) -> bool:
    return not file.exists() or file.read_text(encoding="utf-8") != text


# -- the command line -----------------------------------------------------------------------------------


def cli() -> str:
    """Every command with its arguments and options."""
    lines = [f"# The command line\n\n{NOTE}\n{app.info.help}\n\n{app.info.epilog}\n\n"]
    lines.append("| command | does |\n| --- | --- |\n")
    lines += [f"| [`tieline {name}`](#tieline-{name}) | {one.help} |\n" for name, one in COMMANDS.items()]
    lines.append("\n`tieline --version` shows the version; `--help` helps with every command.\n")
    for name in COMMANDS:
        commands = importlib.import_module(f"tieline.cli.{COMMANDS[name].module}").app
        several = len(commands.registered_commands) > 1
        if several:
            lines.append(f"\n## `tieline {name}`\n\n{commands.info.help}\n")
        for one in commands.registered_commands:
            full = f"tieline {name} {one.name or one.callback.__name__}" if several else f"tieline {name}"
            lines.append(_command(full, one.callback, 3 if several else 2))
    return "".join(lines)


def _command(name: str, function: Callable[..., Any], depth: int) -> str:
    hints = typing.get_type_hints(function, include_extras=True)
    arguments, rows = [], []
    for parameter in inspect.signature(function).parameters.values():
        kind, info = typing.get_args(hints[parameter.name])[:2]
        values = "".join(f", `{one.value}`" for one in _choices(kind))
        about = f"{info.help}{' One of: ' + values[2:] + '.' if values else ''}"
        if isinstance(info, typer.models.ArgumentInfo):
            shown = info.metavar or parameter.name.upper()
            several = "…" if typing.get_origin(_bare(kind)) is list else ""
            needed = parameter.default is inspect.Parameter.empty
            arguments.append(f"{shown}{several}" if needed else f"[{shown}{several}]")
            rows.append(f"| `{shown}` | {_cell(about)} |\n")
        else:
            first = [info.default] if isinstance(info.default, str) else []  # as typer has it inside Annotated
            names = [*first, *(info.param_decls or ())] or [f"--{parameter.name.replace('_', '-')}"]
            rows.append(f"| {', '.join(f'`{one}`' for one in names)} | {_cell(about)} |\n")
    usage = " ".join([name, *arguments, "[OPTIONS]"])
    return (
        f"\n{'#' * depth} `{name}`\n\n{inspect.cleandoc(function.__doc__ or '')}\n\n"
        f"```text\n{usage}\n```\n\n| | meaning |\n| --- | --- |\n{''.join(rows)}"
    )


def _bare(kind: Any) -> Any:
    """A type without the None beside it."""
    parts = [one for one in typing.get_args(kind) if one is not type(None)]
    return parts[0] if typing.get_origin(kind) in {typing.Union, types.UnionType} and parts else kind


def _choices(kind: Any) -> list[enum.Enum]:
    bare = _bare(kind)
    return list(bare) if inspect.isclass(bare) and issubclass(bare, enum.Enum) else []


# -- Python ---------------------------------------------------------------------------------------------


def words(title: str, about: str, *places: tuple[str, list[str]]) -> Callable[[], str]:
    """A page of modules; each with the names that are shown, in order."""

    def page() -> str:
        parts = [f"# {title}\n\n{NOTE}\n{about}\n"]
        for module_name, names in places:
            module = importlib.import_module(module_name)
            if len(places) > 1:
                parts.append(f"\n## `{module_name}`\n\n{_doc(module)}\n")
            else:
                parts.append(f"\n{_doc(module)}\n")
            for name in names:
                parts.append("\n" + _described(name, getattr(module, name), module, 3 if len(places) > 1 else 2))
        return "".join(parts)

    return page


def _described(name: str, thing: Any, module: ModuleType, depth: int) -> str:
    head = f"{'#' * depth} `{name}`\n\n"
    if not inspect.isclass(thing) and not inspect.isfunction(thing):
        return head + f"{_doc_of_constant(module, name)}\n"
    if inspect.isfunction(thing):
        return head + f"```python fragment\n{_signature(name, thing)}\n```\n\n{_doc(thing)}\n"
    if issubclass(thing, enum.Enum):
        values = "".join(f"| `{one.name}` | `{one.value}` |\n" for one in thing)
        return head + f"{_doc(thing)}\n\n| name | value |\n| --- | --- |\n{values}"
    fields = "".join(_fields(thing))
    if fields:
        fields = f"\n| field | type | default |\n| --- | --- | --- |\n{fields}"
    called = "" if fields or _is_port(thing) or issubclass(thing, BaseException) else _called(name, thing)
    return head + called + f"{_doc(thing)}\n{fields}" + "".join(_methods(thing))


def _is_port(thing: type) -> bool:
    return bool(getattr(thing, "_is_protocol", False))


def _called(name: str, thing: type) -> str:
    own = thing.__dict__.get("__init__") or thing.__dict__.get("__new__")
    if not inspect.isfunction(own):
        return ""
    return f"```python fragment\n{_signature(name, own)}\n```\n\n"


def _fields(thing: type) -> Iterator[str]:
    if isinstance(thing, type) and issubclass(thing, msgspec.Struct):
        for one in msgspec.structs.fields(thing):
            required = one.default is msgspec.NODEFAULT and one.default_factory is msgspec.NODEFAULT
            default = "needed" if required else _default(one.default, one.default_factory is not msgspec.NODEFAULT)
            yield f"| `{one.name}` | `{_type(thing, one.name)}` | {default} |\n"
    elif dataclasses.is_dataclass(thing):
        for field in dataclasses.fields(thing):
            if field.name.startswith("_"):
                continue
            made = field.default_factory is not dataclasses.MISSING
            required = field.default is dataclasses.MISSING and not made
            default = "needed" if required else _default(field.default, made)
            yield f"| `{field.name}` | `{_type(thing, field.name)}` | {default} |\n"


def _default(value: Any, made: bool) -> str:
    if made:
        return "new"
    if inspect.isclass(value) or callable(value):
        return f"`{getattr(value, '__name__', 'a function')}`"
    text = f"`{value.value!r}`" if isinstance(value, enum.Enum) else f"`{value!r}`"
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def _type(thing: type, name: str) -> str:
    for base in thing.__mro__:
        hint = inspect.get_annotations(base).get(name)
        if hint is not None:
            return _hint(hint)
    return "Any"


def _hint(hint: Any) -> str:
    text = hint if isinstance(hint, str) else inspect.formatannotation(hint)
    text = re.sub(r"\b(?:typing|collections\.abc|datetime|decimal|pathlib|contextlib)\.", "", text)
    text = re.sub(r"\btieline(?:\.\w+)+\.(\w+)", r"\1", text)
    return text.replace("|", "\\|")


def _methods(thing: type) -> Iterator[str]:
    for name, member in thing.__dict__.items():
        if name.startswith("_") and name != "__call__":
            continue
        own = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        if isinstance(own, property):
            if own.fget is not None and inspect.isfunction(own.fget):
                yield f"\n**`{name}`** · {_doc(own)}\n"
        elif inspect.isfunction(own):
            yield f"\n```python fragment\n{_signature(name, own)}\n```\n\n{_doc(own)}\n"


def _signature(name: str, function: Any) -> str:
    signature = inspect.signature(function)
    parameters = [one for one in signature.parameters.values() if one.name not in {"self", "cls"}]
    shown = signature.replace(
        parameters=[one.replace(annotation=_Plain(one.annotation)) if _annotated(one) else one for one in parameters],
        return_annotation=_Plain(signature.return_annotation) if _annotated(signature) else inspect.Signature.empty,
    )
    start = "async def" if inspect.iscoroutinefunction(function) else "def"
    text = re.sub(r"<(?:[\w.]+\.)?(\w+)[^<>]*>", r"\1", str(shown)).replace("~", "")
    return f"{start} {name}{text}: ..."


def _annotated(one: inspect.Parameter | inspect.Signature) -> bool:
    hint = one.annotation if isinstance(one, inspect.Parameter) else one.return_annotation
    return hint is not inspect.Parameter.empty


class _Plain:
    """An annotation that shows itself without quotes and without the places of its names."""

    def __init__(self, hint: Any) -> None:
        self._text = _hint(hint).replace("\\|", "|")

    def __repr__(self) -> str:
        return self._text


def _doc(thing: Any) -> str:
    text = thing.__doc__ or ""
    if inspect.isclass(thing) and text.startswith(f"{thing.__name__}("):
        text = ""  # made by dataclass
    text = inspect.cleandoc(text)
    text = re.sub(r"``([^`\n]+)``", r"`\1`", text)
    text = re.sub(r"^Raises:\n((?: {4}.*\n?)+)", lambda found: _raised(found.group(1)), text, flags=re.M)
    text = _drawings(text)
    return text.rstrip()


def _raised(block: str) -> str:
    joined = re.sub(r"\n {8,}", " ", block)
    return "Raises:\n\n" + "".join(f"- {line.strip()}\n" for line in joined.splitlines() if line.strip())


def _drawings(text: str) -> str:
    """Indented examples, and trees drawn with lines, as fences."""
    if "├" in text:
        start = text.index("\n\n") + 2
        return f"{text[:start]}```text\n{text[start:].rstrip()}\n```"
    text = re.sub(r"::$", ":", text, flags=re.M)
    return re.sub(
        r"(?<=\n\n)((?: {4}.*\n|\n)* {4}.*)(?=\n|$)",
        lambda found: f"```text\n{inspect.cleandoc(found.group(1))}\n```",
        text,
    )


def _doc_of_constant(module: ModuleType, name: str) -> str:
    """The text below a constant, where it has one."""
    found = re.search(rf'^{name}\b[^\n]*\n"""(.*?)"""', inspect.getsource(module), re.M | re.S)
    return "" if found is None else inspect.cleandoc(found.group(1))


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


# -- connectors -----------------------------------------------------------------------------------------

FACTS: Final = [field.name for field in dataclasses.fields(Capabilities)]


def connectors() -> str:
    """What each connector is able to do, and how its resources are declared."""
    shown = [(name, declared, made) for name, many in EXAMPLES.items() for declared, made in many.items()]
    rows = []
    for name, declared, made in shown:
        connector = made.open(SYSTEMS[name])
        facts = connector.capabilities("x")
        rows.append(f"| {name} | {declared} | " + " | ".join(_fact(getattr(facts, one)) for one in FACTS) + " |\n")
    head = f"| connector | declared as | {' | '.join(FACTS)} |\n| --- | --- | {' | '.join('---' for _ in FACTS)} |\n"
    modules = {name: importlib.import_module(f"tieline.connectors.{name}") for name in EXAMPLES}
    parts = [
        f"# Connectors\n\n{NOTE}\nWhat each connector is able to do is a record of facts, "
        "[`Capabilities`](connector.md#capabilities); Tieline decides by nothing else. "
        "The table shows usual declarations; yours may have more or fewer.\n\n",
        head,
        *rows,
    ]
    for name, module in modules.items():
        parts.append(f"\n## `tieline.connectors.{name}`\n\n{_doc(module)}\n")
        for public in getattr(module, "__all__", []) or []:
            parts.append("\n" + _described(public, getattr(module, public), module, 3))
        if not hasattr(module, "__all__"):
            parts.extend(
                "\n" + _described(one, getattr(module, one), module, 3) for one in ("Memory", "Table", "Store")
            )
    return "".join(parts)


def _fact(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "-"
    if isinstance(value, frozenset):
        return "declared" if value else "-"
    return f"{value:,}"


PAGES: Final = {
    "cli.md": cli,
    "entities.md": words(
        "Entities and messages",
        "What `entities.py` is written with, and what travels.",
        (
            "tieline.entity",
            ["Value", "Entity", "Event", "Ref", "Measure", "MAX_KEY", "key_text", "key_of", "json_schema"],
        ),
        ("tieline.money", ["Money", "total"]),
        ("tieline.message", ["Version", "Outcome", "Reason", "Message", "Batch", "cloudevents"]),
    ),
    "adapter.md": words(
        "Adapters and processes",
        "What `adapters/*.py` and `processes/*.py` are written with.",
        ("tieline.adapter", ["Adapter", "Source", "Sink", "Step", "Ids"]),
        ("tieline.process", ["Process", "Rule"]),
    ),
    "connector.md": words(
        "The connector port",
        "What whoever [writes a connector](../how-to/write-a-connector.md) promises.",
        (
            "tieline.connector",
            [
                *["ConnectorSettings", "Connector", "Capabilities", "Page", "BadRecord", "Change", "Result"],
                *["TargetTransaction", "HeldRow", "LegState", "Discovered"],
            ],
        ),
    ),
    "bus.md": words(
        "The bus port",
        "What an engine that keeps channels promises.",
        ("tieline.bus", ["Bus", "BusCapabilities", "Guarantee", "Delivery"]),
    ),
    "ledger.md": words(
        "The ledger port",
        "What Tieline must not forget, and how it is changed.",
        (
            "tieline.ledger",
            [
                *[
                    "Ledger",
                    "Stores",
                    "Sources",
                    "Seen",
                    "Channels",
                    "Legs",
                    "Held",
                    "Parked",
                    "Inbox",
                    "Leases",
                    "Notes",
                ],
                *["Fence", "SourceState", "SeenRow", "Kept", "Way", "LegRow", "ParkedRow", "InboxRow"],
            ],
        ),
    ),
    "errors.md": words(
        "Errors",
        "A mapping or a connector raises them; what follows is the same everywhere.",
        (
            "tieline.errors",
            [
                *["TielineError", "ConfigurationError", "Mistake", "MissingExtra", "Reject", "Misfit"],
                *["MissingReference", "RetryLater", "InDoubt", "Unavailable", "Throttled", "AccessRefused"],
                *["LedgerUnavailable", "Hold", "Outdated", "Fenced"],
            ],
        ),
    ),
    "settings.md": words(
        "Settings and landscapes",
        "What `tieline.toml` is read into; a program may build the same objects itself.",
        ("tieline.system", ["Landscape", "System", "SourceSettings", "Trigger"]),
        ("tieline.flow", ["Flow", "Target", "Robustness", "Retries", "leg_name"]),
        ("tieline.settings", ["SystemSettings", "Limits", "Secret", "resolve_secret", "without_password"]),
    ),
    "connectors.md": connectors,
}


if __name__ == "__main__":
    sys.exit(main())
