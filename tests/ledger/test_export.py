"""The Parquet export holds what the ledger holds, once, however often it was cut short."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from sentinel.domain import (
    ENTITY_COLUMNS,
    AttributeValue,
    Entry,
    Label,
    Transaction,
    Void,
    WorkspaceError,
)
from sentinel.ingest.values import as_text
from sentinel.ledger import export, export_tables
from sentinel.ledger.export import export_parquet, open_table
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from tests.ledger.backends import Backend
from tests.ledger.material import (
    MINUTE_US,
    NOON_US,
    append_all,
    append_decisions,
    append_history,
    append_labels,
    label,
    logs,
    new_ledger,
    transaction,
)

DAY_US = 24 * 60 * MINUTE_US


def _rows(target: Path, table: export.Table) -> list[dict[str, Any]]:
    if not (target / table).exists():
        return []
    rows: list[dict[str, Any]] = open_table(target, table).to_table().to_pylist()
    return sorted(rows, key=lambda row: row["sequence"])


def _parts(target: Path) -> dict[str, bytes]:
    return {str(p.relative_to(target)): p.read_bytes() for p in target.glob("*/date=*/*")}


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(drawn=logs())
def test_the_export_holds_every_entry_once(
    backend: Backend,
    drawn: list[tuple[GroupKind, list[Entry]]],
) -> None:
    with tempfile.TemporaryDirectory() as name, backend.empty() as ledger:
        target = Path(name) / "offline"
        for group in drawn:
            append_all(ledger, [group])
            export_parquet(ledger, target)
        entries = [
            (sequence, entry)
            for sequence, entry in enumerate((e for _, es in drawn for e in es), start=1)
        ]
        transactions = _rows(target, "transactions")
        labels = _rows(target, "labels")
        decisions = _rows(target, "decisions")
        voids = _rows(target, "voids")
    typed: dict[str, set[type]] = {}
    for _, entry in entries:
        if isinstance(entry, Transaction):
            for attribute, value in entry.attributes.items():
                typed.setdefault(attribute, set()).add(type(value))
    names = ("transaction_id", "event_time_us", "received_at_us", "amount_minor", *ENTITY_COLUMNS)
    assert [(row["sequence"], [row[n] for n in names]) for row in transactions] == [
        (sequence, [getattr(entry, n) for n in names])
        for sequence, entry in entries
        if isinstance(entry, Transaction)
    ]
    for row, (_, entry) in zip(
        transactions, [e for e in entries if isinstance(e[1], Transaction)], strict=True
    ):
        assert isinstance(entry, Transaction)
        for attribute, kinds in typed.items():
            value = entry.attributes.get(attribute)
            expected = as_text(value) if str in kinds and value is not None else value
            assert row[f"attributes.{attribute}"] == expected
    assert [
        (row["sequence"], row["label_id"], row["transaction_id"], row["verdict"]) for row in labels
    ] == [
        (sequence, entry.label_id, entry.transaction_id, entry.verdict)
        for sequence, entry in entries
        if isinstance(entry, Label)
    ]
    assert [(row["sequence"], row["transaction_id"], row["called_by"]) for row in voids] == [
        (sequence, entry.transaction_id, "admin")
        for sequence, entry in entries
        if isinstance(entry, Void)
    ]
    live = [e for kind, es in drawn if kind == GroupKind.DECISIONS for e in es]
    assert [row["transaction_id"] for row in decisions] == [e.transaction_id for e in live]


def test_a_decision_keeps_what_was_served(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        group = append_decisions(
            ledger, [transaction(i, NOON_US) for i in range(3)], outcomes=(0, 1, 2), seed=5
        )
        export_parquet(ledger, tmp_path / "offline")
    rows = _rows(tmp_path / "offline", "decisions")
    assert [row["outcome"] for row in rows] == ["approve", "review", "decline"]
    assert [row["is_fraud"] for row in rows] == [False, True, True]
    assert {row["plan_hash"] for row in rows} == {"plan-a"}
    for row, vector in zip(rows, group.vector_array().tolist(), strict=True):
        assert row["vector"][0] != row["vector"][0]
        assert row["vector"][1:] == vector[1:]
        assert len(row["reason_features"]) == len(row["reason_contributions"]) == 4


def test_a_label_says_who_sent_it(tmp_path: Path) -> None:
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [transaction(1, NOON_US), label(1, "tx-1", NOON_US)])
        for number, caller in ((2, ""), (3, "analyst-desk"), (4, "issuer")):
            group = LabelGroup(LABEL_FORMAT, [label(number, "tx-1", NOON_US + number)] * 2, caller)
            payload = encode_group(group)
            ledger.append(GroupKind.LABELS, 2, NOON_US + number, payload)
        export_parquet(ledger, tmp_path / "offline")
    rows = _rows(tmp_path / "offline", "labels")
    sent = [None, "", "", "analyst-desk", "analyst-desk", "issuer", "issuer"]
    assert [row["called_by"] for row in rows] == sent


def test_entries_lie_in_the_folder_of_their_day(tmp_path: Path) -> None:
    target = tmp_path / "offline"
    midnight = NOON_US + DAY_US // 2
    with new_ledger(tmp_path) as ledger:
        append_decisions(
            ledger,
            [
                transaction(1, midnight + 5, event_time_us=midnight - 1),
                transaction(2, midnight + 5, event_time_us=midnight),
            ],
        )
        append_labels(ledger, [label(1, "tx-1", midnight + DAY_US)])
        export_parquet(ledger, target)
    for table in ("transactions", "decisions"):
        assert sorted(p.name for p in (target / table).iterdir()) == [
            "date=2024-03-01",
            "date=2024-03-02",
        ]
    assert [p.name for p in (target / "labels").iterdir()] == ["date=2024-03-03"]
    dates = open_table(target, "transactions").to_table(columns=["transaction_id", "date"])
    assert {(r["transaction_id"], r["date"]) for r in dates.to_pylist()} == {
        ("tx-1", "2024-03-01"),
        ("tx-2", "2024-03-02"),
    }


def test_only_what_is_new_is_written(tmp_path: Path) -> None:
    target = tmp_path / "offline"
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [transaction(i, NOON_US + i) for i in range(5)])
        assert export_parquet(ledger, target).exported_through == 5
        first = _parts(target)
        export_parquet(ledger, target)
        assert _parts(target) == first
        append_decisions(ledger, [transaction(9, NOON_US + 9)])
        assert export_parquet(ledger, target).exported_through == 6
    second = _parts(target)
    assert first.items() <= second.items()
    assert len(second) == len(first) + 2


def test_progress_goes_from_nothing_to_all(tmp_path: Path) -> None:
    told: list[tuple[str, int, int | None]] = []
    with new_ledger(tmp_path) as ledger:
        append_history(ledger, [transaction(i, NOON_US + i) for i in range(5)])
        export_parquet(ledger, tmp_path / "offline", progress=lambda *now: told.append(now))
    assert told == [("export", 0, 5), ("export", 5, 5)]


def test_an_attribute_that_turns_to_text_is_text_in_all_parts(tmp_path: Path) -> None:
    target = tmp_path / "offline"
    values: list[str | float] = [5411.0, 0.5, "none", 7.0]
    with new_ledger(tmp_path) as ledger:
        for i, value in enumerate(values):
            append_decisions(ledger, [transaction(i, NOON_US, attributes={"mcc": value})])
            export_parquet(ledger, target)
    assert [row["attributes.mcc"] for row in _rows(target, "transactions")] == [
        "5411",
        "0.5",
        "none",
        "7",
    ]
    for path in (target / "transactions").glob("date=*/*.parquet"):
        assert str(pq.read_schema(path).field("attributes.mcc").type) == "string"


def test_attributes_beyond_those_with_a_column_share_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_tables, "MOST_ATTRIBUTES", 3)
    target = tmp_path / "offline"
    with new_ledger(tmp_path) as ledger:
        given: list[dict[str, AttributeValue]] = [
            {"mcc": 5411.0, "channel": "pos"},
            {"mcc": 1.0, "channel": "web", "sequence": "rare"},
            {"mcc": 2.0, "channel": "web", "n1": 0.5, "n2": "x"},
        ]
        for i, attributes in enumerate(given):
            append_decisions(ledger, [transaction(i, NOON_US, attributes=attributes)])
        export_parquet(ledger, target)
        late: dict[str, AttributeValue] = {"mcc": 3.0, "n3": "late"}
        append_decisions(ledger, [transaction(3, NOON_US, attributes=late)])
        export_parquet(ledger, target)
    rows = _rows(target, "transactions")
    assert [row["attributes.mcc"] for row in rows] == [5411.0, 1.0, 2.0, 3.0]
    assert [row["sequence"] for row in rows] == [1, 2, 3, 4]
    others = [json.loads(row.get("other_attributes") or "{}") for row in rows]
    # Of those given once the first by name has a column; what has one keeps it.
    assert [row.get("attributes.n1") for row in rows] == [None, None, 0.5, None]
    assert others == [{}, {"sequence": "rare"}, {"n2": "x"}, {"n3": "late"}]


_EXPORTER = """
import sys
from pathlib import Path
from sentinel.ledger import export
from sentinel.ledger.sqlite import SqliteLedger
export._STRETCH_ENTRIES = 20
print("ready", flush=True)
export.export_parquet(SqliteLedger.open_reader(Path(sys.argv[1])), Path(sys.argv[2]))
"""


def test_killed_at_random_it_is_resumed_without_loss_or_repeat(tmp_path: Path) -> None:
    target = tmp_path / "offline"
    with new_ledger(tmp_path) as ledger:
        for i in range(24):
            time_us = NOON_US + i * DAY_US // 3
            append_decisions(
                ledger, [transaction(10 * i + j, time_us + j) for j in range(10)], seed=i
            )
        for i in range(3):
            exporter = subprocess.Popen(
                [sys.executable, "-c", _EXPORTER, str(ledger.path), str(target)],
                stdout=subprocess.PIPE,
            )
            assert exporter.stdout is not None
            exporter.stdout.readline()
            time.sleep(0.02 + 0.08 * i)
            exporter.kill()
            exporter.communicate()
        assert export_parquet(ledger, target).exported_through == 240
    for table in ("transactions", "decisions"):
        rows = _rows(target, table)
        assert [row["sequence"] for row in rows] == list(range(1, 241))
    assert list(target.glob("*/date=*/.*")) == []


def test_an_export_of_another_ledger_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "offline"
    (tmp_path / "other").mkdir()
    with new_ledger(tmp_path) as ledger, new_ledger(tmp_path / "other") as other:
        append_decisions(ledger, [transaction(1, NOON_US)])
        export_parquet(ledger, target)
        before = _parts(target)
        with pytest.raises(WorkspaceError, match="another ledger"):
            export_parquet(other, target)
        append_decisions(other, [transaction(2, NOON_US)])
        with pytest.raises(WorkspaceError, match="another ledger"):
            export_parquet(other, target)
    assert _parts(target) == before


def test_a_newer_export_is_left_alone(filled: SqliteLedger, tmp_path: Path) -> None:
    target = tmp_path / "offline"
    target.mkdir()
    (target / "export.json").write_text('{"format": 2}')
    with pytest.raises(WorkspaceError, match="has format 2, this Sentinel writes 1"):
        export_parquet(filled, target)
    (target / "export.json").write_text("{")
    with pytest.raises(WorkspaceError, match="export anew"):
        export_parquet(filled, target)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
def test_a_full_disk_says_so_and_can_be_freed(filled: SqliteLedger, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(disk)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        ballast = disk / "ballast"
        ballast.write_bytes(b"x" * 80_000)
        with pytest.raises(WorkspaceError, match="Free some space"):
            export_parquet(filled, disk / "offline")
        ballast.unlink()
        assert export_parquet(filled, disk / "offline").exported_through == 44
        assert len(_rows(disk / "offline", "transactions")) == 40
    finally:
        subprocess.run(["umount", str(disk)], check=True)
