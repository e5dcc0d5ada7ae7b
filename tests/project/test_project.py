"""A good project becomes a landscape."""

import sys
from pathlib import Path

import pytest

from tieline.errors import ConfigurationError
from tieline.flow import Robustness, Target
from tieline.project import find, load
from tieline.settings import Secret
from tieline.system import Trigger


def test_a_good_project_is_read_whole(acme):
    """Systems, flows, processes and entities arrive as the file and the Python beside it say."""
    project = acme.read()
    landscape = project.landscape
    assert landscape.name == "acme"
    assert landscape.store == "sqlite:///.tieline/tieline.db"
    assert landscape.folder == acme.folder
    assert set(landscape.entities) == {"Customer", "Order", "Invoice"}
    assert set(landscape.systems) == {"shop", "erp"}
    assert set(landscape.processes) == {"invoicing"}
    orders = landscape.flows["orders"]
    assert (orders.source, orders.source_name, orders.via) == ("shop", "order", "bus")
    assert orders.targets == (Target("erp", "sale"), Target("invoicing"))
    assert orders.robustness is Robustness.EXACT
    assert landscape.flows["invoices"].targets == (Target("erp", "invoice"),)
    assert project.process_owners == {"invoicing": "finance@acme.example"}
    assert project.warnings == ()


def test_settings_of_a_system_and_its_sources(acme):
    """Limits, triggers, sweeps and secrets come with their units; a secret does not show itself."""
    shop = acme.read().landscape.systems["shop"]
    assert shop.settings.limits.per_second == 20
    assert shop.settings.auth == {"bearer": Secret("s3cret")}
    assert "s3cret" not in repr(shop)
    order = shop.source_settings("order")
    assert order.triggers == (Trigger(kind="every", seconds=300), Trigger(kind="webhook"))
    assert order.sweep == 86_400


def test_the_file_itself_may_be_named(acme):
    """`load` takes the folder or its tieline.toml."""
    assert load(acme.folder / "tieline.toml").name == load(str(acme.folder)).name == "acme"


def test_find_looks_upwards(acme, tmp_path_factory):
    """From any folder inside a project its root is found; outside there is none."""
    inside = acme.folder / "a" / "b"
    inside.mkdir(parents=True)
    assert find(inside) == acme.folder.resolve()
    assert find(tmp_path_factory.mktemp("elsewhere")) is None


def test_a_cron_trigger_has_a_zone(acme):
    """`cron` takes five fields and a time zone, UTC where it is left out."""
    acme.change('trigger = ["every 5m", "webhook"]', 'trigger = ["cron 0 6 * * 1-5 Europe/Berlin", "cron 0 6 * * *"]')
    triggers = acme.read().landscape.systems["shop"].source_settings("order").triggers
    assert [(one.cron, one.zone) for one in triggers] == [("0 6 * * 1-5", "Europe/Berlin"), ("0 6 * * *", "UTC")]


def test_never_turns_sweeps_off(acme):
    """A source that needs no sweep says so."""
    acme.change('sweep   = "1d"', 'sweep = "never"')
    assert acme.read().landscape.systems["shop"].source_settings("order").sweep == 0


def test_references_stand_inside_addresses_and_options(acme, monkeypatch):
    """`${env:…}` and `${file:…}` are replaced wherever text of url and options holds them."""
    monkeypatch.setenv("ERP_HOST", "erp.internal")
    acme.write("secrets/zone", "Europe/Berlin\n")
    options = 'zone = "${file:secrets/zone}", deep = { hosts = ["${env:ERP_HOST}", 3] }'
    acme.change('"memory://erp"', f'"memory://${{env:ERP_HOST}}/x"\noptions = {{ {options} }}')
    settings = acme.read().landscape.systems["erp"].settings
    assert settings.url == "memory://erp.internal/x"
    assert settings.options == {"zone": "Europe/Berlin", "deep": {"hosts": ["erp.internal", 3]}}


def test_a_bus_without_an_address_is_the_store(acme):
    """[buses.main] without url changes nothing; another bus is a way of its own."""
    acme.add('[buses.main]\n[buses.audit]\nurl = "memory://"\n')
    acme.change('via        = "bus"', 'via = "audit"')
    landscape = acme.read().landscape
    assert landscape.buses == {"audit": "memory://"}
    assert landscape.flows["orders"].via == "audit"


