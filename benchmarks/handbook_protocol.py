"""The protocol of the Fraud Detection Handbook (Le Borgne et al., 2022): folds, features, figures.

Written anew from the book's description (chapters 3 to 5 and its shared functions), on arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.models.intervals import Counts, Estimate, resamples
from sentinel.models.ranking import CardDays, Ranking

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

FIRST_DAY: Final = np.datetime64("2018-04-01", "D")
TRAIN_DAYS: Final = 7
DELAY_DAYS: Final = 7
TEST_DAYS: Final = 7
TOP_CARDS: Final = 100

TEST_STARTS: Final = ("2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15")
"""First training day of each fold that figures are reported on."""

VALIDATION_STARTS: Final = (
    "2018-05-30",
    "2018-06-06",
    "2018-06-13",
    "2018-06-20",
    "2018-06-27",
    "2018-07-04",
)
"""First training day of each fold that choices are made on: the last of them ends before the
first training day of the first test fold."""

FIGURES: Final = ("auc", "ap", "cp100")

BOOK_FEATURES: Final = (
    "amount",
    "weekend",
    "night",
    *(f"customer_{what}_{days}d" for days in (1, 7, 30) for what in ("count", "mean")),
    *(f"terminal_{what}_{days}d" for days in (1, 7, 30) for what in ("count", "risk")),
)


@dataclass(frozen=True, eq=False)
class Transactions:
    """The raw data, by time. All arrays are (n_rows,).

    Attributes:
        time_us: int64, microseconds.
        day: int64, days since the first.
        customer: int64.
        terminal: int64.
        amount: float64, in currency units.
        fraud: bool.
        scenario: int8, 0 = legitimate, 1 to 3 as in the book.
    """

    time_us: Ints
    day: Ints
    customer: Ints
    terminal: Ints
    amount: Floats
    fraud: npt.NDArray[np.bool_]
    scenario: npt.NDArray[np.int8]

    @classmethod
    def read(cls, path: Path) -> Transactions:
        """Read the book's raw data as one Parquet file."""
        table = pq.read_table(path)
        column = {name: table.column(name).to_numpy() for name in table.column_names}
        return cls(
            time_us=column["TX_DATETIME"].astype("datetime64[us]").astype(np.int64),
            day=column["TX_TIME_DAYS"].astype(np.int64),
            customer=column["CUSTOMER_ID"].astype(np.int64),
            terminal=column["TERMINAL_ID"].astype(np.int64),
            amount=column["TX_AMOUNT"].astype(np.float64),
            fraud=column["TX_FRAUD"] == 1,
            scenario=column["TX_FRAUD_SCENARIO"].astype(np.int8),
        )


@dataclass(frozen=True, eq=False)
class Fold:
    """One fold.

    Attributes:
        train: int64 (n_train,), rows of the training week.
        test: int64 (n_test,), rows of the test week without cards known to be compromised.
        test_start_us: Midnight of the first test day: what is known by then may be learnt from.
    """

    train: Ints
    test: Ints
    test_start_us: int


def fold(data: Transactions, start: str) -> Fold:
    """Training week, delay week and test week from a date on.

    A card leaves the test at the day by whose start a fraud on it is known: one of the training
    week, or of a day that lies more than the delay before.

    Args:
        data: Transactions by time.
        start: First training day, ``YYYY-MM-DD``.
    """
    first = int((np.datetime64(start, "D") - FIRST_DAY).astype(np.int64))

    def rows(from_day: int, to_day: int) -> Ints:
        low, high = np.searchsorted(data.day, [from_day, to_day])
        return np.arange(low, high)

    train = rows(first, first + TRAIN_DAYS)
    test_first = first + TRAIN_DAYS + DELAY_DAYS
    parts = []
    known = data.customer[train][data.fraud[train]]
    for day in range(test_first, test_first + TEST_DAYS):
        told = rows(day - DELAY_DAYS - 1, day - DELAY_DAYS)
        known = np.union1d(known, data.customer[told][data.fraud[told]])
        today = rows(day, day + 1)
        parts.append(today[~np.isin(data.customer[today], known)])
    midnight = (FIRST_DAY + test_first).astype("datetime64[us]").astype(np.int64)
    return Fold(train=train, test=np.concatenate(parts), test_start_us=int(midnight))


def book_features(data: Transactions) -> Floats:
    """The book's fifteen features: float64 (n_rows, 15), columns as in BOOK_FEATURES.

    Customer windows end with the payment itself, which counts; terminal windows end a delay
    before it. Night is midnight to six, both hours included.
    """
    weekday = (data.day + 6) % 7  # the first day was a Sunday
    hour = data.time_us % DAY_US // HOUR_US
    columns = [data.amount, weekday >= 5, hour <= 6]
    customers = _Windows(data.customer, data.time_us)
    for days in (1, 7, 30):
        count = customers.total(np.ones(len(data.day)), days * DAY_US, 0)
        columns += [count, customers.total(data.amount, days * DAY_US, 0) / count]
    terminals = _Windows(data.terminal, data.time_us)
    delay = DELAY_DAYS * DAY_US
    for days in (1, 7, 30):
        count = terminals.total(np.ones(len(data.day)), delay + days * DAY_US, delay)
        frauds = terminals.total(data.fraud, delay + days * DAY_US, delay)
        columns += [count, np.divide(frauds, count, out=np.zeros_like(frauds), where=count > 0)]
    return np.stack([np.asarray(column, dtype=np.float64) for column in columns], axis=1)


