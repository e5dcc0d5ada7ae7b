"""REST writes one record per call: each with its own result, in order within a key, nothing twice in the dark."""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from typing import Any

import pytest
from tests.connectors.rest_server import Cutting, Server, answering, half_a_body, never, serving

from tieline.connector import Capabilities, Change, Result, guarding
from tieline.connectors.rest import Resource, Rest, RestConnector
from tieline.errors import (
    AccessRefused,
    ConfigurationError,
    Fenced,
    InDoubt,
    Reject,
    RetryLater,
    Throttled,
    Unavailable,
)
from tieline.settings import Limits, SystemSettings

FULL = Resource(
    "/orders/",
    items="results",
    filters={"number": "number"},
    match="number",
    create="POST",
    update="PUT",
    delete=True,
    actions={"confirm": "confirm"},
)
BLIND = Resource("/orders/", items="results", create="POST", update="PATCH", delete=True)


@pytest.fixture(scope="module")
def running() -> Iterator[Server]:
    with serving(Server()) as server:
        yield server


@pytest.fixture
def shop(running: Server) -> Server:
    port = running.port
    running.__dict__.clear()
    running.__init__(port=port)  # type: ignore[misc]
    return running


def asking(
    shop: Server, ask: Callable[[RestConnector], Any], resource: Resource = FULL, decimals: Any = "text", **more: Any
) -> Any:
    async def run() -> Any:
        settings = SystemSettings("shop", more.pop("url", shop.url), **{"timeout": 5.0} | more)
        connector = Rest(orders=resource, decimals=decimals).open(settings)
        try:
            return await ask(connector)
        finally:
            await connector.close()

    return asyncio.run(run())


def write(shop: Server, *changes: Change, resource: Resource = FULL, **more: Any) -> list[Result]:
    results: list[Result] = asking(shop, lambda c: c.write("orders", changes), resource, **more)
    assert len(results) == len(changes)
    return results


def change(number: str, target_id: str | None = None, /, **record: Any) -> Change:
    return Change(f"key-{number}", number.encode(), {"number": number, **record}, target_id)


def gone(key: str, target_id: str | None = None) -> Change:
    return Change(key, b"gone", None, target_id)


def errors(results: Sequence[Result]) -> list[type | None]:
    return [None if result.error is None else type(result.error) for result in results]


def test_what_is_new_is_created_and_what_is_there_is_updated(shop: Server) -> None:
    """Without a known id, the match field finds the record there; else it is created."""
    shop.fill(2)
    results = write(shop, change("N2", total=7), change("new", total=8), change("x", "1", total=9))
    assert [result.target_id for result in results] == ["2", "3", "1"]
    assert {id: (row["number"], row["total"]) for id, row in shop.rows.items()} == {
        "1": ("x", 9),
        "2": ("N2", 7),
        "3": ("new", 8),
    }
    again = write(shop, change("N2", total=7), change("new", total=8))
    assert [result.target_id for result in again] == ["2", "3"]
    assert len(shop.rows) == 3


def test_nothing_is_sent_any_more_once_another_worker_has_taken_over(shop: Server) -> None:
    """Each call asks right before it begins; looking up asks nobody."""
    asked = 0

    async def guard() -> None:
        nonlocal asked
        asked += 1
        if asked > 5:
            raise Fenced("leg:orders>shop|direct/0 has passed to another worker")

    with guarding(guard):
        results = write(shop, *(change(f"N{n}") for n in range(20)), limits=Limits(at_once=4))
    assert errors(results).count(None) == shop.count("POST") == 5
    assert errors(results).count(Fenced) == 15
    assert asked <= 9


def test_two_records_there_for_one_match_are_named(shop: Server) -> None:
    """Where the match field finds several, nobody guesses: both ids are in the reason."""
    shop.fill(2)
    shop.rows["1"]["number"] = "N2"
    [result] = write(shop, change("N2", total=7))
    assert isinstance(result.error, Reject)
    assert "1, 2" in str(result.error)
    assert shop.count("PUT") == shop.count("POST") == 0


def test_an_empty_match_is_refused(shop: Server) -> None:
    """A record whose match field is empty would be created again and again."""
    [result] = write(shop, Change("k", b"", {"number": ""}))
    assert "number: finds the record there and is empty" in str(result.error)


