"""What labels say, as HTML for the report and the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from sentinel.drift.label_figures import (
    MOST_DAYS_TOLD,
    STREAM_WORDS,
    LabelDay,
    LabelFigures,
    day_words,
)

_FIELDS: Final = {
    "early share": "early_share",
    "share": "share",
    "share given probability": "given_probability",
    "delay": "delay",
}


def label_head(found: LabelFigures | None) -> str:
    """What was tested, in a sentence."""
    if found is None:
        return "Labels were not looked at yet; the monitor does so once there is a log."
    if found.missing:
        return f"Nothing is tested yet. {found.missing}"
    return (
        f"Days of payments, as labels tell them by now, are held against "
        f"{day_words(found.reference_first_day)} to {day_words(found.reference_last_day)}; "
        f"{found.tested_days} days were tested. A payment counts once it is so old that its labels "
        "would be here, and as in training: what a decision hides is unknown."
    )


def label_lines(found: LabelFigures | None) -> list[tuple[str, str]]:
    """Each change in words, and how it stands."""
    lines = []
    for one in () if found is None else found.changes:
        state = "on" if one.ended_day is None else f"back by {day_words(one.ended_day)}"
        state += f"; planned: {one.plan}" if one.plan else ""
        state += f"; silent: {one.silence}" if one.silence else ""
        lines.append((one.words, state))
    return lines


def label_bars(
    found: LabelFigures | None, classes: tuple[str, str, str, str], *, days: int = MOST_DAYS_TOLD
) -> str:
    """A small multiple for each stream: a bar a day, those of a change in red.

    Args:
        found: What is known.
        classes: CSS classes of a panel, of its bars, of a bar in red, and of its words.
        days: Bars of a panel, the latest.
    """
    if found is None:
        return ""
    panel, bars, hot, quiet = classes
    out = []
    for stream, words in STREAM_WORDS.items():
        known = [
            (one, value)
            for one in found.days
            if (value := getattr(one, _FIELDS[stream])) is not None
        ][-days:]
        if not known:
            continue
        top = max(value for _, value in known)
        drawn = "".join(
            f'<i class="{hot if _in_change(found, stream, one) else ""}" style="height:'
            f'{max(2.0, 100.0 * value / max(top, 1e-9)):.0f}%" title="{day_words(one.day)}: '
            f'{_figure(stream, value)} of {one.payments:,.0f} payments"></i>'
            for one, value in known
        )
        span = f"{day_words(known[0][0].day)} to {day_words(known[-1][0].day)}"
        out.append(
            f'<div class="{panel}"><h3>{escape(words.capitalize())}</h3><div class="{bars}">'
            f'{drawn}</div><span class="{quiet}">{span}; top {_figure(stream, top)}; last '
            f"seven days {_figure(stream, _mean(stream, [one for one, _ in known[-7:]]))}</span>"
            "</div>"
        )
    return "".join(out)


def _in_change(found: LabelFigures, stream: str, day: LabelDay) -> bool:
    return any(
        one.stream == stream
        and one.since_day <= day.day
        and (one.ended_day is None or day.day <= one.ended_day)
        for one in found.changes
    )


def _mean(stream: str, days: Sequence[LabelDay]) -> float:
    """Of days, weighted by their payments."""
    total = sum(one.payments for one in days) or 1.0
    return float(sum(getattr(one, _FIELDS[stream]) * one.payments for one in days)) / total


def _figure(stream: str, value: float) -> str:
    return f"{value:.2f}" if stream == "share given probability" else f"{value:.2%}"
