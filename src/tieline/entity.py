"""The company's own language: values, entities and events in one canonical form.

An entity is encoded once, to canonical JSON: Decimals as text at their currency's scale, times in
UTC, text in NFC, defaults left out. These bytes are what travels, what is digested and what is
decoded, typed and checked, on the other side, so an entity is the same on every way.
"""

import enum
import hashlib
import re
import typing
import unicodedata
import uuid
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cache, wraps
from typing import Annotated, Any, ClassVar, Final, Generic, TypeGuard, TypeVar, dataclass_transform

import msgspec

from tieline.canonical import INEXACT, Settler, Unfit, hints_of, recurs, settle_fields, settler
from tieline.errors import Misfit, Reject
from tieline.evolution import Schema, schema_on_the_wire
from tieline.money import Money, total
from tieline.schema import schema_of

__all__ = [
    "Entity",
    "Event",
    "Measure",
    "Money",
    "Ref",
    "Upcaster",
    "Value",
    "decode",
    "decode_many",
    "digest",
    "encode",
    "json_schema",
    "key_of",
    "key_text",
    "prove",
    "referenced",
    "references",
    "subject_of",
    "total",
    "wire_schema",
]

E_co = TypeVar("E_co", covariant=True)
E = TypeVar("E", bound="Entity")

Upcaster = Callable[[dict[str, Any]], dict[str, Any]]
"""Takes an entity's data of one version as canonical JSON has it, and gives that of the next version."""
U = TypeVar("U", bound=Upcaster)

_STEP: Final = re.compile(r"\.(\w+)|\[(\d+)\]")

MAX_KEY: Final = 1_000
"""Bytes of a key: what every ledger and target can index."""

MAX_VERSION: Final = 1_000
"""Versions of an entity: they count changes of its schema, and are no dates."""

Measure = Annotated[float, msgspec.Meta(extra=INEXACT)]
"""A reading for which binary floating point is good enough; plain `float` is refused in an entity."""


class Ref(str, Generic[E_co]):
    """The key of another entity. Inside an entity, `entity` is that entity's class.

    Raises:
        Reject: for what is no key, such as None or empty text.
    """

    __slots__ = ("entity",)
    entity: "type[Entity]"

    def __new__(cls, key: object) -> "Ref[E_co]":  # noqa: D102  -- the class says it
        return super().__new__(cls, key if _is_plain_key(key) else key_text([key]))

    @classmethod
    def settler(cls, entity: "type[Entity]") -> Settler:
        """What makes a field of type `Ref[entity]` canonical."""

        def settle(raw: Any, field: str) -> Any:
            ref = raw if type(raw) is cls else cls(raw)
            ref.entity = entity
            return ref

        return settle


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _ValueMeta(msgspec.StructMeta):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> "_ValueMeta":
        declared = {f"__{word}__": options.pop(word) for word in ("key", "version", "subject") if word in options}
        # msgspec looks for __post_init__ once, at definition: only classes that need it pay for it.
        if _needs_settling(name, namespace):
            namespace["__post_init__"] = _after(namespace.get("__post_init__") or _inherited(bases))
        options.setdefault("kw_only", True)  # msgspec does not inherit it
        options.setdefault("gc", False)  # frozen values hold no cycles, and there are millions of them
        cls = super().__new__(mcs, name, bases, namespace, **options)
        declared["__upcasters__"] = {}  # its own: a subclass is another entity
        for word, value in declared.items():
            setattr(cls, word, (value,) if word == "__key__" and isinstance(value, str) else value)
        number = declared.get("__version__", 1)
        if type(number) is not int or not 1 <= number <= MAX_VERSION:
            raise TypeError(f"{name} has version {number!r}; versions count 1, 2, 3 and so on to {MAX_VERSION}")
        return cls


def _needs_settling(name: str, namespace: dict[str, Any]) -> bool:
    module = namespace.get("__module__", "")
    hints = hints_of(name, module, namespace.get("__annotations__", {}))
    needed = "__post_init__" in namespace
    for field, hint in hints.items():
        try:
            settled = settler(hint) is not None or isinstance(hint, str)
        except Unfit as error:
            raise TypeError(
                f"{module}.{name}.{field}: {error}; use Money for money, Decimal for quantities, "
                f"Measure for readings, and a Value for what has parts"
            ) from None
        default = getattr(namespace.get(field), "default", namespace.get(field))
        needed = needed or settled or recurs(default)
    return needed


