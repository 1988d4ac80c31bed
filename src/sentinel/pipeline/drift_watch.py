"""The watch that follows the log for drift, and asks for a new model where it finds some."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from sentinel.domain import SentinelError
from sentinel.drift.alarms import alarm_counts
from sentinel.drift.following import DriftFollower
from sentinel.drift.missing import missing_shares
from sentinel.drift.notices import HOUR_US
from sentinel.drift.open_streams import FindModel, FollowedModel, columns_by_plan
from sentinel.drift.reference import DriftReference
from sentinel.drift.rows import RecordedChange, StreamRow
from sentinel.drift.store import DriftStore, open_drift
from sentinel.features.plan.definition_hashes import matching_columns
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.base import Ledger
from sentinel.ledger.open import ledger_exists, open_reader
from sentinel.models.artifact import load_manifest, load_plan
from sentinel.models.plans import find_plan
from sentinel.models.serving import model_folder
from sentinel.monitoring.drift_metrics import DriftFigures, DriftMetrics
from sentinel.pipeline.drift_words import hour_words
from sentinel.pipeline.last_training import RetrainingRequest, request_retraining
from sentinel.pipeline.watches import MonitorContext, Watch
from sentinel.settings import Settings

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 10.0
RECENT_HOURS: Final = 48
"""A change that was found longer ago asks for no retraining: a record was made anew."""
MOST_TOLD: Final = 5
"""Changes that a request for a retraining names."""
NO_REFERENCE: Final = (
    "it was trained before references were kept, and has none; the next training makes one"
)
RUN_SECONDS: Final = 300.0
"""A run that is far behind ends after so long; the next one goes on."""
_DUTY: Final = 0.5
"""While it is far behind, it rests for this share of the time that it worked."""
_HOUSEKEEPING_SECONDS: Final = 600.0


class DriftWatch:
    """See `sentinel.pipeline.watches.Watch`.

    Args:
        context: The deployment; metrics are registered with it.
    """

    name = "drift"
    every_seconds = EVERY_SECONDS

    def __init__(self, context: MonitorContext) -> None:
        self._settings = context.settings
        self._stop = context.stop
        self._store = open_drift(self._settings)
        self._reader: Ledger | None = None
        self._follower: DriftFollower | None = None
        self._kept_house = -_HOUSEKEEPING_SECONDS
        self._figures: DriftFigures | None = None
        context.registry.register(DriftMetrics(lambda: self._figures))

    def close(self) -> None:
        """Leave the log and the record of drift."""
        if self._reader is not None:
            self._reader.close()
            self._reader = self._follower = None
        self._store.close()

    def run(self, now_us: int) -> None:
        """Take in what came, test what is over, ask for a retraining where that is due."""
        if self._reader is None:
            if not ledger_exists(self._settings):
                return
            self._reader = open_reader(self._settings)
            self._follower = DriftFollower(
                self._store, self._reader, model_finder(self._settings), self._settings.drift
            )
        assert self._follower is not None
        try:
            self._follow(self._follower, self._reader, now_us)
        except BaseException:
            self._reader.close()
            self._reader = self._follower = None
            raise

    def _follow(self, follower: DriftFollower, reader: Ledger, now_us: int) -> None:
        follower.look_again()
        # What comes meanwhile waits for the next run: payments that never pause would make this one
        # endless, and a step of each few of them.
        end, until = reader.last_sequence(), time.monotonic() + RUN_SECONDS
        while not self._stop.is_set():
            began = time.monotonic()
            if began > until or not follower.step():
                break
            for row, change in follower.found:
                log.warning(
                    "Drift: %s in %s changed. See `sentinel drift status`.",
                    *(change.feature, change.segment),
                    extra={"model_version": row.model_version},
                )
            self._note(follower, reader, now_us)
            if follower.progress is not None and follower.progress.through >= end:
                break
            self._stop.wait(_DUTY * (time.monotonic() - began))
        else:
            return
        ask_for_retraining(self._settings, self._store, now_us)
        self._keep_house(follower)
        self._note(follower, reader, now_us)

    def _note(self, follower: DriftFollower, reader: Ledger, now_us: int) -> None:
        latest = self._store.deciding()
        every = self._store.changes_now(now_us)
        on = [one for one in every if one.change.ended_hour is None]
        alarms = [one.change.total_variation for one in on if one.raises_alarm]
        through = follower.progress.through if follower.progress else 0
        evidence, threshold = follower.evidence or (0.0, 0.0)
        self._figures = DriftFigures(
            alarms=len(alarms),
            feature_alarms=alarm_counts(every),
            changes=len(on),
            largest_distance=max(alarms, default=0.0),
            evidence=evidence,
            threshold=threshold,
            tested_us=(latest.tested_hour + 1) * HOUR_US if latest else 0,
            untested=latest is not None and bool(latest.problem),
            followed=through,
            lag=max(0, reader.last_sequence() - through),
            entries={kind.name.lower(): count for kind, count in follower.entries.items()},
            decisions=dict(follower.counted),
            missing=self._missing(follower, latest),
        )

    def _missing(self, follower: DriftFollower, latest: StreamRow | None) -> dict[str, float]:
        """Unknown values of this hour, by the log's clock, and the one before."""
        reference = follower.reference_of(latest) if latest else None
        if latest is None or reference is None or follower.progress is None:
            return {}
        hour = follower.progress.clock_us // HOUR_US
        return missing_shares(reference, self._store.hours(latest.id, hour - 1, hour + 1))

    def _keep_house(self, follower: DriftFollower) -> None:
        """Make days of old hours, and drop what is older than is kept."""
        if time.monotonic() - self._kept_house < _HOUSEKEEPING_SECONDS:
            return
        if follower.progress is None:
            return
        drift, clock_us = self._settings.drift, follower.progress.clock_us
        before = int(clock_us - drift.hours_days * DAY_US) // HOUR_US
        for stream in self._store.streams():
            while not self._stop.is_set() and self._store.compact(stream, before_hour=before):
                pass
        self._store.drop_before(int(clock_us - drift.keep_days * DAY_US) // HOUR_US)
        self._kept_house = time.monotonic()


def make_drift_watch(context: MonitorContext) -> Watch:
    """See `sentinel.pipeline.watches.MakeWatch`."""
    return DriftWatch(context)


def model_finder(settings: Settings) -> FindModel:
    """Finds the references of models in their folders, and their features in served vectors."""

    def find(name: str, version: str) -> FollowedModel | str:
        if name != settings.mlflow.model_name:
            return f"this deployment's model is {settings.mlflow.model_name}"
        folder = model_folder(settings, version)
        if not folder.is_dir():
            return "its folder is not here; `sentinel follow` fetches it where it is registered"
        try:
            plan = load_plan(folder, load_manifest(folder))
            reference = DriftReference.load(folder)
        except (SentinelError, OSError) as error:
            return f"it cannot be read ({error})"
        if reference is None:
            return NO_REFERENCE

        def columns(plan_hash: str) -> npt.NDArray[np.int64] | None:
            served = find_plan(settings, plan_hash)
            if served is None:
                return None
            return matching_columns(served, plan)

        own = np.arange(len(plan.feature_names), dtype=np.int64)
        if reference.bins.names[:-1] != tuple(plan.feature_names):
            return "its reference is not of its own features"
        return FollowedModel(reference, columns_by_plan(columns, {plan.hash: own}))

    return find


def ask_for_retraining(settings: Settings, store: DriftStore, now_us: int) -> None:
    """Ask for a retraining because of changes that raise an alarm, once for each alarm.

    A champion that is trained because of a change cannot have learnt what is mature later. So a
    change that is on although another model decides asks once more, when payments of after it are
    mature. Until then nothing is asked for because of the same feature in the same segment.

    Args:
        settings: `retraining.on_drift` says whether drift asks for one.
        store: The record of drift.
        now_us: The clock, microseconds UTC.
    """
    if not settings.retraining.on_drift:
        return
    # An hour is tested late where payments are waited for: the change was found so much later.
    waited_us = int(settings.drift.late_minutes * 60e6)
    open_alarms = store.open_alarms(now_us)
    recent = [
        one
        for one in open_alarms
        if now_us - waited_us - (one.change.at_hour + 1) * HOUR_US <= RECENT_HOURS * HOUR_US
    ]
    alarms = {(one.model_version, one.change.at_hour) for one in recent}
    new = [alarm for alarm in sorted(alarms) if not store.requested(*alarm)]
    matured = _matured(settings, store, open_alarms, now_us)
    if not new and not matured:
        return
    repeated = _answered(settings, store, now_us)
    told = [one for one in recent if (one.change.feature, one.change.segment) not in repeated]
    alarms = {(one.model_version, one.change.at_hour) for one in told}
    new = [alarm for alarm in new if alarm in alarms]
    if not new:
        told = []
    new += matured
    told += [one for changes in matured.values() for one in changes if one not in told]
    if new:
        request = RetrainingRequest(kind="drift", why=words_of(told), at_us=now_us)
        request_retraining(settings, request)
        for alarm in new:
            store.note_requested(*alarm)
        log.info("A retraining was asked for: %s", request.why)


def _matured(
    settings: Settings, store: DriftStore, alarms: Sequence[RecordedChange], now_us: int
) -> dict[tuple[str, int], list[RecordedChange]]:
    """Changes that another model has not ended, and that can be learnt from since they were asked.

    Returns:
        By the version and the hour at which payments of after them were mature: those that have
        asked for a retraining once, and not yet since that hour.
    """
    streams = store.streams()
    hours = int(settings.labels.maturity_days * 24)
    found: dict[tuple[str, int], list[RecordedChange]] = {}
    for one in alarms:
        mature = (one.model_version, one.change.at_hour + hours)
        is_mature = (mature[1] + 1) * HOUR_US <= now_us
        if one.stream == streams[-1].id or not is_mature or store.requested(*mature):
            continue
        if store.requested(one.model_version, one.change.at_hour):
            found.setdefault(mature, []).append(one)
    return found


def _answered(settings: Settings, store: DriftStore, now_us: int) -> set[tuple[str, str]]:
    """Features and segments whose change earlier champions have asked for a retraining for."""
    streams = store.streams()
    after = now_us - int(settings.labels.maturity_days * DAY_US)
    return {
        (one.change.feature, one.change.segment)
        for one in store.changes(now_us)
        if one.stream != streams[-1].id
        and one.change.at_hour * HOUR_US >= after
        and store.requested(one.model_version, one.change.at_hour)
    }


def words_of(changes: Sequence[RecordedChange]) -> str:
    """What changed, in a sentence: features, segments, and since when."""
    told = sorted(changes, key=lambda one: -one.change.total_variation)
    names = [f"{one.change.feature} in {one.change.segment}" for one in told[:MOST_TOLD]]
    if len(told) > MOST_TOLD:
        names.append(f"{len(told) - MOST_TOLD} more")
    since = min(one.change.since_hour for one in changes)
    return (
        f"{', '.join(names)} changed since {hour_words(since)} UTC, for version "
        f"{changes[0].model_version}"
    )
