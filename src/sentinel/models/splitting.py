"""Split history by time, with gaps and lengths that follow what there is.

    |<------- window ------->|<- gap ->|<- test ->|<- gap ->|
    |      fit       | tail  |         |          |         now

Where the history is too short or has too few frauds for the lengths that the settings ask for, they
give way in this order, and each step is said:

1. The gaps become the longest delay that labels have had.
2. The gap before the test goes, where two of them would take more than half of the history; then
   every label that is known by now is used for fitting, too.
3. The gap after the test becomes half of the history at most.
4. The test becomes a quarter of what is left.
5. The test grows to a third of it, while it holds fewer frauds than a judgement needs.
6. The parts are drawn by counting frauds instead of days.
7. Everything is fitted on, and nothing is held out.

The history begins with the first payment that does not stray: one that lies years before all
others, as a broken date does, is in no part, which is said. Void payments are in none, either.

Where there are more payments than memory should hold, the test and the tail are their latest ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np

from sentinel.domain import InvalidQuery
from sentinel.models.dataset import (
    FRAUD,
    MIN_FRAUDS,
    UNKNOWN,
    Ints,
    LabelLog,
    PaymentLog,
    Sample,
    sample,
    verdicts_by,
)
from sentinel.models.decided import DECLINE, REVIEW
from sentinel.models.label_delays import (
    first_payment_us,
    in_days,
    label_delay_us,
    late_labels,
    maturity_of,
)
from sentinel.models.weights import weights_of

WANTED_FRAUDS: Final = 30
"""A test that holds fewer than `MIN_FRAUDS` is lengthened until it has so many."""
TAIL_SHARE: Final = 0.15
MOST_TESTED: Final = 400_000
"""Payments of a test; more would cost memory and sharpen no figure."""
MOST_TAIL: Final = 250_000


UNKNOWN_WHY: Final = ("void", "declined", "held for review", "not mature, or in a gap")
"""Why a payment of the time of the parts is in none; the first that holds counts."""
OUTSIDE: Final = ("long before all others", "older than the window", "in the gap after the test")
"""Where payments lie that are not of the time of the parts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Split:
    """Fitting rows, their later part kept for early stopping and calibration, and test rows.

    Attributes:
        fit, tail, test: The parts; tail and test are empty where nothing can be held out.
        gap_us: How long after a payment its silence started to count.
        left_out: Payments between the first fitted and the last tested one that are in no part,
            since they were declined or held and their truth is unknown or selected itself.
        unknown: How many payments of that time are in no part, by why; see `UNKNOWN_WHY`.
        outside: How many payments lie before and after that time; see `OUTSIDE`. With the parts and
            with ``unknown`` these are all payments until now.
        notes: A line for each length that gave way.
        provisional: Why no gate can judge a model of this split; empty if one can.
    """

    fit: Sample
    tail: Sample
    test: Sample
    gap_us: int
    left_out: int = 0
    unknown: dict[str, int] = field(default_factory=dict)
    outside: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    provisional: str = ""


@dataclass(frozen=True, kw_only=True)
class SplitRequest:
    """What a split is asked for, in microseconds.

    Attributes:
        now_us: Nothing after it is looked at.
        window_us: Longest time to fit on; None for all there is.
        test_us: Time held out.
        maturity_us: How long after a payment its silence starts to count; also the gap.
        tail_share: Share of the window, its latest part, kept for early stopping and calibration.
        maturity_is_default: Whether nobody has set the maturity, so that it follows the delay
            of labels wherever that is known well.
    """

    now_us: int
    window_us: int | None
    test_us: int
    maturity_us: int
    tail_share: float = TAIL_SHARE
    maturity_is_default: bool = False


def split_by_time(payments: PaymentLog, labels: LabelLog, asked: SplitRequest) -> Split:
    """Split history by time, with the label gap on both sides of the test.

    The gap is one maturity period: within it only the frauds that were reported early have a
    label, and a model that saw those alone would take recent payments for fraud.

    Args:
        payments, labels: The log.
        asked: What the settings ask for.

    Raises:
        InvalidQuery: No payment is known to be fraud, or none to be anything else.
    """
    _check_truth(payments, labels, asked.now_us)
    return _Splitter(payments, labels, asked).split()


