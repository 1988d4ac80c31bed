"""Online learning beside nightly retraining: average precision, scored before the truth is known.

A base is fitted on the first part of a history. From then on, every day's payments are scored by
the base as it is, by its trees with leaves refitted daily, by River's learner, and by models that
are trained anew every so many days on all that had matured. Each knows on a day what training would
know, labels that come late included.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from benchmarks.parity_log import REPOSITORY, handbook_path
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.dataset import LabelLog, PaymentLog
from sentinel.models.intervals import Estimate
from sentinel.pipeline.apply import apply_definitions
from sentinel.pipeline.candidate_folder import save_candidate
from sentinel.pipeline.datasets import dataset_of, split_of
from sentinel.pipeline.fitting import fit_and_measure
from sentinel.pipeline.importing import import_history
from sentinel.pipeline.labelled_payments import KnownPayments, labelled_payments
from sentinel.pipeline.online_figures import OnlineFigures, figures_of
from sentinel.pipeline.online_learning import begin, go_on
from sentinel.pipeline.online_state import OnlinePlace
from sentinel.pipeline.refitting import refit
from sentinel.settings import LabelSettings, OnlineSettings, Settings, TrainingSettings
from sentinel.sources import SimulatorConfig, SimulatorSource

END_US: Final = 1_772_323_200_000_000  # 2026-03-01
WORLDS: Final = ("simulator", "handbook")

Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class InMemory:
    """A log with all vectors in memory."""

    plan: Plan
    payments: PaymentLog
    labels: LabelLog
    end_us: int
    X: Matrix

    def vectors(self, rows: Ints) -> Matrix:
        return np.ascontiguousarray(self.X[rows])


def _simulator(settings: Settings, days: int, customers: int) -> KnownPayments:
    world = SimulatorConfig.ending(
        END_US, days=days, customers=customers, merchants=300, fraud_rate=0.01, seed=3
    )
    import_history(settings, SimulatorSource(world), now_us=END_US)
    apply_definitions(settings)
    known = labelled_payments(settings)
    X = known.vectors(np.arange(len(known.payments)))
    return InMemory(known.plan, known.payments, known.labels, known.end_us, X)


def _handbook(days: int) -> KnownPayments:
    from benchmarks.handbook_champion import Champion
    from benchmarks.handbook_protocol import Transactions

    path = handbook_path()
    champion = Champion(Transactions.read(path), path)
    payments, first = champion.payments, int(champion.payments.event_time_us.min())
    end_us = min(int(payments.event_time_us.max()) + 1, first + days * DAY_US)
    n = int(np.searchsorted(payments.event_time_us, end_us))
    few = PaymentLog(
        event_time_us=payments.event_time_us[:n],
        received_at_us=payments.received_at_us[:n],
        amount_minor=payments.amount_minor[:n],
        card=payments.card[:n],
    )
    labels = champion.labels
    here = (labels.row < n) & (labels.received_at_us < end_us)
    told = LabelLog(
        row=labels.row[here],
        fraud=labels.fraud[here],
        received_at_us=labels.received_at_us[here],
    )
    return InMemory(champion.plan, few, told, end_us, champion.vectors[:n])


class Retrained:
    """Models of the base's procedure, fitted anew every so many days on all that had matured."""

    def __init__(
        self, settings: Settings, known: KnownPayments, every: int, first_day: int
    ) -> None:
        self._settings, self._known, self._every = settings, known, every
        self._first_day = first_day
        self._day = -1
        self._fitted: Any = None
        self.fits = 0

    def score(self, day: int, X: Matrix) -> Floats:
        """What the newest one says of the payments of a day."""
        due = (day - self._first_day) % self._every == 0 or self._fitted is None
        if due and day != self._day:
            settings, now_us = self._settings, day * DAY_US
            split = split_of(settings, self._known, now_us)
            data = dataset_of(settings, self._known, split, log_through=0)
            twin = fit_and_measure(settings, "lightgbm", data)
            again = refit(settings, "lightgbm", data, twin, self._known)
            self._fitted, self._day = again or twin, day
            self.fits += 1
        fitted = self._fitted
        return np.asarray(fitted.calibration.apply(fitted.model.raw_score(X)))


