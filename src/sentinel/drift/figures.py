"""What is told of drift: a change, and what a reader sees, for those who compute nothing of it."""

from __future__ import annotations

import msgspec

from sentinel.drift.label_figures import LabelFigures
from sentinel.drift.notices import Notice


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """A stream that an alarm named.

    Attributes:
        feature, segment: Which.
        at_hour: When it was named, hours since 1970.
        since_hour: When it most likely began.
        question: What moved most, in words.
        was, now: Share of payments that answer the question with yes: expected, and since then.
        total_variation, stability_index, jensen_shannon, kolmogorov_smirnov: How far the payments
            since then are from what was expected of their hours.
        missing_was, missing_now: Share of unknown values.
        new_was, new_now: Share of values that the reference did not list; 0 for numbers.
        events: Payments of the segment since it began.
        evidence: Of the stream alone, logarithm.
        ended_hour: When it had come back, or its segment had had no payment for a week; None while
            it is on.
        ended_by: "no payments" if it was the latter; empty if not.
    """

    feature: str
    segment: str
    at_hour: int
    since_hour: int
    question: str
    was: float
    now: float
    total_variation: float
    stability_index: float
    jensen_shannon: float
    kolmogorov_smirnov: float
    missing_was: float
    missing_now: float
    new_was: float
    new_now: float
    events: int
    evidence: float
    ended_hour: int | None = None
    ended_by: str = ""

    @property
    def ended_words(self) -> str:
        """How it ended, in two words; empty while it is on."""
        return "" if self.ended_hour is None else self.ended_by or "has come back"


class SeenChange(msgspec.Struct, frozen=True, kw_only=True):
    """A change, with what was said of it.

    Attributes:
        change: What the detector named; hours count since 1970.
        model_version: The champion whose payments changed.
        silence: Why it raises no alarm; empty if it does, while it is on.
        plan: What was planned that explains it; empty if nothing was said.
    """

    change: Change
    model_version: str
    silence: str = ""
    plan: str = ""


class FeatureDay(msgspec.Struct, frozen=True, kw_only=True):
    """A feature on one day, in all payments.

    Attributes:
        day: Since 1970.
        payments: Counted.
        stability_index: From the reference (PSI).
        missing: Share of unknown values.
        few: Whether the distance says nothing: too few payments, or too few hours of the day.
    """

    day: int
    payments: int
    stability_index: float
    missing: float
    few: bool = False


class FeatureDrift(msgspec.Struct, frozen=True, kw_only=True):
    """How far a feature is from the reference, in all payments of the last days.

    Attributes:
        feature: Its name; ``score`` is the probability of the model.
        stability_index, jensen_shannon, kolmogorov_smirnov: Distances from the reference.
        missing_was, missing_now: Share of unknown values.
        new_was, new_now: Share of values that the reference does not list; 0 for numbers.
        changed: Segments in which a change of it is on.
        too_few: Why the distances say nothing yet; empty if they do.
        days: The oldest first.
    """

    feature: str
    stability_index: float
    jensen_shannon: float
    kolmogorov_smirnov: float
    missing_was: float
    missing_now: float
    new_was: float
    new_now: float
    changed: tuple[str, ...] = ()
    too_few: str = ""
    days: tuple[FeatureDay, ...] = ()


class DriftOverview(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of drift.

    Attributes:
        missing: What is not there yet, and what to do; empty if all is.
        model_version: Whose payments are held against its reference; empty if none.
        followed_us: When the last entry was received that was taken in; 0 if none was.
        tested_until_us: The end of the last hour that was tested; 0 before the first.
        payments: Of the last days that "now" is of.
        decided: Decisions of the model in the last 24 hours of the log.
        left_out: How many of these are in no figure, and why; empty if all are.
        features: The farthest first.
        changes: The newest first.
        notices: Silences and planned changes.
        labels: What labels say of change; None before anything is known.
    """

    missing: str = ""
    model_version: str = ""
    followed_us: int = 0
    tested_until_us: int = 0
    payments: int = 0
    decided: int = 0
    left_out: str = ""
    features: tuple[FeatureDrift, ...] = ()
    changes: tuple[SeenChange, ...] = ()
    notices: tuple[Notice, ...] = ()
    labels: LabelFigures | None = None

    @property
    def left_out_words(self) -> str:
        """What is left out, as a message; empty if nothing is."""
        if not self.left_out:
            return ""
        return f"Decisions of the last day: {self.decided:,}, of them {self.left_out}"


class FeatureDetail(msgspec.Struct, frozen=True, kw_only=True):
    """One feature, as it was and as it is.

    Attributes:
        overview: Its figures.
        labels: What each cell of its histogram holds.
        was, now: Share of payments in each cell: of the reference, and of the last days.
        changes: Its changes, the newest first.
    """

    overview: FeatureDrift
    labels: tuple[str, ...]
    was: tuple[float, ...]
    now: tuple[float, ...]
    changes: tuple[SeenChange, ...] = ()
