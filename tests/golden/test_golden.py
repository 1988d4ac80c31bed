"""What earlier versions wrote is read to the same values; `make.py` says how it was made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from sentinel.domain import Label, Transaction
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import read_log
from sentinel.ledger.lookup import TransactionLookup
from sentinel.log.entries import decode_decisions, decode_labels
from sentinel.pipeline.signing import adopt_what_serves
from sentinel.scoring.recovery import recover
from sentinel.settings import Settings
from sentinel.state.embedded import EmbeddedState, restore
from testkit.scratch import serving
from tests.golden.make import (
    FILES,
    HERE,
    find,
    golden_ledger,
    historical,
    numbers,
    payloads,
    reading,
)

GROUPS: dict[str, Any] = json.loads((FILES / "groups.json").read_text())
DECISIONS: dict[str, Any] = GROUPS["decisions.msgpack"]


@pytest.fixture(scope="module")
def plan() -> Plan:
    return Plan.load(FILES / "plan.json")


def plain(entry: Transaction | Label) -> dict[str, Any]:
    return {name: getattr(entry, name) for name in entry.__struct_fields__}


def test_definitions_of_then_compile_to_the_plan_of_then(plan: Plan) -> None:
    compiled = compile_definitions(HERE / "feature_store", {"channel": ("online", "pos")})
    assert compiled == plan
    assert compiled.hash == plan.hash == DECISIONS["plan_hash"]


def test_decisions_of_format_1_are_read_to_the_same_values(plan: Plan) -> None:
    decided = decode_decisions((FILES / "decisions.msgpack").read_bytes())
    n = len(decided.transactions)
    assert [plain(transaction) for transaction in decided.transactions] == DECISIONS["transactions"]
    assert decided.plan_hash == DECISIONS["plan_hash"]
    assert [decided.model_name, decided.model_version] == DECISIONS["model"]
    assert numbers(decided.vector_array()) == DECISIONS["vectors"]
    for found, dtype, name in (
        (decided.scores, "<f8", "score"),
        (decided.probabilities, "<f8", "probability"),
        (decided.flags, "<u4", "flags"),
        (decided.latencies_us, "<u4", "latencies_us"),
    ):
        assert np.frombuffer(found, dtype).tolist() == DECISIONS[name]
    for found, dtype, name in (
        (decided.positions, "<i8", "positions"),
        (decided.reason_features, "<i2", "reason_features"),
        (decided.reason_contributions, "<f4", "reason_contributions"),
    ):
        assert np.frombuffer(found, dtype).reshape(n, -1).tolist() == DECISIONS[name]


def test_format_1_is_still_written_byte_for_byte_where_an_older_version_reads(plan: Plan) -> None:
    for name, payload in payloads(plan).items():
        if name != "import.arrows":  # its bytes are Arrow's affair
            assert payload == (FILES / name).read_bytes(), name


def test_labels_of_format_1_are_read_to_the_same_values() -> None:
    labels = decode_labels((FILES / "labels.msgpack").read_bytes()).labels
    assert [plain(label) for label in labels] == GROUPS["labels.msgpack"]


def test_the_log_reads_all_kinds_of_groups(tmp_path: Path) -> None:
    wanted = [*GROUPS["import.arrows"], *DECISIONS["transactions"], *GROUPS["labels.msgpack"]]
    with golden_ledger(tmp_path / "ledger.db") as ledger:
        rows = [row for _, batch in read_log(ledger, max_rows=1) for row in batch.to_pylist()]
        ids = {entry["transaction_id"] for entry in wanted if "event_time_us" in entry}
        index = LedgerIndex(tmp_path / "index.db", ledger)
        index.catch_up()
        found = {identifier: index.transaction(identifier) for identifier in ids}
        decision = TransactionLookup(index).recorded(["golden-12"])["golden-12"].decision
        index.close()
    assert len(rows) == len(wanted)
    for row, entry in zip(rows, wanted, strict=True):
        attributes = {k: v for k, v in entry.get("attributes", {}).items() if v is not None}
        here = {
            name.removeprefix("attributes."): value
            for name, value in row.items()
            if name.startswith("attributes.") and value is not None
        }
        assert here == attributes
        assert {k: v for k, v in entry.items() if k != "attributes"}.items() <= row.items()
    assert all(t is not None and t.transaction_id == i for i, t in found.items())
    assert decision is not None
    assert (decision.score, decision.outcome, decision.is_fraud) == (2.5, "decline", True)
    assert list(decision.vector) == DECISIONS["vectors"][2]


def test_a_snapshot_of_format_1_is_the_state_after_its_log(plan: Plan, tmp_path: Path) -> None:
    program = compile_program(plan)
    state = restore(program, FILES / "snapshots")
    with golden_ledger(tmp_path / "ledger.db") as ledger:
        folded = recover(program, ledger, tmp_path / "none", find)
    assert state.sequence == folded.sequence == 17
    assert state.fraud == folded.fraud
    assert ids_of(state) == ids_of(folded)
    assert records(state) == records(folded)
    wanted = json.loads((FILES / "reading.json").read_text())["vectors"]
    assert numbers(reading(state)) == wanted


def ids_of(state: EmbeddedState) -> list[int]:
    return sorted(np.concatenate(state.known.hashes()).tolist())


def records(state: EmbeddedState) -> dict[tuple[int, str], bytes]:
    return {
        (view, key): state.arena.record(view, key).tobytes()
        for view, keys in enumerate(state.arena.keys)
        for key in keys
    }


def workspace(home: Path) -> Settings:
    """A deployment as it was left behind: log, snapshot, plan and champion."""
    settings = Settings(workspace=home / ".sentinel", feature_store=home / "feature_store")
    shutil.copytree(HERE / "feature_store", settings.feature_store)
    golden_ledger(settings.ledger_path).close()
    shutil.copy(FILES / "plan.json", settings.plan_path)
    shutil.copytree(FILES / "models", settings.models_dir)
    shutil.copytree(FILES / "snapshots", settings.state_dir)
    return settings


def test_a_workspace_of_then_serves_the_answer_of_then(tmp_path: Path) -> None:
    said = json.loads((FILES / "predict.json").read_text())
    settings = workspace(tmp_path)
    assert adopt_what_serves(settings) == ["1"]  # `sentinel up` does; models were not signed then
    with serving(settings) as server:
        answer = httpx.post(f"{server.url}/predict", json=said["payment"], timeout=60)
    assert answer.status_code == 200
    assert list(answer.json()) == list(said["answer"])  # the fields in their order
    assert {**answer.json(), "latency_ms": 0} == {**said["answer"], "latency_ms": 0}


@pytest.mark.filterwarnings("ignore")
def test_feast_answers_what_it_answered_then(plan: Plan, tmp_path: Path) -> None:
    settings = workspace(tmp_path)
    wanted = json.loads((FILES / "historical.json").read_text())["answers"]
    assert historical(settings.workspace, settings.feature_store, plan) == wanted