def test_one_bad_change_does_not_fail_the_others(shop: Server) -> None:
    """The server's own text and the field it names become the reason of that change alone."""
    good, bad, other = write(shop, change("a", total=1), change("b", total=-5), change("c", total=3))
    assert isinstance(bad.error, Reject)
    assert bad.error.field == "total"
    assert bad.error.value == -5
    assert "422" in str(bad.error)
    assert "must not be negative" in str(bad.error)
    assert good.error is None
    assert other.error is None
    assert {row["number"] for row in shop.rows.values()} == {"a", "c"}


@pytest.mark.parametrize("status", [400, 404, 409, 410, 413, 418, 422])
def test_what_a_server_calls_wrong_is_rejected_with_its_text(shop: Server, status: int) -> None:
    """A refusal of one change is that change's dead letter, with at most 500 characters of its text."""
    shop.fail("POST", "/api/orders", answering(status, {"message": "no " * 400}))
    [result] = write(shop, change("a"))
    assert errors([result]) == [Reject]
    assert str(status) in str(result.error)
    assert 400 < len(str(result.error)) < 600


@pytest.mark.parametrize(
    ("body", "text", "field"),
    [
        ({"detail": "closed"}, "closed", None),
        ({"error": {"code": 7, "message": "no stock"}}, "no stock", None),
        ({"title": "Bad", "errors": [{"field": "total", "message": "too much"}]}, "too much", "total"),
        ({"errors": {"number": ["taken"]}}, "taken", "number"),
        ({"number": ["must be unique"]}, "must be unique", "number"),
        (b"<html><title>Not here</title><body>x</body></html>", "Not here", None),
        (b"plain words", "plain words", None),
        (b"", "422", None),
    ],
)
def test_reasons_are_found_in_the_usual_forms(shop: Server, body: Any, text: str, field: str | None) -> None:
    """Problem details, field lists, plain text and HTML titles: the reason is what a person can read."""
    shop.fail("POST", "/api/orders", answering(422, body))
    [result] = write(shop, change("a", total=3))
    assert isinstance(result.error, Reject)
    assert text in str(result.error)
    assert result.error.field == field


def test_changes_of_a_key_keep_their_order(shop: Server) -> None:
    """Create, update, delete and create again of one key are carried out one after another."""
    shop.pause = 0.01
    first, second = change("a", total=1), change("a", total=2)
    batch = [first, change("b", total=9), second, gone("key-a"), first]
    results = write(shop, *batch, resource=BLIND)
    assert errors(results) == [None] * 5
    assert results[0].target_id == results[2].target_id == results[3].target_id
    assert results[4].target_id not in {None, results[0].target_id}
    assert sorted(row["number"] for row in shop.rows.values()) == ["a", "b"]


def test_two_changes_of_a_batch_may_not_make_one_record_twice(shop: Server) -> None:
    """Two keys with one match value: both would find nothing; the second is refused, naming the first."""
    shop.pause = 0.02
    twin = Change("other-key", b"", {"number": "a"})
    results = write(shop, change("a"), twin)
    assert errors(results) == [None, Reject]
    assert "'key-a' has the same" in str(results[1].error)
    assert len(shop.rows) == 1


def test_keys_are_written_as_many_at_once_as_allowed(shop: Server) -> None:
    """Different keys are written concurrently, within the limit."""
    shop.pause = 0.1  # long enough that on a busy machine calls meet
    write(shop, *(change(f"n{n}") for n in range(12)), resource=BLIND, limits=Limits(at_once=3))
    assert shop.most_at_once == 3


def test_calls_are_spaced_by_the_limit_per_second(shop: Server) -> None:
    """No second has more calls than the limit allows."""
    write(shop, *(change(f"n{n}") for n in range(8)), resource=BLIND, limits=Limits(per_second=20))
    gaps = [after - before for before, after in zip(shop.moments, shop.moments[1:], strict=False)]
    assert sum(gaps) >= 7 / 20 - 0.02
    assert sum(gaps) < 2


def test_deleting_what_is_gone_is_done(shop: Server) -> None:
    """A delete of a row that is not there has nothing left to do."""
    shop.fill(1)
    results = write(shop, gone("k", "1"), gone("l", "99"), gone("m", "1"), gone("N-unknown"))
    assert errors(results) == [None] * 4
    assert shop.rows == {}


def test_a_delete_without_an_id_finds_its_row(shop: Server) -> None:
    """Where only the key is known, the match field finds what to delete; without one, nobody guesses."""
    shop.fill(2)
    [found] = write(shop, gone("N2"))
    assert found.error is None
    assert list(shop.rows) == ["1"]
    [unknown] = write(shop, gone("N1"), resource=BLIND)
    assert errors([unknown]) == [Reject]
    assert list(shop.rows) == ["1"]


