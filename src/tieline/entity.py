"""The company's own language: values, entities and events in one canonical form.

An entity is encoded once, to canonical JSON: Decimals as text at their currency's scale, times in
UTC, text in NFC, defaults left out. These bytes are what travels, what is digested and what is
decoded, typed and checked, on the other side, so an entity is the same on every way.
"""

import decimal
import hashlib
import typing
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Generic, TypeVar, dataclass_transform

import msgspec

from tieline.errors import Reject

__all__ = ["Entity", "Event", "Measure", "Money", "Ref", "Value", "decode", "digest", "encode", "key_text"]

E_co = TypeVar("E_co", covariant=True)
E = TypeVar("E", bound="Entity")

# ISO 4217 currencies whose minor unit is not two digits.
_NO_DECIMALS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS: Final = "BHD IQD JOD KWD LYD OMR TND"
_SCALES: Final = {
    **dict.fromkeys(_NO_DECIMALS.split(" "), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(" "), 3),
    "CLF": 4,
    "UYW": 4,
}
_WIDE: Final = decimal.Context(prec=200)  # wide enough never to round
_ONE: Final = Decimal(1)
_QUANTA: Final = {0: Decimal(1), 2: Decimal("0.01"), 3: Decimal("0.001"), 4: Decimal("0.0001")}

Measure = Annotated[float, msgspec.Meta(extra={"inexact": True})]
"""A reading for which binary floating point is good enough; plain `float` is refused in an entity."""


class Ref(str, Generic[E_co]):
    """The key of another entity. In a decoded entity, `entity` is that entity's class."""

    __slots__ = ("entity",)
    entity: "type[Entity]"


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(msgspec.field,))
class _ValueMeta(msgspec.StructMeta):
    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], **options: Any) -> "_ValueMeta":
        key = options.pop("key", None)
        version = options.pop("version", None)
        subject = options.pop("subject", None)
        noted = " ".join(map(str, _annotations(namespace).values()))
        # msgspec looks for __post_init__ once, at definition: only classes that need it pay for it.
        if ("Decimal" in noted or "datetime" in noted) and "__post_init__" not in namespace:
            namespace["__post_init__"] = _settle_fields
        cls = super().__new__(mcs, name, bases, namespace, **options)
        if key is not None:
            cls.__key__ = (key,) if isinstance(key, str) else tuple(key)  # type: ignore[attr-defined]
        if version is not None:
            cls.__version__ = version  # type: ignore[attr-defined]
        if subject is not None:
            cls.__subject__ = subject  # type: ignore[attr-defined]
        _refuse_floats(cls, namespace)
        return cls


def _annotations(namespace: dict[str, Any]) -> dict[str, Any]:
    return typing.cast(dict[str, Any], namespace.get("__annotations__", {}))


def _refuse_floats(cls: type, namespace: dict[str, Any]) -> None:
    for field, hint in _annotations(namespace).items():
        text = hint if isinstance(hint, str) else ""
        if hint is float or (float in typing.get_args(hint) and "inexact" not in str(hint)) or text == "float":
            raise TypeError(
                f"{cls.__module__}.{cls.__name__}.{field}: float is not exact; use Money for money, "
                f"Decimal for quantities, or Measure for readings"
            )


class Value(
    msgspec.Struct,
    metaclass=_ValueMeta,
    frozen=True,
    kw_only=True,
    omit_defaults=True,
    forbid_unknown_fields=True,
):
    """A part of an entity without an identity of its own, such as an order line."""


class Entity(Value):
    """A canonical type of which the newest value of a key is the truth.

    Subclass as ``class Order(Entity, key="number", version=1)``; a key of several fields is a tuple.
    """

    __key__: ClassVar[tuple[str, ...]] = ()
    __version__: ClassVar[int] = 1
    __subject__: ClassVar[str | None] = None


class Event(Entity):
    """A canonical type of which each one counts, such as a payment received; its key is its own.

    `subject="meter"` names the field that orders them: events of one subject are applied in order.
    """


