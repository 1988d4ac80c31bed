"""A quick look at whether what is served is what the log says: a sample of values, recomputed.

Three things are served: vectors that the ledger recorded with its decisions, windows as they are
now, and copies in Feast's online store. Rows of each are drawn at random and held against one fold
of the whole log, bit for bit. `sentinel.pipeline.verify` does so for every row.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from scipy.stats import beta

from sentinel.domain import ENTITY_COLUMNS
from sentinel.features.online import OnlineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.features.voids import LogFold
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log, whole_log
from sentinel.log.entries import FLAG_DEGRADED, GroupKind, decode_decisions
from sentinel.log.schema import KIND_TRANSACTION
from sentinel.pipeline.profiles import profile_rows
from sentinel.pipeline.served_columns import ServedColumns
from sentinel.pipeline.workspace import ledger_reader
from sentinel.retrieval.view_table import ViewTable, offline_root
from sentinel.scoring.served import load_plan
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

if TYPE_CHECKING:
    from sentinel.feast_plugin.online_views import OnlineView, OnlineViews

Vectors = npt.NDArray[np.float32]
Keys = dict[str, str]

_SHOWN: Final = 10
_TRIES: Final = 5
_WAIT_SECONDS: Final = 0.3


@dataclass(frozen=True)
class Checked:
    """One kind of served rows.

    Attributes:
        what: ``recorded`` vectors, ``windows`` of now, or the name of a materialized view.
        rows, values: How many were compared.
        mismatched_rows, mismatches: How many of them differ.
    """

    what: str
    rows: int
    values: int
    mismatched_rows: int
    mismatches: int


@dataclass(frozen=True)
class SampledVerify:
    """What a sample says.

    Attributes:
        plan_hash: The plan that serves.
        checked: Each kind.
        examples: (what, row, feature, served, recomputed) of some differences.
        seconds: How long it took.
    """

    plan_hash: str
    checked: tuple[Checked, ...]
    examples: tuple[tuple[str, str, str, Any, Any], ...]
    seconds: float

    @property
    def rows(self) -> int:
        return sum(part.rows for part in self.checked)

    @property
    def values(self) -> int:
        return sum(part.values for part in self.checked)

    @property
    def mismatches(self) -> int:
        """Values that differ."""
        return sum(part.mismatches for part in self.checked)

    @property
    def rate(self) -> float:
        """The share of rows that have a value that differs."""
        return self._mismatched_rows / self.rows if self.rows else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the rate (Clopper and Pearson 1934).

        Of rows, not values: the values of a row are not independent of each other.
        """
        return clopper_pearson(self._mismatched_rows, self.rows)

    @property
    def _mismatched_rows(self) -> int:
        return sum(part.mismatched_rows for part in self.checked)