def test_what_an_interface_does_not_do_is_said(shop: Server) -> None:
    """An update where only creating is declared, and so on, is a reason and no call."""
    shop.fill(1)
    reads = Resource("/orders/", items="results", filters={"number": "number"}, match="number", create="POST")
    updates = Resource("/orders/", items="results", filters={"number": "number"}, match="number", update="PUT")
    assert "takes no changes" in str(write(shop, change("N1"), resource=reads)[0].error)
    assert "takes no new records" in str(write(shop, change("zz"), resource=updates)[0].error)
    assert "deletes nothing" in str(write(shop, gone("N1", "1"), resource=reads)[0].error)
    assert len(shop.rows) == 1


def test_an_update_of_what_is_gone_is_no_success(shop: Server) -> None:
    """A row deleted there is named, and not taken for updated."""
    [result] = write(shop, change("a", "77"), resource=BLIND)
    assert errors([result]) == [Reject]
    assert "404: Not found." in str(result.error)


def test_a_create_by_put_may_be_repeated(shop: Server) -> None:
    """Where we give the id, writing twice is writing once, and the capabilities say so."""
    resource = Resource("/orders/", id="number", create="PUT", update="PUT", delete=True)
    for _ in range(2):
        [result] = write(shop, change("a 1", total=1), resource=resource)
        assert result.target_id == "a 1"
    assert len(shop.rows) == 1


def test_a_version_tag_guards_against_others(shop: Server) -> None:
    """With `etag`, the tag of the last write is sent, and a row changed by others is not overwritten."""
    resource = Resource("/orders/", create="POST", update="PUT", etag=True)
    [made] = write(shop, change("a", total=1), resource=resource)
    assert made.version_tag == '"1"'
    again = Change("key-a", b"", {"number": "a", "total": 2}, made.target_id, made.version_tag)
    [updated] = write(shop, again, resource=resource)
    assert updated.version_tag == '"2"'
    [refused] = write(shop, again, resource=resource)
    assert errors([refused]) == [Reject]
    assert "412: changed by somebody else" in str(refused.error)


def test_a_wrapped_record_is_wrapped_and_unwrapped(shop: Server) -> None:
    """`wrap` names what a single record stands under, both ways."""
    shop.fail("POST", "/api/orders", answering(201, {"order": {"id": 77}}))
    [result] = write(shop, change("a"), resource=Resource("/orders/", create="POST", wrap="order"))
    assert result.target_id == "77"
    shop.fail("POST", "/api/orders", answering(201, {"other": 1}))
    [unknown] = write(shop, change("a"), resource=Resource("/orders/", create="POST", wrap="order"))
    assert errors([unknown]) == [InDoubt]


def test_an_id_may_stand_in_the_location(shop: Server) -> None:
    """A create answered with an address alone, or with See Other, gives that address's id."""
    shop.fail("POST", "/api/orders", answering(201, b"", Location="http://127.0.0.1/api/orders/55/"))
    shop.fail("POST", "/api/orders", answering(303, b"", Location="/api/orders/56"))
    results = write(shop, change("a"), change("b"), resource=BLIND, limits=Limits(at_once=1))
    assert [result.target_id for result in results] == ["55", "56"]


def test_an_id_that_is_not_told_is_looked_up(shop: Server) -> None:
    """Where the answer to a create says nothing, the match field finds the row that was made."""
    shop.lose("POST", "/api/orders", answering(204))
    [result] = write(shop, change("a"))
    assert result == Result("1")


@pytest.mark.parametrize(("decimals", "written"), [("text", '"0.10"'), ("number", "0.10")])
def test_decimals_are_written_exactly(shop: Server, decimals: str, written: str) -> None:
    """A Decimal leaves as text or as a number with exactly its digits."""
    write(shop, change("a", total=Decimal("0.10")), resource=BLIND, decimals=decimals)
    assert f'"total":{written}'.encode() in shop.bodies[0].replace(b" ", b"")


# -- what failures mean --------------------------------------------------------------------------------------