class Money(msgspec.Struct, frozen=True, order=False):
    """An exact amount with its currency (ISO 4217), at least at the currency's own scale.

    Raises:
        Reject: for a float, text that is no plain decimal number, NaN, or a currency that is not
            three capital letters. Thousand separators are refused, never guessed.
    """

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        amount = self.amount
        if type(amount) is not Decimal:
            amount = _exact(amount)
            msgspec.structs.force_setattr(self, "amount", amount)
        currency = self.currency
        if len(currency) != 3 or not currency.isascii() or not currency.isupper():
            raise Reject("a currency is three capital letters, such as EUR", field="currency", value=currency)
        quantum = _QUANTA[_SCALES.get(currency, 2)]
        if not amount.same_quantum(quantum):
            msgspec.structs.force_setattr(self, "amount", _at_least(amount, quantum))

    def __add__(self, other: "Money") -> "Money":
        return Money(self.amount + self._same(other).amount, self.currency)

    def __sub__(self, other: "Money") -> "Money":
        return Money(self.amount - self._same(other).amount, self.currency)

    def __neg__(self) -> "Money":
        return Money(-self.amount, self.currency)

    def __mul__(self, factor: int | Decimal) -> "Money":
        if isinstance(factor, float):
            raise Reject("money times a float is not exact; use int or Decimal", field="factor", value=factor)
        return Money(self.amount * factor, self.currency)

    __rmul__ = __mul__

    def __lt__(self, other: "Money") -> bool:
        return self.amount < self._same(other).amount

    def __le__(self, other: "Money") -> bool:
        return self.amount <= self._same(other).amount

    def rounded(self, rounding: str | None = None) -> "Money":
        """This amount at its currency's scale, half to even unless `rounding` (decimal module) says other."""
        quantum = _QUANTA[_SCALES.get(self.currency, 2)]
        return Money(self.amount.quantize(quantum, rounding), self.currency)

    def _same(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise Reject("two currencies do not add up", field="currency", value=other.currency)
        return other

    def __str__(self) -> str:
        return f"{self.amount} {self.currency}"


def _exact(raw: object) -> Decimal:
    if isinstance(raw, float):
        raise Reject("a float is not exact; read the amount as text or Decimal", field="amount", value=raw)
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise Reject("an amount is a Decimal, an int or plain text", field="amount", value=raw)
    try:
        return Decimal(raw if isinstance(raw, int) else _plain(raw))
    except ArithmeticError:
        raise Reject("not a plain decimal number such as 1234.50", field="amount", value=raw) from None


def _plain(text: str) -> str:
    # Decimal() would take underscores and other scripts' digits; a system that sends those is misread.
    if not text.isascii() or "_" in text:
        raise Reject("not a plain decimal number such as 1234.50", field="amount", value=text)
    return text


def _at_least(amount: Decimal, quantum: Decimal) -> Decimal:
    """`amount` without needless zeros, but never below the quantum's scale; nothing is rounded."""
    if not amount.is_finite():
        raise Reject("an amount is a finite number", field="amount", value=amount)
    scale = int(quantum.as_tuple().exponent)
    exponent = int(amount.normalize(_WIDE).as_tuple().exponent)
    return amount.quantize(Decimal((0, (1,), min(exponent, scale))), context=_WIDE)


def _settle_fields(value: Any) -> None:
    """Bring Decimal and datetime fields of a new struct to their canonical form."""
    cls: type = type(value)
    for name in _settled_fields(cls):
        raw = getattr(value, name)
        new = _settle(raw, name)
        if new is not raw:
            msgspec.structs.force_setattr(value, name, new)


def _settle(raw: Any, name: str) -> Any:
    if type(raw) is Decimal:
        return _at_least(raw, _ONE)
    if type(raw) is datetime:
        if raw.tzinfo is UTC:
            return raw
        if raw.tzinfo is None:
            raise Reject("a time needs its zone; attach the system's zone in the mapping", field=name, value=raw)
        return raw.astimezone(UTC)
    if type(raw) is float:
        raise Reject("a float is not exact; use Decimal", field=name, value=raw)
    if type(raw) is list:
        return [_settle(item, name) for item in raw]
    if type(raw) is dict:
        return {key: _settle(item, name) for key, item in raw.items()}
    return raw


@cache
def _settled_fields(cls: type) -> tuple[str, ...]:
    hints = typing.get_type_hints(cls, include_extras=True)
    fields: tuple[str, ...] = cls.__struct_fields__  # type: ignore[attr-defined]
    return tuple(f for f in fields if not {Decimal, datetime}.isdisjoint(_leaves(hints[f])))


def _leaves(hint: Any) -> Iterable[Any]:
    arguments = typing.get_args(hint)
    if not arguments:
        yield hint
    for argument in arguments:
        yield from _leaves(argument)


def key_text(parts: Sequence[object]) -> str:
    """One text for a key of one or several parts; `/` separates, and is escaped inside a part.

    Raises:
        Reject: for an empty part, a float, or a bool: those are no identities.
    """
    texts = []
    for part in parts:
        if part is None or part == "" or isinstance(part, float | bool):
            raise Reject("a key part is text or a whole number, and not empty", field="key", value=part)
        texts.append(unicodedata.normalize("NFC", str(part)))
    if len(texts) == 1:
        return texts[0]
    return "/".join(text.replace("\\", "\\\\").replace("/", "\\/") for text in texts)


def key_of(entity: Entity) -> str:
    """The key of `entity` as text."""
    return key_text([getattr(entity, name) for name in type(entity).__key__])


def subject_of(event: Entity) -> str:
    """What orders this message among others: an event's subject where it has one, else its key."""
    field = type(event).__subject__
    return key_of(event) if field is None else key_text([getattr(event, field)])


def _encode_other(value: object) -> object:
    if isinstance(value, Ref):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no canonical form")


def _decode_other(hint: Any, raw: Any) -> Any:
    origin = typing.get_origin(hint) or hint
    if origin is Ref:
        ref: Ref[Entity] = Ref(key_text([raw]))
        ref.entity = typing.get_args(hint)[0]
        return ref
    raise TypeError(f"{hint!r} has no canonical form")


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
    """The canonical bytes of `entity`.

    Raises:
        Reject: where a value has no canonical form.
    """
    try:
        data = _encoder.encode(entity)
    except (TypeError, ValueError) as error:
        raise Reject(str(error)) from error
    if data.isascii():
        return data
    return unicodedata.normalize("NFC", data.decode()).encode()


def decode(entity: type[E], data: bytes) -> E:
    """The entity that canonical `data` holds, every field checked against its type.

    Raises:
        Reject: naming the field that does not fit.
    """
    try:
        decoded: E = _decoder(entity).decode(data)
    except msgspec.ValidationError as error:
        raise Reject(f"{entity.__name__}: {error}") from error
    return decoded


def decode_many(entity: type[E], data: Sequence[bytes | msgspec.Raw]) -> list[E | Reject]:
    """Decode a batch in one call; where one does not fit, that one is a `Reject` in the result."""
    try:
        return list(_list_decoder(entity).decode(b"[" + b",".join(map(bytes, data)) + b"]"))
    except msgspec.MsgspecError:
        return [_decode_or_reject(entity, bytes(one)) for one in data]


def _decode_or_reject(entity: type[E], data: bytes) -> E | Reject:
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
    """JSON Schema (2020-12) of the canonical form."""

    def other(hint: Any) -> dict[str, Any]:
        origin = typing.get_origin(hint) or hint
        if origin is Ref:
            return {"type": "string", "description": f"key of {typing.get_args(hint)[0].__name__}"}
        raise NotImplementedError

    return msgspec.json.schema(entity, schema_hook=other)
