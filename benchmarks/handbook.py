"""The Fraud Detection Handbook's protocol: our features and model beside the book's.

Four folds: train 7 days, wait 7 for the labels, test 7, without the cards already known to be
compromised (Le Borgne et al., 2022, chapters 3 to 5). Baselines get the book's fifteen features
and its training week. The champion gets the definitions that `sentinel import handbook` installs,
as long a training window as there were labels for when the test began, and of some families of
models that which is best on earlier folds (`CHOICES`), the last of which ends before the first
training day of the first test fold. ``--tune`` prints what else was chosen on them, and
``--search N`` looks for parameters of the family on them.

``--keep FOLDER`` keeps what is finished, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from benchmarks.handbook_champion import DEFAULT, SEED, Champion
from benchmarks.handbook_fair_oracle import fair_oracle_scores
from benchmarks.handbook_oracle import oracle_scores
from benchmarks.handbook_protocol import (
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
from benchmarks.parity_log import handbook_path
from benchmarks.pieces import Pieces
from sentinel.models.evaluation import average_precision
from sentinel.models.families.installed import trainer_of
from sentinel.models.intervals import Estimate
from sentinel.pipeline.search_study import open_study, values_of

Figures = list[dict[str, Estimate]]
"""Of each fold, and last of their mean."""

BOOK_XGBOOST: Final = {"auc": 0.869, "ap": 0.687, "cp100": 0.303}
BOOK_LOGISTIC_REGRESSION: Final = {"auc": 0.868, "ap": 0.623, "cp100": 0.297}
BOOK_RANDOM_FOREST: Final = {"auc": 0.870, "ap": 0.678, "cp100": 0.299}

LEAST: Final = {"ap": 0.755, "cp100": 0.312}
"""What the champion's figures must be at least."""

ROUNDS: Final = 400


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


AS_TRAINED: Final[dict[str, Any]] = {"most_rows": 400_000, "stops_early": True}
"""How `sentinel train` fits: on so many payments, as long as the later ones gain by it."""

SEARCH_ROWS: Final = 120_000
"""Most payments that a model is fitted on where families or parameters are chosen."""

CHOICES: Final[dict[str, dict[str, Any]]] = {
    "lightgbm": {"family": "lightgbm", "most_rows": SEARCH_ROWS},
    "lightgbm_forest": {"family": "lightgbm_forest", "most_rows": SEARCH_ROWS},
    "random_forest": {"family": "random_forest", "most_rows": 200_000, "max_depth": 14},
}
"""What the champion is chosen of on the validation folds; on the test folds it is the same, fitted
on as many payments. The forest is the best of those that docs/decisions/586 has."""

FAMILIES: Final[dict[str, dict[str, Any]]] = {
    "lightgbm as sentinel train fits it": AS_TRAINED,
    "lightgbm on all payments": {},
    "logistic_regression": {"family": "logistic_regression", "most_rows": 100_000},
    "random_forest": {"family": "random_forest", "most_rows": 200_000},
    "xgboost": {"family": "xgboost", "most_rows": 200_000},
}
"""What stands beside the champion and the choices that were not taken, on the same features and the
same 90 days."""


