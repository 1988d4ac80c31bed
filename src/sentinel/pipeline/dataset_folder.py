"""A point-in-time dataset as files: what a model was trained and measured on, to keep and reread.

    <offline>/datasets/<name>/
        manifest.json       periods, counts and hashes
        plan.json           the plan that the vectors were computed with
        fit.parquet         what the model is fitted on
        tail.parquet        the rows after it: when to stop, calibration, thresholds
        test.parquet        what every figure is measured on

Each file has a row for each payment, in log order: ``fraud``, ``card`` (a code), ``event_time_us``,
``amount_minor`` and a float32 column for each feature, NaN = unknown. Where a payment stands for
others, ``sentinel_weight`` says for how many: those that a control group let through, and fitted
ones where there were too many to fit on. The test then has ``sentinel_unclipped_weight`` if weights
were cut. The name is a hash of the content: the same data are the same dataset, whoever builds it.

Format 1 had weights in ``fit`` alone, and is read, too.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.domain import WorkspaceError
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import data_hash

DATASET_FORMAT: Final = 2
_READ_FORMATS: Final = (1, 2)
KEPT: Final = 3
"""Datasets of a workspace; building a new one deletes the oldest beyond so many."""

WEIGHT: Final = "sentinel_weight"
"""The column of weights, where rows stand for others."""
UNCLIPPED: Final = "sentinel_unclipped_weight"
"""The column of weights before they were cut."""

PARTS: Final = ("fit", "tail", "test")
_PARTIAL_SECONDS: Final = 86_400.0

Matrix = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of one part in figures.

    Attributes:
        rows, frauds: How many, and how many of them are known frauds.
        start_us, end_us: Event times they were taken from, the end exclusive.
        cutoff_us: Labels that arrived from here on were not looked at.
        effective_rows, effective_frauds: How many equally weighted ones say as much (Kish); None
            if each stands for itself.
        clipped_mass: Share of the weights that was cut off.
    """

    rows: int
    frauds: int
    start_us: int
    end_us: int
    cutoff_us: int
    effective_rows: float | None = None
    effective_frauds: float | None = None
    clipped_mass: float = 0.0

    def __len__(self) -> int:
        return self.rows

    @property
    def days(self) -> float:
        """Length of the period."""
        return (self.end_us - self.start_us) / DAY_US


class DatasetManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a dataset says of itself.

    Attributes:
        name: Hash of the whole content.
        plan_hash: The plan of the vectors.
        data_hash: Hash of what a model learns from: fit and tail.
        log_through: The last log entry that was looked at.
        fit, tail, test: The parts; tail and test are empty where nothing could be held out.
        window_days: Days that were to be fitted on; 0: all that is mature.
        gap_us: How long after a payment its silence started to count.
        left_out: Payments whose truth nobody will ever know, see `sentinel.models.splitting`.
        notes: A line for each length of the settings that gave way to what there is.
        provisional: Why no gate can judge a model of it; empty if one can.
        served: Vectors that are as they were served; the others are computed.
        degraded: Of them, those of degraded decisions.
        unknown: How many payments of its time are in no part, by why.
        outside: How many payments lie before and after its time, by where.
        format: Version of this layout.
    """

    name: str
    plan_hash: str
    data_hash: str
    log_through: int
    fit: Period
    tail: Period
    test: Period
    window_days: float = 0.0
    gap_us: int | None = None
    left_out: int = 0
    notes: tuple[str, ...] = ()
    provisional: str = ""
    served: int = 0
    degraded: int = 0
    unknown: dict[str, int] = {}
    outside: dict[str, int] = {}
    format: int = DATASET_FORMAT


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one part.

    Attributes:
        X: float32 (n, n_features), NaN = unknown.
        fraud: bool (n,).
        card, event_time_us, amount_minor: int64 (n,); the card is a code, negative = unknown.
        weight: float64 (n,), how many payments each stands for; None if each is one.
        unclipped: float64 (n,), the same before it was cut; None if nothing was, and in ``fit``.
    """

    X: Matrix
    fraud: npt.NDArray[np.bool_]
    card: Ints
    event_time_us: Ints
    amount_minor: Ints
    weight: Floats | None = None
    unclipped: Floats | None = None


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset in memory.

    Attributes:
        manifest: What it says of itself.
        plan: Of its vectors.
        fit, tail, test: Its parts.
    """

    manifest: DatasetManifest
    plan: Plan
    fit: Rows
    tail: Rows
    test: Rows


def load_dataset(folder: Path) -> Dataset:
    """Read a dataset back.

    Raises:
        WorkspaceError: It is not there, of another version, or not what it was.
    """
    remedy = "Build it again with `sentinel train`."
    try:
        manifest = msgspec.json.decode(
            (folder / "manifest.json").read_bytes(), type=DatasetManifest
        )
        plan = Plan.load(folder / "plan.json")
        parts = {name: _read(folder / f"{name}.parquet", plan) for name in PARTS}
    except FileNotFoundError as error:
        raise WorkspaceError(f"There is no dataset in {folder} ({error}). {remedy}") from None
    except (msgspec.DecodeError, msgspec.ValidationError, pa.ArrowException, KeyError) as error:
        raise WorkspaceError(f"The dataset in {folder} cannot be read: {error}. {remedy}") from None
    if manifest.format not in _READ_FORMATS or manifest.name != name_of(plan, parts):
        raise WorkspaceError(f"The dataset in {folder} is not what it was. {remedy}")
    return Dataset(manifest, plan, **parts)


def learnt_hash(parts: dict[str, Rows]) -> str:
    """Hash of what a model learns from: ``fit`` and ``tail`` of the parts by name."""
    fit, tail = parts["fit"], parts["tail"]
    fitted = () if fit.weight is None else (fit.weight,)
    later = () if tail.weight is None else (tail.weight,)
    return data_hash(fit.X, fit.fraud, *fitted, tail.X, tail.fraud, *later)


def name_of(plan: Plan, parts: dict[str, Rows]) -> str:
    """A dataset's name: hash of its plan and of its parts by name."""
    arrays: list[npt.NDArray[np.generic]] = [np.frombuffer(plan.hash.encode(), dtype=np.uint8)]
    for rows in parts.values():
        arrays += [rows.X, rows.fraud, rows.card, rows.event_time_us, rows.amount_minor]
        arrays += [column for column in (rows.weight, rows.unclipped) if column is not None]
    return data_hash(*arrays)