def run(
    world: str,
    *,
    days: int,
    base_days: int,
    customers: int,
    retrain_days: int,
    keep: float,
    window: float,
    rounds: int,
) -> dict[str, Any]:
    """Live through a world; the figures as the JSON line has them."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="sentinel-online-") as folder:
        settings = Settings(
            workspace=Path(folder) / "workspace",
            feature_store=REPOSITORY / "feature_store",
            labels=LabelSettings(maturity_days=20 if world == "simulator" else 7),
            training=TrainingSettings(test_days=14, bootstrap_rounds=rounds, window_days=3650),
            online=OnlineSettings(keep=keep, window_days=window),
        )
        known = _simulator(settings, days, customers) if world == "simulator" else _handbook(days)
        first = int(known.payments.event_time_us.min())
        split = split_of(settings, known, first + base_days * DAY_US)
        data = dataset_of(settings, known, split, log_through=0)
        place = OnlinePlace(settings)
        found = fit_and_measure(settings, "lightgbm", data)
        save_candidate(place.folder / "base", data, found, None, name="base")
        state = begin(settings, place, known, known.plan, known.vectors)
        retrained = Retrained(settings, known, retrain_days, state.first_day)
        state = go_on(
            settings, place, state, known, known.plan, known.vectors, champion=retrained.score
        )
        figures = figures_of(settings, place, state, known)
    return {
        **_record(figures),
        "days": state.next_day - state.first_day,
        "fits": retrained.fits,
        "retrain_days": retrain_days,
        "keep": keep,
        "window_days": window,
        "seconds": round(time.perf_counter() - started, 1),
    }


def _record(figures: OnlineFigures) -> dict[str, Any]:
    def numbers(of: dict[str, Estimate]) -> dict[str, list[float]]:
        return {
            name.replace("champion", "retrained"): [
                round(part, 4) for part in (one.value, one.low, one.high)
            ]
            for name, one in of.items()
        }

    return {
        "payments": figures.payments,
        "frauds": figures.frauds,
        "average_precision": numbers(figures.average_precision),
        "better_by": numbers(figures.better_by),
    }


def main(argv: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks online", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print a JSON object as last line")
    parser.add_argument("--world", choices=WORLDS, help="default: each one that is here")
    parser.add_argument("--days", type=int, default=240, help="of history")
    parser.add_argument("--base-days", type=int, default=120, help="that the base may know")
    parser.add_argument("--customers", type=int, default=700, help="of the simulator")
    parser.add_argument("--retrain-days", type=int, default=7, help="between trainings anew")
    parser.add_argument("--keep", type=float, default=OnlineSettings().keep)
    parser.add_argument("--window-days", type=float, default=OnlineSettings().window_days)
    parser.add_argument("--rounds", type=int, default=400, help="bootstrap rounds")
    given = parser.parse_args(argv)
    found = {}
    for world in WORLDS if given.world is None else (given.world,):
        if world == "handbook" and given.world is None and not handbook_path().exists():
            continue
        found[world] = one = run(
            world,
            days=given.days,
            base_days=given.base_days,
            customers=given.customers,
            retrain_days=given.retrain_days,
            keep=given.keep,
            window=given.window_days,
            rounds=given.rounds,
        )
        print(
            f"{world}: {one['days']} days, {one['payments']:,} payments of known truth, "
            f"{one['frauds']:,} frauds, {one['fits']} trainings anew ({one['seconds']} s)"
        )
        for name, (value, low, high) in one["average_precision"].items():
            print(f"  {name:22} {value:.3f} [{low:.3f}, {high:.3f}]")
        for name, (value, low, high) in one["better_by"].items():
            print(f"  {name:22} {value:+.3f} [{low:+.3f}, {high:+.3f}]")
    if given.json:
        print(json.dumps(found))
    return 0
