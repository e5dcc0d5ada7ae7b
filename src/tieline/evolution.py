"""How an entity is on the wire, as plain JSON, and whether messages of an earlier schema still mean the same.

Only what changes bytes or their meaning is part of a schema: names of classes, texts about them and the order of
fields are none of it. `differences` errs on the safe side: what it calls compatible decodes and means the same.
"""

import enum
import itertools
import json
import types
import typing
from collections import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

import msgspec

from tieline.canonical import INEXACT, plan
from tieline.money import Money

Schema: TypeAlias = dict[str, Any]
"""An entity on the wire; made of what JSON has."""

_Wire: TypeAlias = Callable[[Any], Any]

_ABSTRACT: Final[Mapping[Any, type]] = {
    abc.Sequence: list, abc.MutableSequence: list, abc.Collection: list, frozenset: set, abc.Set: set,
    abc.MutableSet: set, abc.Mapping: dict, abc.MutableMapping: dict,
}  # fmt: skip
_AT_LEAST: Final = ("gt", "ge", "min_length")
_AT_MOST: Final = ("lt", "le", "max_length")
_LIMITS: Final = (*_AT_LEAST, *_AT_MOST, "multiple_of", "pattern", "tz")


class Difference(msgspec.Struct, frozen=True):
    """What is otherwise in a later schema; where `compatible`, every earlier message decodes to what it meant."""

    field: str
    what: str
    compatible: bool = False

    def __str__(self) -> str:
        return f"{self.field}: {self.what}" if self.field else self.what


def schema_on_the_wire(cls: type, wire: _Wire, *, event: bool, key: Sequence[str], subject: str | None) -> Schema:
    """The schema of an entity; `wire` gives a value as JSON has it, the names are those of Python's fields."""
    names = {field.name: field.encode_name for field in msgspec.structs.fields(cls)}
    return {
        "kind": "event" if event else "entity",
        "key": [names.get(name, name) for name in key],
        "subject": names.get(subject, subject) if subject else None,
        "fields": _Described(wire).fields(cls, ()),
    }


class _Described:
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def fields(self, cls: type, inside: tuple[type, ...]) -> dict[str, Any]:
        hints = typing.get_type_hints(cls, include_extras=True)
        settled = dict(plan(cls).settled)
        described = {}
        for field in msgspec.structs.fields(cls):
            one = {"type": self._type(hints[field.name], (*inside, cls))}
            default = field.default
            if field.default_factory in {list, dict, set, frozenset}:
                default = field.default_factory()
            if default is msgspec.UNSET:
                one["default"] = {"unset": True}
            elif default is not msgspec.NODEFAULT:
                settle = settled.get(field.name)
                one["default"] = self._wire(settle(default, field.name) if settle else default)
            elif not field.required:
                one["made"] = True
            described[field.encode_name] = one
        return described

    def _type(self, hint: Any, inside: tuple[type, ...]) -> Any:
        origin, arguments = typing.get_origin(hint), typing.get_args(hint)
        if isinstance(hint, typing.NewType):
            return self._type(hint.__supertype__, inside)
        if hasattr(hint, "__value__"):  # `type Price = …`
            return self._type(hint.__value__, inside)
        if origin is typing.Annotated:
            return self._limited(arguments[0], arguments[1:], inside)
        if origin in {typing.Union, types.UnionType}:
            members = [self._type(member, inside) for member in arguments]
            return {"one of": sorted(members, key=_in_text)}
        if hasattr(origin, "settler"):  # Ref[Customer]
            return {"ref": arguments[0].__name__}
        if origin is typing.Literal:
            return {"enum": sorted(arguments, key=_in_text)}
        kind = _ABSTRACT.get(origin or hint, origin or hint)
        if kind is tuple and arguments and arguments[1:] != (...,):
            return {"tuple": [self._type(one, inside) for one in arguments]}
        if kind in {list, set, tuple, dict}:
            # Without arguments it holds anything; a tuple of one type and any length is as a list on the wire.
            of = [self._type(one, inside) for one in arguments if one is not ...] or ["Any"] * (1 + (kind is dict))
            return {"list" if kind is tuple else kind.__name__: of}
        return self._leaf(hint, inside)

    def _leaf(self, hint: Any, inside: tuple[type, ...]) -> Any:
        if hint is None or hint is type(None):
            return "None"
        if hint in {Any, object}:
            return "Any"
        if isinstance(hint, type) and issubclass(hint, enum.Enum):
            return {"enum": sorted((self._wire(member) for member in hint), key=_in_text)}
        if isinstance(hint, type) and hint is not Money and issubclass(hint, msgspec.Struct):
            if hint in inside:
                return {"as": inside.index(hint)}
            config = hint.__struct_config__
            tag = {"tag": [config.tag_field, config.tag]} if config.tag is not None else {}
            return {"value": self.fields(hint, inside), **tag}
        return getattr(hint, "__name__", repr(hint))

    def _limited(self, hint: Any, notes: Sequence[Any], inside: tuple[type, ...]) -> Any:
        metas = [note for note in notes if isinstance(note, msgspec.Meta)]
        if hint is float and any(meta.extra == INEXACT for meta in metas):
            hint = "Measure"
        known = ((name, getattr(meta, name)) for meta in metas for name in _LIMITS)
        limits = {name: value for name, value in known if value is not None}
        described = hint if hint == "Measure" else self._type(hint, inside)
        return {"limits": limits, "of": described} if limits else described