def clopper_pearson(hits: int, n: int) -> tuple[float, float]:
    """The exact 95 % interval of a share.

    >>> low, high = clopper_pearson(0, 1000)
    >>> low, round(high, 5)
    (0.0, 0.00368)
    """
    if n == 0:
        return 0.0, 1.0
    low = float(beta.ppf(0.025, hits, n - hits + 1)) if hits else 0.0
    high = float(beta.ppf(0.975, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def verify_sample(
    settings: Settings,
    sample: int = 1_000,
    *,
    seed: int | None = None,
    progress: ProgressCallback = no_progress,
) -> SampledVerify:
    """Draw served rows of each kind and recompute them.

    Decisions that were made with shared state are not drawn: their order is that of positions, and
    only the full replay has it. A window that a payment changes while it is looked at is looked at
    again.

    Args:
        settings: The deployment.
        sample: Rows to draw of each kind.
        seed: Draws the same rows again; default: others each time.
        progress: Told of the stages "labels" and "replay", in log entries.

    Raises:
        DefinitionError: No plan was applied yet.
        WorkspaceError: There is no ledger.
        Unavailable: Something that serves does not answer.
    """
    # Feast takes seconds to import.
    from sentinel.feast_plugin.online_views import OnlineViews

    started = time.monotonic()
    plan = load_plan(settings)
    with ledger_reader(settings) as ledger, OnlineViews.open(settings) as online:
        run = _Sample(settings, ledger, online, plan, sample, np.random.default_rng(seed))
        run.recompute(progress)
        run.compare_recorded()
        run.compare_windows()
        for view in online.views():
            if view.is_history:
                run.compare_history(view)
            elif view.profile is not None:
                run.compare_profiles(view)
    return SampledVerify(
        plan.hash, tuple(run.checked), tuple(run.examples), time.monotonic() - started
    )


class _Sample:
    """The drawn rows, the fold that recomputes them, and the comparisons."""

    def __init__(
        self,
        settings: Settings,
        ledger: Ledger,
        online: OnlineViews,
        plan: Plan,
        sample: int,
        rng: np.random.Generator,
    ) -> None:
        self._settings, self._ledger, self._online, self._plan = settings, ledger, online, plan
        self._sample = sample
        self._columns = ServedColumns(settings, plan)
        self._program = compile_program(plan)
        self._fold = LogFold(self._program, whole_log(ledger))
        self._through = ledger.last_sequence()
        count = min(sample, self._through)
        drawn = rng.choice(self._through, count, replace=False) if count else np.empty(0, np.int64)
        self._drawn = np.sort(drawn.astype(np.int64) + 1)
        self._served = dict(self._recorded(rng))
        self._vectors: dict[int, Vectors] = {}
        self._ids: dict[int, str] = {}
        self._keys: dict[int, Keys] = {}
        self.checked: list[Checked] = []
        self.examples: list[tuple[str, str, str, Any, Any]] = []

    def _recorded(self, rng: np.random.Generator) -> Iterator[tuple[int, Vectors]]:
        """Sequence and served vector of decisions drawn at random."""
        groups = [
            (group.first_sequence, group.entries)
            for group in self._ledger.groups()
            if group.kind == GroupKind.DECISIONS and group.first_sequence <= self._through
        ]
        total = sum(entries for _, entries in groups)
        if not total:
            return
        ends = np.cumsum([entries for _, entries in groups])
        drawn = np.sort(rng.choice(total, min(self._sample, total), replace=False))
        wanted = {groups[i][0] for i in np.searchsorted(ends, drawn, side="right").tolist()}
        places = set(drawn.tolist())
        passed = 0
        for group in self._ledger.groups(groups[0][0] - 1):
            if group.kind != GroupKind.DECISIONS or group.first_sequence > self._through:
                continue
            if group.first_sequence in wanted:
                decided = decode_decisions(group.payload)
                flags = decided.flag_array()
                vectors = None if decided.positions else self._columns.take(decided)
                if vectors is not None:
                    for row in range(group.entries):
                        if passed + row in places and not flags[row] & FLAG_DEGRADED:
                            yield group.first_sequence + row, vectors[row]
            passed += group.entries

    def recompute(self, progress: ProgressCallback) -> None:
        """Fold the log, and keep the vectors of the drawn rows."""
        until = self._through
        for first, batch in read_log(self._ledger, until=until):
            self._fold.book.scan([batch])
            progress("labels", first + batch.num_rows - 1, until)
        wanted = np.union1d(self._drawn, np.array(sorted(self._served), dtype=np.int64))
        for first, batch in read_log(self._ledger, until=until):
            vectors = self._fold.step(batch)
            is_payment = batch.column("kind").to_numpy() == KIND_TRANSACTION
            sequences = first + np.flatnonzero(is_payment)
            rows = np.flatnonzero(np.isin(sequences, wanted))
            few = batch.filter(pa.array(is_payment)).take(pa.array(rows))
            names = ["transaction_id", *ENTITY_COLUMNS]
            for row, entry in zip(rows.tolist(), few.select(names).to_pylist(), strict=True):
                sequence = int(sequences[row])
                self._vectors[sequence] = vectors[row].copy()
                self._ids[sequence] = entry.pop("transaction_id")
                self._keys[sequence] = {k: v for k, v in entry.items() if v is not None}
            progress("replay", first + batch.num_rows - 1, until)

    def compare_recorded(self) -> None:
        """Decisions: what the ledger says was served."""
        sequences = sorted(self._served)
        self._compare(
            "recorded",
            [self._ids[s] for s in sequences],
            self._stack([self._served[s] for s in sequences]),
            self._stack([self._vectors[s] for s in sequences]),
        )

    def compare_windows(self) -> None:
        """Windows as they are at the end of the log, asked for as Feast's SDK asks."""
        rows = [self._keys[s] for s in self._drawn_payments()]
        names = list(self._plan.feature_names)
        left, bad = list(range(len(rows))), 0
        served = recomputed = self._stack([])
        for _ in range(_TRIES):
            self._catch_up()
            now_us = self._ledger.last_received_at_us()
            asked = [rows[i] for i in left]
            served = self._online.windows(asked, names, now_us) if asked else self._stack([])
            recomputed = self._read(asked, now_us)
            differ = np.flatnonzero(~_same(served, recomputed).all(axis=1))
            if not len(differ):
                left = []
                break
            left = [left[i] for i in differ.tolist()]
            served, recomputed = served[differ], recomputed[differ]
            time.sleep(_WAIT_SECONDS)  # for what was just being added
        bad = len(left)
        good = len(rows) - bad
        self._compare("windows", [str(rows[i]) for i in left], served[:bad], recomputed[:bad], good)

    def compare_history(self, view: OnlineView) -> None:
        """The per-transaction view: rows that were materialized."""
        through = self._online.watermark(view).sequence
        sequences = [s for s in self._drawn_payments() if s <= through]
        ids = [self._ids[s] for s in sequences]
        found = self._online.read(
            view, ["plan_hash", "vector"], [{"transaction_id": name} for name in ids]
        )
        nothing = np.full(len(self._plan.feature_names), np.inf, dtype=np.float32)
        kept = [
            i
            for i, plan in enumerate(found["plan_hash"])
            if plan is None or plan == self._plan.hash
        ]
        served = [
            nothing if found["vector"][i] is None else np.array(found["vector"][i], np.float32)
            for i in kept
        ]
        recomputed = self._stack([self._vectors[sequences[i]] for i in kept])
        self._compare(view.name, [ids[i] for i in kept], self._stack(served), recomputed)

    def compare_profiles(self, view: OnlineView) -> None:
        """A slow-changing view: as of the last materialization."""
        assert view.profile is not None
        table = ViewTable(offline_root(self._settings), view.table, self._settings)
        if table.manifest is None or not table.manifest.sequence:
            return
        keys, names = view.profile.keys, [s.name for s in view.profile.statistics]
        again = profile_rows(
            self._settings,
            view.profile,
            after=0,
            until=table.manifest.sequence,
            as_of_us=table.manifest.as_of_us,
        ).to_pylist()
        by_key = {tuple(row[key] for key in keys): row for row in again}
        drawn = [self._keys[s] for s in self._drawn_payments() if s <= table.manifest.sequence]
        entities = sorted({tuple(row.get(key, "") for key in keys) for row in drawn} & set(by_key))
        asked = [dict(zip(keys, entity, strict=True)) for entity in entities]
        found = self._online.read(view, names, asked)
        mismatches = bad_rows = 0
        for row, entity in enumerate(entities):
            wrong = [n for n in names if found[n][row] != by_key[entity][n]]
            mismatches += len(wrong)
            bad_rows += bool(wrong)
            for name in wrong[: _SHOWN - len(self.examples)]:
                values = (found[name][row], by_key[entity][name])
                self.examples.append((view.name, "/".join(entity), name, *values))
        self.checked.append(
            Checked(view.name, len(entities), len(entities) * len(names), bad_rows, mismatches)
        )

    def _drawn_payments(self) -> list[int]:
        return [s for s in self._drawn.tolist() if s in self._ids]

    def _catch_up(self) -> None:
        """Fold what was appended since."""
        for first, batch in read_log(self._ledger, after=self._through):
            self._fold.book.scan([batch])
            self._fold.step(batch, vectors=False)
            self._through = first + batch.num_rows - 1

    def _read(self, rows: Sequence[Keys], now_us: int) -> Vectors:
        return OnlineFold(self._program, self._fold.arena, len(rows)).read(rows, now_us)

    def _stack(self, vectors: Sequence[Vectors]) -> Vectors:
        width = len(self._plan.feature_names)
        return np.array(vectors, dtype=np.float32).reshape(len(vectors), width)

    def _compare(
        self, what: str, rows: Sequence[str], served: Vectors, recomputed: Vectors, good: int = 0
    ) -> None:
        """Count what differs; ``good`` rows were found the same before."""
        same = _same(served, recomputed)
        for row, feature in np.argwhere(~same)[: _SHOWN - len(self.examples)].tolist():
            values = float(served[row, feature]), float(recomputed[row, feature])
            self.examples.append((what, rows[row], self._plan.feature_names[feature], *values))
        n = len(rows) + good
        self.checked.append(
            Checked(
                what,
                n,
                n * len(self._plan.feature_names),
                int((~same.all(axis=1)).sum()),
                int((~same).sum()),
            )
        )


def _same(one: Vectors, other: Vectors) -> npt.NDArray[np.bool_]:
    """Equal to the bit, or both unknown."""
    same: npt.NDArray[np.bool_] = one.view(np.uint32) == other.view(np.uint32)
    return same | (np.isnan(one) & np.isnan(other))
