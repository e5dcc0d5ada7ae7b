"""A company of two or three real programs: orders change without end in one database, and go to others."""

import json
import random
import sqlite3
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import psycopg
from tests.faults import oracle

SERVER = Path(__file__).parent / "server.py"
HOT = 8
ACCOUNTS = 3

_ENTITIES = """
    from tieline import Entity, Event


    class Order(Entity, key="number"):
        number: str
        version: int


    class Payment(Event, key="number", subject="account"):
        number: str
        account: str
        n: int
"""
_SHOP = """
    from entities import Order, Payment

    from tieline import Adapter
    from tieline.connectors.sql import Sql, Table

    shop = Adapter(
        Sql(
            orders=Table("orders", key="number", cursor="changed", columns=("number", "version")),
            payments=Table("payments", key="number", cursor="number"),
        )
    )


    @shop.source(Order, "orders")
    def order(record):
        return Order(number=record["number"], version=record["version"])


    @shop.source(Payment, "payments")
    def payment(record):
        return Payment(number=str(record["number"]), account=record["account"], n=record["n"])
"""
# Now and then a mapping asks for more time, so that something is parked while the target moves on.
_BOOKS = """
    import random

    from entities import Order, Payment

    from tieline import Adapter, RetryLater
    from tieline.connectors.sql import Sql, Table

    books = Adapter(Sql(orders=Table("orders", key="reference"), payments=Table("payments", key="number")))


    @books.sink(Order, "orders")
    def order(order):
        if random.random() < 0.05:
            raise RetryLater("the books are being looked at")
        return {"reference": order.number, "version": order.version}


    @books.sink(Payment, "payments")
    def payment(payment):
        if random.random() < UNSURE:
            raise RetryLater("the account is being looked at")
        return {"number": payment.number, "account": payment.account, "n": payment.n}
"""
_DESK = """
    from entities import Order, Payment

    from tieline import Adapter, Step
    from tieline.connectors.rest import Resource, Rest

    desk = Adapter(
        Rest(
            payments=Resource("/payments/", create="POST"),
            orders=Resource(
                "/orders/",
                filters={"reference": "reference"},
                match="reference",
                create="POST",
                update="PUT",
                delete=True,
                actions={"confirm": "confirm/"},
            )
        )
    )


    @desk.sink(Order, "orders", match="reference", then=[STEPS])
    def order(order):
        return {"reference": order.number, "version": order.version}


    @desk.sink(Payment, "payments")
    def payment(payment):
        return {"number": payment.number, "account": payment.account, "n": payment.n}
"""
_STEP = 'Step("confirm", done_when=lambda record: record["confirmed"])'

_SOURCE = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE orders (number TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL, changed INTEGER NOT NULL);
    CREATE INDEX by_change ON orders (changed);
    CREATE TABLE payments (number INTEGER PRIMARY KEY, account TEXT NOT NULL, n INTEGER NOT NULL);
"""
_HISTORY = """
    PRAGMA journal_mode = WAL;
    CREATE TABLE history (n INTEGER PRIMARY KEY, reference TEXT NOT NULL, op TEXT NOT NULL, version INTEGER NOT NULL);
    CREATE TRIGGER made AFTER INSERT ON orders BEGIN
      INSERT INTO history (reference, op, version) VALUES (new.reference, 'insert', new.version); END;
    CREATE TRIGGER changed AFTER UPDATE OF version ON orders BEGIN
      INSERT INTO history (reference, op, version) VALUES (new.reference, 'update', new.version); END;
    CREATE TRIGGER confirmed AFTER UPDATE OF confirmed ON orders BEGIN
      INSERT INTO history (reference, op, version) VALUES (new.reference, 'confirm', new.version); END;
    CREATE TRIGGER gone AFTER DELETE ON orders BEGIN
      INSERT INTO history (reference, op, version) VALUES (old.reference, 'delete', old.version); END;
"""
# The books' own key keeps a second row out; the desk's does not, so that a second row can be seen.
_BOOKS_TABLE = """
    CREATE TABLE orders (reference TEXT NOT NULL PRIMARY KEY, version INTEGER NOT NULL,
      confirmed INTEGER NOT NULL DEFAULT 0);
    CREATE TABLE payments (number TEXT NOT NULL PRIMARY KEY, account TEXT NOT NULL, n INTEGER NOT NULL);
    CREATE TABLE ledger (at INTEGER PRIMARY KEY, op TEXT NOT NULL, account TEXT NOT NULL, n INTEGER NOT NULL);
    CREATE TRIGGER paid AFTER INSERT ON payments BEGIN
      INSERT INTO ledger (op, account, n) VALUES ('insert', new.account, new.n); END;
    CREATE TRIGGER repaid AFTER UPDATE ON payments BEGIN
      INSERT INTO ledger (op, account, n) VALUES ('update', new.account, new.n); END;
    CREATE TRIGGER unpaid AFTER DELETE ON payments BEGIN
      INSERT INTO ledger (op, account, n) VALUES ('delete', old.account, old.n); END;