def _search(
    data: Transactions, champion: Champion, family: str, trials: int, keep: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters that do best on the validation folds, and what the search says of itself."""
    started = time.perf_counter()
    folds = [fold(data, start) for start in VALIDATION_STARTS[::-1]]
    space = trainer_of(family).space

    def changes(values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value != space[name].usual}

    def measure(values: Mapping[str, Any], step: int) -> float:
        one = folds[step]
        scores = champion.score(one, **CHOICES[family], **changes(values))
        return average_precision(data.fraud[one.test], scores)

    with (
        tempfile.TemporaryDirectory(prefix="sentinel-handbook-") as scratch,
        open_study(
            keep or Path(scratch), f"handbook-{family}-{champion.plan.hash}", space, seed=SEED
        ) as study,
    ):
        while (ended := len(study.ended)) < trials:
            _note(f"trial {ended + 1} of {trials}")
            study.next(len(folds), measure)
        best, usual = study.best, study.completed[0]
        return changes(values_of(best)), {
            "trials": len(study.ended),
            "given_up": len(study.ended) - len(study.completed),
            "validation_ap": round(best.value, 4),
            "validation_ap_usual": round(usual.value, 4),
            "seconds": round(time.perf_counter() - started, 1),
        }


class Run:
    """One run over the test folds; each part is kept as soon as it is finished.

    Args:
        path: The book's raw data.
        rounds: Bootstrap rounds.
        pieces: What an earlier run has finished.
    """

    def __init__(self, path: Path, rounds: int, pieces: Pieces) -> None:
        self.rounds, self.pieces = rounds, pieces
        self.data = Transactions.read(path)
        self.folds = [fold(self.data, start) for start in TEST_STARTS]
        self.judge = Judge(self.data, self.folds)
        self.champion = Champion(self.data, path, pieces=pieces)
        self.default = Champion(self.data, path, DEFAULT, pieces=pieces)
        self.ours: list[Floats] = []

    def result(self, trials: int) -> dict[str, Any]:
        """All figures of the test folds, as the JSON line holds them."""
        started = time.perf_counter()
        validation = {name: self._validated(name) for name in CHOICES}
        family = max(validation, key=lambda name: validation[name]["ap"])
        found, search = self._search(family, trials) if trials else ({}, None)
        chosen = {**CHOICES[family], **found}
        self.ours = self._scores("champion", self.champion, chosen)
        champion = self._figures("champion", [self.champion.plan.hash, chosen], self.ours)
        others = {
            f"{name} on {options['most_rows']:,} payments": options
            for name, options in CHOICES.items()
            if name != family
        }
        families = {
            name: self._family(name, self.champion, options)
            for name, options in {**others, **FAMILIES}.items()
        }
        name = "the first on the default definitions"
        families[name] = self._family(name, self.default, AS_TRAINED)
        perfect, fair = oracle_scores(self.data), fair_oracle_scores(self.data)
        musts = {
            f"the champion's {name} is at least {least}": champion[name] >= least
            for name, least in LEAST.items()
        }
        return {
            "rows": len(self.data.day),
            "features": len(self.champion.plan.feature_names),
            "champion": {**champion, "family": family, "parameters": found},
            "validation": validation,
            "search": search,
            "families": families,
            "baselines": {
                "book_xgboost": BOOK_XGBOOST,
                **{name: self._baseline(name) for name in BASELINES},
            },
            "published": {
                "logistic_regression": BOOK_LOGISTIC_REGRESSION,
                "random_forest": BOOK_RANDOM_FOREST,
            },
            "oracle": self._beside("oracle", "", [perfect[one.test] for one in self.folds]),
            "fair_oracle": self._beside("fair oracle", "", [fair[one.test] for one in self.folds]),
            "musts": musts,
            "met": all(musts.values()),
            "seconds": round(time.perf_counter() - started, 1),
        }

    def _validated(self, name: str) -> dict[str, Any]:
        """Figures of one of the `CHOICES` on the validation folds."""
        folds = [fold(self.data, start) for start in VALIDATION_STARTS]
        about = [self.champion.plan.hash, CHOICES[name]]

        def score() -> list[Floats]:
            _note(f"fits {name} on the validation folds")
            return [self.champion.score(one, **CHOICES[name]) for one in folds]

        def make() -> dict[str, Any]:
            scores = self.pieces.arrays(f"validation {name}", about, score)
            *each, mean = Judge(self.data, folds).figures(scores)
            return {
                **{key: round(mean[key].value, 4) for key in FIGURES},
                "folds": [round(one["ap"].value, 4) for one in each],
            }

        return self.pieces.record(f"validation {name}", about, make)

    def _search(self, family: str, trials: int) -> tuple[dict[str, Any], dict[str, Any]]:
        about = [self.champion.plan.hash, family, trials]

        def make() -> dict[str, Any]:
            chosen, said = _search(self.data, self.champion, family, trials, self.pieces.folder)
            return {"chosen": chosen, "said": said}

        found = self.pieces.record("search", about, make)
        return found["chosen"], found["said"]

    def _scores(self, name: str, champion: Champion, options: Mapping[str, Any]) -> list[Floats]:
        def make() -> list[Floats]:
            _note(f"fits {name}")
            return [champion.score(one, **options) for one in self.folds]

        return self.pieces.arrays(name, [champion.plan.hash, options], make)

    def _family(self, name: str, champion: Champion, options: Mapping[str, Any]) -> dict[str, Any]:
        scores = self._scores(name, champion, options)
        return self._beside(name, [champion.plan.hash, options], scores)

    def _baseline(self, name: str) -> dict[str, Any]:
        def make() -> list[Floats]:
            _note(f"fits the book's {name}")
            book = book_features(self.data)
            return [_baseline(BASELINES[name], book, self.data, one) for one in self.folds]

        return self._beside(f"book {name}", "", self.pieces.arrays(f"book {name}", "", make))

    def _figures(self, name: str, about: object, scores: list[Floats]) -> dict[str, Any]:
        def make() -> dict[str, Any]:
            return _record(self.judge.figures(scores, self.rounds))

        return self.pieces.record(name, [about, self.rounds], make)

    def _beside(self, name: str, about: object, scores: list[Floats]) -> dict[str, Any]:
        """Figures, and how much better or worse than the champion's, paired."""

        def make() -> dict[str, Any]:
            _note(f"holds {name} against the champion")
            return {
                key: [round(part, 4) for part in (one.value, one.low, one.high)]
                for key, one in self.judge.differences(scores, self.ours, self.rounds).items()
            }

        against = [about, self.rounds, [float(one.sum()) for one in self.ours]]
        return {
            **self._figures(name, about, scores),
            "minus_champion": self.pieces.record(f"{name} beside", against, make),
        }


def _note(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


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

    def difference(figures: dict[str, Any]) -> None:
        low, high = figures["minus_champion"]["ap"][1:]
        print(f"  AP minus that of the champion, 95 %       {low:+8.4f} to {high:+.4f}")

    published, baselines = result["published"], result["baselines"]
    row("book: XGBoost", baselines["book_xgboost"])
    row("book: logistic regression", published["logistic_regression"])
    row("  the same, ours", baselines["logistic_regression"])
    difference(baselines["logistic_regression"])
    row("book: random forest", published["random_forest"])
    row("  the same, ours", baselines["random_forest"])
    difference(baselines["random_forest"])
    champion = result["champion"]
    for name, one in result["validation"].items():
        row(f"validation folds: {name}", one)
    row(f"champion: {champion['family']}, {result['features']} features", champion)
    for bound, side in enumerate(("from", "to")):
        row(f"  95 % interval {side}", {k: champion["interval"][k][bound] for k in FIGURES})
    for one in champion["folds"]:
        row(f"  training week of {one['train_from']}", one)
    for name, one in result["families"].items():
        row(name, one)
        difference(one)
    row("oracle that is told labels, not scenarios", result["fair_oracle"])
    difference(result["fair_oracle"])
    row("oracle: knows the simulator, not its dice", result["oracle"])
    difference(result["oracle"])
    for must, met in result["musts"].items():
        print(f"{'met' if met else 'NOT MET':8} {must}")


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
    parser.add_argument("--keep", type=Path, help="keep what is finished here, and go on from it")
    options = parser.parse_args(argv)
    path = handbook_path()
    if options.tune:
        _tune(path)
        return 0
    result = Run(path, options.rounds, Pieces(options.keep)).result(options.search)
    _table(result)
    if options.json:
        print(json.dumps(result))
    return 0 if result["met"] else 1
