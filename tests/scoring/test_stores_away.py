"""A version that could not be read when it was noticed is read at the next look."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import LedgerUnavailable
from sentinel.experiments.lineup import Experiment
from sentinel.policy.store import open_policies
from sentinel.policy.versions import PolicyVersion, Terms
from sentinel.scoring.champions import WarmModels
from sentinel.scoring.lineups import LineUpInCharge
from sentinel.scoring.policies import PolicyInCharge
from sentinel.settings import Settings
from testkit.experiments import run_experiments


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path)


def away_once(monkeypatch: pytest.MonkeyPatch, store: Any, read: str) -> None:
    before = getattr(store, read)

    def fails() -> None:
        monkeypatch.setattr(store, read, before)
        raise LedgerUnavailable("The store is away.")

    monkeypatch.setattr(store, read, fails)


def test_a_stop_is_seen_although_the_store_was_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_experiments(settings, Experiment(name="ab", kind="challenger", version="2", share=0.5))
    in_charge = LineUpInCharge(settings, WarmModels(settings))
    in_charge.start()
    assert in_charge.line_up.find("ab") is not None
    run_experiments(settings)
    away_once(monkeypatch, in_charge._store, "stored")
    in_charge.look()
    assert in_charge.line_up.find("ab") is not None
    assert in_charge.look()
    assert in_charge.line_up.find("ab") is None
    in_charge.close()


def test_a_policy_is_seen_although_the_store_was_away(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_charge = PolicyInCharge(settings)
    in_charge.start()
    store = open_policies(settings)
    store.add(lambda _: PolicyVersion(terms=Terms(), by="me", why="first", at_us=1))
    store.close()
    away_once(monkeypatch, in_charge._store, "read")
    assert not in_charge.look()
    assert in_charge.look()
    assert in_charge.version is not None
    in_charge.close()
