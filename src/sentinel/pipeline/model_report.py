"""What there is to say of a version: one HTML page and a model card, from payments it never saw.

    <workspace>/reports/<version>.html      the page (`<version>-<other>.html` against another one)
    <workspace>/reports/<version>.md        the model card
    <workspace>/reports/<version>.json      its figures, and what later reports follow

The page and the card also go to the run in MLflow that trained the version.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import NotFound, SentinelError
from sentinel.models.artifact import ModelManifest
from sentinel.models.champion import champion_of
from sentinel.models.dataset import Sample
from sentinel.models.evaluation import HeldOut, differences
from sentinel.models.model_card import model_card
from sentinel.models.registry import Registry
from sentinel.models.report_facts import ReportFacts
from sentinel.models.report_page import html_page
from sentinel.models.report_pictures import (
    calibration,
    card_precision_by_day,
    followed,
    importance,
    money,
    over_time,
    precision_recall,
    roc,
)
from sentinel.pipeline.at_lines import held_out_figures
from sentinel.pipeline.contestants import Contestant, held_out, vectors_of
from sentinel.pipeline.fitting import measure
from sentinel.pipeline.labelled_payments import LabelledPayments, labelled_payments
from sentinel.pipeline.report_figures import baseline_of, importance_of, segments_of, unknown_of
from sentinel.pipeline.tracking import run_of
from sentinel.settings import Settings
from sentinel.sources.progress import ProgressCallback, no_progress

BASELINE: Final = "logistic regression"
MOST_JUDGED: Final = 200_000
"""Payments that a report is made of; of more, the latest."""

_CARDS: Final = 100
_VERSIONS: Final = 8


@dataclass(frozen=True)
class Written:
    """A report that was made.

    Attributes:
        page, card: The files.
        facts: What they say.
        tracked: Where else it is, or why it is not there.
    """

    page: Path
    card: Path
    facts: ReportFacts
    tracked: str


def report(
    settings: Settings,
    version: str | None = None,
    *,
    against: str | None = None,
    baseline: bool = True,
    tracked: bool = True,
    progress: ProgressCallback = no_progress,
) -> Written:
    """Make the report of a version.

    Args:
        settings: The deployment.
        version: In the registry; default: the champion.
        against: Version to compare with; default: the champion, if it is another one.
        baseline: Whether a logistic regression is fitted to stand beside it.
        tracked: Whether it goes to MLflow, too.
        progress: Told of the stages "labels", "backfill" and "report".

    Raises:
        NotFound: There is no champion and no version was named, or no such version.
        Unavailable: MLflow does not answer.
    """
    champion = champion_of(settings)
    if version is None:
        if champion is None:
            raise NotFound("There is no champion yet. Name a version: `sentinel report VERSION`.")
        version = champion.version
    if against is None and champion is not None and champion.version != version:
        against = champion.version
    one = Contestant.fetch(settings, version)
    other = None if against is None else Contestant.fetch(settings, against)
    everyone = [contestant for contestant in (one, other) if contestant is not None]
    known = labelled_payments(settings, plan=one.plan, progress=progress)
    start_us = max(contestant.judged.training.end_us for contestant in everyone)
    rows = held_out(settings, known, start_us=start_us, gap_us=one.manifest.training.gap_us)
    rows = latest(rows, known.payments.event_time_us)
    progress("report", 0, 1)
    models: dict[str, HeldOut] = {}
    vectors = known.vectors(rows.rows)
    if 0 < rows.frauds < len(rows):
        models[f"version {version}"] = one.score(known, rows)
        if other is not None:
            theirs = vectors_of(settings, known, other, progress)
            models[f"version {against}"] = other.score(theirs, rows)
        if baseline and (fitted := baseline_of(settings, known, one, rows, vectors)) is not None:
            models[BASELINE] = fitted
    facts = _facts(settings, known, one, against or "", rows, models, vectors)
    pictures = _pictures(settings, facts, models)
    folder = settings.workspace / "reports"
    folder.mkdir(parents=True, exist_ok=True)
    named = f"{version}-{against}" if against else version
    page, card = folder / f"{named}.html", folder / f"{version}.md"
    judged = manifest_of_figures(one)
    page.write_text(html_page(facts, judged, pictures), encoding="utf-8")
    card.write_text(model_card(facts, judged), encoding="utf-8")
    (folder / f"{version}.json").write_bytes(
        msgspec.json.format(msgspec.json.encode(facts), indent=2)
    )
    where = _track(settings, one, [page, card]) if tracked else "not tracked"
    progress("report", 1, 1)
    return Written(page, card, facts, where)


def manifest_of_figures(one: Contestant) -> ModelManifest:
    """What a version says of itself, with what its judged model learnt from.

    The figures of a report are of that model, and it has seen none of the payments they speak of;
    a refit that serves has.
    """
    judged = one.judged
    return msgspec.structs.replace(
        one.manifest,
        training=judged.training,
        thresholds=judged.thresholds,
        data_hash=judged.data_hash,
    )


def latest(rows: Sample, times: npt.NDArray[np.int64], most: int = MOST_JUDGED) -> Sample:
    """The latest payments of a sample, and the time that these are of.

    Args:
        rows: The sample.
        times: int64, event times of the log's payments, microseconds UTC.
        most: How many are kept.
    """
    if len(rows) <= most:
        return rows
    order = np.argsort(times[rows.rows], kind="stable")
    kept = rows.take(np.sort(order[-most:]))
    return replace(kept, start_us=int(times[kept.rows].min()))


def _facts(
    settings: Settings,
    known: LabelledPayments,
    one: Contestant,
    against: str,
    rows: Sample,
    models: dict[str, HeldOut],
    vectors: npt.NDArray[np.float32],
) -> ReportFacts:
    options = settings.training
    asked = {
        "alerts_per_1000": options.alert_budget_per_1000,
        "rounds": options.bootstrap_rounds,
        "seed": options.seed,
    }
    own = next(iter(models.values()), None)
    figures = measure(settings, own)
    metrics = {name: measure(settings, held).metrics for name, held in models.items()}
    better_by = {
        name: {
            figure: difference
            for figure, difference in differences(own, held, **asked).items()  # type: ignore[arg-type]
            if figure in figures.metrics
        }
        for name, held in list(models.items())[1:]
        if own is not None
    }
    at_lines = {} if own is None else held_out_figures(settings, own, one.judged.thresholds)
    rival = next((held for name, held in models.items() if name == f"version {against}"), None)
    shap, permutation = importance_of(one, own, rows, vectors)
    return ReportFacts(
        version=one.version,
        against=f"version {against}" if against else "",
        start_us=rows.start_us,
        end_us=max(rows.end_us, rows.start_us),
        payments=len(rows),
        frauds=rows.frauds,
        metrics={name: found for name, found in metrics.items() if found},
        not_measured=figures.not_measured,
        better_by=better_by,
        at_lines={name: one.value for name, one in at_lines.items()},
        segments=()
        if own is None
        else segments_of(settings, known, one.plan, rows, own, rival, vectors),
        unknown=unknown_of(known, rows),
        shap=shap,
        permutation=permutation,
        history=_history(settings, one.version, shap),
        created_us=time.time_ns() // 1000,
        money_scale=settings.money.scale,
        currency=settings.money.currency,
    )


def _history(
    settings: Settings, version: str, shap: dict[str, float]
) -> dict[str, dict[str, float]]:
    """Shares by version from the reports before, and of this one."""
    found = {version: shap}
    for path in (settings.workspace / "reports").glob("*.json"):
        try:
            found.setdefault(
                path.stem, msgspec.json.decode(path.read_bytes(), type=ReportFacts).shap
            )
        except (OSError, msgspec.DecodeError):
            continue  # an older layout; it can be made anew
    latest = sorted(found, key=lambda one: (len(one), one))[-_VERSIONS:]
    return {one: found[one] for one in latest}


def _pictures(settings: Settings, facts: ReportFacts, models: dict[str, HeldOut]) -> dict[str, str]:
    pictures: dict[str, str] = {}
    if models:
        pictures |= {
            "Precision and recall": precision_recall(models),
            "ROC": roc(models),
            "Money against alerts": money(models, settings.training.alert_budget_per_1000),
            "Calibration": calibration(models),
            "Over time": over_time(models),
        }
        if (next(iter(models.values())).card >= 0).any():
            pictures[f"Card precision at {_CARDS} by day"] = card_precision_by_day(models, _CARDS)
    if facts.shap:
        pictures["What the model uses"] = importance(facts.shap, facts.permutation)
    if len(facts.history) > 1:
        pictures["The same over versions"] = followed(facts.history, list(facts.shap))
    return pictures


def _track(settings: Settings, one: Contestant, files: list[Path]) -> str:
    """Put the report into the run that trained the model."""
    try:
        run_id = one.manifest.run_id or Registry.of(settings).version(one.version).run_id
        run = run_of(settings, run_id)
        with tempfile.TemporaryDirectory(prefix="sentinel-report-") as place:
            for path in files:
                shutil.copy(path, place)
            run.files(Path(place), below="report")
        return run.where
    except SentinelError as error:
        return f"MLflow has not got it: {error}"
