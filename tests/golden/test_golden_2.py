"""The second formats are read to the same values as when they were new; see `make_2.py`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.timeline import LogOf
from sentinel.log.entries import OUTCOMES, decode_decisions, encode_group, outcome_codes
from sentinel.models.serving import SERVING_FILE, serving_of
from sentinel.settings import Settings
from sentinel.state.embedded import restore
from tests.golden.make import FILES, golden_ledger, numbers, reading
from tests.golden.make_2 import FILES_2, SERVING, group

WANTED: dict[str, Any] = json.loads((FILES_2 / "columns.json").read_text())


def test_decisions_of_format_2_are_read_to_the_same_values() -> None:
    decided = decode_decisions((FILES_2 / "decisions.msgpack").read_bytes())
    older = decode_decisions((FILES / "decisions.msgpack").read_bytes())
    columns, n = decided.columns, len(decided.transactions)
    assert decided.transactions == older.transactions
    assert decided.vectors == older.vectors
    assert decided.flag_array().tolist() == WANTED["flags"]
    assert decided.policy_hash == WANTED["policy_hash"]
    (role,) = columns.roles
    (said,) = WANTED["roles"]
    assert [role.role, role.model_name, role.model_version] == [said["role"], *said["model"]]
    assert numbers([np.frombuffer(role.scores, "<f8")]) == [said["scores"]]
    assert numbers([np.frombuffer(role.probabilities, "<f8")]) == [said["probabilities"]]
    assert list(columns.deciders) == WANTED["deciders"]
    assert [list(fired) for fired in columns.rules_by_row(n)] == WANTED["rules"]
    assert decided.base_outcome_codes().tolist() == WANTED["base_outcomes"]
    assert columns.eligible_array(n).tolist() == WANTED["eligible"]
    assert columns.propensity_array(n).tolist() == WANTED["propensities"]
    assert columns.callers_by_row(n) == WANTED["callers"]
    assert columns.clock_offset_us == WANTED["clock_offset_us"]
    outcomes = [OUTCOMES[code] for code in outcome_codes(decided.flag_array()).tolist()]
    assert outcomes == ["approve", "review", "decline", "approve"]


def test_format_2_is_written_as_it_was() -> None:
    assert encode_group(group()) == (FILES_2 / "decisions.msgpack").read_bytes()


def test_a_snapshot_of_format_2_serves_its_own_log(tmp_path: Path) -> None:
    program = compile_program(Plan.load(FILES / "plan.json"))
    with golden_ledger(tmp_path / "ledger.db") as ledger:
        state = restore(program, FILES_2 / "snapshots", origin=LogOf(ledger))
    assert state.sequence == 17
    wanted = json.loads((FILES / "reading.json").read_text())["vectors"]
    assert numbers(reading(state)) == wanted


def test_what_serves_is_read_as_it_was_written(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path)
    settings.models_dir.mkdir()
    shutil.copy(FILES_2 / SERVING_FILE, settings.models_dir)
    assert serving_of(settings) == SERVING
