"""Learners that go on from day to day: a refit of the base's leaves, and one of River.

For each day of the log, oldest first:

    learn   from the payments whose truth is known by the day's beginning, by the rules and with the
            weights of training (`sentinel.models.dataset.sample`)
    score   the payments of the day, with what is known by then
    keep    learners, scores and the day that comes next

The scores are held against the truth once it has matured (`sentinel.pipeline.online_figures`), so
every payment is judged by what a learner said before it could know anything of it. Nothing here
decides: a day's trees can be a shadow, and whether they may ever decide is up to the rules of
experiments.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ConfigurationError, NoModel
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.models.artifact import LIGHTGBM, ModelManifest, load_manifest, load_plan
from sentinel.models.dataset import Sample, weight_column
from sentinel.models.families.leaf_refit import refitted_leaves, tree_scores
from sentinel.models.registry import Registry
from sentinel.models.river_learner import RiverLearner
from sentinel.models.sampling import thinned
from sentinel.pipeline.contestants import Contestant
from sentinel.pipeline.labelled_payments import (
    KnownPayments,
    labelled_payments,
    served_over,
    shown_maturity_us,
)
from sentinel.pipeline.online_figures import OnlineFigures, figures_of, known_at
from sentinel.pipeline.online_state import OnlinePlace, OnlineState
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.scored_payments import BulkScorer
from sentinel.pipeline.workspace import only_one
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

MODEL_TEXT: Final = "model.txt"
MOST_FIRST: Final = 20_000
"""Payments that River's learner begins with, thinned."""
TAUGHT_AT_ONCE: Final = 500
"""Payments after which the beginning says how far it is."""
MOST_A_DAY: Final = 2_000
"""Payments that it learns from on one day, thinned."""
MOST_SCORED: Final = 5_000
"""Payments of a day that are scored, drawn at random."""
MOST_REFIT: Final = 20_000
"""Payments that a day's refit of the leaves sees, thinned."""
FEWEST_FRAUDS: Final = 20
"""Known frauds of the window, with fewer of which leaves stay as they are."""
RESTRAINT: Final = 20.0
"""L2 on new leaf values, as LightGBM's own fits have it here."""

Ints = npt.NDArray[np.int64]
Matrix = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float64]


Vectors = Callable[[Ints], Matrix]


class Learnt(NamedTuple):
    """Learners at the end of the log.

    Attributes:
        state: Where they are.
        figures: How they did.
        place: Where they are kept.
    """

    state: OnlineState
    figures: OnlineFigures
    place: OnlinePlace


class Champions:
    """The champion of a day: the newest that had learnt nothing of the day's payments.

    One model is in memory at a time: days rise, so that an older champion is not asked again.

    Args:
        settings: The deployment.
        plan_hash: Champions of another plan take other vectors, and have no scores.
    """

    def __init__(self, settings: Settings, plan_hash: str) -> None:
        self._settings = settings
        self._plan_hash = plan_hash
        self._versions = Registry.of(settings).champions()
        self._manifests: dict[str, ModelManifest] = {}
        self._scoring: tuple[str, BulkScorer] | None = None

    def score(self, day: int, X: Matrix) -> Floats:
        """Its probabilities, float64 (n_rows,); NaN where nobody was champion of that day."""
        for version in reversed(self._versions):
            about = self._manifest(version)
            if about.training.cutoff_us <= day * DAY_US and about.plan_hash == self._plan_hash:
                probability, _ = self._model(version).score(X)
                return probability
        return np.full(len(X), np.nan)

    def _manifest(self, version: str) -> ModelManifest:
        if version not in self._manifests:
            self._manifests[version] = load_manifest(fetch_version(self._settings, version))
        return self._manifests[version]

    def _model(self, version: str) -> BulkScorer:
        if self._scoring is None or self._scoring[0] != version:
            self._scoring = version, BulkScorer(fetch_version(self._settings, version))
        return self._scoring[1]


