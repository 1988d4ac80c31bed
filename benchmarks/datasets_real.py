"""The same way for real files of a set: nobody knows the best there, so only what was reached."""

from __future__ import annotations

import json
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets_trial import sentinel
from sentinel.cli.console import settings_for
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.datasets import build_dataset
from sentinel.pipeline.importing import import_history
from sentinel.pipeline.promotion import promote
from sentinel.pipeline.training import train
from sentinel.sources import open_source


def run_real(folder: Path, names: Sequence[str], *, as_json: bool) -> int:
    """Propose, import, train and promote the files of each set that has a folder.

    The figures are those of `sentinel train`, on the payments that it holds out. Returns the exit
    status: 1 if a set failed or none was there.
    """
    sets: dict[str, Any] = {}
    for name in names:
        if not (folder / name).is_dir():
            continue
        with tempfile.TemporaryDirectory(prefix="sentinel-datasets-") as scratch:
            try:
                sets[name] = _run(folder / name, Path(scratch))
            except Exception as error:  # noqa: BLE001 -- the other sets are still to be measured
                traceback.print_exc()
                sets[name] = {"error": f"{type(error).__name__}: {error}"}
        print(f"{name}: {sets[name]}", flush=True)
    if not sets:
        print(f"{folder} has no folder named {', '.join(names)}.", file=sys.stderr)
    if as_json:
        print(json.dumps({"sets": sets}))
    return 0 if sets and not any(one["error"] for one in sets.values()) else 1


def _run(files: Path, workspace: Path) -> dict[str, Any]:
    started = time.monotonic()
    paths = sorted(path for path in files.iterdir() if path.is_file())
    done = sentinel("propose", *map(str, paths), workspace=workspace)
    if done.returncode:
        raise RuntimeError(f"`sentinel propose` says:\n{done.stdout}\n{done.stderr}")
    settings = settings_for(workspace)
    report = import_history(settings, open_source(workspace / "mapping.toml")).report
    apply_definitions(settings)
    backfill(settings)
    built = build_dataset(settings)
    trained = train(settings, built.folder, baselines=False, search=False)
    promote(settings, trained.version)
    proposal = json.loads((workspace / "proposal.json").read_text())["report"]
    return {
        "error": "",
        "read": report.read,
        "accepted": report.accepted,
        "frauds": report.frauds,
        "left_out": proposal["left_out"],
        "leaks": proposal["leaks"],
        "metrics": {name: round(one.value, 4) for name, one in trained.metrics.items()},
        "seconds": round(time.monotonic() - started, 1),
    }
