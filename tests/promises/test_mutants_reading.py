"""Defects put in on purpose turn promises 7 and 9 red: what is read, and by whom."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.connectors.sql_databases import sqlite_database
from tests.promises import test_07_late_commits_and_deletes as late
from tests.promises import test_09_polls_run_once as polls_run_once
from tests.promises.mutants import red
from tests.runner.cells import run_in_virtual_time

from tieline.connectors.sql import reading
from tieline.runner import reader
from tieline.runner.reader import Reader

Patch = pytest.MonkeyPatch


def without_sweeps(patch: Patch) -> None:
    """There was always a sweep just now."""
    real = Reader._read

    async def read(self: Reader, connector: Any, backfills: Any, now: float, summary: Any) -> None:
        self._state = msgspec.structs.replace(self._state, swept_at=now)
        await real(self, connector, backfills, now, summary)

    patch.setattr(Reader, "_read", read)


def test_without_an_overlap_a_late_commit_is_missed(monkeypatch: Patch, tmp_path: Path) -> None:
    monkeypatch.setattr(reading, "earlier", lambda value, *how_far: value)
    with sqlite_database(tmp_path) as database, red(late.MISSED):
        asyncio.run(late.a_late_commit(late.SqlShop(database)))


def test_without_sweeps_a_very_late_commit_is_missed(monkeypatch: Patch) -> None:
    without_sweeps(monkeypatch)
    with red(late.MISSED):
        run_in_virtual_time(late.a_very_late_commit)


def test_without_sweeps_a_delete_is_missed(monkeypatch: Patch, tmp_path: Path) -> None:
    without_sweeps(monkeypatch)
    with sqlite_database(tmp_path) as database, red(late.STILL_THERE):
        asyncio.run(late.a_delete(late.SqlShop(database)))


def test_without_a_brake_all_is_deleted_that_is_not_shown(monkeypatch: Patch) -> None:
    monkeypatch.setattr(reader, "_FEW", 10**9)
    with red(late.UNBRAKED):
        run_in_virtual_time(late.many_deletes)
    with red(late.UNBRAKED):
        run_in_virtual_time(late.an_accident)


def test_without_a_count_an_answer_holds_for_whatever_is_gone_by_then(monkeypatch: Patch) -> None:
    real = Reader._granted.fget  # type: ignore[attr-defined]
    monkeypatch.setattr(Reader, "_granted", property(lambda self: 10**9 if real(self) else 0))
    with red(late.UNBRAKED):
        run_in_virtual_time(late.a_question_that_grows)


def test_without_one_lease_for_all_every_worker_polls(monkeypatch: Patch) -> None:
    monkeypatch.setattr(Reader, "lease", property(lambda self: f"read:{self.plan.name}/{id(self)}"))
    with red(polls_run_once.POLLED_TWICE):
        run_in_virtual_time(lambda: polls_run_once.polls(2))
