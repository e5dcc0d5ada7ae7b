"""Whether the engines that legs take from can be reached."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Final

from tieline.bus import Bus
from tieline.errors import TielineError
from tieline.ledger import Way
from tieline.runner.ways import bus_called

_PATIENCE: Final = 2.0  # seconds an engine has to answer


async def unreachable(buses: Mapping[str, Bus], ways: Iterable[Way]) -> list[str]:
    """Each bus of these ways that does not answer, and why; one channel is asked for at each."""
    channels = {way.bus: way.channel for way in ways}
    found = await asyncio.gather(*(_why(buses, name, channel) for name, channel in sorted(channels.items())))
    return [why for why in found if why]


async def _why(buses: Mapping[str, Bus], name: str, channel: str) -> str:
    try:
        bus = bus_called(buses, name)
        if bus.capabilities.shares_ledger:
            return ""
        await asyncio.wait_for(bus.ends(channel), _PATIENCE)
    except TimeoutError:
        return f"bus {name}: no answer in {_PATIENCE:.0f} s"
    except TielineError as error:
        return f"bus {name}: {error}"
    return ""
