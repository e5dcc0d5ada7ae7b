"""A project with any number of flows, each with a source, a leg and a channel of its own, between systems in memory.

Systems in memory cost nothing, so that what is measured is Tieline.
"""

from pathlib import Path

ENTITIES = """
from tieline import Entity


class Item(Entity, key="id"):
    id: str
    name: str
"""
SHOP = """
from entities import Item

from tieline import Adapter
from tieline.connectors.memory import Memory, Table

NAMES = [f"t{{number}}" for number in range({flows})]
shop = Adapter(Memory(**{{name: Table() for name in NAMES}}))


def item(record):
    return Item(id=record["id"], name=record["name"])


for name in NAMES:
    shop.source(Item, name, name=name)(item)
"""
OFFICE = """
from entities import Item

from tieline import Adapter
from tieline.connectors.memory import Memory, Table

NAMES = [f"t{{number}}" for number in range({flows})]
office = Adapter(Memory(**{{name: Table() for name in NAMES}}))


def item(item):
    return {{"id": item.id, "name": item.name}}


for name in NAMES:
    office.sink(Item, name, name=name)(item)
"""
HEAD = """
[tieline]
name  = "many"
store = "{store}"
{bus}
[systems.shop]
adapter = "adapters.shop"
url     = "memory://shop"
owner   = "nobody"

[systems.office]
adapter = "adapters.office"
url     = "memory://office"
owner   = "nobody"
"""
SOURCE = """
[systems.shop.sources.t{number}]
trigger = "{trigger}"
sweep   = "30d"
"""
FLOW = """
[flows.f{number}]
entity = "Item"
from   = "shop"
source = "t{number}"
via    = "{via}"
owner  = "nobody"
{partitions}[flows.f{number}.to.office]
sink = "t{number}"
"""


def found(folder: Path, flows: int, store: str, via: str, trigger: str, partitions: int = 1, bus: str = "") -> None:
    """Write the project; `bus` is an engine's address, where messages do not go over the store."""
    (folder / "adapters").mkdir(parents=True)
    (folder / "entities.py").write_text(ENTITIES)
    (folder / "adapters" / "shop.py").write_text(SHOP.format(flows=flows))
    (folder / "adapters" / "office.py").write_text(OFFICE.format(flows=flows))
    shared = "" if via == "direct" else f"partitions = {partitions}\n"
    parts = [HEAD.format(store=store, bus=f'\n[buses.main]\nurl = "{bus}"\n' if bus else "")]
    parts += [SOURCE.format(number=number, trigger=trigger) for number in range(flows)]
    parts += [FLOW.format(number=number, via=via, partitions=shared) for number in range(flows)]
    (folder / "tieline.toml").write_text("".join(parts))