def _in_text(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def differences(old: Schema, new: Schema) -> list[Difference]:
    """What is otherwise in `new`, field by field; none where both are the same on the wire."""
    found = []
    if old["kind"] != new["kind"]:
        found.append(Difference("", f"was an {old['kind']} and is an {new['kind']}"))
    for word, was, now in [("key", old["key"], new["key"]), ("subject", [old["subject"]], [new["subject"]])]:
        if was != now:
            found.append(Difference("", f"its {word} was {_listed(was)} and is {_listed(now)}"))
    return found + list(_in_fields(old["fields"], new["fields"], ""))


def _listed(names: Sequence[str | None]) -> str:
    return ", ".join(name or "none" for name in names)


def _in_fields(old: Schema, new: Schema, place: str) -> abc.Iterator[Difference]:
    fresh = {name: one for name, one in new.items() if name not in old}
    for name, was in old.items():
        if name in new:
            yield from _in_field(was, new[name], place + name)
            continue
        like = [other for other, one in fresh.items() if one["type"] == was["type"]]
        renamed = f"; it may be {like[0]} now" if len(like) == 1 else ""
        yield Difference(place + name, f"the field is gone{renamed}")
    for name, one in fresh.items():
        if "default" in one:
            yield Difference(place + name, f"a new field, {_shown(one['default'])} where it is left out", True)
        elif "made" in one:
            yield Difference(place + name, "a new field, whose default is made anew for each message")
        else:
            yield Difference(place + name, "a new field without a default")


def _in_field(was: Schema, now: Schema, place: str) -> abc.Iterator[Difference]:
    yield from _in_type(was["type"], now["type"], place)
    if "default" in was and "default" not in now:
        # What is left out meant the default: nothing says so any more.
        yield Difference(place, f"its default, {_shown(was['default'])}, is gone")
    elif "default" in was and was["default"] != now["default"]:
        yield Difference(place, f"its default was {_shown(was['default'])} and is {_shown(now['default'])}")
    elif "default" not in was and "default" in now:
        yield Difference(place, f"has a default now, {_shown(now['default'])}", True)
    elif was.get("made") != now.get("made"):
        yield Difference(place, "what makes its default is otherwise", True)


def _in_type(was: Any, now: Any, place: str) -> abc.Iterator[Difference]:
    if was == now:
        return
    (base, limits), (new_base, new_limits) = _unlimited(was), _unlimited(now)
    if limits != new_limits:
        looser = all(_is_looser(name, limits.get(name), value) for name, value in new_limits.items())
        what = f"its limits were {_shown(limits)} and are {_shown(new_limits)}"
        yield Difference(place, what, compatible=looser)
        yield from _in_type(base, new_base, place)
        return
    some, new_some = _without_none(was), _without_none(now)
    if (some, new_some) != ([was], [now]) and len(some) == len(new_some) == 1:
        may, new_may = some != [was], new_some != [now]
        if may != new_may:
            yield Difference(place, "may be None now" if new_may else "may not be None any more", compatible=new_may)
        yield from _in_type(some[0], new_some[0], place)
        return
    kind, new_kind = _kind(was), _kind(now)
    if kind != new_kind:
        yield Difference(place, f"was {_named(was)} and is {_named(now)}")
    elif kind == "value" and was.get("tag") == now.get("tag"):
        yield from _in_fields(was["value"], now["value"], f"{place}.")
    elif kind == "enum":
        yield from _in_choice(was["enum"], now["enum"], place)
    elif kind in {"list", "set", "dict", "tuple"} and len(was[kind]) == len(now[kind]):
        yield from itertools.chain(*(_in_type(a, b, place) for a, b in zip(was[kind], now[kind], strict=True)))
    else:
        yield Difference(place, f"was {_named(was)} and is {_named(now)}")


def _in_choice(was: Sequence[Any], now: Sequence[Any], place: str) -> abc.Iterator[Difference]:
    if gone := [value for value in was if value not in now]:
        yield Difference(place, f"may not be {', '.join(map(_shown, gone))} any more")
    if new := [value for value in now if value not in was]:
        yield Difference(place, f"may be {', '.join(map(_shown, new))} too", True)


def _unlimited(described: Any) -> tuple[Any, Schema]:
    if isinstance(described, dict) and "limits" in described:
        return described["of"], described["limits"]
    return described, {}


def _is_looser(limit: str, was: Any, now: Any) -> bool:
    if was is None or was == now:
        return was is not None
    return (limit in _AT_LEAST and now < was) or (limit in _AT_MOST and now > was)


def _without_none(described: Any) -> list[Any]:
    """The alternatives of a type besides None; the type itself where it has none."""
    if isinstance(described, dict) and "one of" in described and "None" in described["one of"]:
        return [one for one in described["one of"] if one != "None"]
    return [described]


def _kind(described: Any) -> str:
    return next(iter(described)) if isinstance(described, dict) else str(described)


def _named(described: Any) -> str:
    """A type as people call it."""
    if not isinstance(described, dict):
        return str(described)
    kind = _kind(described)
    if kind == "one of":
        return " or ".join(map(_named, described[kind]))
    if kind == "ref":
        return f"a Ref to {described[kind]}"
    if kind in {"list", "set", "dict", "tuple"}:
        return f"{kind}[{', '.join(map(_named, described[kind]))}]"
    return {"enum": "a choice", "value": "a Value", "limits": "limited", "as": "a Value that holds it"}[kind]


def _shown(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