def _inherited(bases: tuple[type, ...]) -> Any:
    return next(filter(None, (getattr(base, "__post_init__", None) for base in bases)), None)


def _after(own: Any) -> Callable[[Any], None]:
    """Settling after the class's own check, where it has one."""
    if own is None or own is settle_fields or hasattr(own, "__wrapped__"):
        return own or settle_fields

    @wraps(own)
    def checked(value: Any) -> None:
        own(value)
        settle_fields(value)

    return checked


class Value(
    msgspec.Struct,
    metaclass=_ValueMeta,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """A part of an entity without an identity of its own, such as an order line."""

    __canonical__: ClassVar[bool] = True


class Entity(Value):
    """A canonical type of which the newest value of a key is the truth.

    Subclass as ``class Order(Entity, key="number", version=1)``; a key of several fields is a tuple. What changes
    on the wire gets the next version, and an upcaster where an earlier message would not fit or mean the same.

    Raises:
        TypeError: at definition, for a float, for a part that is no Value and for a version that is no count.
    """

    __key__: ClassVar[tuple[str, ...]] = ()
    __version__: ClassVar[int] = 1
    __subject__: ClassVar[str | None] = None
    __upcasters__: ClassVar[dict[int, Upcaster]] = {}

    @classmethod
    def upcaster(cls, version: int) -> Callable[[U], U]:
        """Declare the function that makes data of this version into data of the next one.

        It is given a dict as canonical JSON has it (Decimal, Money's amount and times are text) and may change it;
        what it gives back has the same key. Steps follow each other: 1 to 2, 2 to 3.

        Raises:
            TypeError: where there is no such step, or it is declared already.
        """
        if version not in range(1, cls.__version__):
            raise TypeError(
                f"{cls.__name__} has version {cls.__version__}, so nothing is to be made of version {version!r}; "
                f"write the version that the upcaster takes, or raise that of {cls.__name__}"
            )
        if version in cls.__upcasters__:
            raise TypeError(f"{cls.__name__} has two upcasters of version {version}; keep one")

        def declare(function: U) -> U:
            cls.__upcasters__[version] = function
            return function

        return declare


class Event(Entity):
    """A canonical type of which each one counts, such as a payment received; its key is its own.

    `subject="meter"` names the field that orders them: events of one subject are applied in order.
    """


def key_text(parts: Sequence[object]) -> str:
    """One text for a key of one or several parts; `/` separates, and is escaped inside a part.

    Raises:
        Reject: for a part that is empty or no identity (a float, a bool, a fraction), and for text
            that not every store can keep: longer than 1,000 bytes, or with NUL or a lone surrogate.
    """
    if not parts:
        raise Misfit("there is no key; declare one: class Order(Entity, key=…)", field="key")
    if len(parts) == 1:
        text = _key_part(parts[0])
    else:
        text = "/".join(_key_part(part).replace("\\", "\\\\").replace("/", "\\/") for part in parts)
    if len(text) > MAX_KEY or (not text.isascii() and len(text.encode()) > MAX_KEY):
        raise Misfit(f"a key has at most {MAX_KEY} bytes", field="key", value=text)
    return text


def _is_plain_key(key: object) -> TypeGuard[str]:
    """Whether this is text that is its own key text, as nearly all keys are."""
    return type(key) is str and 0 < len(key) <= MAX_KEY and key.isascii() and "\0" not in key


def _key_part(part: object) -> str:
    if isinstance(part, enum.Enum):
        part = part.value
    if isinstance(part, Decimal) and part.is_finite() and part == part.to_integral_value():
        part = int(part)
    if isinstance(part, datetime):
        part = part.astimezone(UTC).isoformat() if part.tzinfo else None
    if isinstance(part, date | uuid.UUID) or (isinstance(part, int) and not isinstance(part, bool)):
        return str(part)
    if not isinstance(part, str) or not part:
        raise Misfit("a key part is text or a whole number, and not empty", field="key", value=part)
    if "\0" in part:
        raise Misfit("a key has no NUL character", field="key", value=part)
    if part.isascii():
        return str(part)
    if any("\ud800" <= character <= "\udfff" for character in part):
        raise Misfit("a key has no lone surrogate; the text was decoded wrongly", field="key", value=part)
    return unicodedata.normalize("NFC", part)


def key_of(entity: Entity) -> str:
    """The key of `entity` as text; raises Reject as `key_text` does."""
    parts = [getattr(entity, name) for name in type(entity).__key__]
    return parts[0] if len(parts) == 1 and _is_plain_key(parts[0]) else key_text(parts)


def subject_of(event: Entity) -> str:
    """What orders this message among others: an event's subject where it has one, else its key."""
    field = type(event).__subject__
    return key_of(event) if field is None else key_text([getattr(event, field)])


def _encode_other(value: object) -> object:
    if isinstance(value, Ref):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _decode_other(hint: Any, raw: Any) -> Any:
    if typing.get_origin(hint) is Ref and isinstance(raw, str):
        ref: Ref[Entity] = Ref(raw)
        ref.entity = typing.get_args(hint)[0]
        return ref
    raise TypeError(f"{raw!r} is no {hint!r}")


_encoder: Final = msgspec.json.Encoder(
    enc_hook=_encode_other, decimal_format="string", uuid_format="canonical", order="deterministic"
)


@cache
def _decoder(entity: type[E]) -> msgspec.json.Decoder[E]:
    return msgspec.json.Decoder(entity, dec_hook=_decode_other)


@cache
def _list_decoder(entity: type[E]) -> msgspec.json.Decoder[list[E]]:
    return msgspec.json.Decoder(list[entity], dec_hook=_decode_other)  # type: ignore[valid-type]


def encode(entity: Entity) -> bytes:
    """The canonical bytes of `entity`. Types are not checked here but by `prove`, a batch at a time.

    Raises:
        Reject: where a value has no canonical form.
    """
    try:
        data = _encoder.encode(entity)
        if data.isascii() or unicodedata.is_normalized("NFC", data.decode()):
            return data
        # Not by normalising the bytes: an escape and the mark after it must not grow together.
        return _encoder.encode(_decoder(type(entity)).decode(_encoder.encode(_composed(msgspec.json.decode(data)))))
    except UnicodeEncodeError as error:
        what = "half a character, which no store can hold; read the text in the encoding that it is in"
        raise Reject(what, field=_place_of(error.object, entity), value=error.object) from error
    except (TypeError, ValueError, RecursionError) as error:
        raise Reject(f"{type(entity).__name__}: {error}") from error


def _place_of(text: str, value: Any) -> str:
    """Where in a value a text stands, such as `lines.0.sku`; "" where it is no field's."""
    if isinstance(value, msgspec.Struct):
        parts: Iterable[tuple[Any, Any]] = ((name, getattr(value, name)) for name in value.__struct_fields__)
    elif isinstance(value, dict):
        parts = value.items()
    else:
        parts = enumerate(value) if isinstance(value, list | tuple | set | frozenset) else ()
    for name, inner in parts:
        if inner == text:
            return str(name)
        if inside := _place_of(text, inner):
            return f"{name}.{inside}"
    return ""


def _composed(value: Any) -> Any:
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [_composed(item) for item in value]
    if isinstance(value, dict):
        composed = {_composed(key): _composed(item) for key, item in value.items()}
        if len(composed) < len(value):
            raise Misfit("two names differ only in how their accents are written", value=list(value))
        return composed
    return value


def decode(entity: type[E], data: bytes | msgspec.Raw) -> E:
    """The entity that canonical `data` holds, every field checked against its type.

    Raises:
        Reject: naming the place that does not fit.
    """
    try:
        decoded: E = _decoder(entity).decode(data)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Reject(f"{entity.__name__}: {error}{_value_at(str(error), data)}") from error
    return decoded


def _value_at(error: str, data: bytes | msgspec.Raw) -> str:
    """The value at the place that the decoder names, as a person may search for it; "" where there is none."""
    try:
        found = msgspec.json.decode(data)
        for name, place in _STEP.findall(error.partition(" - at `$")[2]):
            found = found[name] if name else found[int(place)]
    except (msgspec.MsgspecError, UnicodeError, RecursionError, LookupError, TypeError):
        return ""
    return "" if isinstance(found, dict) else f" (got {str(found)[:80]!r})"


def decode_many(entity: type[E], data: Sequence[bytes | msgspec.Raw]) -> list[E | Reject]:
    """Decode a batch in one call; where one does not fit, that one is a `Reject` in the result."""
    try:
        decoded = _list_decoder(entity).decode(b"[" + b",".join(map(bytes, data)) + b"]")
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        decoded = []
    if len(decoded) == len(data):
        return list(decoded)
    return [_decode_or_reject(entity, one) for one in data]


def prove(entity: type[E], data: Sequence[bytes]) -> list[tuple[E, bytes] | Reject]:
    """What `encode` made of values that nobody checked: proved to fit the entity's types, and canonical.

    Gives each entity as whoever decodes it will see it, with its bytes. A value that is right in meaning
    and not in type, such as a list in a field for a set, is brought to its canonical bytes; one that does
    not fit is a `Reject` in the result.
    """
    decoded = decode_many(entity, data)
    sound = [one for one in decoded if not isinstance(one, Reject)]
    if len(sound) == len(data) and _encoder.encode(sound) == b"[" + b",".join(data) + b"]":
        return list(zip(sound, data, strict=True))
    return [one if isinstance(one, Reject) else (one, encode(one)) for one in decoded]


def _decode_or_reject(entity: type[E], data: bytes | msgspec.Raw) -> E | Reject:
    try:
        return decode(entity, data)
    except Reject as error:
        return error


def digest(data: bytes) -> bytes:
    """128 bits (BLAKE2b, RFC 7693) of canonical bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def references(entity: type[Entity]) -> Callable[[Entity], list[Ref[Entity]]]:
    """A function that lists the references inside an entity of this class, nested ones included."""
    paths = _reference_fields(entity)
    if not paths:
        return lambda _: []

    def collect(value: Any, fields: "_Fields", found: list[Ref[Entity]]) -> None:
        for name, inner in fields.items():
            one = getattr(value, name)
            for item in one if isinstance(one, list | tuple) else (one,):
                if item is None:
                    continue
                if inner is None:
                    found.append(item)
                else:
                    collect(item, inner, found)

    def listed(value: Entity) -> list[Ref[Entity]]:
        found: list[Ref[Entity]] = []
        collect(value, paths, found)
        return found

    return listed


_Fields = dict[str, Any]


def _reference_fields(cls: type) -> _Fields:
    found: _Fields = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        for leaf in _with_refs(hint):
            if typing.get_origin(leaf) is Ref:
                found[name] = None
            elif isinstance(leaf, type) and issubclass(leaf, Value) and leaf is not cls:
                inner = _reference_fields(leaf)
                if inner:
                    found[name] = inner
    return found


def _with_refs(hint: Any) -> Iterable[Any]:
    origin = typing.get_origin(hint)
    if origin is Ref or origin is None:
        yield hint
        return
    for argument in typing.get_args(hint):
        yield from _with_refs(argument)


def referenced(entity: type[Entity]) -> set[type[Entity]]:
    """The entity classes that `entity` refers to."""

    def walk(fields: _Fields, cls: type) -> Iterable[type[Entity]]:
        hints = typing.get_type_hints(cls, include_extras=True)
        for name, inner in fields.items():
            for leaf in _with_refs(hints[name]):
                if inner is None and typing.get_origin(leaf) is Ref:
                    yield typing.get_args(leaf)[0]
                elif inner is not None and isinstance(leaf, type) and issubclass(leaf, Value):
                    yield from walk(inner, leaf)

    return set(walk(_reference_fields(entity), entity))


def json_schema(entity: type[Entity]) -> dict[str, Any]:
    """JSON Schema (2020-12) of the canonical form, with each field's default as it would be written."""

    def other(hint: Any) -> dict[str, Any]:
        if hint is Ref:
            return {"type": "string", "minLength": 1, "description": "the key of another entity"}
        raise NotImplementedError

    return schema_of(entity, _on_the_wire, other)


def _on_the_wire(value: Any) -> Any:
    return _composed(msgspec.json.decode(_encoder.encode(value)))


def wire_schema(entity: type[Entity]) -> Schema:
    """What of an entity's definition shows on the wire, as JSON: what the ledger keeps of each version."""
    return schema_on_the_wire(
        entity,
        _on_the_wire,
        event=issubclass(entity, Event),
        key=entity.__key__,
        subject=entity.__subject__,
    )
