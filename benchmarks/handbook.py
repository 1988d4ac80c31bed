"""The Fraud Detection Handbook's protocol: our features and model beside the book's.

Four folds: train 7 days, wait 7 for the labels, test 7, without the cards already known to be
compromised (Le Borgne et al., 2022, chapters 3 to 5). Baselines get the book's fifteen features
and its training week. The champion gets the default definitions of ``feature_store/``, LightGBM
with the default settings, and as long a training window as there were labels for when the test
began. Whatever was chosen was chosen on earlier folds, the last of which ends before the first
training day of the first test fold: ``--tune`` prints them.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.handbook_oracle import oracle_scores
from benchmarks.handbook_protocol import (
    DELAY_DAYS,
    FIGURES,
    TEST_STARTS,
    VALIDATION_STARTS,
    Floats,
    Fold,
    Judge,
    Transactions,
    book_features,
    fold,
)
from benchmarks.parity_log import END_OF_TIME_US, REPOSITORY, handbook_path
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.models.dataset import LabelLog, PaymentLog, sample
from sentinel.models.evaluation import average_precision
from sentinel.models.families.installed import trainer_of
from sentinel.models.intervals import Estimate
from sentinel.models.sampling import thinned
from sentinel.models.splitting import TAIL_SHARE
from sentinel.models.trainers import Validation, train
from sentinel.pipeline.search_study import open_study, values_of
from sentinel.sources import log_batches, open_source

Matrix = npt.NDArray[np.float32]
Figures = list[dict[str, Estimate]]
"""Of each fold, and last of their mean."""

BOOK_XGBOOST: Final = {"auc": 0.869, "ap": 0.687, "cp100": 0.303}
BOOK_LOGISTIC_REGRESSION: Final = {"auc": 0.868, "ap": 0.623, "cp100": 0.297}
BOOK_RANDOM_FOREST: Final = {"auc": 0.870, "ap": 0.678, "cp100": 0.299}

WINDOW_DAYS: Final = 90
"""The champion's training window."""

ROUNDS: Final = 400
SEED: Final = 7


