"""Text in an old encoding, half characters and NUL on their way from SQLite to PostgreSQL, the ledger there too."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from tests.badinput import company

pytestmark = pytest.mark.services

TEXTS = {
    "00001": b"Stra\xdfe",
    "00002": b"half \xed\xa0\x80",
    "00003": b"a\0b",
}
KEYS = (b"M\xfcller", b"nul\0key")


def test_each_text_that_cannot_be_sent_is_parked_by_itself_with_its_field(
    tmp_path: Path, postgresql_database: str
) -> None:
    """What cannot be read waits at the source, what the target cannot hold at the leg; the rest arrives."""

    async def check() -> None:
        shop = company.make_shop(tmp_path / "shop.db", 5)
        with closing(sqlite3.connect(shop)) as file, file:
            for number, text in TEXTS.items():
                file.execute("update orders set note = cast(? as text) where number = ?", (text, number))
            for key in KEYS:
                file.execute("insert into orders values (cast(? as text), '1.00', '', 99)", (key,))
        async with await psycopg.AsyncConnection.connect(postgresql_database, autocommit=True) as server:
            await server.execute(company.OFFICE_IN_POSTGRESQL.encode())
            landscape = company.landscape(
                postgresql_database, company.shop_system(shop), company.office_system(postgresql_database)
            )
            async with company.working(landscape) as work:
                await work.until_level(3, parked=1)
                reasons = {(row.leg, row.key): row.error for row in await work.parked()}
                assert work.said.strip() == ""
            arrived = await (await server.execute("select number from orders order by number")).fetchall()
        assert [number for (number,) in arrived] == ["00000", "00004"]
        expected = {
            ("shop.order", "00001"): ("note: half a character", r"Stra\udcdfe", "encoding"),
            ("shop.order", "00002"): ("note: half a character", r"half \udced\udca0\udc80"),
            ("orders>office", "00003"): ("note", "NUL"),
            ("shop.order", "M\udcfcller"): ("key: ", "lone surrogate"),
            ("shop.order", "nul\0key"): ("key: ", "no NUL"),
        }
        assert reasons.keys() == expected.keys()
        for place, names in expected.items():
            assert all(name in reasons[place] for name in names), (place, reasons[place])

    asyncio.run(check())