MEANING = [
    # answer, meaning for an update, for a create that can be looked up, for one that cannot
    (answering(401), AccessRefused, AccessRefused, AccessRefused),
    (answering(403), AccessRefused, AccessRefused, AccessRefused),
    (answering(408), RetryLater, RetryLater, RetryLater),
    (answering(423), RetryLater, RetryLater, RetryLater),
    (answering(429, Retry_After="5"), Throttled, Throttled, Throttled),
    (answering(500), RetryLater, RetryLater, InDoubt),
    (answering(501), RetryLater, InDoubt, InDoubt),
    (answering(502), Unavailable, InDoubt, InDoubt),
    (answering(503), Unavailable, Unavailable, Unavailable),
    (answering(503, Retry_After="5"), Throttled, Throttled, Throttled),
    (answering(504), Unavailable, InDoubt, InDoubt),
    (answering(301, Location="http://other.example/"), Unavailable, Unavailable, Unavailable),
    (answering(302, Location="/login"), Unavailable, InDoubt, InDoubt),
    (half_a_body, Unavailable, InDoubt, InDoubt),
    (answering(200, b"<html>Back soon</html>"), Unavailable, InDoubt, InDoubt),
    (never, Unavailable, InDoubt, InDoubt),
]


@pytest.mark.parametrize("row", range(len(MEANING)))
@pytest.mark.parametrize("kind", ["update", "create", "blind create"])
def test_each_failure_has_one_meaning(shop: Server, row: int, kind: str) -> None:
    """A write that was cut off is repeated where that is harmless, and in doubt where it is not."""
    shop.fill(1)
    fault, *meanings = MEANING[row]
    method = "PUT" if kind == "update" else "POST"
    shop.fail(method, "/api/orders", fault)
    resource = BLIND if kind == "blind create" else FULL
    one = change("N1", "1") if kind == "update" else change("new")
    [result] = write(shop, one, resource=resource, timeout=0.5 if fault is never else 5)
    assert errors([result]) == [meanings[["update", "create", "blind create"].index(kind)]]
    if isinstance(result.error, Throttled):
        assert result.error.after == 5


def test_a_create_whose_answer_is_lost_is_in_doubt(shop: Server) -> None:
    """A connection cut after the server has acted leaves a row there and the change in doubt."""

    async def run() -> list[Result]:
        async with Cutting(shop.port, "/api", "POST /api/orders/ ") as url:
            connector = Rest(orders=FULL).open(SystemSettings("shop", url, limits=Limits(at_once=1)))
            results = await connector.write("orders", [change("a"), change("b")])
            await connector.close()
            return results

    results = asyncio.run(run())
    assert errors(results) == [InDoubt, Unavailable]
    assert [row["number"] for row in shop.rows.values()] == ["a"], "b was sent after the line was cut"


def test_an_update_whose_answer_is_lost_is_simply_repeated(shop: Server) -> None:
    """An update or delete that was cut off is an outage: doing it again changes nothing."""
    shop.fill(2)

    async def run() -> list[Result]:
        async with Cutting(shop.port, "/api", "PUT ", "DELETE ") as url:
            connector = Rest(orders=FULL).open(SystemSettings("shop", url, limits=Limits(at_once=2)))
            results = await connector.write("orders", [change("N1", "1"), gone("N2", "2")])
            await connector.close()
            return results

    assert errors(asyncio.run(run())) == [Unavailable, Unavailable]


def test_what_cannot_be_sent_was_not_done(shop: Server) -> None:
    """No connection: nothing is in doubt."""
    results = write(shop, change("a"), gone("b", "1"), resource=BLIND, url="http://127.0.0.1:9")
    assert errors(results) == [Unavailable, Unavailable]
    assert "was not sent: cannot connect" in str(results[0].error)


def test_after_an_outage_nothing_more_is_sent(shop: Server) -> None:
    """A system that is down is left alone: the rest of the batch is not tried."""
    shop.fail("POST", "/api/orders", answering(503), times=99)
    results = write(shop, *(change(f"n{n}") for n in range(50)), resource=BLIND, limits=Limits(at_once=2))
    assert set(errors(results)) == {Unavailable}
    assert shop.count("POST") <= 2


def test_a_system_that_asked_for_rest_gets_it(shop: Server) -> None:
    """Until the time it asked for has passed, calls are refused here and not sent."""
    shop.fail("GET", "/api/orders", answering(429, Retry_After="1"))

    async def thrice(connector: RestConnector) -> list[type | None]:
        outcomes: list[type | None] = []
        for pause in (0, 1.05, 0):
            try:
                await connector.lookup("orders", ["1"])
                outcomes.append(None)
            except Unavailable as error:
                outcomes.append(type(error))
            await asyncio.sleep(pause)
        return outcomes

    assert asking(shop, thrice) == [Throttled, Throttled, None]
    assert shop.count("GET") == 2


