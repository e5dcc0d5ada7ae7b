"""What docs/systems/oscar.md and roundup.md say of the shop's and the tracker's interfaces."""

import asyncio
import json
import time
import urllib.error
import urllib.request
from typing import Any

import pytest

from tieline.demo.orders import place_orders, report_requests, tracker_headers
from tieline.demo.system import basic

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def call(method: str, url: str, headers: dict[str, str], body: Any = None) -> tuple[int, Any, str | None]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read() or b"null"), answer.headers.get("ETag")
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), None


@pytest.fixture
def back_office(shop: Any) -> Any:
    headers = {"Authorization": f"Bearer {shop.access.token}"}
    return lambda method, path, body=None: call(method, path if "://" in path else shop.url + path, headers, body)


@pytest.fixture
def tracker(maintenance: Any) -> Any:
    headers = {
        **tracker_headers(maintenance.url),
        **basic(maintenance.access.user, maintenance.access.password),
    }

    def ask(method: str, path: str, body: Any = None, **more: str) -> tuple[int, Any, str | None]:
        changed = {**headers, **{name.replace("_", "-"): value for name, value in more.items()}}
        kept = {name: value for name, value in changed.items() if value}
        return call(method, f"{maintenance.url}/rest/data/{path}", kept, body)

    return ask


def test_orders_come_newest_first_in_pages_and_their_lines_at_a_second_address(shop: Any, back_office: Any) -> None:
    """Pages by limit and offset, unknown parameters ignored; every line names its article and price."""
    asyncio.run(place_orders(shop.url, 5, chance=8))
    _, first, _ = back_office("GET", "/api/admin/orders/?limit=3&ordering=number&status=nonsense")
    assert (first["count"], len(first["results"]), first["previous"]) == (5, 3, None)
    _, second, _ = back_office("GET", first["next"])
    assert (len(second["results"]), second["next"]) == (2, None)
    orders = first["results"] + second["results"]
    placed = [order["date_placed"] for order in orders]
    assert placed == sorted(placed, reverse=True)
    assert not [name for order in orders for name in order if "updated" in name or "modified" in name]
    for order in orders:
        _, lines, _ = back_office("GET", order["lines"])
        assert lines["results"]
        assert {line["partner_sku"][:2] for line in lines["results"]} == {"P-"}
        assert (order["owner"], order["shipping_incl_tax"]) == (None, "0.00")
        assert order["email"].endswith("@customers.example")
        assert order["shipping_address"]["country"].startswith(f"{shop.url}/api/countries/")


def test_the_back_office_is_closed_to_guests_and_an_order_can_go(shop: Any, back_office: Any) -> None:
    """No token, no orders; an order cannot be changed there, but deleted, and then it is not found."""
    (placed,) = asyncio.run(place_orders(shop.url, 1, chance=9))
    assert call("GET", f"{shop.url}/api/admin/orders/", {})[0] == 401
    assert call("GET", f"{shop.url}/api/admin/orders/", {"Authorization": "Bearer wrong"})[0] == 401
    _, listed, _ = back_office("GET", "/api/admin/orders/?limit=1")
    (order,) = listed["results"]
    assert order["number"] == placed.number
    assert back_office("PATCH", order["url"], {"status": "packed"})[0] == 405
    assert back_office("DELETE", order["url"])[0] == 204
    assert back_office("GET", order["url"])[0] == 404


def test_issues_are_sorted_by_activity_and_a_deleted_one_is_still_answered(maintenance: Any, tracker: Any) -> None:
    """A changed issue comes last, stamps are whole seconds; a retired issue leaves the list, not its address."""
    access = maintenance.access
    first, *_ = asyncio.run(report_requests(maintenance.url, access.user, access.password, 3, chance=10, at_once=1))
    time.sleep(1.1)
    _, _, mark = tracker("GET", f"issue/{first}")
    assert tracker("PATCH", f"issue/{first}", {"status": "in-progress"})[0] == 412
    assert tracker("PATCH", f"issue/{first}", {"status": "in-progress"}, If_Match=mark)[0] == 200
    listing = "issue?@sort=activity,id&@fields=title,asset,status,activity&@verbose=2&@page_size=2&@page_index="
    _, page, _ = tracker("GET", f"{listing}2")
    (last,) = page["data"]["collection"]
    assert (last["id"], last["status"]["name"], page["data"]["@total_size"]) == (first, "in-progress", 3)
    assert "." not in last["activity"].partition(".")[2]
    assert "next" not in page["data"]["@links"]

    _, _, mark = tracker("GET", f"issue/{first}")
    assert tracker("DELETE", f"issue/{first}", If_Match=mark)[0] == 200
    _, page, _ = tracker("GET", f"{listing}1")
    assert first not in [issue["id"] for issue in page["data"]["collection"]]
    assert tracker("GET", f"issue/{first}")[0] == 200


def test_the_tracker_wants_to_see_where_a_write_comes_from(tracker: Any) -> None:
    """Without origin or the marker header nothing is written; a wrong password is refused."""
    issue = {"title": "A-001 leaks"}
    assert tracker("POST", "issue", issue, Origin="")[0] == 400
    assert tracker("POST", "issue", issue, X_Requested_With="")[0] == 400
    assert tracker("GET", "issue", Authorization=basic("admin", "wrong")["Authorization"])[0] == 401
    assert tracker("POST", "issue", {**issue, "status": "nonsense"})[0] == 400
    assert tracker("POST", "issue", issue)[0] == 201


def test_a_one_time_link_creates_once(tracker: Any) -> None:
    """The second use of the link is refused, so a repeated create cannot double."""
    _, given, _ = tracker("POST", "issue/@poe", {})
    link = given["data"]["link"].partition("/rest/data/")[2]
    assert tracker("POST", link, {"title": "A-002 drips"})[0] == 201
    assert tracker("POST", link, {"title": "A-002 drips"})[0] == 400
