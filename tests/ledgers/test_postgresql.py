"""The ledger in PostgreSQL."""

import asyncio
import time
from uuid import uuid4

import psycopg
import pytest
from psycopg import sql

from tieline.errors import ConfigurationError, Unavailable
from tieline.ledger import Fence
from tieline.ledgers import postgresql
from tieline.ledgers.postgresql import PostgresqlLedger, without_password
from tieline.testing.ledger import LedgerSuite
from tieline.testing.ledger.samples import held

pytestmark = pytest.mark.services


def with_schema(url, schema):
    return f"{url}{'&' if '?' in url else '?'}schema={schema}"


@pytest.fixture
def url(postgresql_url):
    schema = f'ledger"{uuid4().hex}'
    yield with_schema(postgresql_url, schema)
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(sql.SQL("drop schema if exists {} cascade").format(sql.Identifier(schema)))


class TestPostgresqlLedger(LedgerSuite):
    keeper = PostgresqlLedger

    @pytest.fixture
    def url(self, url):
        return url


@pytest.fixture
def play(url):
    """Run a scenario on a ledger of its own."""

    async def opened(scenario):
        ledger = PostgresqlLedger(url)
        try:
            async with asyncio.timeout(60):
                return await scenario(ledger)
        finally:
            await ledger.close()

    return lambda scenario: asyncio.run(opened(scenario))


def touch(stores):
    stores.notes.put("n", (stores.notes.get("n") or 0) + 1)
    return stores.notes.get("n")


def test_what_an_earlier_version_held_is_still_held(play, url):
    """Held rows of before the second migration came with no batch that is known, and at no known time."""

    def back(stores):
        stores.held.put("erp", "Order", [held("a")])
        stores._session.run("alter table held drop column sequence, drop column at")
        stores._session.run("delete from migration where number = 2")

    async def scenario(ledger):
        await ledger.transact(back)
        later = PostgresqlLedger(url)
        (row,) = await later.transact(lambda stores: stores.held.get("erp", "Order", ["a"]))
        await later.close()
        assert row == held("a", sequence=0, at=0.0)

    play(scenario)


def end_sessions(postgresql_url, *, but=0):
    """What an administrator, or a restart, does to open connections."""
    with psycopg.connect(postgresql_url, autocommit=True) as server:
        server.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'tieline' and pid <> %s",
            (but,),
        )


def pid(stores):
    return stores._session.rows("select pg_backend_pid()")[0][0]


def test_a_lost_connection_is_unavailable_once(play, postgresql_url):
    """The transaction that met it fails and changed nothing; the next one connects again."""

    async def scenario(ledger):
        await ledger.transact(touch)
        end_sessions(postgresql_url)
        with pytest.raises(Unavailable, match="ledger postgresql://"):
            await ledger.transact(touch)
        return await ledger.transact(touch)

    assert play(scenario) == 2


def test_a_connection_lost_in_the_middle_undoes_all(play, postgresql_url):
    """What was written before the loss is gone."""

    def work(stores):
        touch(stores)
        end_sessions(postgresql_url)
        touch(stores)

    async def scenario(ledger):
        await ledger.transact(touch)
        with pytest.raises(Unavailable):
            await ledger.transact(work)
        return await ledger.transact(touch)

    assert play(scenario) == 2


def test_a_connection_lost_before_the_commit_undoes_all(play, postgresql_url):
    """Work that is done but not committed when the connection goes is not there."""

    def work(stores):
        touch(stores)
        end_sessions(postgresql_url)

    async def scenario(ledger):
        await ledger.transact(touch)
        with pytest.raises(Unavailable):
            await ledger.transact(work)
        return await ledger.transact(touch)

    assert play(scenario) == 2


def test_notifications_are_heard_again_after_a_loss(play, postgresql_url):
    """Whoever waits is woken when the ear is back, for something may have been missed, and hears what follows."""

    async def scenario(ledger):
        await ledger.wait(["t"], 0.3)
        own = await ledger.transact(pid)
        waiting = asyncio.create_task(ledger.wait(["t"], 20))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        end_sessions(postgresql_url, but=own)
        await waiting
        assert time.monotonic() - began < 10
        other = PostgresqlLedger(ledger_url)
        waiting = asyncio.create_task(ledger.wait(["t"], 20))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        await other.transact(lambda stores: stores.notify("t"))
        await waiting
        assert time.monotonic() - began < 10
        await other.close()

    ledger_url = None

    async def remembering(ledger):
        nonlocal ledger_url
        ledger_url = with_schema(postgresql_url, ledger._schema)
        await scenario(ledger)

    play(remembering)


