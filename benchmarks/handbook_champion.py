"""Our features of the Handbook's payments, and models of any family on them."""

from __future__ import annotations

import warnings
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.handbook_protocol import DELAY_DAYS, Floats, Fold, Transactions
from benchmarks.parity_log import END_OF_TIME_US, REPOSITORY
from benchmarks.pieces import Pieces
from sentinel import feature_sets
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.models.dataset import LabelLog, PaymentLog, sample
from sentinel.models.sampling import thinned
from sentinel.models.splitting import TAIL_SHARE
from sentinel.models.trainers import Validation, train
from sentinel.sources import log_batches, open_source

Matrix = npt.NDArray[np.float32]

WINDOW_DAYS: Final = 90
"""The champion's training window."""

SEED: Final = 7

DEFAULT: Final = REPOSITORY / "feature_store"
"""Definitions that any payments get."""
HANDBOOK: Final = Path(feature_sets.__file__).parent / feature_sets.HANDBOOK
"""Definitions that `sentinel import handbook` installs."""


class Champion:
    """Our features of every payment, and a model per fold.

    Args:
        data: The transactions, as the book has them.
        path: The same as a file, which our own source reads.
        definitions: Folder of the features' definitions.
        pieces: Where the features are kept, so that a run that was stopped does not fold the log
            again; None if nowhere.
    """

    def __init__(
        self,
        data: Transactions,
        path: Path,
        definitions: Path = HANDBOOK,
        *,
        pieces: Pieces | None = None,
    ) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Feast says that stream views are young
            self.plan: Plan = compile_definitions(definitions)
        self.data = data
        self._path = path
        self._pieces = pieces or Pieces(None)
        frauds = np.flatnonzero(data.fraud)
        self.labels = LabelLog(
            row=frauds,
            fraud=np.ones(len(frauds), dtype=np.bool_),
            received_at_us=data.time_us[frauds] + DELAY_DAYS * DAY_US,
        )
        self.payments = PaymentLog(
            event_time_us=data.time_us,
            received_at_us=data.time_us,
            amount_minor=np.rint(100 * data.amount).astype(np.int64),
            card=data.customer,
        )

    @cached_property
    def vectors(self) -> Matrix:
        """The features of every payment: float32 (n_rows, n_features)."""
        n_rows = len(self.data.day)

        def make() -> list[Matrix]:
            return [_vectors(self.plan, self._path, n_rows)]

        return self._pieces.arrays("vectors", [self.plan.hash, n_rows], make)[0]

    def score(
        self,
        one: Fold,
        *,
        window_days: int = WINDOW_DAYS,
        features: npt.NDArray[np.bool_] | None = None,
        family: str = "lightgbm",
        most_rows: int | None = None,
        stops_early: bool = False,
        **parameters: Any,
    ) -> Floats:
        """Scores of a fold's test rows: float64 (n_test,).

        Args:
            one: The fold; nothing that was unknown when its test began is learnt from.
            window_days: Days of history to learn from, as far as there are.
            features: bool (n_features,), those to use.
            family: Of the model.
            most_rows: Most payments to fit on; all frauds are among them, and good ones stand for
                the others. None for all there are.
            stops_early: Whether the later part of the history says when to stop, as in
                ``sentinel train``.
            parameters: Changes to the trainer's default settings.
        """
        learn = sample(
            self.payments,
            self.labels,
            start_us=one.test_start_us - (DELAY_DAYS + window_days) * DAY_US,
            end_us=one.test_start_us,
            cutoff_us=one.test_start_us,
            maturity_us=DELAY_DAYS * DAY_US,
        )
        columns = np.flatnonzero(
            np.ones(len(self.plan.feature_names), np.bool_) if features is None else features
        )
        rows, fraud, weight = learn.rows, learn.fraud, None
        if most_rows is not None and most_rows < len(rows):
            keep, weight = thinned(fraud, most_rows, seed=SEED)
            rows, fraud = rows[keep], fraud[keep]
        validation, fit = None, slice(None)
        if stops_early:
            times = self.data.time_us[rows]
            middle = int(times[-1] - (times[-1] - times[0]) * TAIL_SHARE)
            first = int(np.searchsorted(times, middle))
            fit, tail = slice(first), slice(first, None)
            validation = Validation(
                X=self.vectors[np.ix_(rows[tail], columns)],
                y=fraud[tail],
                weight=None if weight is None else weight[tail],
            )
        model = train(
            family,
            self.vectors[np.ix_(rows[fit], columns)],
            fraud[fit],
            feature_names=[self.plan.feature_names[i] for i in columns],
            seed=SEED,
            validation=validation,
            weight=None if weight is None else weight[fit],
            parameters=parameters,
        )
        return model.raw_score(self.vectors[np.ix_(one.test, columns)])


def _vectors(plan: Plan, path: Path, n_rows: int) -> Matrix:
    """The fold of the whole log: float32 (n_rows, n_features)."""
    source = open_source("handbook", path=path, label_delay_days=float(DELAY_DAYS))
    with log_batches(source, now_us=END_OF_TIME_US) as log:
        batches = list(log)
    book = LabelBook()
    book.scan(batches)
    engine = OfflineFold(compile_program(plan), book=book)
    vectors = np.empty((n_rows, len(plan.feature_names)), dtype=np.float32)
    at = 0
    for part in engine.run(batches):
        vectors[at : at + len(part)] = part
        at += len(part)
    if at != n_rows:
        raise RuntimeError(f"The log has {at} payments, the file {n_rows}.")
    return vectors
