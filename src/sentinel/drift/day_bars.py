"""The small multiple of a feature, as HTML for the report and the dashboard: a bar for each day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from sentinel.drift.figures import FeatureDay, FeatureDrift
from sentinel.features.plan.plan import DAY_US

LARGE: Final = 0.2
"""A PSI that is shown in red."""
CAPTION: Final = (
    f"A bar is a day: its distance from the reference (PSI), red above {LARGE:g}. A grey bar is a "
    "day that says nothing, such as one that has just begun: so few payments may lie as far away "
    "by chance, or they are of a few hours."
)


def day_bars(days: Sequence[FeatureDay], classes: tuple[str, str]) -> tuple[str, float]:
    """The bars of a feature's days, and the distance that a full bar is.

    Days that say nothing have no say in the scale.

    Args:
        days: The oldest first.
        classes: CSS classes of a bar in red, and of one of a day that says nothing.

    >>> day = FeatureDay(day=20_000, payments=400, stability_index=0.1, missing=0.0)
    >>> day_bars([day], ("hot", "few"))[1]
    0.2
    """
    hot, few = classes
    top = max(LARGE, max((day.stability_index for day in days if not day.few), default=0.0))
    bars = []
    for day in days:
        look = hot if day.stability_index > LARGE else ""
        height = min(100.0, max(2.0, 100.0 * day.stability_index / top))
        date = f"{datetime.fromtimestamp(day.day * DAY_US // 1_000_000, UTC):%Y-%m-%d}"
        bars.append(
            f'<i class="{few if day.few else look}" style="height:{height:.0f}%" '
            f'title="{date}: PSI {day.stability_index:.3f}, unknown {day.missing:.1%}, '
            f'{day.payments:,} payments"></i>'
        )
    return "".join(bars), top


def distance_words(one: FeatureDrift) -> str:
    """A feature's distance from the reference, if there is enough to speak of one."""
    return one.too_few or f"PSI {one.stability_index:.3f}"