"""
_BOOKS_IN_POSTGRESQL = """
    CREATE TABLE orders (reference text PRIMARY KEY, version bigint NOT NULL, confirmed bigint NOT NULL DEFAULT 0);
    CREATE TABLE history (n bigserial PRIMARY KEY, reference text, op text, version bigint);
    CREATE TABLE payments (number text PRIMARY KEY, account text NOT NULL, n bigint NOT NULL);
    CREATE TABLE ledger (at bigserial PRIMARY KEY, op text, account text, n bigint);
    CREATE FUNCTION ordered() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO history (reference, op, version)
        SELECT row.reference, lower(tg_op), row.version FROM (SELECT (coalesce(new, old)).*) AS row;
      RETURN NULL; END $$;
    CREATE FUNCTION paid() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
      INSERT INTO ledger (op, account, n)
        SELECT lower(tg_op), row.account, row.n FROM (SELECT (coalesce(new, old)).*) AS row;
      RETURN NULL; END $$;
    CREATE TRIGGER t AFTER INSERT OR DELETE OR UPDATE OF version ON orders FOR EACH ROW EXECUTE FUNCTION ordered();
    CREATE TRIGGER t AFTER INSERT OR DELETE OR UPDATE ON payments FOR EACH ROW EXECUTE FUNCTION paid();
"""
_DESK_TABLE = """
    CREATE TABLE payments (id INTEGER PRIMARY KEY, number TEXT NOT NULL, account TEXT NOT NULL, n INTEGER NOT NULL);
    CREATE TABLE orders (id INTEGER PRIMARY KEY, reference TEXT NOT NULL, version INTEGER NOT NULL,
      confirmed INTEGER NOT NULL DEFAULT 0);
"""


@dataclass(slots=True)
class Company:
    """A project folder with its databases, and the desk's server where orders go there.

    `books` is an empty PostgreSQL database for the books; they are a file where it is not given. With `payments`
    the books get a flow of events, too, of which they put off the share `unsure`.
    """

    folder: Path
    targets: tuple[str, ...]
    via: str = "direct"
    store: str = "sqlite:///ledger.db"
    engine: str = ""
    steps: bool = False
    books: str = ""
    payments: bool = False
    payments_to: str = "books"
    unsure: float = 0.02
    robustness: str = "standard"
    timeout: str = "30s"
    port: int = 0
    _server: "subprocess.Popen[str] | None" = field(default=None, init=False)

    def found(self) -> None:
        """Make the project and its databases."""
        for path, text in {
            "entities.py": _ENTITIES,
            "adapters/shop.py": _SHOP,
            "adapters/books.py": _BOOKS.replace("UNSURE", str(self.unsure)),
            "adapters/desk.py": _DESK.replace("STEPS", _STEP if self.steps else ""),
        }.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(dedent(text).lstrip())
        for name, sql in (
            ("shop", _SOURCE),
            ("books", _BOOKS_TABLE + _HISTORY),
            ("desk", _DESK_TABLE + _HISTORY),
        ):
            connection = sqlite3.connect(self.folder / f"{name}.db")
            connection.executescript(sql)
            connection.close()
        if self.books:
            with psycopg.connect(self.books, autocommit=True) as server:
                server.execute(_BOOKS_IN_POSTGRESQL)
        if "desk" in self.targets:
            self.open_desk()
        self.declare(self.via)

    def declare(self, via: str, sweep: str = "1s") -> None:
        """Write the project file; the orders travel `via`."""
        self.via = via
        text = f"""
            [tieline]
            name  = "acme"
            store = "{self.store}"

            [systems.shop]
            adapter = "adapters.shop"
            url     = "sqlite:///shop.db"
            [systems.shop.sources.order]
            trigger = "every 0.02s"
            sweep   = "{sweep}"
            brake   = 1
            [systems.shop.sources.payment]
            trigger = "every 0.02s"

            [systems.books]
            adapter = "adapters.books"
            url     = "{self.books or "sqlite:///books.db"}"
            timeout = "{self.timeout}"

            [systems.desk]
            adapter  = "adapters.desk"
            url      = "http://127.0.0.1:{self.port or 9}"
            settling = "2s"

            [flows.orders]
            entity  = "Order"
            from    = "shop"
            to      = {list(self.targets)!r}
            via     = "{via}"
            retries = {{ first = "1s", factor = 1, longest = "1s", give_up = "1d" }}
            robustness = "{self.robustness}"
        """
        if self.payments:
            text += f"""
            [flows.payments]
            entity  = "Payment"
            from    = "shop"
            to      = ["{self.payments_to}"]
            via     = "{via}"
            retries = {{ first = "1s", factor = 1, longest = "1s", give_up = "1d" }}
            robustness = "{self.robustness}"
            """
        if self.engine:
            text += f"""
            [buses.main]
            url = "{self.engine}"
            """
        (self.folder / "tieline.toml").write_text(dedent(text).lstrip())

    def database(self, system: str) -> oracle.Database:
        """Where a system's database is: a file, or an address."""
        return self.books if system == "books" and self.books else self.folder / f"{system}.db"

    def changes(self) -> int:
        """How many changes the books have seen."""
        return oracle.judge(self.database("shop"), self.database("books")).changes

    def keys(self) -> set[str]:
        """Every key that the source or a target has or had."""
        known = set(oracle.source_rows(self.database("shop")))
        return known.union(*(oracle.keys(self.database(target)) for target in self.targets))

    def open_desk(self) -> None:
        """Start the desk's server; after the first time, at the same port."""
        command = [sys.executable, str(SERVER), str(self.database("desk")), str(self.port)]
        self._server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._server.stdout is not None
        self.port = int(self._server.stdout.readline())

    def close_desk(self) -> None:
        """Kill the desk's server, calls in work and all."""
        if self._server is not None:
            self._server.kill()
            self._server.wait()
            assert self._server.stdout is not None
            self._server.stdout.close()
            self._server = None

    def tell_desk(self, word: str) -> str:
        """Say hold, held or release to the desk's server; gives the order whose call it holds, "" for none."""
        asked = urllib.request.Request(f"http://127.0.0.1:{self.port}/{word}/", method="POST", data=b"")
        with urllib.request.urlopen(asked, timeout=10) as answer:
            return str(json.load(answer)["held"])

    def edit(self, *numbers: str) -> None:
        """A user of the shop changes these orders, or makes them."""
        connection = sqlite3.connect(self.database("shop"), isolation_level=None, timeout=30)
        try:
            for number in numbers:
                change(connection, number)
        finally:
            connection.close()

    def pay(self, account: str) -> None:
        """One payment comes in."""
        with closing(sqlite3.connect(self.folder / "shop.db", isolation_level=None, timeout=30)) as connection:
            pay(connection, account)

    @contextmanager
    def busy(self, seed: int = 0, *, only_hot: bool = False, pace: float = 0.02) -> Iterator["Writer"]:
        """Orders change as long as this lasts, every `pace` seconds; with `only_hot` none comes or goes but a few."""
        writer = Writer(self.folder / "shop.db", seed, only_hot, pace)
        thread = threading.Thread(target=writer.write, name="writer")
        thread.start()
        try:
            yield writer
        finally:
            writer.ended.set()
            thread.join()


