"""One set's way from its files to a scoring service, as a user walks it.

`Trial.propose` runs `sentinel propose` in a process of its own and answers what it asks. The other
steps are the use cases behind `sentinel import`, `features apply`, `train` and `promote`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.cli.console import settings_for
from sentinel.domain import Verdict
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.log.schema import KIND_LABEL
from sentinel.models.trainers import train as fit
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.dataset_folder import load_dataset
from sentinel.pipeline.datasets import BuiltDataset, build_dataset
from sentinel.pipeline.importing import ImportResult, import_history
from sentinel.pipeline.promotion import promote
from sentinel.pipeline.scored_payments import BulkScorer
from sentinel.pipeline.training import train
from sentinel.settings import Settings
from sentinel.sources import log_batches, open_source
from testkit.shapes.base import Drawing, Shape
from testkit.shapes.streams import Flags, Floats, average_precision

MOST_FLAGS: Final = 2
_UNANSWERED: Final = 2
_ROUNDS: Final = 4
"""Most times that `sentinel propose` is asked again with another answer."""


@dataclass
class Trial:
    """A set in a folder: files of its history, files of what comes after, a workspace.

    Args:
        shape: What kind of file.
        folder: Where; there is nothing in it yet.
        history, fresh: What to learn from, and what comes after.
        stem: Of the files' names.
    """

    shape: Shape
    folder: Path
    history: Drawing
    fresh: Drawing
    stem: str
    flags: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.paths = self.shape.write(self.history, self.folder / "history", self.stem)
        self.shape.write(self.fresh, self.folder / "fresh", self.stem)
        self.workspace = self.folder / "workspace"

    @property
    def settings(self) -> Settings:
        """Of the workspace."""
        return settings_for(self.workspace)

    @property
    def mapping(self) -> Path:
        """What `sentinel propose` wrote."""
        return self.workspace / "mapping.toml"

    @property
    def report(self) -> dict[str, Any]:
        """What `sentinel propose` says to programs."""
        written: dict[str, Any] = json.loads((self.workspace / "proposal.json").read_text())
        return dict(written["report"])

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Note how long a step takes."""
        started = time.monotonic()
        yield
        self.seconds[step] = self.seconds.get(step, 0.0) + time.monotonic() - started

    def propose(self, truth: Mapping[str, str] | None = None) -> bool:
        """Let `sentinel propose` write mapping and definitions.

        Args:
            truth: Flag to the right answer, for what it asks; default: it must not ask.

        Returns:
            Whether it wrote them. `flags` holds what it was told.

        Raises:
            RuntimeError: It failed, or asked what it should not have.
        """
        with self.timed("propose"):
            for _ in range(_ROUNDS):
                told = shlex.split(" ".join(self.flags))
                done = sentinel(
                    "propose", *map(str, self.paths), *told, "--json", workspace=self.workspace
                )
                if done.returncode == 0:
                    return self.mapping.exists()
                if done.returncode != _UNANSWERED or truth is None:
                    raise RuntimeError(f"`sentinel propose` says:\n{done.stdout}\n{done.stderr}")
                self._answer(json.loads(done.stdout)["questions"], truth)
        return False

    def _answer(self, questions: Sequence[dict[str, Any]], truth: Mapping[str, str]) -> None:
        for question in questions:
            offered = [option["flag"] for option in question["flags"]]
            right = [flag for flag in offered if is_right(flag, truth)]
            if not right:
                raise RuntimeError(f"None of {offered} answers {question['question']!r} rightly")
            self.flags.append(right[0])

    def imported(self) -> ImportResult:
        """Import the history, and compile what was proposed."""
        with self.timed("import"):
            result = import_history(self.settings, open_source(self.mapping))
        with self.timed("apply"):
            apply_definitions(self.settings)
        return result

    def trained(self) -> tuple[str, BuiltDataset]:
        """Train a model on the history; returns its version and what it learnt from."""
        with self.timed("train"):
            backfill(self.settings)
            built = build_dataset(self.settings)
            version = train(self.settings, built.folder, baselines=False, search=False).version
        with self.timed("promote"):
            promote(self.settings, version)
        return version, built

    def fresh_mapping(self) -> Path:
        """The mapping that was proposed, for the files of what came after."""
        text = self.mapping.read_text("utf8").replace("/history/", "/fresh/")
        text = re.sub(r'prefix = "[^"]*"', 'prefix = "fresh-"', text)
        path = self.workspace / "fresh.toml"
        path.write_text(text, "utf8")
        return path

    def fresh_log(self) -> list[pa.RecordBatch]:
        """What came after as the log will have it: payments and labels in order."""
        source = open_source(self.fresh_mapping())
        guard = Guard.of(self.settings)
        with log_batches(source, now_us=time.time_ns() // 1000, guard=guard) as log:
            return list(log)

    def scored_in_process(self) -> float:
        """Import what came after, fold it, score it: the average precision on it."""
        log = self.fresh_log()
        truth = frauds_of(log)
        with self.timed("fresh"):
            import_history(self.settings, open_source(self.fresh_mapping()))
            parts = backfill(self.settings).parts
            plan = Plan.load(self.settings.plan_path)
            model = BulkScorer(champion_folder(self.settings))
            fraud, scores = [], []
            wanted = pa.array(payments_of(log), pa.string())
            for table in parts.tables(["transaction_id", *plan.feature_names]):
                few = table.filter(pc.is_in(table.column(0), value_set=wanted))
                if few.num_rows:
                    vectors = np.column_stack([column.to_numpy() for column in few.columns[1:]])
                    scores.append(model.score(vectors)[0])
                    fraud += [identifier in truth for identifier in few.column(0).to_pylist()]
        return average_precision(np.array(fraud), np.concatenate(scores))

    @property
    def best(self) -> float:
        """The best average precision that can be reached on what came after."""
        return average_precision(self.fresh.fraud, self.fresh.chance)

    def without_windows(self, built: BuiltDataset) -> float:
        """Average precision of a model of the payment alone, on the test rows of the dataset.

        Returned as a share of what a model with all features reaches on the same rows.
        """
        data = load_dataset(built.folder)
        plan = data.plan
        own = {feature.name for feature in plan.request}
        found: list[float] = []
        for names in (own, set(plan.feature_names)):
            columns = [i for i, name in enumerate(plan.feature_names) if name in names]
            model = fit(
                "lightgbm",
                np.ascontiguousarray(data.fit.X[:, columns]),
                data.fit.fraud,
                feature_names=[plan.feature_names[i] for i in columns],
                categorical=[name for name in plan.categorical if name in names],
                seed=7,
            )
            raw = model.raw_score(np.ascontiguousarray(data.test.X[:, columns]))
            found.append(average_precision(np.asarray(data.test.fraud, bool), np.asarray(raw)))
        return found[0] / found[1]


def is_right(flags: str, truth: Mapping[str, str]) -> bool:
    """Whether an answer that is offered is the true one.

    >>> is_right("--time-unit h", {"--time-unit": "h"}), is_right("--time-unit d", {})
    (True, False)
    """
    words = shlex.split(flags)
    return all(truth.get(flag) == told for flag, told in zip(words[::2], words[1::2], strict=True))


def champion_folder(settings: Settings) -> Path:
    """The folder of the model that is in charge."""
    text = json.loads((settings.models_dir / "champion.json").read_text())
    return settings.models_dir / str(text["folder"])


def payments_of(log: Sequence[pa.RecordBatch]) -> list[str]:
    """Ids of the payments of a log, in its order."""
    found: list[str] = []
    for batch in log:
        payments = pc.not_equal(batch.column("kind"), KIND_LABEL)
        found += batch.column("transaction_id").filter(payments).to_pylist()
    return found


def frauds_of(log: Sequence[pa.RecordBatch]) -> set[str]:
    """Ids of the payments of a log whose label says fraud."""
    found: set[str] = set()
    for batch in log:
        frauds = pc.equal(batch.column("verdict"), Verdict.FRAUD.value).fill_null(False)
        found.update(batch.column("transaction_id").filter(frauds).to_pylist())
    return found


def precision_of(scores: Mapping[str, float], truth: set[str]) -> float:
    """Average precision of scores by payment."""
    fraud: Flags = np.array([identifier in truth for identifier in scores])
    values: Floats = np.array(list(scores.values()))
    return average_precision(fraud, values)


def sentinel(*arguments: str, workspace: Path) -> subprocess.CompletedProcess[str]:
    """Run a command of Sentinel as a user would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SENTINEL_")}
    return subprocess.run(
        [sys.executable, "-m", "sentinel", *arguments, "--workspace", str(workspace)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )
