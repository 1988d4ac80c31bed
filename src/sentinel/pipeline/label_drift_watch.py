"""The watch that holds days of payments, as labels tell them by now, against those before.

The reference are the four weeks before the end of what the champion learnt from, or the first four
that were decided at all. So a new champion, which learnt from newer days, brings a newer reference.
"""

from __future__ import annotations

import logging
from typing import Final

from msgspec.structs import replace

from sentinel.domain import SentinelError
from sentinel.drift.label_changes import label_changes
from sentinel.drift.label_drift import LabelDays
from sentinel.drift.label_figures import STREAM_WORDS, LabelFigures
from sentinel.drift.store import DriftStore, open_drift
from sentinel.features.plan.plan import DAY_US
from sentinel.ledger.open import ledger_exists
from sentinel.models.artifact import load_manifest
from sentinel.models.champion import champion_of
from sentinel.monitoring.drift_metrics import LabelDriftFigures, LabelDriftMetrics
from sentinel.pipeline.label_days import decided_labels
from sentinel.pipeline.labelled_payments import maturity_us
from sentinel.pipeline.watches import MonitorContext, Watch
from sentinel.pipeline.workspace import ledger_reader
from sentinel.settings import Settings

log = logging.getLogger(__name__)

EVERY_SECONDS: Final = 60.0
"""Between two looks whether there is a new day, or a new champion."""
REFERENCE_DAYS: Final = 28


class LabelDriftWatch:
    """See `sentinel.pipeline.watches.Watch`.

    The log is read when its clock has come to a new day, or another champion decides: days are
    what is tested.

    Args:
        context: The deployment; metrics are registered with it.
    """

    name = "label-drift"
    every_seconds = EVERY_SECONDS

    def __init__(self, context: MonitorContext) -> None:
        self._settings = context.settings
        self._store = open_drift(self._settings)
        self._figures: LabelDriftFigures | None = None
        context.registry.register(LabelDriftMetrics(lambda: self._figures))

    def close(self) -> None:
        """Leave the record of drift."""
        self._store.close()

    def run(self, now_us: int) -> None:
        """Test days that are new, and tell what is on."""
        settings = self._settings
        if not ledger_exists(settings):
            return
        kept = self._store.labels(now_us)
        version, learnt_us = _champion(settings)
        with ledger_reader(settings) as ledger:
            end_us = ledger.last_received_at_us() + 1
        new = kept is None or kept.as_of_us // DAY_US < end_us // DAY_US
        if kept is None or new or kept.model_version != version:
            self._store.make_labels()
            self._store.keep_labels(label_figures(settings, version, learnt_us))
            kept = self._tell_new(self._store, kept, now_us)
        self._figures = figures_of(kept)

    def _tell_new(
        self, store: DriftStore, before: LabelFigures | None, now_us: int
    ) -> LabelFigures:
        after = store.labels(now_us)
        assert after is not None
        known = {(one.stream, one.since_day) for one in before.changes} if before else set()
        for one in after.alarms:
            if (one.stream, one.since_day) not in known:
                log.warning("Labels changed: %s. See `sentinel drift status`.", one.stream)
        return after


def label_figures(settings: Settings, version: str, learnt_us: int) -> LabelFigures:
    """What labels say by the end of the log.

    Args:
        settings: The deployment.
        version: The champion.
        learnt_us: The end of what it learnt from, microseconds UTC; 0 if that is not known.

    Raises:
        LedgerUnavailable, WorkspaceError: The log cannot be read.
    """
    with ledger_reader(settings) as ledger:
        end_us = ledger.last_received_at_us() + 1
        first_us = max(
            end_us - round(settings.drift.keep_days * DAY_US),
            learnt_us // DAY_US * DAY_US - REFERENCE_DAYS * DAY_US,
            0,
        )
        rows = decided_labels(ledger, first_us)
    days = LabelDays.of(rows, end_us, maturity_us(settings))
    found = label_changes(
        days, REFERENCE_DAYS, false_alarms_a_month=settings.drift.false_alarms_per_month
    )
    return replace(found, as_of_us=end_us, model_version=version)


def figures_of(found: LabelFigures) -> LabelDriftFigures:
    """As metrics have them."""
    alarms = {one.stream for one in found.alarms}
    return LabelDriftFigures(
        alarms={stream: int(stream in alarms) for stream in STREAM_WORDS},
        tested_days=found.tested_days,
        untested=bool(found.missing),
        as_of_us=found.as_of_us,
    )


def _champion(settings: Settings) -> tuple[str, int]:
    """The champion's version, and the end of what it learnt from; empty and 0 without one."""
    try:
        champion = champion_of(settings)
        if champion is None:
            return "", 0
        manifest = load_manifest(settings.models_dir / champion.folder)
    except (SentinelError, OSError) as error:
        log.info("Labels are held against the first days that were decided: %s", error)
        return "", 0
    return champion.version, manifest.training.end_us


def make_label_drift_watch(context: MonitorContext) -> Watch:
    """See `sentinel.pipeline.watches.MakeWatch`."""
    return LabelDriftWatch(context)