class Writer:
    """A few hot orders get version after version; others come, change once or twice, and go."""

    def __init__(self, database: Path, seed: int, only_hot: bool, pace: float) -> None:
        self.ended = threading.Event()
        self._pace = pace
        self._database = database
        self._only_hot = only_hot
        self._random = random.Random(seed)

    def write(self) -> None:
        """Change orders until told to end."""
        connection = sqlite3.connect(self._database, isolation_level=None, timeout=30)
        turn = 0
        try:
            while not self.ended.wait(self._pace):
                turn += 1
                connection.execute("BEGIN IMMEDIATE")
                for _ in range(2):
                    change(connection, f"hot-{self._random.randrange(HOT)}")
                if turn % 8 == 0 and not self._only_hot:
                    change(connection, f"cold-{_next(connection)}")
                if turn % 24 == 0 and not self._only_hot:
                    self._change_cold(connection)
                if turn % 4 == 0:
                    pay(connection, f"account-{self._random.randrange(ACCOUNTS)}")
                connection.execute("COMMIT")
        finally:
            connection.close()

    def _change_cold(self, connection: sqlite3.Connection) -> None:
        """One of the others changes again, the eldest goes. The newest row stays: it carries the counter."""
        cold = [
            key
            for (key,) in connection.execute("SELECT number FROM orders WHERE number LIKE 'cold-%' ORDER BY changed")
        ]
        if len(cold) > 3:
            connection.execute("DELETE FROM orders WHERE number = ?", (cold[0],))
            change(connection, self._random.choice(cold[1:]))


def change(connection: sqlite3.Connection, key: str) -> None:
    """An order gets its next version, or its first."""
    connection.execute(
        "INSERT INTO orders VALUES (?, 1, ?) ON CONFLICT DO UPDATE "
        "SET version = version + 1, changed = excluded.changed",
        (key, _next(connection)),
    )


def pay(connection: sqlite3.Connection, account: str) -> None:
    """One more payment to an account; those of an account are numbered."""
    connection.execute(
        "INSERT INTO payments (account, n) SELECT ?, coalesce(max(n), 0) + 1 FROM payments WHERE account = ?",
        (account, account),
    )


def _next(connection: sqlite3.Connection) -> int:
    return int(connection.execute("SELECT coalesce(max(changed), 0) + 1 FROM orders").fetchone()[0])
