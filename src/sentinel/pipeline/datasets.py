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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from sentinel.domain import WorkspaceError
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import Sample, data_hash, unclipped_column, weight_column
from sentinel.models.sampling import thinned
from sentinel.models.splitting import Split, SplitRequest, split_by_time
from sentinel.models.weights import clipped_mass, effective_size
from sentinel.pipeline.label_watch import check_label_feed
from sentinel.pipeline.labelled_payments import (
    KnownPayments,
    LabelledPayments,
    labelled_payments,
    maturity_is_default,
    maturity_us,
    served_over,
)
from sentinel.pipeline.served_vectors import Overridden
from sentinel.pipeline.window_search import remembered
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

DATASET_FORMAT: Final = 2
_READ_FORMATS: Final = (1, 2)
KEPT: Final = 3
"""Datasets of a workspace; building a new one deletes the oldest beyond so many."""

WEIGHT: Final = "sentinel_weight"
"""The column of weights, where rows stand for others."""
UNCLIPPED: Final = "sentinel_unclipped_weight"
"""The column of weights before they were cut."""

_PARTS: Final = ("fit", "tail", "test")
_PARTIAL_SECONDS: Final = 86_400.0
_FIRST_ROWS: Final = 1_000
_NAMED: Final = 10
"""Features without a value that are named."""

Matrix = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Vectors = Callable[[Ints], tuple[Matrix, Overridden]]


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


@dataclass(frozen=True)
class BuiltDataset:
    """A dataset on disk.

    Attributes:
        folder: Where it is.
        manifest: What it says of itself.
        dataset: The same in memory.
        known: The log that it was made of.
    """

    folder: Path
    manifest: DatasetManifest
    dataset: Dataset = field(compare=False, repr=False)
    known: LabelledPayments = field(compare=False, repr=False)


def build_dataset(
    settings: Settings,
    *,
    now_us: int | None = None,
    progress: ProgressCallback = no_progress,
) -> BuiltDataset:
    """Put vectors and what was known of them at a moment into files.

    Args:
        settings: The deployment; ``training.window_days`` and ``training.test_days`` give the
            periods, ``labels.maturity_days`` the gaps.
        now_us: The moment of knowledge, microseconds UTC; default: the end of the log.
        progress: Told of the stages "labels", "backfill" and "vectors".

    Raises:
        InvalidQuery: No payment is known to be fraud, or none to be anything else.
        LabelsStopped: No label has arrived for too long.
        DefinitionError, WorkspaceError: See `backfill`.
    """
    known = labelled_payments(settings, progress=progress)
    check_label_feed(settings, known, now_us)
    window, chosen = window_days(settings, known.plan.hash)
    split = split_of(settings, known, now_us, window=window)
    data = dataset_of(
        settings,
        known,
        split,
        log_through=known.parts.manifest.sequence,
        window=window,
        note=chosen,
        vectors=partial(served_over, settings, known),
        progress=progress,
    )
    parts = {name: getattr(data, name) for name in _PARTS}
    folder = _datasets(settings) / data.manifest.name
    _write(folder, known.plan, parts, data.manifest)
    _forget_old(folder)
    _forget_partial(folder.parent)
    return BuiltDataset(folder, data.manifest, data, known)


def dataset_of(
    settings: Settings,
    known: KnownPayments,
    split: Split,
    *,
    log_through: int,
    window: float = 0.0,
    note: str = "",
    vectors: Vectors | None = None,
    progress: ProgressCallback = no_progress,
) -> Dataset:
    """The rows of a split with their vectors, in memory.

    Args:
        settings: The deployment; ``training.max_rows`` says how many rows are fitted on.
        known: The log.
        split: Of the same log.
        log_through: The last log entry that was looked at.
        window: Days that were to be fitted on; 0: all that is mature.
        note: A line on that, where the length was chosen.
        vectors: Gives the vectors of some rows, and how many of them were served; default: those
            of ``known``, which are computed.
        progress: Told of the stage "vectors".
    """
    samples = dict(zip(_PARTS, (split.fit, split.tail, split.test), strict=True))
    parts: dict[str, Rows] = {}
    served = Overridden()
    get = vectors or (lambda rows: (known.vectors(rows), Overridden()))
    for done, (name, sample) in enumerate(samples.items()):
        progress("vectors", done, len(samples))
        most = settings.training.max_rows if name == "fit" else len(sample)
        parts[name], found = _rows(known, sample, most, settings.training.seed, get)
        served += found
    progress("vectors", len(samples), len(samples))
    notes = (*split.notes, note) if note else split.notes
    fitted = len(parts["fit"].fraud)
    if fitted < len(split.fit):
        frauds = int(parts["fit"].fraud.sum())
        thinning = (
            f"Fitted on {fitted:,} of {len(split.fit):,} payments (training.max_rows): {frauds:,} "
            f"of {split.fit.frauds:,} frauds, and good ones that count for all."
        )
        notes = (*notes, thinning)
    if served.degraded:
        seen = (
            f"{served.degraded:,} of {served.served:,} vectors that were served are of degraded "
            "decisions: they are learnt from as the model saw them."
        )
        notes = (*notes, seen)
    unknown = unknown_features(parts["fit"].X, known.plan.feature_names)
    notes = (*notes, unknown) if unknown else notes
    manifest = DatasetManifest(
        name=_name(known.plan, parts),
        plan_hash=known.plan.hash,
        data_hash=_learnt_hash(parts),
        log_through=log_through,
        fit=_period(split.fit),
        tail=_period(split.tail),
        test=_period(split.test),
        window_days=window,
        gap_us=split.gap_us,
        left_out=split.left_out,
        notes=notes,
        provisional=split.provisional,
        served=served.served,
        degraded=served.degraded,
        unknown=split.unknown,
        outside=split.outside,
    )
    return Dataset(manifest, known.plan, **parts)


