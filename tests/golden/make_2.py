"""Makes the files of ``tests/golden/files_2``: the second formats of what has one.

python -m tests.golden.make_2 FOLDER

decisions.msgpack   payload of a DECISIONS group of format 2 that has every column
columns.json        what its columns hold beyond those of format 1
snapshots/          the state after the log of `make.py`, in a snapshot of format 2
serving.json        roles, plan and policy
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np

from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.columns import DecisionColumns, RoleScores, called_by, fired_rules
from sentinel.log.entries import DecisionGroup, decode_decisions, encode_group
from sentinel.models.serving import ServedModel, Serving
from sentinel.models.thresholds import Thresholds
from sentinel.scoring.recovery import recover
from tests.golden.make import FILES, HERE, find, golden_ledger

FILES_2: Final = HERE / "files_2"
SERVING: Final = Serving(
    roles={
        "champion": ServedModel("3", "golden-3"),
        "challenger": ServedModel("4", "golden-4"),
    },
    plan_hash="71f8348ec35965d8",
    policy=Thresholds(fraud=0.5, review=0.25, decline=0.9),
)
COLUMNS: Final[dict[str, Any]] = {
    "policy_hash": "eea12b4b8f2d4f3f",
    "flags": [1 << 31, 1 | 16 | 64, 2 | 4 | 1 << 20, 8 | 32],
    "roles": [
        {
            "role": "challenger",
            "model": ["golden", "8"],
            "scores": [None, 1.5, -2.25, 0.0],
            "probabilities": [None, 0.75, 0.125, 0.5],
        }
    ],
    "deciders": [0, 1, 0, 1],
    "rules": [["velocity@3"], [], ["velocity@3", "vip@1"], []],
    "base_outcomes": [0, 2, 2, 0],
    "eligible": [False, True, False, False],
    "propensities": [1.0, 0.0625, 1.0, 1.0],
    "callers": ["shop-a", "", "shop-a", "shop-b"],
    "clock_offset_us": 1_709_000_000_123_456,
}


def group() -> DecisionGroup:
    """The group of format 1 with every column of format 2."""
    older = decode_decisions((FILES / "decisions.msgpack").read_bytes())
    (role,) = COLUMNS["roles"]
    fired, callers = fired_rules(COLUMNS["rules"]), called_by(COLUMNS["callers"])
    columns = DecisionColumns(
        roles=(
            RoleScores(
                role["role"],
                role["model"][0],
                role["model"][1],
                np.array(role["scores"], dtype=np.float64).tobytes(),
                np.array(role["probabilities"], dtype=np.float64).tobytes(),
            ),
        ),
        deciders=bytes(COLUMNS["deciders"]),
        rules=fired.rules,
        rule_rows=fired.rule_rows,
        rule_ids=fired.rule_ids,
        base_outcomes=bytes(COLUMNS["base_outcomes"]),
        eligible=bytes(COLUMNS["eligible"]),
        propensities=np.array(COLUMNS["propensities"], dtype="<f4").tobytes(),
        callers=callers.callers,
        caller_rows=callers.caller_rows,
        clock_offset_us=COLUMNS["clock_offset_us"],
    )
    return msgspec.structs.replace(
        older,
        format=2,
        flags=np.array(COLUMNS["flags"], dtype="<u4").tobytes(),
        policy_hash=COLUMNS["policy_hash"],
        columns=columns,
    )


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True)
    (folder / "decisions.msgpack").write_bytes(encode_group(group()))
    (folder / "columns.json").write_text(json.dumps(COLUMNS) + "\n")
    (folder / "serving.json").write_bytes(msgspec.json.encode(SERVING))
    ledger: SqliteLedger = golden_ledger(folder / "ledger.db")
    program = compile_program(Plan.load(FILES / "plan.json"))
    recover(program, ledger, folder / "none", find).freeze().write(folder / "snapshots")
    ledger.close()
    for path in folder.glob("ledger.db*"):
        path.unlink()
    shutil.rmtree(folder / "none", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