def learn(
    settings: Settings,
    *,
    base: str | None = None,
    restart: bool = False,
    most_days: int | None = None,
    progress: ProgressCallback = no_progress,
) -> Learnt:
    """Bring the learners up to the last whole day of the log, and measure them.

    Args:
        settings: ``online`` says how fast the leaves move, and over which window.
        base: Version whose trees are refitted, where the learners begin; default: the champion.
        restart: Whether they begin anew.
        most_days: Stop after so many days; default: at the end of the log.
        progress: Told of the stages "labels", "backfill", "begin", "days" and "figures".

    Returns:
        Where they are, and how they did.

    Raises:
        NoModel: There is no champion, and no version was named.
        ConfigurationError: The base is no LightGBM model, or the learners began with another one.
        WorkspaceError: Other learners run, or what was kept is broken.
        Unavailable: The registry does not answer.
    """
    with only_one(settings.workspace / "online.lock", "online learning"):
        place = OnlinePlace(settings)
        state = None if restart else place.state()
        if state is None:
            place.clear()
            _bring_base(settings, place, base)
        elif base is not None and base != state.base:
            raise ConfigurationError(
                f"The learners began with version {state.base} and go on with its trees. "
                f"`sentinel learn --restart --base {base}` forgets what they learnt and begins "
                f"with version {base}."
            )
        folder = place.base(state)
        manifest = load_manifest(folder)
        plan = load_plan(folder, manifest)
        known = labelled_payments(settings, plan=plan, progress=progress)
        vectors = partial(served_over, settings, known)

        def get(rows: Ints) -> Matrix:
            return vectors(rows)[0]

        if state is None:
            state = begin(settings, place, known, plan, get, progress=progress)
        champion = Champions(settings, plan.hash)
        state = go_on(
            settings,
            place,
            state,
            known,
            plan,
            get,
            champion=champion.score,
            most_days=most_days,
            progress=progress,
        )
        progress("figures", 0, 1)
        figures = figures_of(settings, place, state, known)
        progress("figures", 1, 1)
        return Learnt(state, figures, place)


def _bring_base(settings: Settings, place: OnlinePlace, version: str | None) -> None:
    """Copy the model that was measured, which has seen less than what serves."""
    if version is None:
        champions = Registry.of(settings).champions()
        if not champions:
            raise NoModel("There is no champion to learn beside. Promote one: `sentinel promote`.")
        version = champions[-1]
    one = Contestant.fetch(settings, version)
    if one.judged.kind != LIGHTGBM:
        raise ConfigurationError(
            f"Version {version} is of the family {one.judged.kind}, and only LightGBM's leaves "
            "can be refitted. Name a LightGBM version: `sentinel learn --base VERSION`."
        )
    place.folder.mkdir(parents=True, exist_ok=True)
    shutil.copytree(one.folder, place.folder / "base", dirs_exist_ok=True)