def test_an_earlier_change_in_doubt_keeps_later_ones_of_its_key_back(shop: Server) -> None:
    """While nobody knows about the first, a second change of the key is not sent."""
    shop.fail("POST", "/api/orders", answering(504))
    results = write(shop, change("a", total=1), change("a", total=2))
    assert errors(results) == [InDoubt, Unavailable]
    assert shop.count("POST") == 1


def test_an_earlier_change_to_be_tried_again_goes_first(shop: Server) -> None:
    """A change that the system failed on is tried again before a later one of its key; other keys go on."""
    shop.fill(2)
    shop.fail("PUT", "/api/orders/1/", answering(500))
    results = write(shop, change("N1", "1", total=1), change("N1", "1", total=2), change("N2", "2", total=3))
    assert errors(results) == [RetryLater, RetryLater, None]
    assert "an earlier change of this key is not settled" in str(results[1].error)
    assert shop.rows["1"]["total"] == 1
    assert shop.count("PUT") == 2


def test_a_rejected_change_may_be_healed_by_a_later_one(shop: Server) -> None:
    """A change that was refused does not keep back the next of its key."""
    results = write(shop, change("a", total=-1), change("a", total=2))
    assert errors(results) == [Reject, None]


def test_a_key_for_creates_lets_them_be_repeated(shop: Server) -> None:
    """Where the system knows a create again by our key, a cut-off create is an outage and repeated."""
    resource = Resource("/orders/", create="POST", idempotency="Idempotency-Key")
    shop.lose("POST", "/api/orders", answering(504))
    assert errors(write(shop, change("a"), resource=resource)) == [Unavailable]
    [result] = write(shop, change("a"), resource=resource)
    assert result.target_id == "1"
    assert len(shop.rows) == 1
    assert shop.headers[0]["idempotency-key"] == b"a".hex()


# -- actions ---------------------------------------------------------------------------------------------------


def test_an_action_is_taken_on_each_row(shop: Server) -> None:
    """Steps are posted to each record; the one that is refused is refused alone."""
    shop.fill(3)
    shop.rows["2"]["state"] = "cancelled"
    results = asking(shop, lambda c: c.call("orders", "confirm", ["1", "2", "3", "4"]))
    assert errors(results) == [None, Reject, None, Reject]
    assert "409: a cancelled order cannot be confirmed" in str(results[1].error)
    assert [shop.rows[id].get("state") for id in "123"] == ["confirmed", "cancelled", "confirmed"]


def test_an_action_that_was_cut_off_is_in_doubt(shop: Server) -> None:
    """Nobody knows whether the step was taken; the step's `done_when` will tell."""
    shop.fill(1)
    shop.fail("POST", "/api/orders/1/confirm", never)
    [result] = asking(shop, lambda c: c.call("orders", "confirm", ["1"]), timeout=0.3)
    assert errors([result]) == [InDoubt]


def test_an_undeclared_action_is_a_mistake(shop: Server) -> None:
    """An action that the resource does not declare names those it does."""
    with pytest.raises(ConfigurationError, match=r"no action 'ship' \(known: confirm\)"):
        asking(shop, lambda c: c.call("orders", "ship", ["1"]))


def test_what_rest_does_not_do_is_said(shop: Server) -> None:
    """No pushes, no transactions: the capabilities say so, and asking anyway is named."""

    async def ask(connector: RestConnector) -> Capabilities:
        with pytest.raises(ConfigurationError, match="does not push"):
            connector.listen("orders")
        with pytest.raises(NotImplementedError):
            connector.transaction()
        return connector.capabilities("orders")

    facts = asking(shop, ask)
    assert (facts.push, facts.transactional, facts.upsert) == (False, False, False)
    assert facts.actions == {"confirm"}


@pytest.mark.parametrize(
    ("resource", "upsert"),
    [
        (FULL, False),  # two workers may both find nothing and both create
        (Resource("/o", create="POST", idempotency="Key"), True),
        (Resource("/o", create="PUT", update="PUT"), True),
        (Resource("/o", update="PUT"), True),
    ],
)
def test_only_what_the_system_itself_makes_repeatable_is_called_so(resource: Resource, upsert: bool) -> None:
    """`upsert` is a promise: claims are kept for everything else."""
    connector = Rest(orders=resource).open(SystemSettings("shop", "http://127.0.0.1:1"))
    assert connector.capabilities("orders").upsert is upsert


def test_records_are_sent_as_json(shop: Server) -> None:
    """A record arrives as it was mapped."""
    write(shop, change("ä", total=1, lines=[{"sku": "S"}]), resource=BLIND)
    assert json.loads(shop.bodies[0]) == {"number": "ä", "total": 1, "lines": [{"sku": "S"}]}
