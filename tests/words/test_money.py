"""Money is exact: nothing that could have been rounded gets in, and nothing is rounded inside."""

from decimal import ROUND_HALF_UP, Decimal, localcontext
from fractions import Fraction

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.words.company import currencies, moneys, numbers

from tieline.entity import Money, total
from tieline.errors import Reject


@pytest.mark.parametrize("amount", [1.5, 0.0, float("nan"), float("inf")])
def test_a_float_is_refused_by_value(amount):
    """A float is refused even where it looks harmless, and the message says what to do."""
    with pytest.raises(Reject, match="amount: a float is not exact; read it as text or Decimal"):
        Money(amount, "EUR")


@pytest.mark.parametrize(
    "text",
    [
        "1,234.50",
        "1.234,50",
        "1 234.50",
        "1'234.50",
        "1_234.50",
        "12,50",
        "€12",
        "12 EUR",
        "",
        " ",
        "abc",
        "0x10",
        "１２",
        "١٢",
        "--1",
    ],
)
def test_text_that_could_be_misread_is_refused(text):
    """Thousands separators, comma decimals, underscores and other scripts' digits are never guessed at."""
    with pytest.raises(Reject, match=r"not a plain decimal number such as 1234\.50"):
        Money(text, "EUR")


@pytest.mark.parametrize(
    "amount", ["NaN", "sNaN", "Infinity", "-inf", Decimal("NaN"), Decimal("sNaN"), Decimal("Infinity")]
)
def test_what_is_no_number_is_refused(amount):
    """NaN and infinity are no amounts, as text or as Decimal."""
    with pytest.raises(Reject, match="a number is finite"):
        Money(amount, "EUR")


@pytest.mark.parametrize("amount", [True, False, None, b"1", [1], Fraction(1, 3), {}])
def test_what_is_no_amount_at_all_is_refused(amount):
    """A bool is not 1 and nothing is not 0."""
    with pytest.raises(Reject, match="a number is a Decimal, an int or plain text"):
        Money(amount, "EUR")


@pytest.mark.parametrize(
    ("amount", "shown"),
    [(5, "5.00"), ("5", "5.00"), ("-5.5", "-5.50"), (".5", "0.50"), (" 7 ", "7.00"), ("1E+2", "100.00")],
)
def test_whole_numbers_and_plain_text_are_taken(amount, shown):
    """An int or plain text means one number only, so it is taken as that."""
    assert str(Money(amount, "EUR")) == f"{shown} EUR"


@pytest.mark.parametrize("currency", ["eur", "EU", "EURO", "", "E1R", "€UR", "ÄÖÜ", " EU", None, 978, "EUR\n"])
def test_a_currency_is_three_capital_letters(currency):
    """Anything else is refused, by name of the field."""
    with pytest.raises(Reject, match="currency: a currency is"):
        Money(Decimal(1), currency)


@pytest.mark.parametrize(
    ("currency", "shown"), [("JPY", "5"), ("EUR", "5.00"), ("KWD", "5.000"), ("CLF", "5.0000"), ("XXX", "5.00")]
)
def test_an_amount_has_its_currencys_scale(currency, shown):
    """Yen have no decimals, dinars three; an unknown currency has two."""
    assert str(Money(Decimal(5), currency).amount) == shown
    assert str(Money(Decimal("5.0000000"), currency).amount) == shown


def test_what_is_finer_than_the_currency_is_kept():
    """A unit price of a tenth of a cent is exact; nobody asked to round it."""
    assert str(Money("0.0010", "EUR").amount) == "0.001"
    assert str(Money("0.5", "JPY").amount) == "0.5"


def test_zero_has_one_spelling():
    """Minus zero and zeros of any scale are the same zero."""
    zeros = [Money(text, "EUR") for text in ("0", "-0", "0.000", "-0.00", "0E+5", "0E-50")]
    assert {str(zero) for zero in zeros} == {"0.00 EUR"}


@pytest.mark.parametrize(
    "text", ["1e-30", "1e30", "-123456789012345678901234567890.123456789012345678901234567890", "9" * 100]
)
def test_extremes_stay_exact(text):
    """A hundred digits survive; the ambient decimal context, 28 digits wide, has no say."""
    money = Money(text, "EUR")
    assert money.amount == Decimal(text)
    assert Fraction((money + Money("0.01", "EUR")).amount) == Fraction(Decimal(text)) + Fraction(1, 100)


