"""Money and the exact decimals under it: one spelling for each value, nothing ever rounded unasked."""

import decimal
from collections.abc import Iterable
from decimal import Decimal
from typing import Final, Literal

import msgspec

from tieline.errors import Misfit

# ISO 4217 currencies whose minor unit is not two digits.
_NO_DECIMALS: Final = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_THREE_DECIMALS: Final = "BHD IQD JOD KWD LYD OMR TND"
_SCALES: Final = {
    **dict.fromkeys(_NO_DECIMALS.split(" "), 0),
    **dict.fromkeys(_THREE_DECIMALS.split(" "), 3),
    "CLF": 4,
    "UYW": 4,
}
_QUANTA: Final = {scale: Decimal((0, (1,), -scale)) for scale in {2, *_SCALES.values()}}
_ONE: Final = _QUANTA[0]

# Business figures end long before this; a hostile exponent must not cost memory.
_LARGEST: Final = 99
_FINEST: Final = -100
# Every permitted number fits; a result that would not is refused, not rounded.
_WIDE: Final = decimal.Context(
    prec=220, traps=[decimal.InvalidOperation, decimal.Inexact, decimal.Overflow, decimal.DivisionByZero]
)
_known: Final[dict[str, Decimal]] = {}


def _quantum(currency: object) -> Decimal:
    """The smallest unit of a currency; checks it the first time it is met."""
    if not isinstance(currency, str) or len(currency) != 3 or not (currency.isascii() and currency.isalpha()):
        raise Misfit("a currency is three capital letters, such as EUR", field="currency", value=currency)
    if not currency.isupper():
        raise Misfit(f"a currency is in capital letters: {currency.upper()}", field="currency", value=currency)
    return _known.setdefault(currency, _QUANTA[_SCALES.get(currency, 2)])


class Money(msgspec.Struct, frozen=True, order=False):
    """An exact amount with its currency (ISO 4217), at least at the currency's own scale.

    `amount` is a Decimal; an int or plain text such as "1234.50" is taken as one. Arithmetic is
    exact and never rounds by itself; `rounded()` does, where it is asked to.

    Raises:
        Reject: for a float, text that is no plain decimal number, NaN, or a currency that is not
            three capital letters. Thousand separators are refused, never guessed.
    """

    amount: Decimal
    currency: str

    def __post_init__(self) -> None:
        amount = self.amount
        if type(amount) is not Decimal:
            amount = exact(amount, "amount")
            msgspec.structs.force_setattr(self, "amount", amount)
        quantum = _known.get(self.currency) or _quantum(self.currency)
        if not amount.same_quantum(quantum) or not amount or amount.adjusted() > _LARGEST:
            msgspec.structs.force_setattr(self, "amount", plain(amount, "amount", quantum))

    def __add__(self, other: "Money") -> "Money":
        if not isinstance(other, Money):
            return NotImplemented
        return Money(_computed("add", self.amount, self._same(other).amount), self.currency)

    def __radd__(self, other: Literal[0]) -> "Money":
        # sum() starts from 0.
        return self if type(other) is int and other == 0 else NotImplemented

    def __sub__(self, other: "Money") -> "Money":
        if not isinstance(other, Money):
            return NotImplemented
        return Money(_computed("subtract", self.amount, self._same(other).amount), self.currency)

    def __neg__(self) -> "Money":
        return Money(self.amount.copy_negate(), self.currency)

    def __mul__(self, factor: int | Decimal) -> "Money":
        if isinstance(factor, float):
            raise Misfit("money times a float is not exact; use int or Decimal", field="factor", value=factor)
        if not isinstance(factor, int | Decimal):
            return NotImplemented
        return Money(_computed("multiply", self.amount, factor), self.currency)

    __rmul__ = __mul__

    def __lt__(self, other: "Money") -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return self.amount < self._same(other).amount

    def __le__(self, other: "Money") -> bool:
        if not isinstance(other, Money):
            return NotImplemented
        return self.amount <= self._same(other).amount

    def rounded(self, rounding: str | None = None) -> "Money":
        """This amount at its currency's scale, half to even unless `rounding` (decimal module) says other."""
        context = decimal.Context(prec=_WIDE.prec, rounding=rounding)
        return Money(self.amount.quantize(_quantum(self.currency), context=context), self.currency)

    def _same(self, other: "Money") -> "Money":
        if other.currency != self.currency:
            raise Misfit("two currencies do not add up", field="currency", value=other.currency)
        return other

    def __str__(self) -> str:
        return f"{self.amount:f} {self.currency}"


def total(amounts: Iterable[Money], currency: str) -> Money:
    """The exact sum of `amounts`, all of `currency`; nothing at all is zero of it.

    Raises:
        Reject: where another currency is among them.
    """
    return sum(amounts, start=Money(Decimal(0), currency))


def _computed(operation: str, left: Decimal, right: int | Decimal) -> Decimal:
    try:
        result: Decimal = getattr(_WIDE, operation)(left, right)
    except decimal.DecimalException as error:
        raise Misfit("this would need rounding; round the parts first", field="amount", value=right) from error
    return result


def exact(raw: object, field: str) -> Decimal:
    """`raw` as a Decimal that means the same.

    Raises:
        Reject: for a float, a bool, or text that is no plain decimal number.
    """
    if isinstance(raw, Decimal):
        return Decimal(raw)
    if isinstance(raw, float):
        raise Misfit("a float is not exact; read it as text or Decimal", field=field, value=raw)
    if isinstance(raw, bool) or not isinstance(raw, int | str):
        raise Misfit("a number is a Decimal, an int or plain text", field=field, value=raw)
    # Decimal() would take underscores and other scripts' digits; a system that sends those is misread.
    if isinstance(raw, str) and (not raw.isascii() or "_" in raw):
        raise Misfit("not a plain decimal number such as 1234.50", field=field, value=raw)
    try:
        return Decimal(raw)
    except ArithmeticError:
        raise Misfit("not a plain decimal number such as 1234.50", field=field, value=raw) from None


def plain(number: Decimal, field: str, quantum: Decimal = _ONE) -> Decimal:
    """The one spelling of `number`: no needless zeros, never below the quantum's scale.

    It has an exponent only where Python's decimals always have one, below a millionth.

    Raises:
        Reject: for NaN, infinity, and numbers of more than 100 digits on a side of the point.
    """
    if not number.is_finite():
        raise Misfit("a number is finite", field=field, value=number)
    scale = quantum.adjusted()
    if not number:
        return Decimal((0, (0,), scale))  # zero has no sign
    try:
        exponent = int(number.normalize(_WIDE).as_tuple().exponent)
        if number.adjusted() <= _LARGEST and exponent >= _FINEST:
            return number.quantize(Decimal((0, (1,), min(exponent, scale))), context=_WIDE)
    except decimal.DecimalException:
        pass
    raise Misfit("a number has at most 100 digits on either side of the point", field=field, value=number)
