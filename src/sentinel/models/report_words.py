"""Words and numbers as the page of a model report and its card both say them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

WORDS: Final[dict[str, str]] = {
    "average_precision": "Average precision",
    "roc_auc": "ROC AUC",
    "recall_at_fpr_0.1pct": "Frauds caught at 0.1 % false alarms",
    "recall_at_fpr_1pct": "Frauds caught at 1 % false alarms",
    "recall_at_fpr_5pct": "Frauds caught at 5 % false alarms",
    "brier": "Brier score (lower is better)",
    "log_loss": "Log loss (lower is better)",
    "calibration_error": "Calibration error (lower is better)",
}
LOWER_IS_BETTER: Final = frozenset({"brier", "log_loss", "calibration_error"})

NONE_KNOWN: Final = "No payment after its training is old enough for its truth to be known."


def money_words(amount_minor: float, scale: int) -> str:
    """An amount in units of its currency.

    Args:
        amount_minor: In the smallest units.
        scale: Decimals of one unit.
    """
    return f"{amount_minor / 10**scale:,.{scale}f}"


def plain(figure: str) -> str:
    """The name of a figure without its weights."""
    return figure.removeprefix("weighted_")


def word(figure: str) -> str:
    """A figure as a heading says it."""
    own = plain(figure)
    said = WORDS.get(own, own.replace("_", " ").capitalize())
    return f"{said}, weighted" if own != figure else said


def day(time_us: int) -> str:
    """The day of a time in microseconds UTC, as in 2026-01-31."""
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d}"
