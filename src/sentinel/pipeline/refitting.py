"""What was measured saw nothing of the newest truth; what serves is fitted on all of it.

The twin, which every figure is of, leaves out the test and the label gap before it. The refit is
the same procedure on all payments whose truth has matured, so it ranks the next ones better, and it
is surer of itself than its twin. Its calibration is the twin's, which comes from scores of payments
after those it was fitted on: a score of the refit counts as the score of its twin that as many of
the recent payments exceed (equipercentile equating; Kolen and Brennan, 2014). So the lines
that were measured hold, and no payment calibrates a model that learnt from it. Every second recent
payment equates; on the others a refit that would stop another share of them than its twin is not
what was measured: then the twin serves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.plan import DAY_US
from sentinel.models.artifact import RefitNote, TrainingWindow
from sentinel.models.calibration import Calibration, rising_curve
from sentinel.models.dataset import sample
from sentinel.models.fitted import FittedModel
from sentinel.models.line_guard import ALERT_MARGIN
from sentinel.models.splitting import Split
from sentinel.models.thresholds import Thresholds
from sentinel.models.trainers import TrainerName
from sentinel.pipeline.dataset_folder import Dataset
from sentinel.pipeline.datasets import Vectors, dataset_of
from sentinel.pipeline.fitting import Result, fit
from sentinel.pipeline.labelled_payments import KnownPayments
from sentinel.pipeline.served_vectors import Overridden
from sentinel.policy.economics import Economics
from sentinel.policy.lines import outcomes_of
from sentinel.settings import Settings

MOST_RECENT: Final = 50_000
"""Recent payments that equate a refit with its twin and compare the two, the latest ones."""
FEWEST_RECENT: Final = 1_000
"""With fewer, nothing can be said of the few that are stopped."""

_Z95: Final = 1.96
_POINTS: Final = 200

Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Refit:
    """A model of the twin's procedure on all mature payments.

    Attributes:
        model, calibration, thresholds: What would serve.
        training: What it learnt from.
        note: How it compares with its twin, for the manifest.
    """

    model: FittedModel
    calibration: Calibration
    thresholds: Thresholds
    training: TrainingWindow
    note: RefitNote


def refit(
    settings: Settings,
    name: TrainerName,
    data: Dataset,
    twin: Result,
    known: KnownPayments,
    *,
    costs: Economics | None = None,
    vectors: Vectors | None = None,
    parameters: Mapping[str, Any] | None = None,
    threads: int | None = None,
) -> Refit | None:
    """Fit the procedure of a model on all mature payments, and hold it against that model.

    Args:
        settings: Give the seed and the most rows.
        name: The trainer.
        data: What the twin was fitted and measured on.
        twin: That model.
        known: The log that the dataset was made of, as long as it was then or longer.
        costs: Decide what is stopped; None where the model's own lines do.
        vectors: Gives the vectors of some rows; default: those of ``known``.
        parameters: Changes to the trainer's own settings.
        threads: Default: the cores of this machine.

    Returns:
        The refit; None where nothing was held out, so that there is nothing to add.
    """
    about = data.manifest
    if twin.held_out is None or about.gap_us is None or not len(data.tail.fraud):
        return None
    get = vectors or (lambda rows: (known.vectors(rows), Overridden()))
    everything = _all_mature(settings, data, known, get)
    if not 0 < np.count_nonzero(everything.fit.fraud) < len(everything.fit.fraud):
        return None  # labels were corrected meanwhile
    changes = dict(parameters or {})
    if "rounds" in twin.model.parameters:  # its early stopping says how many trees are enough
        changes["rounds"] = twin.model.parameters["rounds"]
    model = fit(settings, name, everything, parameters=changes, threads=threads)
    recent = _recent(known, about.test.end_us, about.test.cutoff_us)
    X, _ = get(recent)
    raw, twin_raw = model.raw_score(X), twin.model.raw_score(X)
    calibration, checked = twin.calibration, slice(1, None, 2)
    if len(recent) >= FEWEST_RECENT:
        calibration = equated(raw[::2], twin_raw[::2], twin.calibration)
    amount = known.payments.amount_minor[recent][checked].astype(np.float64)
    segment = np.zeros(len(amount), dtype=np.int64)
    stopped, twin_stopped = (
        outcomes_of(costs or twin.thresholds, by.apply(scores[checked]), amount, segment) > 0
        for by, scores in ((calibration, raw), (twin.calibration, twin_raw))
    )
    refused = differs(stopped, twin_stopped)
    if len(recent) < FEWEST_RECENT:
        refused = (
            f"{len(recent):,} payments are younger than known truth, {FEWEST_RECENT:,} are needed "
            "to compare the two"
        )
    learnt = everything.manifest.fit
    return Refit(
        model=model,
        calibration=calibration,
        thresholds=twin.thresholds,
        training=TrainingWindow(
            start_us=learnt.start_us,
            end_us=learnt.end_us,
            cutoff_us=learnt.cutoff_us,
            rows=learnt.rows,
            frauds=learnt.frauds,
            gap_us=about.gap_us,
        ),
        note=RefitNote(
            recent=len(stopped),
            alert_rate=float(stopped.mean()) if len(stopped) else 0.0,
            twin_alert_rate=float(twin_stopped.mean()) if len(stopped) else 0.0,
            refused=refused,
        ),
    )


def differs(stopped: Bools, twin_stopped: Bools) -> str:
    """Why two models stop different shares of the same payments; empty if they do not.

    The shares differ if they lie more than a fifth apart, and further than chance puts two models
    that were equated on as many other payments (McNemar, 1947, with twice the variance: that of
    these payments, and that of those).

    Args:
        stopped, twin_stopped: bool (n_rows,), what either would review or decline.
    """
    mine, theirs = int(np.count_nonzero(stopped)), int(np.count_nonzero(twin_stopped))
    apart, discordant = abs(mine - theirs), int(np.count_nonzero(stopped != twin_stopped))
    if apart <= ALERT_MARGIN * theirs or apart <= _Z95 * math.sqrt(2 * discordant):
        return ""
    return (
        f"on all mature payments it would stop {mine:,} of the last {len(stopped):,} payments "
        f"instead of {theirs:,}"
    )


def equated(raw: Floats, twin_raw: Floats, calibration: Calibration) -> Calibration:
    """The calibration of a twin for the scores of its refit.

    Args:
        raw: float64 (n_rows,), scores of the refit.
        twin_raw: float64 (n_rows,), the twin's of the same payments.
        calibration: The twin's.

    Returns:
        A curve that gives the k-th highest score of either the same probability. Beyond the
        outermost scores both go on alike.
    """
    # Payments are stopped by the highest scores, so the ranks lie densely there.
    ranks = np.unique(np.geomspace(1, len(raw), _POINTS).astype(np.int64) - 1)[::-1]
    mine, theirs = np.sort(raw)[::-1][ranks], np.sort(twin_raw)[::-1][ranks]
    rises = np.append(True, (np.diff(mine) > 0) & (np.diff(theirs) > 0))
    mine, theirs = mine[rises], theirs[rises]
    points = np.union1d(theirs, calibration.x)
    points = points[(points >= calibration.x[0]) & (points <= calibration.x[-1])]
    x = np.interp(points, theirs, mine)
    x += np.minimum(points - theirs[0], 0.0) + np.maximum(points - theirs[-1], 0.0)
    return rising_curve(x, calibration.apply(points))


def _all_mature(
    settings: Settings, data: Dataset, known: KnownPayments, vectors: Vectors
) -> Dataset:
    """All payments whose truth the test's cut-off knows, in the part that is fitted on."""
    about = data.manifest
    start_us, end_us = about.fit.start_us, about.test.end_us
    if about.window_days:
        start_us = max(start_us, end_us - round(about.window_days * DAY_US))
    mature = sample(
        known.payments,
        known.labels,
        start_us=start_us,
        end_us=end_us,
        cutoff_us=about.test.cutoff_us,
        maturity_us=about.gap_us or 0,
    )
    none = mature.take(slice(0))
    split = Split(fit=mature, tail=none, test=none, gap_us=about.gap_us or 0)
    return dataset_of(settings, known, split, log_through=about.log_through, vectors=vectors)


def _recent(known: KnownPayments, start_us: int, now_us: int) -> Ints:
    """Rows of the payments whose truth has not matured, the latest ones."""
    times = known.payments.event_time_us
    rows = np.flatnonzero((times >= start_us) & (times < now_us))
    return rows[-MOST_RECENT:]
