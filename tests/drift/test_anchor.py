"""Evidence of a change outlives the models that are promoted while it grows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from sentinel.drift import following
from sentinel.drift.anchor import covered, why_moved
from sentinel.drift.bins import SCORE
from sentinel.drift.detector import DriftDetector, HourCounts
from sentinel.drift.following import DriftFollower
from sentinel.drift.open_streams import FollowedModel
from sentinel.drift.reference import DriftReference
from sentinel.drift.store import DriftStore, open_drift
from sentinel.ledger.base import Ledger
from sentinel.ledger.open import open_reader, open_writer
from sentinel.settings import Settings
from sentinel.settings.drift import DriftSettings
from testkit.drifting_log import START_HOUR, fill_hours, followed, reference_of

FIRST = reference_of()
NIGHTS = 30


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(workspace=tmp_path)


@pytest.fixture
def log(settings: Settings) -> Iterator[Ledger]:
    with open_writer(settings) as ledger:
        yield ledger


def follow(
    settings: Settings, models: dict[str, FollowedModel], *, restarts: bool = False, **drift: Any
) -> DriftStore:
    """Follow the log to its end; returns the record."""
    store, reader = open_drift(settings), open_reader(settings)
    one = DriftFollower(store, reader, lambda _, version: models[version], DriftSettings(**drift))
    while one.step():
        if restarts:
            one.forget()
    reader.close()
    return store


def record_of(store: DriftStore) -> list[Any]:
    streams = store.streams()
    return [
        store.anchor(),
        streams,
        [store.state(stream.id) for stream in streams],
        [
            (row.first_hour, row.events.tolist(), row.counts.tolist())
            for stream in streams
            for row in store.hours(stream.id)
        ],
        store.changes(0),
    ]


def test_a_gradual_change_is_found_though_a_new_model_is_promoted_every_night(
    settings: Settings, log: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = {"1": followed(FIRST)}
    for night in range(NIGHTS):
        shift = 0.5 * night / NIGHTS
        begins = START_HOUR + 24 * night
        fill_hours(
            log, range(begins, begins + 24), per_hour=20, version=str(night + 1), shift=shift
        )
        if night:  # trained on the four weeks before it, or before the nights since then
            if night % 10 == 1:
                learnt = reference_of(
                    night, per_hour=30, days=28, until_hour=begins, shift=max(0.0, shift - 0.1)
                )
            models[str(night + 1)] = followed(learnt)
    store = follow(settings, models)
    found = [one for one in store.open_alarms(0) if one.change.feature == "risk"]
    assert found
    assert {one.model_version for one in found} == {"1"}  # whose reference it was held against
    assert min(one.change.at_hour for one in found) < START_HOUR + 24 * 24

    # Each model's own hours, held against its own reference, say nothing.
    for stream in store.streams()[1:]:
        alone = DriftDetector(models[stream.model_version].reference, DriftSettings())
        for row in store.hours(stream.id):
            assert alone.advance(HourCounts(row.first_hour, row.counts, row.events)) == []

    # Made anew, and by processes that end again and again, the record is the same to the bit.
    kept = record_of(store)
    store.forget_counts()
    assert store.anchor() is None
    monkeypatch.setattr(following, "BATCH_ROWS", 1_500)
    assert record_of(follow(settings, models, restarts=True)) == kept


def test_a_score_is_held_against_the_reference_of_the_model_that_gave_it(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 24), version="1")
    fill_hours(log, range(START_HOUR + 24, START_HOUR + 48), version="2")
    store = follow(settings, {"1": followed(FIRST), "2": followed(_other_scores(FIRST))})
    changes = [(one.model_version, one.change.feature) for one in store.open_alarms(0)]
    assert changes
    assert set(changes) == {("2", SCORE)}
    first, second = store.streams()
    score = FIRST.bins.slice_of(SCORE)
    risk = FIRST.bins.slice_of("risk")
    hours = {row.first_hour: row.counts[0] for row in store.hours(first.id)}
    assert not hours[START_HOUR + 30][score].any()  # given by the second model
    assert hours[START_HOUR + 30][risk].sum() == 54
    own = {row.first_hour: row.counts[0] for row in store.hours(second.id)}
    assert own[START_HOUR + 30][score].sum() == 54
    anchored = DriftDetector.from_bytes(FIRST, DriftSettings(), store.state(first.id))
    assert not anchored.evidence[:, -1].any() or anchored.average < anchored.threshold
    tested = DriftDetector.from_bytes(_other_scores(FIRST), DriftSettings(), store.state(second.id))
    assert not tested.evidence[:, :-1].any()  # features are tested once


def test_the_anchor_moves_to_the_newest_model_when_it_is_old(
    settings: Settings, log: Ledger
) -> None:
    newer = reference_of(2, until_hour=START_HOUR + 24)
    fill_hours(log, range(START_HOUR, START_HOUR + 24 * 6), version="1", per_hour=10)
    fill_hours(log, range(START_HOUR + 24 * 6, START_HOUR + 24 * 9), version="2", per_hour=10)
    models = {"1": followed(FIRST), "2": followed(newer)}
    store = follow(settings, models, anchor_days=7)
    anchor = store.anchor()
    assert anchor is not None
    assert (anchor.stream, anchor.from_hour - START_HOUR) == (2, 7 * 24)
    store.forget_counts()
    assert follow(settings, models).anchor() == msgspec.structs.replace(
        anchor, stream=1, from_hour=START_HOUR
    )


def test_the_anchor_moves_once_what_changed_is_usual_for_a_model() -> None:
    detector = DriftDetector(FIRST, DriftSettings())
    risk = FIRST.bins.slice_of("risk")
    for hour in range(START_HOUR, START_HOUR + 48):
        counts = FIRST.weekly[hour % 168].copy()
        counts[:, risk] = counts[:, risk][:, ::-1]  # no risk is known where it was the highest
        detector.advance(HourCounts(hour, counts, counts[:, risk].sum(axis=1, dtype=np.int64)))
    assert {one.feature for one in detector.named} == {"risk"}
    since = max(one.since_hour for one in detector.named)
    before = reference_of(4, until_hour=since + 24 * 20)
    after = reference_of(5, until_hour=since + 24 * 22)
    assert why_moved(detector, before, 24 * 400, 90) == ""
    assert why_moved(detector, after, 24, 90) == "what changed is usual for the model"


def test_a_model_of_other_features_takes_the_anchor_and_one_with_some_more_does_not() -> None:
    detector = DriftDetector(FIRST, DriftSettings())
    other = _renamed(FIRST, {"amount": "count", "risk": "age"})
    assert why_moved(detector, other, 1, 90) == "the model has other features"
    half = _renamed(FIRST, {"risk": "age"})
    assert why_moved(detector, half, 1, 90) == ""
    assert covered(half, FIRST).tolist() == [True, False, False]


def test_features_that_a_plan_lacks_are_not_counted_and_raise_nothing(
    settings: Settings, log: Ledger
) -> None:
    fill_hours(log, range(START_HOUR, START_HOUR + 24), version="1")
    fill_hours(log, range(START_HOUR + 24, START_HOUR + 24 * 6), version="2")
    models = {
        "1": FollowedModel(FIRST, lambda _: np.array([0, 1])),
        "2": FollowedModel(_renamed(FIRST, {"risk": "age"}), lambda _: np.array([0, 1])),
    }
    store, reader = open_drift(settings), open_reader(settings)
    one = DriftFollower(store, reader, lambda _, version: models[version], DriftSettings())
    one.step()
    lacking = dict(models, **{"1": FollowedModel(FIRST, lambda _: np.array([0, -1]))})
    one.forget()
    store.forget_counts()
    one = DriftFollower(store, reader, lambda _, version: lacking[version], DriftSettings())
    while one.step():
        pass
    assert store.open_alarms(0) == []
    hours = {row.first_hour: row.counts for row in store.hours(1)}
    assert not hours.get(START_HOUR + 30, np.zeros((3, FIRST.bins.cells)))[
        :, FIRST.bins.slice_of("risk")
    ].any()
    reader.close()


def test_evidence_of_a_column_stands_still_while_no_payment_has_it() -> None:
    detector = DriftDetector(FIRST, DriftSettings())
    risk = FIRST.bins.names.index("risk")
    usual = FIRST.weekly
    for hour in range(START_HOUR, START_HOUR + 10):
        detector.advance(HourCounts(hour, usual[hour % 168] // 3, np.ones(3, np.int64)))
    before = detector.evidence.copy()
    assert before[0, risk] > 0
    for hour in range(START_HOUR + 10, START_HOUR + 20):
        counts = usual[hour % 168] // 3
        counts[:, FIRST.bins.slice_of("risk")] = 0
        detector.advance(HourCounts(hour, counts, np.ones(3, np.int64)))
    assert (detector.evidence[:, risk] == before[:, risk]).all()
    assert (detector.evidence[:, 0] != before[:, 0]).all()


def _renamed(reference: DriftReference, names: dict[str, str]) -> DriftReference:
    """The same reference of features that are defined otherwise."""
    columns = tuple(
        msgspec.structs.replace(column, name=names.get(column.name, column.name))
        for column in reference.bins.columns
    )
    return _with_bins(reference, msgspec.structs.replace(reference.bins, columns=columns))


def _with_bins(reference: DriftReference, bins: Any) -> DriftReference:
    return DriftReference(
        bins=bins,
        segments=reference.segments,
        weekly=reference.weekly,
        spread=reference.spread,
        first_hour=reference.first_hour,
        last_hour=reference.last_hour,
        days=reference.days,
    )


def _other_scores(reference: DriftReference) -> DriftReference:
    """A reference whose model gave most payments the highest scores."""
    weekly = reference.weekly.copy()
    score = reference.bins.slice_of(SCORE)
    weekly[:, :, score] = weekly[:, :, score][:, :, ::-1]
    return DriftReference(
        bins=reference.bins,
        segments=reference.segments,
        weekly=weekly,
        spread=reference.spread,
        first_hour=reference.first_hour,
        last_hour=reference.last_hour,
        days=reference.days,
    )