@pytest.mark.parametrize("text", ["1e100", "1E+999999", "-1e-101", "1" * 101, "0." + "1" * 250])
def test_a_hostile_exponent_is_refused_before_it_costs_memory(text):
    """What has more than 100 digits on a side of the point is no business figure."""
    with pytest.raises(Reject, match="at most 100 digits"):
        Money(text, "EUR")


def test_needless_zeros_do_not_count_as_digits():
    """A thousand zeros after the point are the same amount as none."""
    assert str(Money("1." + "0" * 1000, "EUR")) == "1.00 EUR"


def test_two_currencies_do_not_mix():
    """Neither adding, subtracting nor comparing is guessed at."""
    euro, dollar = Money(1, "EUR"), Money(1, "USD")
    for mix in (
        lambda: euro + dollar,
        lambda: euro - dollar,
        lambda: euro < dollar,
        lambda: euro <= dollar,
        lambda: euro > dollar,
    ):
        with pytest.raises(Reject, match="two currencies do not add up"):
            mix()
    assert euro != dollar


def test_money_times_a_float_is_refused():
    """A rate is a Decimal; money by money is nonsense."""
    with pytest.raises(Reject, match="money times a float is not exact"):
        Money(1, "EUR") * 1.19
    with pytest.raises(TypeError):
        Money(1, "EUR") * Money(1, "EUR")
    assert Money("10.00", "EUR") * Decimal("1.19") == 1 * Money("11.90", "EUR")


def test_money_and_a_bare_number_do_not_add():
    """A number without a currency is not money, save the 0 that sum() begins with."""
    for mix in (
        lambda: Money(1, "EUR") + 1,
        lambda: 1 + Money(1, "EUR"),
        lambda: Money(1, "EUR") - 1,
        lambda: Money(1, "EUR") < 1,
    ):
        with pytest.raises(TypeError):
            mix()
    assert sum([Money(1, "EUR"), Money(2, "EUR")]) == Money(3, "EUR")


def test_the_total_of_nothing_is_zero():
    """An empty list has a total, in its currency."""
    assert total([], "JPY") == Money(0, "JPY")


@pytest.mark.parametrize(
    ("amount", "currency", "way", "rounded"),
    [
        ("2.675", "EUR", None, "2.68"),
        ("2.665", "EUR", None, "2.66"),
        ("2.665", "EUR", ROUND_HALF_UP, "2.67"),
        ("2.5", "JPY", None, "2"),
        ("1.23456", "KWD", None, "1.235"),
    ],
)
def test_rounding_is_asked_for(amount, currency, way, rounded):
    """Half to even at the currency's scale, or as said."""
    assert str(Money(amount, currency).rounded(way).amount) == rounded


def test_what_would_need_rounding_is_refused():
    """A product with more digits than can be kept is refused instead of rounded."""
    long = Money("0." + "3" * 99, "EUR")
    with pytest.raises(Reject, match=r"would need rounding|at most 100 digits"):
        long * Decimal("0." + "3" * 150)


@given(st.lists(moneys), currencies)
def test_sums_are_exact_in_any_order(found, currency):
    """A sum is what fractions say it is, forwards and backwards, in a narrow ambient context too."""
    found = [Money(money.amount, currency) for money in found]
    with localcontext(prec=3):
        there, back = total(found, currency), total(reversed(found), currency)
    assert Fraction(there.amount) == sum(Fraction(money.amount) for money in found)
    assert str(there) == str(back)


@given(numbers, currencies)
def test_the_same_amount_has_the_same_spelling(number, currency):
    """However an amount is written, it looks, hashes and encodes the same."""
    written = f"{number:f}"
    longer = f"{written}0" if "." in written else f"{written}.0"
    spellings = [number, Decimal(longer), Decimal(f"{number:E}"), written, longer, f"{number:E}"]
    spelt = [Money(spelling, currency) for spelling in spellings]
    assert len({str(money) for money in spelt}) == 1
    assert len(set(spelt)) == 1
    assert len({msgspec.json.encode(money) for money in spelt}) == 1


@given(moneys, moneys)
def test_different_amounts_have_different_spellings(one, other):
    """Two moneys are spelt alike only if they are equal."""
    assert (str(one) == str(other)) == (one == other)


@given(moneys)
def test_negating_twice_gives_it_back(money):
    """And an amount less itself is nothing."""
    negative = -money
    assert -negative == money
    assert str((money - money).amount) == str(Money(0, money.currency).amount)
