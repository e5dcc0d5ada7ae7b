"""Tryton's values and errors: exact both ways, and each error with its meaning."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tieline.connectors._http_errors import Effect
from tieline.connectors._tryton import failure
from tieline.connectors._tryton_values import fitted, is_commands, plain, tagged
from tieline.connectors.jsonrpc import JsonRpc, Model
from tieline.errors import AccessRefused, ConfigurationError, Hold, Reject, RetryLater, TielineError
from tieline.settings import Secret, SystemSettings

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.text()
    | st.decimals(allow_nan=False, allow_infinity=False)
    | st.dates()
    | st.datetimes(timezones=st.just(UTC))
    | st.times()
    | st.timedeltas(min_value=timedelta(0), max_value=timedelta(days=9_000))
    | st.binary(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=12,
)


@settings(deadline=None)
@given(VALUES)
def test_values_travel_unchanged(value: Any) -> None:
    """Decimals, dates, times and bytes come back as they were sent, however deep they stand."""
    assert plain(tagged(value)) == value


@settings(deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False))
def test_money_keeps_its_last_digit(amount: Decimal) -> None:
    """A Decimal keeps its scale, too."""
    assert str(plain(tagged(amount))) == str(amount)


def test_times_are_told_in_utc() -> None:
    """A time with another zone is written as the same moment in UTC."""
    berlin = timezone(timedelta(hours=1))
    sent = tagged(datetime(2026, 11, 21, 0, 30, tzinfo=berlin))
    assert (sent["day"], sent["hour"]) == (20, 23)


def test_a_field_of_another_model_is_a_field() -> None:
    """`product.code` comes as a field of that name, wherever it stands."""
    row = {"id": 1, "lines": [{"product.": {"id": 7, "code": "P-7", "template.": {"id": 8, "name": "Pump"}}}]}
    assert plain(row) == {"id": 1, "lines": [{"product.code": "P-7", "product.template.name": "Pump"}]}


def test_an_unknown_tag_is_kept() -> None:
    """A tag from a newer server is not an error of ours."""
    assert plain({"__class__": "Fraction", "n": 1}) == {"__class__": "Fraction", "n": 1}


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        ("many2one", "17", 17),
        ("many2one", 17, 17),
        ("many2one", None, None),
        ("integer", Decimal(3), 3),
        ("numeric", 5, {"__class__": "Decimal", "decimal": "5"}),
        ("numeric", "0.10", {"__class__": "Decimal", "decimal": "0.10"}),
        ("float", Decimal("2.50"), Decimal("2.50")),
        ("date", "2026-11-21", {"__class__": "date", "year": 2026, "month": 11, "day": 21}),
        ("char", 5, "5"),
        ("boolean", True, True),
        ("binary", b"a", {"__class__": "bytes", "base64": "YQ=="}),
    ],
)
def test_values_are_fitted_to_their_field(kind: str, value: Any, taken: Any) -> None:
    """Ids of ours are text and theirs are numbers; amounts are Decimals; dates may be text."""
    assert fitted(kind, "f", value) == taken


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("many2one", "seventeen"),
        ("many2one", "1 7"),
        ("many2one", "²"),
        ("many2one", True),
        ("many2one", 1.0),
        ("integer", Decimal("1.5")),
        ("numeric", 0.1),
        ("numeric", "NaN"),
        ("numeric", "1,5"),
        ("numeric", [1]),
        ("float", 0.1),
        ("date", "21.11.2026"),
    ],
)
def test_what_does_not_fit_its_field_is_named(kind: str, value: Any) -> None:
    """A value that a field cannot take is that record's own reason, with the field and the value."""
    with pytest.raises(Reject) as error:
        fitted(kind, "price", value)
    assert error.value.field == "price"


def test_commands_may_be_written_out() -> None:
    """A mapping that knows Tryton's commands may give them itself."""
    assert is_commands([["add", [1]], ["remove", [2]]])
    assert not is_commands([{"sku": 1}])
    assert not is_commands([])
    assert not is_commands([1, 2])


@pytest.mark.parametrize(
    ("error", "reading", "writing", "says"),
    [
        (
            ["UserError", ["Party is missing", "in a sale", None]],
            Hold,
            Reject,
            "Party is missing – in a sale",
        ),
        (["UserWarning", ["future_1", "It is in the future", ""]], Hold, Reject, "It is in the future"),
        (["ConcurrencyException", "sale.sale,1"], RetryLater, RetryLater, "at the same time"),
        (["LoginException", ["code", "Enter the code", "char"]], AccessRefused, AccessRefused, "Enter the code"),
        (["'nofield'", "Traceback …"], RetryLater, RetryLater, "'nofield'"),
        ({"code": -32601, "message": "no such method"}, RetryLater, RetryLater, "no such method"),
        (None, RetryLater, RetryLater, "None"),
    ],
)
def test_each_error_has_its_meaning(
    error: Any, reading: type[TielineError], writing: type[TielineError], says: str
) -> None:
    """What a person must correct is rejected, what may pass is tried later; a read is never taken for empty."""
    for effect, meaning in ((Effect.READ, reading), (Effect.ONCE, writing), (Effect.REPEAT, writing)):
        found = failure("erp: sale.sale.create", error, effect)
        assert type(found) is meaning
        assert says in str(found)
        assert "Traceback" not in str(found)


@pytest.mark.parametrize(
    ("auth", "options", "names"),
    [
        ({"bearer": Secret("x")}, {"database": "demo"}, "auth"),
        ({"user": "a"}, {"database": "demo"}, "auth"),
        ({"user": "a", "password": Secret("x")}, {}, "options.database"),
        ({"user": "a", "password": Secret("x")}, {"database": "../x"}, "options.database"),
    ],
)
def test_settings_that_cannot_work_are_named(auth: Any, options: Any, names: str) -> None:
    """A missing password or database is found when the connector is opened."""
    system = SystemSettings("erp", "http://127.0.0.1:1", auth, options=options)
    with pytest.raises(ConfigurationError, match=rf"systems\.erp\.{names}"):
        JsonRpc(path="/{database}/rpc/", parties=Model("party.party")).open(system)