def write_dataset(
    folder: Path, plan: Plan, parts: dict[str, Rows], manifest: DatasetManifest
) -> None:
    """Write the files; the folder is there whole or not at all."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "manifest.json").exists():
        (folder / "manifest.json").touch()  # in use again
        return
    partial = Path(tempfile.mkdtemp(prefix="partial-", dir=folder.parent))
    try:
        for name, rows in parts.items():
            columns = {
                "fraud": rows.fraud,
                "card": rows.card,
                "event_time_us": rows.event_time_us,
                "amount_minor": rows.amount_minor,
                **({} if rows.weight is None else {WEIGHT: rows.weight}),
                **({} if rows.unclipped is None else {UNCLIPPED: rows.unclipped}),
                **dict(zip(plan.feature_names, rows.X.T, strict=True)),
            }
            arrays = [pa.array(np.ascontiguousarray(column)) for column in columns.values()]
            table = pa.Table.from_arrays(arrays, names=list(columns))
            pq.write_table(
                table, partial / f"{name}.parquet", compression="zstd", compression_level=1
            )
        plan.save(partial / "plan.json")
        content = msgspec.json.format(msgspec.json.encode(manifest))
        (partial / "manifest.json").write_bytes(content)
        _put(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _put(partial: Path, folder: Path) -> None:
    """Move a whole dataset to its place, unless another training has put the same one there."""
    try:
        partial.replace(folder)
    except OSError:
        if (folder / "manifest.json").exists():
            shutil.rmtree(partial, ignore_errors=True)
            return
        shutil.rmtree(folder, ignore_errors=True)  # what an interrupted deletion left
        partial.replace(folder)


def _read(path: Path, plan: Plan) -> Rows:
    table = pq.read_table(path)
    X = np.empty((table.num_rows, len(plan.feature_names)), dtype=np.float32)
    for place, name in enumerate(plan.feature_names):
        X[:, place] = table.column(name).to_numpy()
    return Rows(
        X=X,
        fraud=table.column("fraud").to_numpy(),
        card=table.column("card").to_numpy(),
        event_time_us=table.column("event_time_us").to_numpy(),
        amount_minor=table.column("amount_minor").to_numpy(),
        weight=_optional(table, WEIGHT),
        unclipped=_optional(table, UNCLIPPED),
    )


def _optional(table: pa.Table, name: str) -> Floats | None:
    column: Floats | None = table.column(name).to_numpy() if name in table.column_names else None
    return column


def forget_partial(datasets: Path) -> None:
    """Delete what trainings that were killed long ago left unfinished."""
    before = time.time() - _PARTIAL_SECONDS
    for path in datasets.glob("partial-*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)


def forget_old(present: Path) -> None:
    """Delete all but the newest datasets."""
    found = [
        path.parent
        for path in present.parent.glob("*/manifest.json")
        if not path.parent.name.startswith("partial-")
    ]
    found.sort(key=lambda folder: (folder / "manifest.json").stat().st_mtime, reverse=True)
    for folder in found[KEPT:]:
        if folder != present:
            shutil.rmtree(folder, ignore_errors=True)
