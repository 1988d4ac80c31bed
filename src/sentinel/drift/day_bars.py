"""The small multiple of a feature, as HTML for the report and the dashboard: a bar for each day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Final

from sentinel.drift.figures import FeatureDay
from sentinel.features.plan.plan import DAY_US

LARGE: Final = 0.2
"""A PSI that is shown in red."""
LEAST_PAYMENTS: Final = 30
"""Of a day whose distance says anything."""
CAPTION: Final = (
    f"A bar is a day: its distance from the reference (PSI), red above {LARGE:g}. A grey bar is a "
    f"day with less than a quarter of the usual payments, or fewer than {LEAST_PAYMENTS}, such as "
    "one that has just begun: few payments lie far away by chance."
)


def day_bars(days: Sequence[FeatureDay], classes: tuple[str, str]) -> tuple[str, float]:
    """The bars of a feature's days, and the distance that a full bar is.

    Days of few payments have no say in the scale.

    Args:
        days: The oldest first.
        classes: CSS classes of a bar in red, and of one of few payments.

    >>> day = FeatureDay(day=20_000, payments=400, stability_index=0.1, missing=0.0)
    >>> day_bars([day], ("hot", "few"))[1]
    0.2
    """
    hot, few = classes
    usual = median(day.payments for day in days) if days else 0.0
    enough = max(usual / 4, LEAST_PAYMENTS)
    top = max(LARGE, max((d.stability_index for d in days if d.payments >= enough), default=0.0))
    bars = []
    for day in days:
        look = hot if day.stability_index > LARGE else ""
        height = min(100.0, max(2.0, 100.0 * day.stability_index / top))
        date = f"{datetime.fromtimestamp(day.day * DAY_US // 1_000_000, UTC):%Y-%m-%d}"
        bars.append(
            f'<i class="{few if day.payments < enough else look}" style="height:{height:.0f}%" '
            f'title="{date}: PSI {day.stability_index:.3f}, unknown {day.missing:.1%}, '
            f'{day.payments:,} payments"></i>'
        )
    return "".join(bars), top


def distance_words(stability_index: float, payments: int) -> str:
    """A feature's distance from the reference, if there were enough payments to speak of one.

    >>> distance_words(0.2512, 400)
    'PSI 0.251'
    >>> distance_words(9.21, 1)
    'fewer than 30 payments'
    """
    if payments < LEAST_PAYMENTS:
        return f"fewer than {LEAST_PAYMENTS} payments"
    return f"PSI {stability_index:.3f}"
