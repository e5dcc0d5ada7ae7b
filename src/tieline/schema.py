"""JSON Schema of canonical classes, each default as on the wire.

msgspec makes the schema, but a default that it cannot encode by itself, such as a reference, stops it. So it is
shown likenesses: classes of the same fields, whose defaults stand in the notes of their types.
"""

import functools
import operator
import types
import typing
from collections.abc import Callable
from typing import Annotated, Any

import msgspec

from tieline.canonical import COLLECTIONS, plan


def schema_of(cls: type, wire: Callable[[Any], Any], other: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
    """JSON Schema (2020-12). `wire` gives a value as JSON has it, `other` the schema of a type of our own."""
    schema = msgspec.json.schema(_Likenesses(wire).of(cls), schema_hook=other)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


class _Likenesses:
    def __init__(self, wire: Callable[[Any], Any]) -> None:
        self._wire = wire
        self._made: dict[type, type] = {}

    def of(self, cls: type) -> type:
        """The class's likeness; one that contains itself meets it in the making."""
        if cls not in self._made:
            options = cls.__struct_config__  # type: ignore[attr-defined]
            fields = msgspec.structs.fields(cls)
            likeness = self._made[cls] = msgspec.defstruct(
                cls.__name__,
                [(field.name, Any, _as_required_as(field)) for field in fields],
                module=cls.__module__,
                namespace={"__doc__": cls.__doc__},
                kw_only=True,
                forbid_unknown_fields=options.forbid_unknown_fields,
                tag=options.tag,
                tag_field=options.tag_field,
            )
            hints = typing.get_type_hints(cls, include_extras=True)
            settled = dict(plan(cls).settled)
            likeness.__annotations__ = {
                field.name: self._noted(self._alike(hints[field.name]), field, settled.get(field.name))
                for field in fields
            }
        return self._made[cls]

    def _noted(self, hint: Any, field: Any, settle: Callable[[Any, str], Any] | None) -> Any:
        """The type with the field's default; what a function makes for each value is no default."""
        default = field.default
        if field.default_factory in {list, dict, set}:
            default = field.default_factory()
        if default is msgspec.NODEFAULT or default is msgspec.UNSET:
            return hint
        wire = self._wire(settle(default, field.name) if settle else default)
        return Annotated[hint, msgspec.Meta(extra_json_schema={"default": wire})]

    def _alike(self, hint: Any) -> Any:
        """The type with the likeness of every class in it."""
        if isinstance(hint, type) and hasattr(hint, "__canonical__"):
            return self.of(hint)
        if isinstance(hint, typing.NewType):
            return self._alike(hint.__supertype__)
        if hasattr(hint, "__value__"):  # `type Price = …`
            return self._alike(hint.__value__)
        origin, inside = typing.get_origin(hint), typing.get_args(hint)
        if origin is Annotated:
            return Annotated[self._alike(inside[0]), *inside[1:]]
        if origin in {typing.Union, types.UnionType}:
            return functools.reduce(operator.or_, map(self._alike, inside))
        if origin in COLLECTIONS:
            return origin[tuple(map(self._alike, inside))]
        return hint


def _as_required_as(field: Any) -> Any:
    name = field.encode_name
    return msgspec.field(name=name) if field.required else msgspec.field(name=name, default_factory=_absent)


def _absent() -> None:
    """Stands for any default: that there is one is all a likeness needs to know."""
