"""Whether fraud has become more frequent, or labels slower: drift of what is known of payments.

A day of payments is looked at once all of them are so old that their labels would be here: then
silence means that a payment is legitimate, and a late label means a slow feed. Each day is looked
at twice: at an early age, of frauds reported by then, and at full maturity. A day that is too young
takes no part, nor do payments whose truth their own decision hides; the control group stands for
these with its weights (docs/learning.md).

Each of these daily counts is a stream. Its evidence of change is a Shiryaev-Roberts e-detector: of
day t, M = (M + 1) L, where L is a betting factor whose expectation is at most 1 while nothing
changes. The mean over streams is one, too, whatever the streams have to do with each other, and an
alarm at A comes at most once in A days on average (Shin, Ramdas and Rinaldo, 2024). What the
reference lets expect is known within an interval, and each bet is made against the end of it that
favours "no change". Frauds come in clusters: the variance between days of the reference says how
large these are, and a count is divided by it. So the bound on false alarms is as good as these two:
the interval is one of 70 %, chosen by how soon changes are found, and ``benchmarks drift_labels``
measures how many false alarms that makes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
from scipy.stats import chi2

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]
Stream = Literal["early share", "share", "share given probability", "delay"]

STREAMS: Final[tuple[Stream, ...]] = ("early share", "share", "share given probability", "delay")
EARLY_US: Final = 7 * 86_400_000_000
"""An age at which many frauds have been reported."""
LEAST_FRAUDS: Final = 20
"""Frauds of the reference from which on there is something to hold days against."""
LEAST_DAYS: Final = 7

_TIMES: Final = np.array([0.4, 0.6, 0.75, 1.33, 1.67, 2.5])
"""Sizes that are bet on: so many frauds for each that is expected."""
_MOST: Final = 1e30
"""Evidence is cut here."""
_SURE: Final = 0.7
"""Of the intervals of the reference; see decision 621."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelledPayments:
    """Decided payments and what is known of them. All arrays are (n_rows,).

    Attributes:
        time_us: int64, when each was decided.
        weight: float64, how many payments each stands for if its truth is known once it is mature
            (`sentinel.models.weights`); 0 where its decision hides it.
        label_us: int64, when a label said that it is fraud; -1 if none did.
        probability: float64, that the model gave; NaN where it gave none.
    """

    time_us: Ints
    weight: Floats
    label_us: Ints
    probability: Floats


