"""Every kind of mistake names its file, its line, what is wrong and what to do; all of them at once."""
# ruff: noqa: E501 - one mistake a line reads as a table

import pytest

from tieline.errors import ConfigurationError
from tieline.project import load

RAW = "tieline.toml"


@pytest.mark.parametrize(
    ("old", "new", "at", "what", "remedy"),
    [
        # words nobody knows
        ("robustness = ", "robustnes = ", "robustnes =", "unknown key 'robustnes' in [flows.orders]", "'robustness'?"),
        ("[processes.", "[proceses.", "[proceses.", "unknown key 'proceses' at the top", "did you mean 'processes'?"),
        ("limits  = { per_second", "limits = { per_sec", "per_sec", "'per_sec' in [systems.shop.limits]", "'per_second'?"),
        ('sweep   = "1d"', 'zzz = "1d"', "zzz", "unknown key 'zzz' in [systems.shop.sources.order]", "use one of: brake,"),
        # what must be there
        ('name = "acme"', "", "[tieline]", "tieline.name is missing", '[tieline] name = "…"'),
        ('entity = "Customer"\n', "", "[flows.customers]", "flows.customers.entity is missing", "entities.py"),
        ('to     = "erp"\n', "", "[flows.customers]", "flow customers leads nowhere", 'to = ["…", "…"]'),
        ('to     = "erp"', "to = []", "to = []", "flow customers leads nowhere", 'to = ["…", "…"]'),
        # what is not what it should be
        ('url     = "memory://erp"', "url = 5", "url = 5", "systems.erp.url is a whole number", "write text"),
        ('url     = "memory://erp"', "url = 2026-01-01", "url =", "systems.erp.url is a date or time", "write text"),
        ("per_second = 20", "per_second = -1", "per_second", "per_second is -1", "a number, 0 or more"),
        ("per_second = 20", "per_second = nan", "per_second", "per_second is nan", "a number, 0 or more"),
        ("per_second = 20", "per_second = inf", "per_second", "per_second is inf", "a number, 0 or more"),
        ("per_second = 20", "per_second = true", "per_second", "per_second is true or false", "write a whole number or a number"),
        ("per_second = 20", "at_once = 0", "at_once", "at_once is out of range", "a whole number, 1 to"),
        ("limits  = { per_second = 20 }", "limits = 3", "limits = 3", "limits is a whole number", "write a table"),
        ('sweep   = "1d"', "brake = 1.5", "brake", "brake is 1.5", "from 0 to 1"),
        ('via        = "bus"', 'partitions = 0', "partitions", "partitions is out of range", "1 to 256"),
        ('owner   = "it@acme.example"', 'owner = "x"\ntimeout = "0s"', "timeout", "no call is answered in no time", "30s"),
        ('to         = ["erp", "invoicing"]', 'to = ["erp", 3]', "to = [", "flows.orders.to holds more than text", '["a", "b"]'),
        ("[flows.invoices.to.erp]", '[flows."a b"]\n[flows.invoices.to.erp]', '"a b"', "'a b' is no name", "use letters"),
        # times
        ('"every 5m"', '"every 5"', "trigger", "'5' is no duration", 'write "every 5m"'),
        ('"every 5m"', '"every 0s"', "trigger", "'every 0s' never waits", 'write "every 5m"'),
        ('"every 5m"', '"each day"', "trigger", "'each day' is no trigger", 'write "every 5m"'),
        ('"every 5m"', '"cron 0 25 * * *"', "trigger", "'0 25 * * *' is no cron line", "minute hour day month weekday"),
        ('"every 5m"', '"cron 0 0 31 2 *"', "trigger", "'0 0 31 2 *' is no cron line", "minute hour day month weekday"),
        ('"every 5m"', '"cron 0 6 * * * Europe/Berln"', "trigger", "'Europe/Berln' is no time zone", "zone"),
        ('"every 5m"', '"cron 0 6 * * * /etc/passwd"', "trigger", "'/etc/passwd' is no time zone", "zone"),
        ('sweep   = "1d"', 'sweep = "daily"', "sweep", "'daily' is no duration", "30s, 5m or 1d"),
        ('sweep   = "1d"', "sweep = 3600", "sweep", "sweep is a whole number", "30s, 5m or 1d"),
        ('sweep   = "1d"', 'overlap = "-5m"', "overlap", "'-5m' is no duration", "30s, 5m or 1d"),
        ('via        = "bus"', 'retries = { first = "0s" }', "retries", "retries that follow at once", '"1s" or more'),
        ('via        = "bus"', 'retries = { give_up = "53w" }', "retries", "tried for so long", '"90d" or less'),
        # secrets
        ("${env:SHOP_TOKEN}", "${env:NO_SUCH_TOKEN}", "auth", "NO_SUCH_TOKEN is not set", "export NO_SUCH_TOKEN"),
        ("${env:SHOP_TOKEN}", "${file:nowhere}", "auth", "nowhere: No such file", "create the file"),
        ("${env:SHOP_TOKEN}", "${vault:x}", "auth", "a secret stands here in the open", "${env:NAME}"),
        ("${env:SHOP_TOKEN}", "hunter2hunter2", "auth", "a secret stands here in the open", "${env:NAME}"),
        ('"${env:SHOP_TOKEN}"', "12345", "auth", "auth.bearer is a whole number", "${env:NAME}"),
        ('"memory://erp"', '"postgresql://u:hunter2@db/erp"', "hunter2@", "a password stands here in the open", "${env:NAME}"),
        ('"memory://erp"', '"memory://${env:NO_SUCH_HOST}"', "NO_SUCH_HOST", "NO_SUCH_HOST is not set", "export"),
        ('"memory://erp"', '"memory://${env:oops"', "oops", "a secret stands here in the open or misspelt", "${env:NAME}"),
        # addresses of the store and buses
        ('name = "acme"', 'name = "acme"\nstore = "mysql://x"', "store", "a store cannot be at mysql://", "sqlite://, postgresql://"),
        ('name = "acme"', 'name = "acme"\nstore = "tieline.db"', "store", "begins with its kind", "sqlite://"),
        ('name = "acme"', 'name = "acme"\nstore = "sqlite://tieline.db"', "store", "three slashes and a file", "sqlite:///"),
        ('name = "acme"', 'name = "acme"\nstore = "sqlite:///"', "store", "three slashes and a file", "sqlite:///"),
        ('name = "acme"', 'name = "acme"\nstore = "postgresql://u:pw@h/d"', "store", "a password stands", "${env:NAME}"),
        ("[processes.invoicing]", '[buses.main]\nurl = "mqtt://h"\n[processes.invoicing]', "mqtt", "a bus cannot be at", "use one of"),
        ("[processes.invoicing]", '[buses.main]\nurl = "nats://t0ken@h"\n[processes.invoicing]', "t0ken@", "a password stands", "${env:NAME}"),
        ("[processes.invoicing]", '[buses.main]\nurl = "smtp://h"\n[processes.invoicing]', "smtp", "cannot be at smtp://", "use one of"),
        ("[processes.invoicing]", "[buses.direct]\n[processes.invoicing]", "buses.direct", "cannot be called 'direct'", "otherwise"),
        # names of systems, entities, adapters, ways
        ('from   = "shop"', 'from = "shoop"', "shoop", "there is no system 'shoop'", "did you mean 'shop'?"),
        ('to     = "erp"', 'to = "epr"', "epr", "there is no system 'epr'", "did you mean 'erp'?"),
        ('entity = "Customer"', 'entity = "Custmer"', "Custmer", "there is no entity 'Custmer'", "did you mean 'Customer'?"),
        ('via        = "bus"', 'via = "buss"', "buss", "there is no way 'buss'", "did you mean 'bus'?"),
        ('robustness = "exact"', 'robustness = "exakt"', "exakt", "there is no robustness 'exakt'", "did you mean 'exact'?"),
        ('robustness = "exact"', 'robustness = "live"', "live", '"live" is not built yet', '"standard" or "exact"'),
        ('"adapters.erp"', '"adapters.epr"', "adapters.epr", "there is no module 'adapters.epr'", "did you mean 'adapters.erp'?"),
        ('"adapters.erp"', '"connect.sap_four"', "sap_four", "there is no module 'connect.sap_four'", "create connect/sap_four.py"),
        ('"adapters.erp"', '"adapters/erp.py"', "erp.py", "is no module name", "adapters.oscar"),
        ("[systems.shop.sources.order]", "[systems.shop.sources.ordr]", "ordr]", "has no source 'ordr'", "did you mean 'order'?"),
        ("[processes.invoicing]", '[processes.erp]\nmodule = "processes.invoicing"\nowner = "x"\n[processes.invoicing]',
         "[processes.erp]", "'erp' is a system already", "another name"),
        ("[processes.invoicing]", "[processes.invoicing]\nmodule = \"processes.shipment\"", "shipment",
         "there is no module 'processes.shipment'", "create processes/shipment.py"),
        # flows and what their ends can do
        ('from   = "shop"', 'from = "shop"\nsource = "custmer"', "custmer", "shop has no source 'custmer'; it has customer (Customer), order (Order)",
         "did you mean 'customer'?"),
        ('from   = "shop"', 'from = "shop"\nsource = "order"', "source = ", "source 'order' of shop gives Order, not Customer", "it has"),
        ('to     = "erp"', 'to = { erp = { sink = "sale" } }', "sink = \"sale\"", "sink 'sale' of erp takes Order, not Customer", "it has"),
        ('sink = "invoice"', 'sink = "invoise"', "[flows.invoices.to.erp]", "erp has no sink 'invoise'", "did you mean 'invoice'?"),
        ('from   = "shop"', 'from = "invoicing"', 'entity = "Customer"', "process invoicing gives no Customer; it gives Invoice", "rule"),
        ('to     = "erp"', 'to = "invoicing"', 'to = "invoicing"', "process invoicing takes no Customer; it takes Order", "rule"),
        ('from   = "invoicing"', 'from = "invoicing"\nsource = "bill"', "bill", "has no named sources", "leave source out"),
        ('to     = "erp"', 'to = ["erp", "erp"]', "to = [\"erp\", \"erp\"]", "goes from shop to erp in flow customers already", "take one"),
        ('to     = "erp"', 'to = ["shop", "erp"]', '"shop", "erp"', "flow customers leads from shop to itself", "another system"),
        ("[flows.orders]", '[flows.again]\nentity = "Customer"\nfrom = "shop"\nto = "erp"\nowner = "x"\n[flows.orders]', 'to = "erp"',
         "Customer goes from shop to erp in flow customers already", "take one of the two out"),
        # who is right
        ("[flows.orders]", "[entities.Custmer]\n[flows.orders]", "[entities.Custmer]", "there is no entity 'Custmer'", "'Customer'?"),
        ("[flows.orders]", '[entities.Order]\nmasters = { totl = "erp" }\n[flows.orders]', "totl", "Order has no field 'totl'", "'total'?"),
        ("[flows.orders]", '[entities.Order]\nmasters = { total = "epr" }\n[flows.orders]', "epr", "no system 'epr'", "'erp'?"),
        ("[flows.orders]", '[entities.Order]\nconflicts = "oldest"\n[flows.orders]', "oldest", "settled by 'oldest'", "ask, erp, invoicing, newest, shop"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_project_file_is_named(acme, old, new, at, what, remedy):
    """One thing wrong gives one mistake: at its line, saying what it is and what to do."""
    acme.change(old, new)
    known_followers = {"[processes.": "there is no system 'invoicing'", "[systems.shop.sources.order]": ""}
    followers = known_followers.get(old) if what.startswith("unknown") else None
    mistakes = [mistake for mistake in acme.mistakes() if not followers or followers not in mistake]
    assert len(mistakes) == 1, "\n".join(mistakes)
    where, text = mistakes[0].split(": ", 1)
    assert where == acme.line(at)
    said, _, advice = text.partition(" → ")
    assert what in said
    assert remedy in advice
    assert "hunter2" not in mistakes[0]


@pytest.mark.parametrize(
    ("path", "old", "new", "at", "what", "remedy"),
    [
        ("entities.py", "name: str\n", "name: str\n    credit: float\n", "credit", "Customer.credit: float is not exact", "use Money"),
        ("entities.py", "name: str\n", "name: str\n    rates: list[float]\n", "rates", "Customer.rates: float is not", "use Money"),
        ("entities.py", "name: str\n", "name: str = \n", "name: str = ", "no valid Python: invalid syntax", "correct this line"),
        ("entities.py", "name: str\n", "name: strr\n", "name: strr", "NameError: name 'strr' is not defined", "correct"),
        ("entities.py", 'Customer(Entity, key="number"', 'Customer(Entity, key="nummer"', "class Customer",
         "Customer has no field 'nummer', which is its key", "did you mean 'number'?"),
        ("entities.py", 'Customer(Entity, key="number", version=1)', "Customer(Entity)", "class Customer", "Customer has no key", 'key="…"'),
        ("entities.py", "name: str\n", "name: complex\n", "complex", "Customer.name: complex is not exact", "use Money"),
        ("entities.py", "name: str\n", "name: slice\n", "class Customer", "without a canonical form: slice", "use text"),
        ("entities.py", "name: str\n", 'boss: Ref["Custmer"]\n', "class Customer", "name 'Custmer' is not defined", "use text"),
        ("adapters/shop.py", "Customer, Order", "Custmer, Order", "Custmer, Order", "cannot import name 'Custmer' from 'entities'", "correct"),
        ("adapters/shop.py", "from tieline import Adapter", "import no_such_thing\nfrom tieline import Adapter", "no_such",
         "there is no module 'no_such_thing'", "install it, or correct the import"),
        ("adapters/shop.py", "shop = Adapter", "1 / 0\nshop = Adapter", "1 / 0", "ZeroDivisionError: division by zero", "correct"),
        ("adapters/shop.py", "shop = Adapter", "import sys; sys.exit('bye')\nshop = Adapter", "sys.exit", "SystemExit: bye", "correct"),
        ("adapters/shop.py", '@shop.source(Order, "orders")', '@shop.source(Order, "ordrs")', '@shop.source(Order, "ordrs")',
         "source 'order' names a resource 'ordrs' that the connector does not have", "did you mean 'orders'?"),
        ("adapters/shop.py", '@shop.source(Order, "orders")\ndef order', '@shop.source(Order, "orders")\ndef customer', "def customer(record):",
         "ValueError: 'customer' is declared twice", "correct"),
        ("processes/invoicing.py", "@invoicing", "@invoicing.rule(Order, Invoice)\ndef x(o): ...\n@invoicing", "", "has a rule in this process already", "correct"),
    ],
)  # fmt: skip
def test_a_mistake_in_the_python_is_named(acme, path, old, new, at, what, remedy):
    """An error in entities, adapters or processes is one mistake with its own file and line, no traceback."""
    text = (acme.folder / path).read_text()
    acme.write(path, text.replace(old, new, 1))
    found = acme.mistakes()
    assert len(found) == 1, "\n".join(found)
    where, text = found[0].split(": ", 1)
    assert where.startswith(f"{path}:")
    if at and "def customer" not in at:
        assert where == acme.line(at, path)
    assert what in text
    assert remedy in text.partition(" → ")[2]
    assert "tieline_project" not in found[0]
    assert str(acme.folder) not in found[0]


def test_every_float_is_found_at_once(acme):
    """Three floats in two classes are three mistakes, each at its field."""
    acme.change("name: str\n", "name: str\n    credit: float\n    debit: float | None = None\n", "entities.py")
    acme.change("sku: str\n", "sku: str\n    quantity: float\n", "entities.py")
    assert [mistake.split(": float")[0] for mistake in acme.mistakes()] == [
        f"{acme.line('credit', 'entities.py')}: Customer.credit",
        f"{acme.line('debit', 'entities.py')}: Customer.debit",
        f"{acme.line('quantity', 'entities.py')}: Line.quantity",
    ]


def test_an_adapter_module_has_one_adapter(acme):
    """Several adapters in a module, or none, is a mistake of that module."""
    acme.add("second = Adapter(Memory())\n", "adapters/shop.py")
    acme.write("adapters/erp.py", "import json\n")
    assert acme.mistakes() == [
        "adapters/erp.py: no Adapter object → assign one: name = Adapter(…)",
        "adapters/shop.py: several Adapter objects: shop, second → give each a module of its own",
    ]


def test_two_names_for_one_adapter_are_one(acme):
    """A second name for the same object is not a second adapter."""
    acme.add("alias = shop\n", "adapters/shop.py")
    assert acme.mistakes() == []


def test_an_adapter_without_a_connector_is_named(acme):
    """Adapter("rest") is a mistake where the project names it."""
    acme.write("adapters/erp.py", 'from tieline import Adapter\nerp = Adapter("rest")\n')
    assert acme.mistake().startswith(f"{acme.line('adapters.erp')}: the adapter has no usable connector")


def test_several_sources_of_an_entity_must_be_named(acme):
    """Where two sources give the entity, the flow says which; then it is good."""
    acme.add('@shop.source(Customer, "orders")\ndef guest(record):\n    return None\n', "adapters/shop.py")
    where = acme.line('from   = "shop"')
    assert acme.mistake() == (
        f'{where}: several sources of shop give Customer: customer, guest → name one with source = "customer"'
    )
    acme.change('from   = "shop"', 'from = "shop"\nsource = "guest"')
    assert acme.read().landscape.flows["customers"].source_name == "guest"


def test_several_sinks_of_an_entity_must_be_named(acme):
    """Where two sinks take the entity, the remedy shows the table that names one."""
    acme.add('@erp.sink(Customer, "parties")\ndef lead(customer):\n    return {}\n', "adapters/erp.py")
    assert acme.mistake().endswith(
        'several sinks of erp take Customer: lead, party → name one in [flows.customers.to.erp] with sink = "lead"'
    )


def test_two_sources_may_carry_one_entity_to_one_target(acme):
    """The same entity twice between two systems is right where it comes from two sources."""
    acme.add('@shop.source(Customer, "orders")\ndef guest(record):\n    return None\n', "adapters/shop.py")
    acme.change('from   = "shop"', 'from = "shop"\nsource = "guest"')
    acme.add('[flows.c2]\nentity = "Customer"\nfrom = "shop"\nsource = "customer"\nto = "erp"\nowner = "x"\n')
    assert acme.mistakes() == []


def test_a_circle_without_a_master_is_refused(acme):
    """Customers that go from shop to erp and back need someone who is right."""
    acme.add('[flows.back]\nentity = "Customer"\nfrom = "erp"\nto = "shop"\nowner = "x"\n')
    acme.add('@erp.source(Customer, "parties")\ndef read_party(record):\n    return None\n', "adapters/erp.py")
    acme.add('@shop.sink(Customer, "customers")\ndef write_customer(customer):\n    return {}\n', "adapters/shop.py")
    assert acme.mistake() == (
        f"{acme.line('[flows.back]')}: Customer goes round shop → erp → shop, and nothing says who is right"
        ' → write [entities.Customer] with masters = { field = "shop" } or conflicts = "newest"'
    )


def test_a_circle_of_three_is_found(acme):
    """A circle may be longer than two, and begin behind a system that is not part of it."""
    acme.write(
        "adapters/any.py",
        "from entities import Customer\nfrom tieline import Adapter\nfrom tieline.connectors.memory import Memory, Table\n"
        "any = Adapter(Memory(x=Table()))\n"
        '@any.source(Customer, "x")\ndef read(record): ...\n@any.sink(Customer, "x")\ndef write(customer): ...\n',
    )
    for name, following in [("a", "b"), ("b", "c"), ("c", "a")]:
        acme.add(f'[systems.{name}]\nadapter = "adapters.any"\nurl = "memory://{name}"\nowner = "x"\n')
        acme.add(f'[flows.{name}]\nentity = "Customer"\nfrom = "{name}"\nto = "{following}"\nowner = "x"\n')
    acme.add('[flows.into]\nentity = "Customer"\nfrom = "shop"\nto = "a"\nowner = "x"\n')
    assert "Customer goes round a → b → c → a" in acme.mistake()


def test_ten_mistakes_are_ten_lines_in_file_order(acme):
    """Nothing hides behind something else: one reading shows all, in order of file and line."""
    acme.change('name = "acme"', 'nme = "acme"')  # 1, 2
    acme.change("${env:SHOP_TOKEN}", "tok_in_the_open")  # 3
    acme.change("per_second = 20", "per_second = -20")  # 4
    acme.change('"every 5m"', '"every now and then"')  # 5
    acme.change('to     = "erp"', 'to = "epr"')  # 6
    acme.change('via        = "bus"', 'via = "snail"')  # 7
    acme.change('robustness = "exact"', 'robustness = "live"')  # 8
    acme.change("def order(record):", "def order(record:", "adapters/shop.py")  # 9
    acme.change("name: str\n", "name: str\n    credit: float\n", "entities.py")  # 10
    found = acme.mistakes()
    assert [mistake.split(": ")[0] for mistake in found] == [
        acme.line("[tieline]"),
        acme.line("nme ="),
        acme.line("auth "),
        acme.line("per_second"),
        acme.line("trigger"),
        acme.line("epr"),
        acme.line("snail"),
        acme.line("live"),
        acme.line("def order(", "adapters/shop.py"),
        acme.line("credit", "entities.py"),
    ]
    with pytest.raises(ConfigurationError) as raised:
        load(acme.folder)
    assert len(str(raised.value).splitlines()) == 10
    assert "tok_in_the_open" not in str(raised.value)


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("[tieline\nname = 1", "tieline.toml:1", "no valid TOML"),
        ('[tieline]\nname = "a"\nname = "b"\n', "tieline.toml:3", "no valid TOML: Cannot overwrite a value"),
        ('[tieline]\nname = "a', "tieline.toml:", "no valid TOML"),
        ("x = " + "[" * 5_000, "tieline.toml:1", "no valid TOML"),
        ("x = " + "9" * 5_000, "tieline.toml:1", "no valid TOML"),
        ("", "tieline.toml:1", "tieline.name is missing"),
        ("# " + "x" * 4_000_001, "tieline.toml", "too large for a project file"),
    ],
)
def test_a_file_that_is_no_toml_is_named(acme, text, where, what):
    """Broken syntax is one mistake at its line."""
    acme.write("tieline.toml", text)
    assert acme.mistake().startswith(where)
    assert what in acme.mistake()


def test_a_file_that_is_no_text_is_named(acme):
    """Bytes that are no UTF-8 are a mistake, not a traceback."""
    (acme.folder / "tieline.toml").write_bytes(b"name = '\xff\xfe'")
    assert "this is no UTF-8 text" in acme.mistake()


def test_a_folder_without_a_project_says_how_to_start(tmp_path):
    """No tieline.toml: the remedy is `tieline new`."""
    with pytest.raises(ConfigurationError, match=r"No such file or directory → .*tieline new"):
        load(tmp_path)


def test_warnings_do_not_stop_a_project(acme):
    """Missing owners, and references that nothing brings or that wait for each other, are warned of."""
    acme.change('owner   = "it@acme.example"\n', "")
    acme.change('owner  = "sales@acme.example"\n\n[flows.orders]', "\n[flows.orders]")
    acme.change('[processes.invoicing]\nowner = "finance@acme.example"', "[processes.invoicing]")
    acme.change("def invoice(invoice):", "def invoice(invoice, ids):", "adapters/erp.py")
    acme.change('["erp", "invoicing"]', '["invoicing"]')
    acme.change("    name: str\n", '    name: str\n    last: Ref["Order"] | None = None\n', "entities.py")
    assert [str(warning) for warning in acme.read().warnings] == [
        f'{acme.line("[systems.erp]")}: system erp has no owner → say whom to call: owner = "…"',
        f'{acme.line("[processes.invoicing]")}: process invoicing has no owner → say whom to call: owner = "…"',
        f'{acme.line("[flows.customers]")}: flow customers has no owner → say whom to call: owner = "…"',
        f"{acme.line('[flows.invoices.to.erp]')}: Invoice refers to Order, which no flow takes to erp"
        " → add a flow, or be sure that erp has each Order itself",
        f"{acme.line('class Customer', 'entities.py')}: Customer → Order → Customer refer to each other: "
        "a message of each can wait for the other → make one of the references optional, and send that one first without it",
    ]


def test_a_broken_adapter_is_not_blamed_on_its_flows(acme):
    """Flows of a system whose adapter fails are not judged: one cause, one mistake."""
    acme.write("adapters/erp.py", "raise RuntimeError('no licence')\n")
    assert acme.mistake() == "adapters/erp.py:1: RuntimeError: no licence → correct what stands here"