class _Windows:
    """Sums over an entity's rows in ``(time - far, time - near]``, never later rows of the log."""

    def __init__(self, entity: Ints, time_us: Ints) -> None:
        self._order = np.lexsort((np.arange(len(entity)), time_us, entity))
        span = int(time_us.max() - time_us.min()) + 1
        self._origin = entity[self._order] * (2 * span)
        self._key = self._origin + (time_us[self._order] - time_us.min())
        self._first = np.searchsorted(self._key, self._origin)
        self._span = span

    def total(self, values: npt.ArrayLike, far_us: int, near_us: int) -> Floats:
        running = np.concatenate([[0.0], np.cumsum(np.asarray(values, np.float64)[self._order])])
        far = np.searchsorted(self._key, self._key - min(far_us, self._span), side="right")
        near = (
            np.searchsorted(self._key, self._key - min(near_us, self._span), side="right")
            if near_us
            else np.arange(1, len(self._key) + 1)
        )
        result = np.empty(len(self._key))
        result[self._order] = (
            running[np.maximum(near, self._first)] - running[np.maximum(far, self._first)]
        )
        return result


class Judge:
    """The book's figures over folds: their mean, with an interval from resampled cards.

    Args:
        data: Transactions.
        folds: Their test rows are judged.
    """

    def __init__(self, data: Transactions, folds: Sequence[Fold]) -> None:
        self.data = data
        self.folds = folds

    def figures(self, scores: Sequence[Floats], rounds: int = 0) -> list[dict[str, Estimate]]:
        """Figures of each fold, and last of their mean.

        Args:
            scores: Of each fold's test rows, float64 (n_test,).
            rounds: Bootstrap rounds; 0 gives empty intervals.
        """
        cards = int(self.data.customer.max()) + 1
        judged = [self._fold(f, s) for f, s in zip(self.folds, scores, strict=True)]
        value = np.array([one(np.ones((1, cards), dtype=np.int32)) for one in judged])[..., 0]
        drawn = [
            np.array([one(counts) for one in judged])
            for counts in resamples(cards, rounds, 7, n_rows=max(map(len, scores)))
        ]
        samples = np.concatenate([value[..., None] * np.nan, *drawn], axis=2)
        values = np.concatenate([value, value.mean(axis=0)[None]])
        spread = np.concatenate([samples, samples.mean(axis=0)[None]])
        return [
            {name: Estimate.of(float(v), s) for name, v, s in zip(FIGURES, row, some, strict=True)}
            for row, some in zip(values, spread, strict=True)
        ]

    def differences(
        self, scores: Sequence[Floats], others: Sequence[Floats], rounds: int
    ) -> dict[str, Estimate]:
        """Mean figures of scores minus those of others, paired on the same draws of cards.

        Args:
            scores, others: Of each fold's test rows, float64 (n_test,).
            rounds: Bootstrap rounds.
        """
        cards = int(self.data.customer.max()) + 1
        pairs = [
            (self._fold(f, a), self._fold(f, b))
            for f, a, b in zip(self.folds, scores, others, strict=True)
        ]

        def mean(counts: Counts) -> Floats:
            each = np.stack([mine(counts) - theirs(counts) for mine, theirs in pairs])
            return np.asarray(each.mean(axis=0))

        value = mean(np.ones((1, cards), dtype=np.int32))[:, 0]
        drawn = np.concatenate(
            [mean(c) for c in resamples(cards, rounds, 7, n_rows=max(map(len, scores)))], axis=1
        )
        return {
            name: Estimate.of(float(v), some)
            for name, v, some in zip(FIGURES, value, drawn, strict=True)
        }

    def _fold(self, fold: Fold, score: Floats) -> _Judged:
        data, test = self.data, fold.test
        return _Judged(data.fraud[test], score, data.customer[test], data.day[test])


class _Judged:
    def __init__(
        self, fraud: npt.NDArray[np.bool_], score: Floats, customer: Ints, day: Ints
    ) -> None:
        self._customer = customer
        self._ranking = Ranking(fraud, score)
        self._days = CardDays(fraud, score, customer, day)

    def __call__(self, counts: Counts) -> Floats:
        totals = self._ranking.totals(counts[:, self._customer[self._ranking.order]])
        return np.stack(
            [
                totals.roc_auc(),
                totals.average_precision(),
                self._days.precision(counts, TOP_CARDS),
            ]
        )