@dataclass(frozen=True, kw_only=True, eq=False)
class LabelDays:
    """Sums by day of payments that weigh something, float64 (n_days,) each; NaN = not known yet.

    Attributes:
        day: int64, days since 1970, one after the other.
        payments: Weighted.
        early: Frauds reported until the early age, weighted.
        frauds: Frauds reported until maturity, weighted.
        slow: Those of them that were reported after the early age.
        expected: Frauds that the probabilities let expect.
        squares: Sum of squared weights of payments per weighted payment: the weight of a typical
            one.
        early_lag, lag: Days from a day until its early count and until all of it is known.
    """

    day: Ints
    payments: Floats
    early: Floats
    frauds: Floats
    slow: Floats
    expected: Floats
    squares: Floats
    early_lag: int
    lag: int

    @classmethod
    def of(
        cls, rows: LabelledPayments, now_us: int, maturity_us: int, early_us: int = EARLY_US
    ) -> LabelDays:
        """Sum days up as far as they are known.

        Args:
            rows: The payments.
            now_us: Labels and maturity as of this moment.
            maturity_us: After so long, silence counts as legitimate.
            early_us: The early age; at most the maturity.
        """
        early_us = min(early_us, maturity_us)
        used = rows.weight > 0
        time, weight = rows.time_us[used], rows.weight[used]
        label, p = rows.label_us[used], rows.probability[used]
        first = int(time.min()) // _DAY_US if len(time) else 0
        day = time // _DAY_US - first
        names = first + np.arange(int(day.max()) + 1 if len(day) else 0)
        delay = np.where(label >= 0, label - time, np.iinfo(np.int64).max)
        came = label < now_us

        def total(values: Floats) -> Floats:
            sums = np.bincount(day, weights=values, minlength=len(names))
            return np.asarray(sums, np.float64)

        ends = (names + 1) * _DAY_US
        ripe, old = ends + early_us <= now_us, ends + maturity_us <= now_us
        soon = total(weight * (came & (delay < early_us)))
        frauds = total(weight * (came & (delay < maturity_us)))
        payments = total(weight)
        return cls(
            day=names.astype(np.int64),
            payments=payments,
            early=np.where(ripe, soon, np.nan),
            frauds=np.where(old, frauds, np.nan),
            slow=np.where(old, frauds - soon, np.nan),
            expected=total(weight * p),
            squares=total(weight * weight) / np.maximum(payments, 1e-9),
            early_lag=1 + -(-early_us // _DAY_US),
            lag=1 + -(-maturity_us // _DAY_US),
        )


class LabelChange(msgspec.Struct, frozen=True, kw_only=True):
    """A stream of labels that has moved.

    Attributes:
        stream: ``early share`` and ``share`` of fraud among payments, reported until an early age
            and until maturity; ``share given probability``, which moves if what fraud looks like
            does; ``delay``, the share of frauds that were reported late.
        since_day: The first day of the change, days since 1970, as the evidence has it.
        found_day: The day of payments that raised the alarm.
        before, now: The share in the reference and since the change; of the share given
            probability, frauds per fraud that was expected.
        evidence: Of the mean over streams at the alarm; at least the threshold.
    """

    stream: Stream
    since_day: int
    found_day: int
    before: float
    now: float
    evidence: float


class LabelDrift(msgspec.Struct, frozen=True, kw_only=True):
    """What labels say of change.

    Attributes:
        change: The alarm; None if there was none.
        tested_days: Days that were held against the reference.
        missing: Why nothing could be tested; empty if something was.
    """

    change: LabelChange | None = None
    tested_days: int = 0
    missing: str = ""


def label_drift(days: LabelDays, reference_days: int, *, false_alarms_a_month: float) -> LabelDrift:
    """Hold days of payments against the first ones.

    Args:
        days: As far as they are known.
        reference_days: So many of the first are the reference; all must be mature.
        false_alarms_a_month: About so many alarms on average, or fewer, while nothing changes.
    """
    known = int(np.isfinite(days.frauds[:reference_days]).sum())
    frauds = float(np.nansum(days.frauds[:reference_days]))
    if known < max(LEAST_DAYS, reference_days) or frauds < LEAST_FRAUDS:
        return LabelDrift(
            missing=(
                f"{known} days of the reference are mature and hold {frauds:.0f} frauds; it takes "
                f"{max(LEAST_DAYS, reference_days)} days and {LEAST_FRAUDS} frauds. Labels that "
                "mature bring them."
            )
        )
    streams = [_Evidence(_Counted.of(days, name, reference_days)) for name in STREAMS]
    threshold = 30.0 / false_alarms_a_month
    last = reference_days - 1
    for today in range(reference_days + days.lag, int(days.day[-1] - days.day[0]) + 2 + days.lag):
        for stream in streams:
            lag = days.early_lag if stream.counted.name == "early share" else days.lag
            last = max(last, stream.take(until=min(today - lag + 1, len(days.day))))
        mean = float(np.mean([stream.evidence for stream in streams]))
        if mean >= threshold:
            loudest = max(streams, key=lambda stream: float(stream.evidence.max()))
            return LabelDrift(
                change=loudest.change(days, reference_days, mean),
                tested_days=last + 1 - reference_days,
            )
    return LabelDrift(tested_days=last + 1 - reference_days)


def counted(days: LabelDays, stream: str) -> tuple[Floats, Floats]:
    """What a stream counts, and among what: float64 (n_days,) each; NaN = not known yet."""
    return {
        "early share": (days.early, days.payments),
        "share": (days.frauds, days.payments),
        "share given probability": (days.frauds, days.expected),
        "delay": (days.slow, days.frauds),
    }[stream]


class _Evidence:
    """The e-detectors of a stream: one for each size that is bet on, and when each began to grow.

    Args:
        counted: The stream, whose days from the first after its reference on are taken.
    """

    def __init__(self, counted: _Counted) -> None:
        self.counted = counted
        self.evidence = np.zeros(len(_TIMES))
        self._best = np.zeros(len(_TIMES))
        self._since = np.zeros(len(_TIMES), np.int64)
        self._next = counted.reference_days

    def take(self, until: int) -> int:
        """Bet on each further day before this one that is known; returns the last day taken."""
        for at in range(self._next, until):
            if not self.counted.known(at):
                continue
            bets = self.counted.bets(at)
            factors = np.exp(np.minimum(bets, np.log(_MOST)))
            self.evidence = np.minimum((self.evidence + 1.0) * factors, _MOST)
            self._since = np.where(self._best <= 0.0, at, self._since)
            self._best = np.maximum(self._best, 0.0) + bets
        self._next = max(self._next, until)
        return self._next - 1

    def change(self, days: LabelDays, reference_days: int, mean: float) -> LabelChange:
        """What an alarm says that this stream raised."""
        since, found = int(self._since[int(np.argmax(self.evidence))]), self._next - 1
        return LabelChange(
            stream=self.counted.name,
            since_day=int(days.day[since]),
            found_day=int(days.day[found]),
            before=self.counted.share(slice(0, reference_days)),
            now=self.counted.share(slice(since, found + 1)),
            evidence=mean,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class _Counted:
    """A daily count and what it is counted among.

    Attributes:
        name: The stream.
        reference_days: How many of the first days are the reference.
        count, among: float64 (n_days,); NaN = not known yet.
        cluster: float64 (n_days,), how many of the count come together.
        low, high: Between which the share of the reference lies.
    """

    name: Stream
    reference_days: int
    count: Floats
    among: Floats
    cluster: Floats
    low: float
    high: float

    @classmethod
    def of(cls, days: LabelDays, name: Stream, reference_days: int) -> _Counted:
        """A stream, with what its reference days say of it; if that is nothing, no day is known."""
        count, among = counted(days, name)
        first = slice(0, reference_days)
        if not np.nansum(among[first]) > 0:
            count = np.full(len(count), np.nan)
        total = float(np.nansum(count[first]))
        share = total / max(float(np.nansum(among[first])), 1e-9)
        usual = share * among
        typical = np.maximum(days.squares, 1.0)
        rest = (count[first] - usual[first]) ** 2
        spread = float(np.nansum(rest)) / max(float(np.nansum((usual * typical)[first])), 1e-9)
        # The variance between few days is itself uncertain: its upper bound counts.
        free = reference_days - 1
        spread = max(spread * free / float(chi2.isf(_SURE, free)), 1.0)
        # Garwood's interval of a Poisson count, of clusters instead of frauds.
        size = spread * float(np.mean(typical[first]))
        clusters = total / size
        low = float(chi2.ppf((1.0 - _SURE) / 2.0, 2.0 * clusters)) / 2.0 if clusters > 0 else 0.0
        high = float(chi2.isf((1.0 - _SURE) / 2.0, 2.0 * clusters + 2.0)) / 2.0
        scale = size / max(float(np.nansum(among[first])), 1e-9)
        return cls(
            name=name,
            reference_days=reference_days,
            count=count,
            among=among,
            cluster=spread * typical,
            low=low * scale,
            high=high * scale,
        )

    def known(self, at: int) -> bool:
        """Whether a day says anything."""
        return bool(np.isfinite(self.count[at]) and self.among[at] > 0)

    def bets(self, at: int) -> Floats:
        """Logarithms of the betting factors of a known day: float64 (n_sizes,)."""
        count, among = float(self.count[at]), float(self.among[at])
        null = np.where(_TIMES > 1.0, self.high, self.low) * among
        # Under a Poisson count of clusters the expectation of each is at most 1.
        return np.asarray((np.log(_TIMES) * count - (_TIMES - 1.0) * null) / self.cluster[at])

    def share(self, days: slice) -> float:
        """The share over some days; NaN if nothing is known of them."""
        known = np.isfinite(self.count[days]) & np.isfinite(self.among[days])
        among = float(self.among[days][known].sum())
        return float(self.count[days][known].sum()) / among if among > 0 else float("nan")


_DAY_US: Final = 86_400_000_000
