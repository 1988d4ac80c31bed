"""Makes the files of ``tests/golden/files_3``: voids, and what keeps them.

python -m tests.golden.make_3 FOLDER

voids.msgpack   payload of a VOIDS group of format 1, which comes after the log of `make.py`
snapshots/      the state after it, in a snapshot of format 3
reading.json    features of some entities after it
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Final

from sentinel.domain import Void
from sentinel.features.plan.plan import MINUTE_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, VoidGroup, encode_group
from sentinel.scoring.recovery import recover
from tests.golden.make import FILES, HERE, NOON_US, find, golden_ledger, numbers, reading

FILES_3: Final = HERE / "files_3"
VOIDS: Final = (
    Void(
        transaction_id="golden-12",
        received_at_us=NOON_US + 110 * MINUTE_US,
        reason="the till's clock was a year ahead (日本)",
    ),
    Void(transaction_id="golden-2", received_at_us=NOON_US + 110 * MINUTE_US, reason="a test"),
)
GROUP: Final = VoidGroup(format=1, voids=list(VOIDS), called_by="admin-1")


def ledger_with_voids(path: Path, payload: bytes) -> SqliteLedger:
    """The log of `make.py` and a group of voids, open for appending."""
    ledger = golden_ledger(path)
    ledger.append(GroupKind.VOIDS, len(VOIDS), VOIDS[-1].received_at_us, payload)
    return ledger


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True)
    payload = encode_group(GROUP)
    (folder / "voids.msgpack").write_bytes(payload)
    program = compile_program(Plan.load(FILES / "plan.json"))
    with ledger_with_voids(folder / "ledger.db", payload) as ledger:
        state = recover(program, ledger, folder / "none", find)
    state.freeze().write(folder / "snapshots")
    content = {"vectors": numbers(reading(state))}
    (folder / "reading.json").write_text(json.dumps(content) + "\n")
    for path in folder.glob("ledger.db*"):
        path.unlink()
    shutil.rmtree(folder / "none", ignore_errors=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
