"""A plan that takes over beside payments finds its state made by another process."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.open import open_reader, open_writer
from sentinel.ledger.timeline import LogOf
from sentinel.scoring import state_beside
from sentinel.scoring.recovery import recover
from sentinel.scoring.state_beside import make_snapshot
from sentinel.settings import Settings
from sentinel.state.embedded import restore
from sentinel.state.snapshot_file import snapshots_of
from testkit.scratch import default_plan
from tests.ledger.material import fill


@pytest.fixture
def plan() -> Plan:
    plan = default_plan()
    return msgspec.structs.replace(plan, views=plan.views[:1], request=(), ratios=())


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    monkeypatch.setattr(state_beside, "FEW_ENTRIES", 10)
    settings = Settings(workspace=tmp_path / "w")
    settings.workspace.mkdir()
    ledger = open_writer(settings)
    fill(ledger)
    yield settings
    ledger.close()


def test_the_snapshot_holds_what_a_replay_in_this_process_gives(
    settings: Settings, plan: Plan
) -> None:
    ledger, program = open_reader(settings), compile_program(plan)
    make_snapshot(settings, plan, ledger)
    made = restore(program, settings.state_dir, origin=LogOf(ledger))
    index = LedgerIndex(settings.index_path, ledger)
    replayed = recover(program, ledger, settings.workspace / "elsewhere", index.transaction)
    assert made.sequence == replayed.sequence == ledger.last_sequence()
    assert made.arena.keys == replayed.arena.keys
    assert (made.arena.words[: made.arena.used] == replayed.arena.words[: made.arena.used]).all()
    assert made.fraud == replayed.fraud
    assert len(made.known) == len(replayed.known) == 40
    assert not list(settings.state_dir.glob("*.json"))


def test_a_recent_snapshot_is_enough(settings: Settings, plan: Plan) -> None:
    ledger = open_reader(settings)
    make_snapshot(settings, plan, ledger)
    (snapshot,) = snapshots_of(settings.state_dir, plan.hash)
    written = snapshot.stat().st_mtime_ns
    make_snapshot(settings, plan, ledger)
    assert snapshots_of(settings.state_dir, plan.hash) == [snapshot]
    assert snapshot.stat().st_mtime_ns == written


def test_a_process_that_fails_is_said_and_costs_only_time(
    settings: Settings, plan: Plan, caplog: pytest.LogCaptureFixture
) -> None:
    settings.index_path.write_bytes(b"no index" * 1000)
    with caplog.at_level(logging.WARNING):
        make_snapshot(settings, plan, open_reader(settings))
    assert "State is replayed in this process" in caplog.text
    assert "index.db" in caplog.text
    assert snapshots_of(settings.state_dir, plan.hash) == []