class Champion:
    """Our features of every payment, and a model per fold.

    Args:
        data: The transactions, as the book has them.
        path: The same as a file, which our own source reads.
    """

    def __init__(self, data: Transactions, path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Feast says that stream views are young
            self.plan: Plan = compile_definitions(REPOSITORY / "feature_store")
        self.data = data
        self.vectors = _vectors(self.plan, path, len(data.day))
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


def _baseline(make: Callable[[], Any], book: Floats, data: Transactions, one: Fold) -> Floats:
    scale = StandardScaler().fit(book[one.train])
    model = make().fit(scale.transform(book[one.train]), data.fraud[one.train])
    return np.asarray(model.predict_proba(scale.transform(book[one.test]))[:, 1])


# The settings that come closest to the rows the book publishes for these models.
BASELINES: Final[dict[str, Callable[[], Any]]] = {
    "logistic_regression": lambda: LogisticRegression(C=100.0, max_iter=1000, random_state=0),
    "random_forest": lambda: RandomForestClassifier(
        100, max_depth=20, random_state=0, n_jobs=os.cpu_count()
    ),
}


FAMILIES: Final[dict[str, dict[str, Any]]] = {
    "lightgbm as sentinel train fits it": {"most_rows": 400_000, "stops_early": True},
    "xgboost": {"family": "xgboost"},
    "random_forest": {"family": "random_forest", "most_rows": 200_000},
    "logistic_regression": {"family": "logistic_regression", "most_rows": 100_000},
}
"""What stands beside the champion on the same features and the same 90 days."""

SEARCH_ROWS: Final = 120_000
"""Most payments that a trial of a search is fitted on."""


def _search(
    data: Transactions, champion: Champion, trials: int
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters that do best on the validation folds, and what the search says of itself."""
    started = time.perf_counter()
    folds = [fold(data, start) for start in VALIDATION_STARTS[::-1]]
    space = trainer_of("lightgbm").space

    def changes(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value != space[name].usual}

    def measure(values: Mapping[str, Any], step: int) -> float:
        one = folds[step]
        scores = champion.score(one, most_rows=SEARCH_ROWS, **changes(values))
        return average_precision(data.fraud[one.test], scores)

    with (
        tempfile.TemporaryDirectory(prefix="sentinel-handbook-") as folder,
        open_study(Path(folder), "handbook", space, seed=SEED) as study,
    ):
        while len(study.ended) < trials:
            study.next(len(folds), measure)
        best, usual = study.best, study.completed[0]
        return changes(values_of(best)), {
            "trials": len(study.ended),
            "given_up": len(study.ended) - len(study.completed),
            "validation_ap": round(best.value, 4),
            "validation_ap_usual": round(usual.value, 4),
            "seconds": round(time.perf_counter() - started, 1),
        }


def run(path: Path, rounds: int = ROUNDS, trials: int = 0) -> dict[str, Any]:
    """All figures of the test folds, as the JSON line holds them."""
    started = time.perf_counter()
    data = Transactions.read(path)
    folds = [fold(data, start) for start in TEST_STARTS]
    judge = Judge(data, folds)
    book = book_features(data)
    baselines = {
        name: judge.figures([_baseline(make, book, data, one) for one in folds], rounds)
        for name, make in BASELINES.items()
    }
    perfect = oracle_scores(data)
    oracle = judge.figures([perfect[one.test] for one in folds], rounds)
    champion = Champion(data, path)
    chosen, search = _search(data, champion, trials) if trials else ({}, None)
    scores = [champion.score(one, **chosen) for one in folds]
    ours = judge.figures(scores, rounds)
    families = {}
    for name, options in FAMILIES.items():
        others = [champion.score(one, **options) for one in folds]
        families[name] = {
            **_record(judge.figures(others, rounds)),
            "minus_champion": {
                key: [round(part, 4) for part in (one.value, one.low, one.high)]
                for key, one in judge.differences(others, scores, rounds).items()
            },
        }
    return {
        "rows": len(data.day),
        "features": len(champion.plan.feature_names),
        "champion": {**_record(ours), "parameters": chosen},
        "search": search,
        "families": families,
        "baselines": {
            "book_xgboost": BOOK_XGBOOST,
            **{name: _record(figures) for name, figures in baselines.items()},
        },
        "published": {
            "logistic_regression": BOOK_LOGISTIC_REGRESSION,
            "random_forest": BOOK_RANDOM_FOREST,
        },
        "oracle": _record(oracle),
        "seconds": round(time.perf_counter() - started, 1),
    }


def _record(figures: Figures) -> dict[str, Any]:
    *folds, mean = figures
    return {
        **{name: round(mean[name].value, 4) for name in FIGURES},
        "interval": {
            name: [round(mean[name].low, 4), round(mean[name].high, 4)] for name in FIGURES
        },
        "folds": [
            {"train_from": start, **{name: round(one[name].value, 4) for name in FIGURES}}
            for start, one in zip(TEST_STARTS, folds, strict=True)
        ],
    }


def _table(result: dict[str, Any]) -> None:
    print(f"{'':44}{'AUC':>8}{'AP':>8}{'CP@100':>8}")

    def row(name: str, figures: dict[str, Any]) -> None:
        print(f"{name:44}" + "".join(f"{figures[key]:8.3f}" for key in FIGURES))

    published, baselines = result["published"], result["baselines"]
    row("book: XGBoost", baselines["book_xgboost"])
    row("book: logistic regression", published["logistic_regression"])
    row("  the same, ours", baselines["logistic_regression"])
    row("book: random forest", published["random_forest"])
    row("  the same, ours", baselines["random_forest"])
    champion = result["champion"]
    row(f"champion: LightGBM on {result['features']} default features", champion)
    for bound, side in enumerate(("from", "to")):
        row(f"  95 % interval {side}", {k: champion["interval"][k][bound] for k in FIGURES})
    for one in champion["folds"]:
        row(f"  training week of {one['train_from']}", one)
    for name, one in result["families"].items():
        row(name, one)
        low, high = one["minus_champion"]["ap"][1:]
        print(f"  AP minus that of the champion, 95 %       {low:+8.4f} to {high:+.4f}")
    row("oracle: knows the simulator, not its dice", result["oracle"])


def _tune(path: Path) -> None:
    """What was chosen, on the folds it was chosen on."""
    data = Transactions.read(path)
    folds = [fold(data, start) for start in VALIDATION_STARTS]
    judge, champion = Judge(data, folds), Champion(data, path)
    names = champion.plan.feature_names
    usual = np.array(["usual" not in name for name in names])
    weekly = np.array(["weeks_ago" not in name and "known_14d" not in name for name in names])
    choices: dict[str, dict[str, Any]] = {
        "default": {},
        "window of 7 days": {"window_days": 7},
        "window of 30 days": {"window_days": 30},
        "window of 60 days": {"window_days": 60},
        "without the usual amounts": {"features": usual},
        "without fraud rates by week": {"features": weekly},
        "LightGBM's own regularisation": {
            "lambda_l2": 0.0,
            "min_sum_hessian_in_leaf": 1e-3,
            "min_data_in_leaf": 20,
        },
        "lambda_l2 50": {"lambda_l2": 50.0},
        "num_leaves 15": {"num_leaves": 15},
        "num_leaves 63": {"num_leaves": 63},
        "feature_fraction 0.8": {"feature_fraction": 0.8},
        "400 rounds of half the rate": {"rounds": 400, "learning_rate": 0.025},
    }
    print(f"{'':44}{'AUC':>8}{'AP':>8}{'CP@100':>8}")
    perfect = oracle_scores(data)
    mean = judge.figures([perfect[one.test] for one in folds])[-1]
    print(f"{'oracle':44}" + "".join(f"{mean[key].value:8.4f}" for key in FIGURES), flush=True)
    for name, changes in choices.items():
        mean = judge.figures([champion.score(one, **changes) for one in folds])[-1]
        print(f"{name:44}" + "".join(f"{mean[key].value:8.4f}" for key in FIGURES), flush=True)


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks handbook", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object as last line")
    parser.add_argument("--tune", action="store_true", help="print what settings were chosen on")
    parser.add_argument(
        "--search", type=int, default=0, help="sets of parameters to try on the validation folds"
    )
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="bootstrap rounds")
    options = parser.parse_args(argv)
    path = handbook_path()
    if options.tune:
        _tune(path)
        return 0
    result = run(path, options.rounds, options.search)
    _table(result)
    if options.json:
        print(json.dumps(result))
    return 0