def unknown_features(X: Matrix, names: Sequence[str]) -> str:
    """A line on features that no row has a value of; empty if there are none.

    Args:
        X: float32 (n, n_features), NaN = unknown.
        names: Of the features.
    """
    few = np.flatnonzero(np.isnan(X[:_FIRST_ROWS]).all(axis=0)).tolist()
    found = [names[column] for column in few if np.isnan(X[:, column]).all()]
    if not len(X) or not found:
        return ""
    more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
    return (
        f"{len(found):,} of {len(names):,} features are unknown in every payment that is fitted "
        f"on, so that the model learns nothing from them: {', '.join(found[:_NAMED])}{more}. The "
        "payments lack the columns that these read, or the mapping calls them otherwise than the "
        "definitions do."
    )


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
        parts = {name: _read(folder / f"{name}.parquet", plan) for name in _PARTS}
    except FileNotFoundError as error:
        raise WorkspaceError(f"There is no dataset in {folder} ({error}). {remedy}") from None
    except (msgspec.DecodeError, msgspec.ValidationError, pa.ArrowException, KeyError) as error:
        raise WorkspaceError(f"The dataset in {folder} cannot be read: {error}. {remedy}") from None
    if manifest.format not in _READ_FORMATS or manifest.name != _name(plan, parts):
        raise WorkspaceError(f"The dataset in {folder} is not what it was. {remedy}")
    return Dataset(manifest, plan, **parts)


def window_days(settings: Settings, plan_hash: str) -> tuple[float, str]:
    """How many days to fit on, 0 for all that is mature, and a line on it where it was chosen."""
    given = settings.training.window_days
    if given != "auto":
        return given, ""
    chosen = remembered(settings, plan_hash)
    return (chosen.days, chosen.words) if chosen is not None and chosen.days else (0.0, "")


def split_of(
    settings: Settings, known: KnownPayments, now_us: int | None, *, window: float = 0.0
) -> Split:
    """The split that the settings ask for, fitted on so many days; 0: on all that is mature."""
    return split_by_time(
        known.payments,
        known.labels,
        SplitRequest(
            now_us=known.end_us if now_us is None else now_us,
            window_us=round(window * DAY_US) if window else None,
            test_us=round(settings.training.test_days * DAY_US),
            maturity_us=maturity_us(settings),
            maturity_is_default=maturity_is_default(settings),
        ),
    )


def _rows(
    known: KnownPayments, sample: Sample, most: int, seed: int, vectors: Vectors
) -> tuple[Rows, Overridden]:
    payments, rows, fraud = known.payments, sample.rows, sample.fraud
    weight, unclipped = weight_column(sample.weight), unclipped_column(sample)
    if len(rows) > most:
        keep, weight = thinned(fraud, most, seed=seed, weight=weight)
        rows, fraud, unclipped = rows[keep], fraud[keep], None
    X, served = vectors(rows)
    taken = Rows(
        X=X,
        fraud=fraud,
        card=payments.card[rows],
        event_time_us=payments.event_time_us[rows],
        amount_minor=payments.amount_minor[rows],
        weight=weight,
        unclipped=unclipped,
    )
    return taken, served


def _period(sample: Sample) -> Period:
    weighted = weight_column(sample.weight) is not None
    return Period(
        rows=len(sample),
        frauds=sample.frauds,
        start_us=sample.start_us,
        end_us=sample.end_us,
        cutoff_us=sample.cutoff_us,
        effective_rows=effective_size(sample.weight) if weighted else None,
        effective_frauds=sample.effective_frauds if weighted else None,
        clipped_mass=clipped_mass(sample.weight, sample.unclipped),
    )


def _learnt_hash(parts: dict[str, Rows]) -> str:
    fit, tail = parts["fit"], parts["tail"]
    fitted = () if fit.weight is None else (fit.weight,)
    later = () if tail.weight is None else (tail.weight,)
    return data_hash(fit.X, fit.fraud, *fitted, tail.X, tail.fraud, *later)


def _name(plan: Plan, parts: dict[str, Rows]) -> str:
    arrays: list[npt.NDArray[np.generic]] = [np.frombuffer(plan.hash.encode(), dtype=np.uint8)]
    for rows in parts.values():
        arrays += [rows.X, rows.fraud, rows.card, rows.event_time_us, rows.amount_minor]
        arrays += [column for column in (rows.weight, rows.unclipped) if column is not None]
    return data_hash(*arrays)


def _datasets(settings: Settings) -> Path:
    return settings.offline_dir / "datasets"


def _write(folder: Path, plan: Plan, parts: dict[str, Rows], manifest: DatasetManifest) -> None:
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


def _forget_partial(datasets: Path) -> None:
    """Delete what trainings that were killed long ago left unfinished."""
    before = time.time() - _PARTIAL_SECONDS
    for path in datasets.glob("partial-*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < before:
                shutil.rmtree(path, ignore_errors=True)


def _forget_old(present: Path) -> None:
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
