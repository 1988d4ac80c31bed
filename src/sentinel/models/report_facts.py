"""What a model report says, as figures: its page and its card are written of them."""

from __future__ import annotations

import msgspec

from sentinel.models.intervals import Estimate


class Segment(msgspec.Struct, frozen=True):
    """A part of the payments.

    Attributes:
        what: Which part, such as "channel".
        name: Its value.
        payments, frauds: How many.
        average_precision: Of the model; None if there are too few to say.
        better_by: Than the one it is compared with; None if there is none, or too few.
    """

    what: str
    name: str
    payments: int
    frauds: int
    average_precision: Estimate | None = None
    better_by: Estimate | None = None


class Unknown(msgspec.Struct, frozen=True):
    """Payments of the same time whose truth nobody knows.

    Attributes:
        known: Payments that are judged on.
        unknown: How many are not, by why.
        amount_minor: What these are worth.
    """

    known: int
    unknown: dict[str, int]
    amount_minor: int = 0


class ReportFacts(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a report says.

    Attributes:
        version: The model.
        against: Version that it is compared with; empty if none.
        start_us, end_us: Times of the payments it is judged on, the end exclusive.
        payments, frauds: How many.
        metrics: Of each model by name, that of the report first, by figure.
        not_measured: Why figures are missing.
        better_by: Differences to each other model, by its name and by figure.
        at_lines: Figures at the model's own lines.
        segments: Parts of the payments.
        unknown: What nobody knows.
        shap, permutation: Importance by feature, the largest first.
        history: Shares of SHAP by version, the oldest first.
        created_us: When the report was made.
        money_scale: Decimals of one unit of the currency that amounts are in.
        currency: That one.
    """

    version: str
    against: str
    start_us: int
    end_us: int
    payments: int
    frauds: int
    metrics: dict[str, dict[str, Estimate]]
    not_measured: dict[str, str]
    better_by: dict[str, dict[str, Estimate]]
    at_lines: dict[str, float]
    segments: tuple[Segment, ...]
    unknown: Unknown
    shap: dict[str, float]
    permutation: dict[str, float]
    history: dict[str, dict[str, float]]
    created_us: int
    money_scale: int = 2
    currency: str = ""
