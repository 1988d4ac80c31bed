"""Voids are read to the same values as when they were new; see `make_3.py`."""

from __future__ import annotations

import json
from pathlib import Path

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.timeline import LogOf
from sentinel.log.entries import decode_voids, encode_group
from sentinel.scoring.recovery import recover
from sentinel.state.embedded import restore
from tests.golden.make import FILES, find, numbers, reading
from tests.golden.make_3 import FILES_3, GROUP, ledger_with_voids

PAYLOAD = (FILES_3 / "voids.msgpack").read_bytes()
WANTED = json.loads((FILES_3 / "reading.json").read_text())["vectors"]


def test_voids_are_read_and_written_as_they_were() -> None:
    assert decode_voids(PAYLOAD) == GROUP
    assert encode_group(GROUP) == PAYLOAD


def test_a_snapshot_of_format_3_serves_its_own_log(tmp_path: Path) -> None:
    program = compile_program(Plan.load(FILES / "plan.json"))
    with ledger_with_voids(tmp_path / "ledger.db", PAYLOAD) as ledger:
        state = restore(program, FILES_3 / "snapshots", origin=LogOf(ledger))
    assert state.sequence == 19
    assert state.void == {void.transaction_id for void in GROUP.voids}
    assert numbers(reading(state)) == WANTED


def test_a_snapshot_from_before_the_voids_leads_to_the_same_state(tmp_path: Path) -> None:
    program = compile_program(Plan.load(FILES / "plan.json"))
    with ledger_with_voids(tmp_path / "ledger.db", PAYLOAD) as ledger:
        assert restore(program, FILES / "snapshots").sequence == 17
        state = recover(program, ledger, FILES / "snapshots", find)
    assert numbers(reading(state)) == WANTED