def _check_truth(payments: PaymentLog, labels: LabelLog, now_us: int) -> None:
    if len(payments) == 0:
        raise InvalidQuery(
            "The log holds no payment, so there is nothing to learn from. Import history with "
            "`sentinel import`, or send payments and their labels first."
        )
    verdicts = verdicts_by(labels, len(payments), now_us)
    frauds = int(np.count_nonzero(verdicts == FRAUD))
    if frauds == 0:
        known = len(labels.row)
        said = "it has no labels" if known == 0 else f"none of its {known:,} labels says fraud"
        lost = int(np.count_nonzero(labels.row < 0))
        if lost and lost == known:
            said = f"none of its {known:,} labels is about a payment that it has"
        raise InvalidQuery(
            f"The log has {len(payments):,} payments and knows of no fraud: {said}. A model learns "
            "from known frauds: import labels with `sentinel import-labels FILE`, or name their "
            "column under [labels] in the mapping and import into a new workspace."
        )
    if frauds == len(payments):
        raise InvalidQuery(
            f"All {frauds:,} payments of the log are known to be fraud. A model needs good "
            "payments to tell them from: import the payments that were not fraud, too."
        )


@dataclass
class _Splitter:
    payments: PaymentLog
    labels: LabelLog
    asked: SplitRequest
    notes: list[str] = field(default_factory=list)
    first: int = 0
    gap: int = 0
    gap_before_test: bool = True

    def split(self) -> Split:
        self._begin()
        self._choose_gaps()
        test = self._test_length()
        found = self._by_days(test)
        if found is None:
            self.notes.append(
                "The frauds are too few for parts of days: the parts are drawn by counting frauds."
            )
            found = self._by_frauds()
        if found is None and self.gap_before_test:
            self._drop_gap()
            found = self._by_frauds()
        if found is None:
            self.notes.append("Nothing can be held out: everything is fitted on.")
            found = self._all()
        return self._complete(found)

    # Gaps and the test, in days

    def _begin(self) -> None:
        payments = self.payments
        self.first = first_payment_us(payments, self.asked.now_us)
        stray = payments.event_time_us < self.first
        if payments.void is not None:
            stray &= ~payments.void
        strays = int(np.count_nonzero(stray))
        if not strays:
            return
        earliest = _day(int(payments.event_time_us[stray].min()))
        told = f"{strays:,} payments lie" if strays > 1 else "One payment lies"
        which = f"the earliest on {earliest}" if strays > 1 else f"on {earliest}"
        self.notes.append(
            f"{told} long before all others, {which}: nothing is fitted or tested on "
            f"{'them' if strays > 1 else 'it'}, and the lengths of the parts go by the history "
            f"from {_day(self.first)} on. If the date is wrong, correct it at its source, or "
            "take the payment back with `sentinel void`."
        )

    def _choose_gaps(self) -> None:
        asked = self.asked
        self.gap = asked.maturity_us
        length = asked.now_us - self.first
        if asked.maturity_is_default:
            self.gap, note = maturity_of(
                self.payments, self.labels, now_us=asked.now_us, maturity_us=self.gap
            )
            if note:
                self.notes.append(note)
        late = late_labels(self.payments, self.labels, now_us=asked.now_us, gap_us=self.gap)
        if late:
            self.notes.append(late)
        delay, frauds = label_delay_us(self.payments, self.labels, asked.now_us)
        if frauds and delay < self.gap and length - 2 * self.gap < 3 * asked.test_us:
            self.gap = delay
            self.notes.append(
                f"The history is {in_days(length)} long: the gaps are {in_days(delay)}, the "
                f"longest delay of a label so far, instead of {in_days(asked.maturity_us)}."
            )
        if 4 * self.gap > length:
            self._drop_gap()
        if 2 * self.gap > length:
            self.gap = length // 2
            self.notes.append(
                f"The history is {in_days(length)} long: payments without a label count as good "
                f"after {in_days(self.gap)}, though some labels may take longer."
            )

    def _drop_gap(self) -> None:
        self.gap_before_test = False
        self.notes.append(
            "The history is too short for a gap before the test: labels that came after its "
            "beginning are used for fitting, too."
        )

    def _test_length(self) -> int:
        asked = self.asked
        end = asked.now_us - self.gap
        between = end - self.first - (self.gap if self.gap_before_test else 0)
        test = asked.test_us
        if 3 * test > between:
            test = max(1, between // 4)
            self.notes.append(
                f"The test is {in_days(test)} long instead of {in_days(asked.test_us)} "
                f"(training.test_days), a quarter of the {in_days(between)} that are left."
            )
        start = self._latest(end - test, end, MOST_TESTED)
        if start > end - test:
            self.notes.append(
                f"The test is {in_days(end - start)} long instead of {in_days(test)}: so long hold "
                f"{MOST_TESTED:,} payments."
            )
            test = end - start
        times = self._fraud_times(end, asked.now_us)
        held = int(np.count_nonzero(times >= end - test))
        if held < MIN_FRAUDS and len(times):
            longer = min(end - int(times[-min(WANTED_FRAUDS, len(times))]), between // 3)
            more = int(np.count_nonzero(times >= end - longer))
            if longer > test and more > held:
                self.notes.append(
                    f"The test is {in_days(longer)} long instead of {in_days(test)}, to hold "
                    f"{more:,} frauds instead of {held:,}."
                )
                test = longer
        return test

    def _fraud_times(self, end: int, known_at: int) -> Ints:
        """Event times of the frauds before a moment that can be learnt from, rising."""
        payments = self.payments
        verdicts = verdicts_by(self.labels, len(payments), known_at)
        weights = weights_of(payments.decided, verdicts != UNKNOWN, payments.event_time_us)
        times = payments.event_time_us[(verdicts == FRAUD) & (weights.weight > 0)]
        return np.sort(times[times < end])

    # The parts

    def _parts(self, start: int, tail_start: int, test_start: int) -> Split | None:
        """A split with these bounds; None if a part of it has no fraud or nothing else."""
        now, gap = self.asked.now_us, self.gap
        fit_end, cutoff = test_start, now
        if self.gap_before_test:
            fit_end, cutoff = test_start - gap, test_start
        fit = self._part(start, tail_start, cutoff)
        tail = self._part(tail_start, fit_end, cutoff)
        test = self._part(test_start, now - gap, now)
        if not all(0 < part.frauds < len(part) for part in (fit, tail, test)):
            return None
        return Split(fit=fit, tail=tail, test=test, gap_us=gap)

    def _part(self, start: int, end: int, cutoff: int) -> Sample:
        return sample(
            self.payments,
            self.labels,
            start_us=start,
            end_us=end,
            cutoff_us=cutoff,
            maturity_us=self.gap,
        )

    def _by_days(self, test: int) -> Split | None:
        asked = self.asked
        test_start = asked.now_us - self.gap - test
        fit_end = test_start - (self.gap if self.gap_before_test else 0)
        start = self.first
        if asked.window_us is not None:
            start = max(fit_end - asked.window_us, start)
        if fit_end <= start:
            return None
        tail_start = fit_end - int((fit_end - start) * asked.tail_share)
        return self._parts(start, self._latest(tail_start, fit_end, MOST_TAIL), test_start)

    def _latest(self, start: int, end: int, most: int) -> int:
        """Where a time has to begin to hold so many payments, if it holds more."""
        times = self.payments.event_time_us
        inside = times[(times >= start) & (times < end)]
        if len(inside) <= most:
            return start
        return int(np.partition(inside, len(inside) - most)[len(inside) - most])

    def _by_frauds(self) -> Split | None:
        """A quarter of the frauds to test on, and of the rest a share for the tail."""
        asked = self.asked
        times = self._fraud_times(asked.now_us - self.gap, asked.now_us)
        if len(times) < 3:
            return None
        test_start = int(times[-max(1, round(len(times) / 4))])
        before = self._fraud_times(test_start, asked.now_us)
        if self.gap_before_test:
            before = self._fraud_times(test_start - self.gap, test_start)
        if len(before) < 2:
            return None
        tail_start = int(before[-max(1, round(asked.tail_share * len(before)))])
        return self._parts(self.first, tail_start, test_start)

    def _all(self) -> Split:
        first, end = self.first, int(self.payments.event_time_us.max()) + 1
        for gap in (self.gap, (end - first) // 8, 0):
            self.gap = gap
            fit = self._part(first, end, self.asked.now_us)
            if 0 < fit.frauds < len(fit):
                nothing = replace(fit.take(slice(0)), start_us=end)
                return Split(fit=fit, tail=nothing, test=nothing, gap_us=gap)
        withheld = self.payments.withheld
        hidden = 0 if withheld is None else int(np.count_nonzero(withheld))
        raise InvalidQuery(
            f"Of the {len(self.payments):,} payments of the log {fit.frauds:,} are known to be "
            f"fraud and {len(fit) - fit.frauds:,} to be good; a model needs both. "
            + (f"{hidden:,} were declined or held, and say nothing of others. " if hidden else "")
            + "Import the payments that are missing, or their labels."
        )

    def _complete(self, split: Split) -> Split:
        unknown = self._unknown(split)
        left_out = unknown["declined"] + unknown["held for review"]
        if left_out:
            self.notes.append(
                f"{left_out:,} payments that were declined or held are left out: whether they "
                "were fraud is unknown, or only known of some that were singled out."
            )
        return replace(
            split,
            left_out=left_out,
            unknown={why: rows for why, rows in unknown.items() if rows},
            outside=self._outside(split),
            notes=tuple(self.notes),
            provisional=too_little_to_judge(split.test),
        )

    def _outside(self, split: Split) -> dict[str, int]:
        """Payments before the first fitted and after the last tested one, those that there are."""
        times, start = self.payments.event_time_us, split.fit.start_us
        end = max(split.test.end_us, split.fit.end_us)
        lies = (
            times < min(self.first, start),
            (times >= self.first) & (times < start),
            (times >= end) & (times < self.asked.now_us),
        )
        counts = {where: int(np.count_nonzero(x)) for where, x in zip(OUTSIDE, lies, strict=True)}
        return {where: rows for where, rows in counts.items() if rows}

    def _unknown(self, split: Split) -> dict[str, int]:
        """Payments between the first fitted and the last tested one that are in no part."""
        payments, times = self.payments, self.payments.event_time_us
        end = max(split.test.end_us, split.fit.end_us)
        out = (times >= split.fit.start_us) & (times < end)
        for part in (split.fit, split.tail, split.test):
            out[part.rows] = False
        nothing = np.zeros(len(payments), dtype=np.bool_)
        decided = payments.decided
        reasons = (
            nothing if payments.void is None else payments.void,
            nothing if decided is None else decided.outcome == DECLINE,
            nothing if decided is None else decided.outcome == REVIEW,
            ~nothing,
        )
        found = {}
        for why, holds in zip(UNKNOWN_WHY, reasons, strict=True):
            found[why] = int(np.count_nonzero(out & holds))
            out &= ~holds
        return found


def too_little_to_judge(test: Sample) -> str:
    """Why a model cannot be judged on some rows; empty if it can."""
    good = len(test) - test.frauds
    if test.frauds < MIN_FRAUDS:
        return f"there are {test.frauds:,} known frauds to test on, {MIN_FRAUDS} are needed"
    if good < MIN_FRAUDS:
        return f"there are {good:,} good payments to test on, {MIN_FRAUDS} are needed"
    return ""


def _day(us: int) -> str:
    """The day of a moment, UTC.

    >>> _day(0)
    '1970-01-01'
    """
    return str(np.datetime64(us, "us").astype("datetime64[D]"))