def test_of_two_that_lock_each_other_out_both_are_done(play, url):
    """The database undoes one of them, which runs again: nobody hears of it."""
    other = PostgresqlLedger(url)
    runs = []

    def crosswise(first, second):
        def work(stores):
            runs.append(first)
            stores.notes.put(first, (stores.notes.get(first) or 0) + 1)
            time.sleep(0.3)
            stores.notes.put(second, (stores.notes.get(second) or 0) + 1)

        return work

    async def scenario(ledger):
        await ledger.transact(lambda stores: [stores.notes.put(name, 0) for name in "ab"])
        await asyncio.gather(ledger.transact(crosswise("a", "b")), other.transact(crosswise("b", "a")))
        await other.close()
        return await ledger.transact(lambda stores: stores.notes.starting(""))

    assert play(scenario) == {"a": 2, "b": 2}
    assert len(runs) > 2


def test_a_worker_frozen_in_a_transaction_does_not_hold_up_the_others(play, url, monkeypatch):
    """Its session is ended after a while, so that its lease can pass on; what it began is undone."""
    monkeypatch.setitem(postgresql._SETTINGS, "idle_in_transaction_session_timeout", "300ms")
    other = PostgresqlLedger(url)

    def frozen(stores):
        touch(stores)
        time.sleep(1.5)
        touch(stores)

    async def scenario(ledger):
        tokens = await ledger.transact(lambda stores: stores.leases.acquire(["a"], "w1"))
        freezing = asyncio.create_task(ledger.transact(frozen, [Fence("a", tokens["a"])]))
        await asyncio.sleep(0.1)
        began = time.monotonic()
        assert await other.transact(lambda stores: stores.leases.acquire(["a"], "w2")) == {"a": 2}
        assert time.monotonic() - began < 1.2
        with pytest.raises(Unavailable):
            await freezing
        await other.close()
        return await ledger.transact(lambda stores: stores.notes.get("n"))

    assert play(scenario) is None


def test_a_server_that_is_not_there_is_unavailable():
    """The address is told, its password is not."""

    async def main():
        ledger = PostgresqlLedger("postgresql://ann:geheim@127.0.0.1:1/x?connect_timeout=2")
        with pytest.raises(Unavailable, match=r"ledger postgresql://ann:•••@127\.0\.0\.1:1/x") as raised:
            await ledger.transact(touch)
        await ledger.wait(["t"], 0.05)
        await ledger.close()
        return str(raised.value)

    assert "geheim" not in asyncio.run(main())


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://ann:pw@h:5432/d?schema=x", "postgresql://ann:•••@h:5432/d?schema=x"),
        ("postgresql://ann:p@w@h/d", "postgresql://ann:•••@h/d"),
        ("postgresql://ann@h/d", "postgresql://ann@h/d"),
        ("postgresql:///d?host=/tmp&password=pw&schema=x", "postgresql:///d?host=/tmp&password=•••&schema=x"),
        ("postgresql://h/d", "postgresql://h/d"),
    ],
)
def test_an_address_is_shown_without_its_password(url, shown):
    """Wherever in the address it stands."""
    assert without_password(url) == shown


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("postgresql://h/d?nonsense=1", "nonsense"),
        (f"postgresql://h/d?schema={'x' * 64}", "schema"),
        ("postgresql://h/d?schema=", "schema"),
        ("postgresql://h/d?schema=%00", "schema"),
    ],
)
def test_an_address_that_cannot_work_is_a_mistake(url, what):
    """It says what is wrong with it."""
    with pytest.raises(ConfigurationError, match=what):
        PostgresqlLedger(url)


def test_a_store_of_a_newer_version_is_refused(play, url, postgresql_url):
    """It says what is there, what is known, and what to do."""

    def later(stores):
        stores._session.run("insert into migration (number, name, at) values (999, '0999_later.sql', '')")

    async def scenario(ledger):
        await ledger.transact(later)
        other = PostgresqlLedger(url)
        with pytest.raises(ConfigurationError, match=r"migration 999.*newer"):
            await other.transact(touch)
        await other.close()

    play(scenario)


def test_a_user_who_may_not_make_the_schema_is_told(postgresql_database):
    """The remedy names the schema."""
    user = f"tieline_{uuid4().hex}"
    with psycopg.connect(postgresql_database, autocommit=True) as server:
        server.execute(f"create role {user} login")
        name = server.info.dbname
        server.execute(f"revoke create on database {name} from public")

    async def main():
        ledger = PostgresqlLedger(f"{postgresql_database}&user={user}&schema=ours")
        with pytest.raises(ConfigurationError, match="'ours'"):
            await ledger.transact(touch)
        await ledger.close()

    try:
        asyncio.run(main())
    finally:
        with psycopg.connect(postgresql_database, autocommit=True) as server:
            server.execute(f"drop role {user}")


def test_it_is_durable_where_the_server_writes_through(play):
    """What the server says of itself."""

    async def scenario(ledger):
        written_through = await ledger.transact(lambda s: s._session.rows("show fsync")) == [("on",)]
        return ledger.durable is written_through

    assert play(scenario)
