"""A dataset as it is built: the payments of a split, what was known of them, and their vectors.

What a dataset is, on disk and in memory: `sentinel.pipeline.dataset_folder`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from sentinel.features.plan.plan import DAY_US
from sentinel.models.dataset import Sample, unclipped_column, weight_column
from sentinel.models.sampling import thinned
from sentinel.models.splitting import Split, SplitRequest, split_by_time
from sentinel.models.weights import clipped_mass, effective_size
from sentinel.pipeline.dataset_folder import (
    PARTS,
    Dataset,
    DatasetManifest,
    Ints,
    Matrix,
    Period,
    Rows,
    forget_old,
    forget_partial,
    learnt_hash,
    name_of,
    write_dataset,
)
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

_FIRST_ROWS: Final = 1_000
_NAMED: Final = 10
"""Features without a value that are named."""

Vectors = Callable[[Ints], tuple[Matrix, Overridden]]


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
    parts = {name: getattr(data, name) for name in PARTS}
    folder = _datasets(settings) / data.manifest.name
    write_dataset(folder, known.plan, parts, data.manifest)
    forget_old(folder)
    forget_partial(folder.parent)
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
    samples = dict(zip(PARTS, (split.fit, split.tail, split.test), strict=True))
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
        name=name_of(known.plan, parts),
        plan_hash=known.plan.hash,
        data_hash=learnt_hash(parts),
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


def _datasets(settings: Settings) -> Path:
    return settings.offline_dir / "datasets"
