"""What people do at the demo company, through its systems' own APIs: order in the shop, report what needs repair."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeVar

import aiohttp

from tieline.demo.children import DemoFailed
from tieline.demo.system import Progress, basic

Plan = TypeVar("Plan")
Result = TypeVar("Result")

GUESTS_AT_ONCE = 6
SHOPPING_BAG = (1, 1, 1, 2, 2, 3)  # how many different articles an order has, by how often

FIRST = (
    "Anna",
    "Björn",
    "Chloé",
    "Dörte",
    "Emre",
    "Françoise",
    "Grzegorz",
    "Håkon",
    "Ilse",
    "Jörg",
    "Klára",
    "Łukasz",
    "Mária",
    "Nora",
    "Øyvind",
    "Peter",
    "Renée",
)
LAST = (
    "Andersson",
    "Böhm",
    "Čapek",
    "Dubois",
    "Groß",
    "Hansen",
    "İnan",
    "Jørgensen",
    "Kowalski",
    "Müller",
    "Nagy",
    "O'Brien",
    "Peña",
    "Şahin",
    "Vogel",
    "Zieliński",
)
STREETS = ("Hafenstraße", "Rue de l'Église", "Ulica Długa", "Torvegade", "Am Ölberg", "Kirchgasse")
CITIES = (
    ("DE", "20457", "Hamburg"),
    ("DE", "50667", "Köln"),
    ("AT", "1010", "Wien"),
    ("CH", "8001", "Zürich"),
    ("DK", "8000", "Århus"),
    ("FR", "67000", "Strasbourg"),
    ("PL", "90-001", "Łódź"),
)
TROUBLES = (
    "leaks at the flange",
    "makes noise at 50 Hz",
    "reads 0,4 bar too high",
    "does not start",
    "drips (Ø 3 mm)",
)
PRIORITIES = ("critical", "urgent", "bug", "bug", "wish")


@dataclass(frozen=True)
class Placed:
    """What the shop answered to one checkout."""

    number: str
    total: Decimal
    currency: str
    email: str
    lines: int


@dataclass(frozen=True)
class Guest:
    """Somebody who orders without an account; known by e-mail."""

    first: str
    last: str
    email: str
    address: dict[str, str]


async def place_orders(
    shop: str,
    count: int,
    *,
    chance: int | None = None,
    progress: Progress | None = None,
    at_once: int = GUESTS_AT_ONCE,
) -> list[Placed]:
    """Place orders at the shop as guests, about a third of them by people who have ordered before.

    Args:
        shop: the shop's address, without a path.
        count: how many orders.
        chance: the same number gives the same orders; left out, they differ each time.
        progress: told after each order.
        at_once: how many guests order at the same time.

    Raises:
        DemoFailed: where the shop refuses an order.
    """
    dice = random.Random(chance)  # noqa: S311  a play, not a secret
    guests = people(dice, max(1, round(count * 2 / 3)))
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        listed = await _answer(http.get(f"{shop}/api/products/", params={"limit": 1000}))
        articles = [article["url"] for article in listed["results"]]
        plans = []
        for _ in range(count):
            bag = dice.sample(articles, min(len(articles), dice.choice(SHOPPING_BAG)))
            plans.append((dice.choice(guests), [(article, dice.randint(1, 5)) for article in bag]))

        async def one(plan: tuple[Guest, list[tuple[str, int]]]) -> Placed:
            return await _order(http, shop, *plan)

        return await _all(plans, one, at_once, _counter(progress, "oscar", "orders placed", count))


async def report_requests(
    tracker: str,
    user: str,
    password: str,
    count: int,
    *,
    chance: int | None = None,
    progress: Progress | None = None,
    at_once: int = GUESTS_AT_ONCE,
) -> list[str]:
    """Report maintenance requests to the tracker; returns their ids.

    Args:
        tracker: the tracker's address, ending with its name.
        user: who reports.
        password: the user's password.
        count: how many requests.
        chance: the same number gives the same requests; left out, they differ each time.
        progress: told after each request.
        at_once: how many are sent at the same time.

    Raises:
        DemoFailed: where the tracker refuses one.
    """
    dice = random.Random(chance)  # noqa: S311  a play, not a secret
    plans = []
    for _ in range(count):
        asset = f"A-{dice.randint(1, 40):03}"
        title = f"{asset} {dice.choice(TROUBLES)}"
        plans.append({"title": title, "asset": asset, "priority": dice.choice(PRIORITIES), "status": "unread"})
    async with aiohttp.ClientSession(headers={**tracker_headers(tracker), **basic(user, password)}) as http:

        async def one(plan: dict[str, str]) -> str:
            answer = await _answer(http.post(f"{tracker}/rest/data/issue", json=plan))
            return str(answer["data"]["id"])

        return await _all(plans, one, at_once, _counter(progress, "roundup", "requests reported", count))


def tracker_headers(tracker: str) -> dict[str, str]:
    """What Roundup wants to see before it believes that a call is not a forged form."""
    origin = "/".join(tracker.split("/")[:3])
    return {"Referer": f"{tracker}/", "Origin": origin, "X-Requested-With": "rest"}


def people(dice: random.Random, count: int) -> list[Guest]:
    """Guests with e-mail addresses of their own."""
    found = []
    for number in range(count):
        first, last = dice.choice(FIRST), dice.choice(LAST)
        country, postcode, city = dice.choice(CITIES)
        address = {
            "country": country,
            "postcode": postcode,
            "line4": city,
            "line1": f"{dice.choice(STREETS)} {dice.randint(1, 120)}",
        }
        found.append(Guest(first, last, f"guest{dice.randrange(10**6):06}.{number}@customers.example", address))
    return found


async def _order(http: aiohttp.ClientSession, shop: str, guest: Guest, bag: list[tuple[str, int]]) -> Placed:
    cookies: dict[str, str] = {}
    basket = ""
    for article, quantity in bag:
        posted = http.post(
            f"{shop}/api/basket/add-product/", json={"url": article, "quantity": quantity}, cookies=cookies
        )
        answer = await _answer(posted, cookies)
        basket = answer["url"]
    address = {
        **guest.address,
        "country": f"{shop}/api/countries/{guest.address['country']}/",
        "first_name": guest.first,
        "last_name": guest.last,
        "phone_number": "",
        "notes": "",
    }
    body = {"basket": basket, "guest_email": guest.email, "shipping_address": address}
    order = await _answer(http.post(f"{shop}/api/checkout/", json=body, cookies=cookies))
    return Placed(order["number"], Decimal(order["total_incl_tax"]), order["currency"], guest.email, len(bag))


async def _answer(asked: Any, cookies: dict[str, str] | None = None) -> Any:
    try:
        async with asked as response:
            if response.status >= 300:
                raise DemoFailed(f"{response.url} answered {response.status}: {(await response.text())[:300]}")
            if cookies is not None:
                cookies.update({name: morsel.value for name, morsel in response.cookies.items()})
            return await response.json(content_type=None)
    except aiohttp.ClientError as error:
        raise DemoFailed(f"The system could not be asked: {error}") from error


async def _all(
    plans: Sequence[Plan],
    one: Callable[[Plan], Awaitable[Result]],
    at_once: int,
    say: Callable[[int], None],
) -> list[Result]:
    """Work on all plans, `at_once` of them at a time; results in the order of the plans."""
    results: dict[int, Result] = {}
    waiting = iter(enumerate(plans))

    async def worker() -> None:
        for place, plan in waiting:
            results[place] = await one(plan)
            say(len(results))

    try:
        async with asyncio.TaskGroup() as workers:
            for _ in range(at_once):
                workers.create_task(worker())
    except* DemoFailed as failures:
        raise failures.exceptions[0] from None
    return [results[place] for place in range(len(plans))]


def _counter(progress: Progress | None, system: str, text: str, count: int) -> Callable[[int], None]:
    def say(done: int) -> None:
        if progress is not None:
            progress(system, f"{done} of {count} {text}", done / count)

    return say
