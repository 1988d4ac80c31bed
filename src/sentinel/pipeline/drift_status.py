"""What is known of drift, for people and for programs."""

from __future__ import annotations

import msgspec

from sentinel.drift.label_figures import LabelFigures
from sentinel.drift.notices import HOUR_US, Notice
from sentinel.drift.reader import DriftReader
from sentinel.drift.rows import RecordedChange, StreamRow, Tally
from sentinel.ledger.open import ledger_exists, open_reader
from sentinel.settings import Settings

DAY_HOURS = 24


class ModelDrift(msgspec.Struct, frozen=True, kw_only=True):
    """The payments that one model decided.

    Attributes:
        stream: How far they were followed and tested.
        last_day: Decisions of the log's last 24 hours.
    """

    stream: StreamRow
    last_day: Tally


class DriftStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of drift.

    Attributes:
        followed, entries: The last entry that was taken in, and the last one of the log.
        clock_us: When the former was received, microseconds UTC; 0: nothing was taken in.
        models: Those that decided, the one that decides now first.
        changes: The latest ones, newest first.
        alarms: How many of them are on, not silenced, and of the model that decides now.
        notices: Silences and planned changes whose windows are not over.
        labels: What labels say of change, without its days; None before anything is known.
    """

    followed: int
    entries: int
    clock_us: int
    models: tuple[ModelDrift, ...]
    changes: tuple[RecordedChange, ...]
    alarms: int
    notices: tuple[Notice, ...]
    labels: LabelFigures | None = None


def status_of(settings: Settings, store: DriftReader, now_us: int) -> DriftStatus:
    """What is known of drift.

    Args:
        settings: The deployment.
        store: Its record of drift.
        now_us: The clock, microseconds UTC.

    Raises:
        LedgerUnavailable, WorkspaceError: The record or the log cannot be read.
    """
    progress, labels = store.progress(), store.labels(now_us)
    entries = 0
    if ledger_exists(settings):
        with open_reader(settings) as reader:
            entries = reader.last_sequence()
    decided = store.decided(progress.clock_us // HOUR_US - DAY_HOURS)
    models = [
        ModelDrift(
            stream=stream,
            last_day=decided.get((stream.model_name, stream.model_version), Tally()),
        )
        for stream in reversed(store.streams())
    ]
    return DriftStatus(
        followed=progress.through,
        entries=entries,
        clock_us=progress.clock_us,
        models=tuple(models),
        changes=tuple(store.changes(now_us, most=100)),
        alarms=len(store.open_alarms(now_us)),
        notices=tuple(one for one in store.notices() if one.until_us > now_us),
        labels=None if labels is None else msgspec.structs.replace(labels, days=()),
    )