def begin(
    settings: Settings,
    place: OnlinePlace,
    known: KnownPayments,
    plan: Plan,
    vectors: Vectors,
    *,
    progress: ProgressCallback = no_progress,
) -> OnlineState:
    """Begin on the first whole day of which the base has seen nothing.

    Args:
        settings: Give the seed and the maturity.
        place: With the base.
        known: The log.
        plan: Of the base.
        vectors: Gives the vectors of some rows, rising.
        progress: Told of the stage "begin", in payments.
    """
    manifest = load_manifest(place.base())
    learnt = manifest.training
    first_day = -(-learnt.cutoff_us // DAY_US)
    gap_us = shown_maturity_us(settings, known, first_day * DAY_US)
    if learnt.gap_us is not None:
        gap_us = min(gap_us, learnt.gap_us)
    share = min(max(learnt.frauds / max(learnt.rows, 1), 1e-6), 0.5)
    log_odds = math.log(share / (1.0 - share))
    river = RiverLearner(plan.feature_names, plan.categorical, intercept=log_odds)
    past = known_at(known, first_day, gap_us)
    _teach(river, past, MOST_FIRST, settings.training.seed, vectors, progress)
    return place.keep(
        OnlineState(
            base=manifest.version,
            plan_hash=plan.hash,
            gap_us=gap_us,
            base_log_odds=log_odds,
            first_day=first_day,
            next_day=first_day,
            trees_sha256="",
            river_sha256="",
            base_sha256=place.base_sha256(),
        ),
        (place.base() / MODEL_TEXT).read_text(),
        river.state(),
    )


def go_on(
    settings: Settings,
    place: OnlinePlace,
    state: OnlineState,
    known: KnownPayments,
    plan: Plan,
    vectors: Vectors,
    *,
    champion: Callable[[int, Matrix], Floats] | None = None,
    most_days: int | None = None,
    progress: ProgressCallback = no_progress,
) -> OnlineState:
    """Learn and score day by day, up to the last whole day of the log.

    Args:
        settings: ``online``.
        place: Where learners are kept.
        state: Where they are.
        known: The log.
        plan: Of the base.
        vectors: Gives the vectors of some rows, rising.
        champion: Scores the payments of a day as its champion did; None to leave it out.
        most_days: Stop after so many days.
        progress: Told of the stage "days".
    """
    trees, kept = place.learners(state)
    river = RiverLearner(plan.feature_names, plan.categorical)
    river.restore(kept)
    base = (place.base(state) / MODEL_TEXT).read_text()
    end_day = known.end_us // DAY_US
    if most_days is not None:
        end_day = min(end_day, state.next_day + most_days)
    first = state.next_day
    while state.next_day < end_day:
        progress("days", state.next_day - first, end_day - first)
        day = state.next_day
        rows = payments_of(known, day, settings.training.seed)
        if len(rows):
            X = vectors(rows)
            said = {
                "rows": rows,
                "stands_for": _stands_for(known, day, rows),
                "base": tree_scores(base, X),
                "refit": tree_scores(trees, X),
                "river": river.score(X),
            }
            if champion is not None:
                said["champion"] = champion(day, X)
            place.keep_scores(day, said)
        # What is known by the end of the day is what the next day's learners may know.
        window = known_at(known, day + 1, state.gap_us, settings.online.window_days)
        if window.frauds >= FEWEST_FRAUDS:
            seen, weight = thinned(
                window.fraud, MOST_REFIT, seed=settings.training.seed, weight=window.weight
            )
            trees = refitted_leaves(
                trees,
                vectors(window.rows[seen]),
                window.fraud[seen],
                weight=weight_column(weight),
                keep=settings.online.keep,
                base=state.base_log_odds,
                restraint=RESTRAINT,
            )
        new = newly_known(known, day, state.gap_us)
        _teach(river, new, MOST_A_DAY, settings.training.seed + day, vectors)
        state = place.keep(
            msgspec.structs.replace(state, next_day=day + 1, trees_rows=len(window)),
            trees,
            river.state(),
        )
    progress("days", end_day - first, end_day - first)
    return state


def newly_known(known: KnownPayments, day: int, gap_us: int) -> Sample:
    """What training at a day's end would learn from, and not, or otherwise, at its beginning.

    A label that was corrected is learnt again, as what it is now.
    """
    before, after = known_at(known, day, gap_us), known_at(known, day + 1, gap_us)
    if not len(before):
        return after
    place = np.searchsorted(before.rows, after.rows)
    place[place == len(before)] = 0
    as_before = (before.rows[place] == after.rows) & (before.fraud[place] == after.fraud)
    return after.take(np.flatnonzero(~as_before))


def payments_of(known: KnownPayments, day: int, seed: int) -> Ints:
    """Rows of a day's payments, at most `MOST_SCORED` of them, drawn at random: int64 (n,)."""
    rows = _of_day(known, day)
    if len(rows) > MOST_SCORED:
        random = np.random.default_rng((seed, day))
        rows = np.sort(random.choice(rows, size=MOST_SCORED, replace=False))
    return rows


def _of_day(known: KnownPayments, day: int) -> Ints:
    times = known.payments.event_time_us
    return np.flatnonzero((times >= day * DAY_US) & (times < (day + 1) * DAY_US))


def _stands_for(known: KnownPayments, day: int, rows: Ints) -> npt.NDArray[np.float64]:
    return np.full(len(rows), len(_of_day(known, day)) / max(len(rows), 1))


def _teach(
    river: RiverLearner,
    rows: Sample,
    most: int,
    seed: int,
    vectors: Vectors,
    progress: ProgressCallback = no_progress,
) -> None:
    """Have River's learner see payments, thinned where there are many."""
    if not len(rows):
        return
    keep, weight = thinned(rows.fraud, most, seed=seed, weight=rows.weight)
    progress("begin", 0, len(keep))
    X, fraud = vectors(rows.rows[keep]), rows.fraud[keep]
    for first in range(0, len(keep), TAUGHT_AT_ONCE):
        some = slice(first, first + TAUGHT_AT_ONCE)
        river.learn(X[some], fraud[some], weight[some])
        progress("begin", min(first + TAUGHT_AT_ONCE, len(keep)), len(keep))