def test_masters_settle_a_circle(acme):
    """Two systems may feed each other where the project says who is right."""
    acme.add('[flows.back]\nentity = "Customer"\nfrom = "erp"\nto = "shop"\nowner = "x"\n')
    acme.add('[entities.Customer]\nmasters = { name = "shop" }\nconflicts = "ask"\n')
    acme.add('@erp.source(Customer, "parties")\ndef read_party(record):\n    return None\n', "adapters/erp.py")
    acme.add('@shop.sink(Customer, "customers")\ndef write_customer(customer):\n    return {}\n', "adapters/shop.py")
    settled = acme.read().mastery["Customer"]
    assert (settled.masters, settled.conflicts) == ({"name": "shop"}, "ask")


def test_modules_of_a_project_import_each_other(acme):
    """Absolute, relative and late imports inside a project find the project's own modules."""
    acme.write("pricing.py", "RATE = 3\n")
    acme.add(
        "import adapters.shop as other\nfrom adapters import shop as again\nfrom . import shop as third\n"
        "import pricing\n"
        "def rate():\n    import pricing as late\n    return late.RATE\n"
        "assert other is again is third\nassert pricing.RATE == rate() == 3\n",
        "adapters/erp.py",
    )
    # The shop's Adapter is not exposed by these names: they are modules.
    assert acme.mistakes() == []


def test_two_projects_in_one_process_do_not_meet(acme, tmp_path_factory):
    """Both have an `entities` and an `adapters.shop`; each keeps its own, and sys.modules shows neither."""
    first = acme.read().landscape
    second_folder = tmp_path_factory.mktemp("second")
    for file in acme.folder.rglob("*"):
        if file.is_file():
            (second_folder / file.relative_to(acme.folder)).parent.mkdir(exist_ok=True)
            (second_folder / file.relative_to(acme.folder)).write_text(file.read_text())
    (second_folder / "entities.py").write_text(acme.folder.joinpath("entities.py").read_text() + "\nNAME = 2\n")
    second = load(second_folder)
    assert first.entities["Order"] is not second.entities["Order"]
    assert first.systems["shop"].adapter.sources["order"].entity is first.entities["Order"]
    assert second.systems["shop"].adapter.sources["order"].entity is second.entities["Order"]
    assert not {"entities", "adapters", "adapters.shop", "processes"} & set(sys.modules)


def test_a_project_is_read_anew_each_time(acme):
    """A file changed within the same second and with the same length is not taken from a cache."""
    acme.read()
    acme.change(
        'class Invoice(Entity, key="number", version=1)',
        'class Invoice(Entity, key="number", version=2)',
        "entities.py",
    )
    assert acme.read().landscape.entities["Invoice"].__version__ == 2
    assert not list(acme.folder.rglob("__pycache__"))


def test_an_adapter_may_be_an_installed_package(acme, tmp_path_factory, monkeypatch):
    """What is not in the project is looked for among installed packages."""
    site = tmp_path_factory.mktemp("site")
    (site / "acme_shared_shop.py").write_text(
        "from tieline import Adapter\nfrom tieline.connectors.memory import Memory\nshared = Adapter(Memory())\n"
    )
    monkeypatch.syspath_prepend(site)
    acme.add('[systems.other]\nadapter = "acme_shared_shop"\nurl = "memory://other"\nowner = "x"\n')
    assert "other" in acme.read().landscape.systems


def test_an_abstract_entity_needs_no_key(acme):
    """A class that others build on is no entity of its own; the others are."""
    acme.add(
        'class Document(Entity):\n    number: str\nclass Letter(Document, key="number"):\n    text: str\n',
        "entities.py",
    )
    entities = acme.read().landscape.entities
    assert "Letter" in entities
    assert "Document" not in entities


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
def test_line_endings_do_not_matter(acme, ending):
    """A file saved on another system is the same file."""
    text = (acme.folder / "tieline.toml").read_text()
    Path(acme.folder / "tieline.toml").write_bytes(text.replace("\n", ending).encode())
    assert acme.mistakes() == []


def test_a_file_of_another_name_is_named_by_it(acme):
    """A second file for another place, such as a test company, has its own mistakes."""
    acme.write("test.toml", (acme.folder / "tieline.toml").read_text().replace('"exact"', '"exakt"'))
    with pytest.raises(ConfigurationError, match=r"^test\.toml:33: there is no robustness"):
        load(acme.folder / "test.toml")
