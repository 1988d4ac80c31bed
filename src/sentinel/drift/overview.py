"""What a reader of drift sees: how far each feature is from the reference by now, and what changed.

Figures describe, changes are tested: a distance may be large by chance, or small and yet no chance.
Counts are read a day at a time, so that memory stays bounded whatever span is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.drift.bins import SCORE
from sentinel.drift.day_bars import LARGE
from sentinel.drift.distances import (
    jensen_shannon,
    kolmogorov_smirnov,
    normalized,
    payments_to_tell,
    stability_index,
)
from sentinel.drift.figures import (
    DriftOverview,
    FeatureDay,
    FeatureDetail,
    FeatureDrift,
    SeenChange,
)
from sentinel.drift.notices import DAY_HOURS
from sentinel.drift.reader import DriftReader
from sentinel.drift.reference import DriftReference
from sentinel.drift.rows import RecordedChange, StreamRow, Tally

HOUR_US: Final = 3_600_000_000
DAYS: Final = 28
"""Days that are shown unless said otherwise."""
MOST_DAYS: Final = 90
MOST_CHANGES: Final = 200
"""Changes of one answer, the newest."""
RECENT_DAYS: Final = 7
"""The last days that figures of "now" are of."""
LEAST_PAYMENTS: Final = 30
"""Of a day whose distance says anything, whatever the feature."""
LEAST_HOURS: Final = 12
"""Of all days together, likewise: a morning has other payments than a day."""

LoadReference = Callable[[StreamRow], DriftReference | None]
Counts = npt.NDArray[np.int64]


class _Day(NamedTuple):
    """What was counted on a day.

    Attributes:
        day: Since 1970.
        counts: In all payments: int64 (cells,).
        hours: In which there were any.
    """

    day: int
    counts: Counts
    hours: int


class DriftView:
    """Reads what a monitor has kept.

    Args:
        store: Where.
        load_reference: Finds the reference of a stream's model; None if it has none.
        days: How many are shown.
    """

    def __init__(
        self, store: DriftReader, load_reference: LoadReference, *, days: int = DAYS
    ) -> None:
        self._store = store
        self._load = load_reference
        self._days = min(days, MOST_DAYS)

    def overview(self, now_us: int) -> DriftOverview:
        """All features and changes.

        Args:
            now_us: The clock, for silences.
        """
        notices = tuple(self._store.notices())
        labels = self._store.labels(now_us)
        progress = self._store.progress()
        stream = self._store.deciding()
        if stream is None:
            return DriftOverview(missing=_nothing(progress.through), notices=notices, labels=labels)
        changes = self._seen(self._store.changes(now_us, most=MOST_CHANGES))
        last_day = self._last_day(stream, progress.clock_us)
        reference, missing = self._reference(stream)
        features: tuple[FeatureDrift, ...] = ()
        payments = 0
        if reference is not None:
            days = self._counts(stream, reference)
            payments = int(_recent(days)[reference.bins.slice_of(SCORE)].sum()) if days else 0
            features = self._features(reference, days, changes)
            missing = missing or ("" if days else _NO_HOURS)
        return DriftOverview(
            missing=missing,
            model_version=stream.model_version,
            followed_us=progress.clock_us,
            tested_until_us=(stream.tested_hour + 1) * HOUR_US if stream.tested_hour >= 0 else 0,
            payments=payments,
            decided=last_day.decided,
            left_out=last_day.left_out,
            features=features,
            changes=changes,
            notices=notices,
            labels=labels,
        )

    def feature(self, name: str, now_us: int) -> FeatureDetail | None:
        """One feature; None if the model has none of that name, or nothing is known yet.

        Args:
            name: The feature, or ``score``.
            now_us: The clock, for silences.
        """
        stream = self._store.deciding()
        reference = self._reference(stream)[0] if stream is not None else None
        if stream is None or reference is None or name not in reference.bins.names:
            return None
        days = self._counts(stream, reference)
        changes = self._seen(self._store.changes(now_us, most=MOST_CHANGES))
        changes = tuple(one for one in changes if one.change.feature == name)
        found = next(
            (one for one in self._features(reference, days, changes) if one.feature == name), None
        )
        if found is None:
            return None
        column = reference.bins.columns[reference.bins.names.index(name)]
        cells = reference.bins.slice_of(name)
        return FeatureDetail(
            overview=found,
            labels=tuple(column.label(cell) for cell in range(column.cells)),
            was=tuple(normalized(_expected(reference)[cells]).tolist()),
            now=tuple(normalized(_recent(days)[cells]).tolist()),
            changes=changes,
        )

    def recent_counts(self, stream: StreamRow, reference: DriftReference) -> Counts | None:
        """Counts of the last days in all payments: int64 (cells,); None if there are none."""
        days = self._counts(stream, reference)
        return _recent(days) if days else None

    def _reference(self, stream: StreamRow) -> tuple[DriftReference | None, str]:
        """The reference of a stream, and what is missing."""
        if stream.problem:
            return None, _untested(stream)
        reference = self._load(stream)
        if reference is None or (stream.reference and reference.digest != stream.reference):
            return None, (
                f"The folder of version {stream.model_version} is not here, or its reference is "
                "another one than was tested. `sentinel follow` fetches it where it is registered."
            )
        return reference, ""

    def _last_day(self, stream: StreamRow, clock_us: int) -> Tally:
        """Decisions of a stream's model in the last 24 hours of the log."""
        of_models = self._store.decided(clock_us // HOUR_US - DAY_HOURS)
        return of_models.get((stream.model_name, stream.model_version), Tally())

    def _counts(self, stream: StreamRow, reference: DriftReference) -> list[_Day]:
        """The last days that have any payments."""
        last = stream.tested_hour // DAY_HOURS
        found = []
        for day in range(last - self._days + 1, last + 1) if stream.tested_hour >= 0 else ():
            total, hours = np.zeros(reference.bins.cells, np.int64), 0
            for row in self._store.hours(stream.id, day * DAY_HOURS, (day + 1) * DAY_HOURS):
                if row.first_hour <= stream.tested_hour:
                    total += row.counts[0]
                    hours += row.hours * bool(row.counts[0].any())
            if hours:
                found.append(_Day(day, total, hours))
        return found

    def _features(
        self,
        reference: DriftReference,
        days: Sequence[_Day],
        changes: Sequence[SeenChange],
    ) -> tuple[FeatureDrift, ...]:
        if not days:
            return ()
        expected, recent = _expected(reference), _recent(days)
        hours = sum(one.hours for one in days if one.day > days[-1].day - RECENT_DAYS)
        found = []
        for name, column in zip(reference.bins.names, reference.bins.columns, strict=True):
            cells = reference.bins.slice_of(name)
            was, now = normalized(expected[cells]), normalized(recent[cells])
            codes = column.kind == "category"
            least = max(LEAST_PAYMENTS, payments_to_tell(int(np.count_nonzero(was)), LARGE))
            payments = [int(one.counts[cells].sum()) for one in days]
            enough = max(least, median(payments) / 4)
            found.append(
                FeatureDrift(
                    feature=name,
                    stability_index=float(stability_index(was, now)),
                    jensen_shannon=float(jensen_shannon(was, now)),
                    kolmogorov_smirnov=float(kolmogorov_smirnov(was, now)),
                    missing_was=float(was[0]),
                    missing_now=float(now[0]),
                    new_was=float(was[1]) if codes else 0.0,
                    new_now=float(now[1]) if codes else 0.0,
                    changed=tuple(
                        one.change.segment
                        for one in changes
                        if one.change.feature == name and one.change.ended_hour is None
                    ),
                    too_few=_too_few(int(recent[cells].sum()), least, hours),
                    days=tuple(
                        FeatureDay(
                            day=one.day,
                            payments=n,
                            stability_index=float(
                                stability_index(was, normalized(one.counts[cells]))
                            ),
                            missing=float(normalized(one.counts[cells])[0]),
                            few=n < enough or hours < LEAST_HOURS,
                        )
                        for one, n in zip(days, payments, strict=True)
                    ),
                )
            )
        return tuple(sorted(found, key=_farthest_first))

    def _seen(self, changes: Sequence[RecordedChange]) -> tuple[SeenChange, ...]:
        return tuple(
            SeenChange(
                change=one.change,
                model_version=one.model_version,
                silence="" if one.silence is None else one.silence.why or "silenced",
                plan="" if one.plan is None else one.plan.why,
            )
            for one in changes
        )


def _expected(reference: DriftReference) -> npt.NDArray[np.float64]:
    """Counts of the reference in all payments: float64 (cells,)."""
    return np.asarray(reference.counts[0], np.float64)


def _farthest_first(one: FeatureDrift) -> tuple[bool, bool, float]:
    """Order: what changed, then by distance; what says nothing is last."""
    return not one.changed, bool(one.too_few), -one.stability_index


def _too_few(payments: int, least: int, hours: int) -> str:
    """Why distances of so many payments say nothing; empty if they do."""
    if payments < least:
        return f"fewer than {least:,} payments"
    return f"payments of fewer than {LEAST_HOURS} hours" if hours < LEAST_HOURS else ""


def _recent(days: Sequence[_Day]) -> Counts:
    """Counts of cells of the last days together: int64 (cells,)."""
    kept = [one.counts for one in days if one.day > days[-1].day - RECENT_DAYS]
    return np.asarray(np.sum(kept, axis=0, dtype=np.int64))


def _nothing(through: int) -> str:
    if through:
        return (
            "The monitor follows the log and has met no decision of a model yet. Have payments "
            "decided; drift shows from the first whole hour on."
        )
    return (
        "No monitor has followed the log yet. Start one with `sentinel monitor`; `sentinel up` and "
        "the containers do so by themselves."
    )


def _untested(stream: StreamRow) -> str:
    return (
        f"Payments of version {stream.model_version} are held against no reference: "
        f"{stream.problem.rstrip('.')}."
    )


_NO_HOURS: Final = (
    "No hour of payments is whole yet. The first is tested once the log has an entry from "
    "`drift.late_minutes` after its end."
)
