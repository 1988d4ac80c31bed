"""The detector: hours of counts in, changes out.

Each column of each segment is a *stream*. Its evidence grows with every hour that differs from what
the reference expects of that hour of the week (`sentinel.drift.evidence`). When the average over
all streams reaches the threshold, an alarm names the streams that carry it. A named stream is
tested no more until its share has come back, so that one change is one alarm.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelFormatError
from sentinel.drift.bets import bets_of, shares_of_bets
from sentinel.drift.distances import (
    jensen_shannon,
    kolmogorov_smirnov,
    normalized,
    stability_index,
    total_variation,
)
from sentinel.drift.evidence import BETS, grow
from sentinel.drift.figures import Change
from sentinel.drift.questions import shares, words
from sentinel.drift.reference import DriftReference
from sentinel.settings.drift import DriftSettings

HOURS_A_MONTH: Final = 730.5
STATE_FORMAT: Final = 1
_DAYS_KEPT: Final = 28
_HOURS_KEPT: Final = 72
_DAYS_BACK: Final = 3
"""Whole days that must look like the reference again before a change has ended."""
_QUIET_DAYS: Final = 7
"""Days without a payment in its segment after which a change has ended, too."""


@dataclass(frozen=True, eq=False)
class HourCounts:
    """What one hour's payments looked like.

    Attributes:
        hour: Since 1970, by the clock of the decisions, UTC.
        counts: uint32 (segments, cells).
        events: int64 (segments,): payments.
    """

    hour: int
    counts: npt.NDArray[np.uint32]
    events: npt.NDArray[np.int64]


class _Named(msgspec.Struct, frozen=True):
    """A change that is on, and what would end it."""

    change: Change
    segment: int
    column: int
    question: int
    shift: float


class _State(msgspec.Struct, frozen=True):
    reference: str
    hour: int
    sums: bytes
    residual: bytes
    information: bytes
    evidence: bytes
    hours: bytes
    hour_numbers: tuple[int, ...]
    days: bytes
    day_numbers: tuple[int, ...]
    named: tuple[_Named, ...]
    format: int = STATE_FORMAT


class DriftDetector:
    """Tests all streams hour by hour, with a bound on false alarms.

    Attributes:
        reference: What hours are held against.
        threshold: An alarm is raised when the average evidence of all streams reaches it: hours
            until a false alarm is expected, at least.
        evidence: float64 (segments, columns), of each stream.
        hour: The last one that was tested; -1 before the first.
        columns: Evidence is averaged over so many in each segment. More or fewer than the
            reference has where this detector tests a part of what a model's payments have, and
            another one the rest: the two together then raise as many false alarms as are set.
        ended: Changes that the last `advance` saw come back.
    """

    def __init__(self, reference: DriftReference, settings: DriftSettings) -> None:
        if reference.too_short:
            raise ModelFormatError(reference.too_short)
        self.reference = reference
        self.threshold = HOURS_A_MONTH / settings.false_alarms_per_month
        self.hour = -1
        self.ended: list[Change] = []
        segments, cells = reference.counts.shape
        asked, bins = reference.asked, reference.bins
        self.columns = len(bins.columns)
        self.evidence = np.zeros((segments, len(bins.columns)))
        self._named: list[_Named] = []
        self._bets = bets_of(reference, settings.smallest_change)
        self._all_shares = shares_of_bets(self._bets.shift, asked.starts)
        self._bet_shares = self._all_shares
        self._share_of_bet = self._bet_shares.copy()
        self._sums = np.zeros((segments, len(asked), BETS), np.float32)
        self._residual = np.zeros((segments, len(asked)))
        self._information = np.zeros((segments, len(asked)))
        # Counts of the last hours and of days before them: when a change began, and how far it is.
        self._hours = np.zeros((_HOURS_KEPT, segments, cells), np.uint32)
        self._hour_numbers: list[int] = []
        self._days = np.zeros((_DAYS_KEPT, segments, cells), np.uint32)
        self._day_numbers: list[int] = []

    @property
    def named(self) -> tuple[Change, ...]:
        """Changes that are on."""
        return tuple(found.change for found in self._named)

    @property
    def average(self) -> float:
        """The evidence of all streams together: the average, held against the threshold."""
        return float(self.evidence.sum() / self._streams)

    @property
    def _streams(self) -> int:
        return len(self.evidence) * self.columns

    def test_columns(self, tested: npt.NDArray[np.bool_]) -> None:
        """Test some columns and no others from the next hour on; evidence of others is dropped.

        Args:
            tested: bool (columns of the reference,).
        """
        asked = self.reference.asked.starts
        of_question = np.repeat(tested, np.diff(asked))
        shares = np.where(of_question[:, None], self._all_shares, np.float32(0.0))
        self._bet_shares = np.ascontiguousarray(shares, np.float32)
        self._share_of_bet = self._bet_shares.copy()
        for named in self._named:
            first, last = asked[named.column : named.column + 2]
            self._share_of_bet[named.segment, first:last] = 0.0
        self._sums[:, ~of_question] = 0.0
        self.evidence[:, ~tested] = 0.0

    def advance(self, hour: HourCounts) -> list[Change]:
        """Test one more hour.

        Args:
            hour: Later than all before; complete. Hours without payments may be left out.

        Returns:
            The changes that this hour's alarm named; empty if it raised none.
        """
        if hour.hour <= self.hour:
            raise ValueError(f"Hour {hour.hour} comes after hour {self.hour}, which was tested.")
        self.ended = []
        if hour.hour // 24 != self.hour // 24:
            self._residual[:] = 0.0
            self._information[:] = 0.0
            self._end_changes(hour.hour)
        self.hour = hour.hour
        self._keep(hour)
        asked = self.reference.asked
        grow(
            np.ascontiguousarray(hour.counts, np.uint32),
            self.reference.bins.starts,
            self._bets.expected[hour.hour % 168],
            asked.low,
            asked.high,
            asked.starts,
            self._bets.phi,
            self.reference.spread.tau2,
            self._bets.shift,
            self._bets.price,
            self._share_of_bet,
            self._residual,
            self._information,
            self._sums,
            self.evidence,
        )
        if self.average < self.threshold:
            return []
        return [self._name(segment, column) for segment, column in self._carriers()]

    def _carriers(self) -> list[tuple[int, int]]:
        """The streams that carry an alarm: those with the most evidence.

        They are so many that together they make the threshold, and that the others do not: so
        each alarm takes evidence away that hours had to bring, and the bound holds for all alarms
        and not only for the first. Streams of the same features that reach the threshold by
        themselves are named with them.
        """
        flat = self.evidence.ravel()
        order = np.argsort(-flat, kind="stable")
        taken = np.cumsum(flat[order]) / self._streams
        enough = (taken >= self.threshold) & (taken[-1] - taken < self.threshold)
        count = int(np.argmax(enough)) + 1
        columns = self.evidence.shape[1]
        chosen = [divmod(int(at), columns) for at in order[:count]]
        features = {column for _, column in chosen}
        for at in order[count:]:
            segment, column = divmod(int(at), columns)
            if column in features and flat[at] >= self.threshold:
                chosen.append((segment, column))
        return chosen

    def _name(self, segment: int, column: int) -> Change:
        reference, asked = self.reference, self.reference.asked
        first, last = asked.starts[column], asked.starts[column + 1]
        sums = self._sums[segment, first:last]
        question, bet = divmod(int(np.argmax(sums)), BETS)
        question += int(first)
        shift = float(self._bets.shift[segment, question, bet])
        since, counts, expected = self._since(segment, column, question, bet)
        cells = slice(int(reference.bins.starts[column]), int(reference.bins.starts[column + 1]))
        now, was = normalized(counts[cells]), normalized(expected[cells])
        is_category = reference.bins.columns[column].kind == "category"
        inside = slice(
            int(asked.low[question]) - cells.start, int(asked.high[question]) - cells.start
        )
        change = Change(
            feature=reference.bins.names[column],
            segment=reference.segments[segment].name,
            at_hour=self.hour,
            since_hour=since,
            question=words(reference.bins, asked, question),
            was=float(was[inside].sum()),
            now=float(now[inside].sum()),
            total_variation=float(total_variation(was, now)),
            stability_index=float(stability_index(was, now)),
            jensen_shannon=float(jensen_shannon(was, now)),
            kolmogorov_smirnov=float(kolmogorov_smirnov(was, now)),
            missing_was=float(was[0]),
            missing_now=float(now[0]),
            new_was=float(was[1]) if is_category else 0.0,
            new_now=float(now[1]) if is_category else 0.0,
            events=int(counts[cells].sum()),
            evidence=float(np.log(max(self.evidence[segment, column], 1e-300))),
        )
        self._named.append(_Named(change, segment, column, question, shift))
        self._sums[segment, first:last] = 0.0
        self._share_of_bet[segment, first:last] = 0.0
        self.evidence[segment, column] = 0.0
        return change

    def _keep(self, hour: HourCounts) -> None:
        self._hours[hour.hour % _HOURS_KEPT] = hour.counts
        oldest = hour.hour - _HOURS_KEPT + 1
        self._hour_numbers = [h for h in self._hour_numbers if h >= oldest] + [hour.hour]
        day = hour.hour // 24
        if not self._day_numbers or self._day_numbers[-1] != day:
            self._day_numbers = [d for d in self._day_numbers if d > day - _DAYS_KEPT] + [day]
            self._days[day % _DAYS_KEPT] = 0
        self._days[day % _DAYS_KEPT] += hour.counts

    def _since(
        self, segment: int, column: int, question: int, bet: int
    ) -> tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """When a change most likely began, the counts since then, and those expected.

        Whole days while they are older than the hours that are kept, then hours. A start that lies
        before everything that is kept is given as the first hour that is.
        """
        reference, asked = self.reference, self.reference.asked
        kept = [h for h in self._hour_numbers if h // 24 > self._hour_numbers[0] // 24]
        kept = kept or self._hour_numbers
        blocks: list[tuple[int, npt.NDArray[np.float64], npt.NDArray[np.float64]]] = []
        starts = reference.bins.starts
        cells = slice(int(starts[column]), int(starts[column + 1]))
        weekly = reference.weekly[:, segment, cells].sum(axis=1).astype(np.float64)
        for day in self._day_numbers:
            if day * 24 >= kept[0] // 24 * 24:
                continue
            counts = self._days[day % _DAYS_KEPT, segment].astype(np.float64)
            slots = np.arange(day * 24, day * 24 + 24) % 168
            # How a day's payments fall on its hours is taken from the reference.
            weights = weekly[slots] / max(weekly[slots].sum(), 1e-9)
            events = counts[cells].sum()
            expected = (weights @ reference.expected[slots, segment]) * events
            blocks.append((day * 24, counts, expected))
        for hour in kept:
            counts = self._hours[hour % _HOURS_KEPT, segment].astype(np.float64)
            expected = reference.expected[hour % 168, segment] * counts[cells].sum()
            blocks.append((hour, counts, np.asarray(expected, np.float64)))
        shift = float(self._bets.shift[segment, question, bet])
        price = float(self._bets.price[segment, question, bet])
        bound = float(self._bets.bound[segment, question])
        inside = slice(int(asked.low[question]), int(asked.high[question]))
        gains = []
        for _, counts, expected in blocks:
            events = max(counts[cells].sum(), 1e-9)
            share = max(expected[inside].sum() / events, bound)
            gains.append(
                shift * (counts[inside].sum() - events * share)
                - price * events * share * (1 - share)
            )
        total = np.cumsum(np.array(gains)[::-1])[::-1]
        start = int(np.argmax(total))
        return (
            blocks[start][0],
            np.asarray(sum(counts for _, counts, _ in blocks[start:])),
            np.asarray(sum(expected for _, _, expected in blocks[start:])),
        )

    def _end_changes(self, hour: int) -> None:
        """Test streams again whose last whole days look like the reference, or held no payment.

        Payments that come back to such a segment are tested anew: if they are as changed as those
        before the pause, that is found again.
        """
        today = hour // 24
        still = []
        for found in self._named:
            named_on = found.change.at_hour // 24
            days = self._days_between(max(today - _DAYS_BACK, named_on + 1), today)
            quiet = self._days_between(max(today - _QUIET_DAYS, named_on + 1), today)
            back = len(days) == _DAYS_BACK and self._is_back(found, days)
            gone = len(quiet) == _QUIET_DAYS and not self._payments(found, quiet)
            if not back and not gone:
                still.append(found)
                continue
            asked = self.reference.asked.starts
            bets = slice(asked[found.column], asked[found.column + 1])
            self._share_of_bet[found.segment, bets] = self._bet_shares[found.segment, bets]
            ended = msgspec.structs.replace(
                found.change, ended_hour=hour, ended_by="" if back else "no payments"
            )
            self.ended.append(ended)
        self._named = still

    def _days_between(self, first: int, end: int) -> list[int]:
        """Days with payments, whatever their segment, from one day to before another."""
        return [day for day in self._day_numbers if first <= day < end]

    def _payments(self, found: _Named, days: list[int]) -> int:
        """How many payments the segment of a change had on some days."""
        starts = self.reference.bins.starts
        cells = slice(int(starts[found.column]), int(starts[found.column + 1]))
        return sum(int(self._days[d % _DAYS_KEPT, found.segment, cells].sum()) for d in days)

    def _is_back(self, found: _Named, days: list[int]) -> bool:
        """Whether the share is nearer to what was expected than to what it had become."""
        residual, information = 0.0, 0.0
        starts = self.reference.bins.starts
        cells = slice(int(starts[found.column]), int(starts[found.column + 1]))
        for day in days:
            counts = self._days[day % _DAYS_KEPT, found.segment].astype(np.float64)
            slots = np.arange(day * 24, day * 24 + 24) % 168
            weekly = self.reference.weekly[slots, found.segment, cells].sum(axis=1)
            weights = weekly / max(float(weekly.sum()), 1e-9)
            share = float(weights @ self._bets.expected[slots, found.segment, found.question])
            answer = shares(counts, self.reference.asked)[found.question]
            events = counts[cells].sum()
            residual += float(answer - events * share)
            information += float(events * share * (1 - share))
        if information <= 0.0:
            return False
        return bool(residual / information * np.sign(found.shift) < abs(found.shift) / 2)

    # ----------------------------------------------------------------------------- on disk
    def to_bytes(self) -> bytes:
        """The state after the last hour: `from_bytes` goes on as if nothing had happened."""
        state = _State(
            reference=self.reference.digest,
            hour=self.hour,
            sums=self._sums.tobytes(),
            residual=self._residual.tobytes(),
            information=self._information.tobytes(),
            evidence=self.evidence.tobytes(),
            hours=self._hours.tobytes(),
            hour_numbers=tuple(self._hour_numbers),
            days=self._days.tobytes(),
            day_numbers=tuple(self._day_numbers),
            named=tuple(self._named),
        )
        return zlib.compress(msgspec.msgpack.encode(state), 1)

    @classmethod
    def from_bytes(
        cls, reference: DriftReference, settings: DriftSettings, data: bytes
    ) -> DriftDetector:
        """A detector in the state that `to_bytes` kept.

        Raises:
            ModelFormatError: If the state is of another reference, or cannot be read.
        """
        try:
            state = msgspec.msgpack.decode(zlib.decompress(data), type=_State)
        except (zlib.error, msgspec.MsgspecError) as error:
            raise ModelFormatError(
                f"The state of drift cannot be read: {error}. Start anew with a new detector."
            ) from error
        if state.format != STATE_FORMAT or state.reference != reference.digest:
            raise ModelFormatError(
                f"The state of drift is of reference {state.reference} in format {state.format}; "
                f"this model has reference {reference.digest} and the format is {STATE_FORMAT}. "
                "Start anew with a new detector."
            )
        found = cls(reference, settings)
        found.hour = state.hour
        for into, kept in (
            (found._sums, state.sums),
            (found._residual, state.residual),
            (found._information, state.information),
            (found.evidence, state.evidence),
            (found._hours, state.hours),
            (found._days, state.days),
        ):
            into[...] = np.frombuffer(kept, into.dtype).reshape(into.shape)
        found._hour_numbers = list(state.hour_numbers)
        found._day_numbers = list(state.day_numbers)
        found._named = list(state.named)
        for named in found._named:
            first, last = reference.asked.starts[named.column : named.column + 2]
            found._share_of_bet[named.segment, first:last] = 0.0
        return found
