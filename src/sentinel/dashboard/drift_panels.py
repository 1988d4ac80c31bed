"""Panels of the page of drift, as HTML."""

from __future__ import annotations

from datetime import UTC, datetime
from html import escape
from typing import Final

from sentinel.drift.day_bars import CAPTION, day_bars, distance_words
from sentinel.drift.figures import DriftOverview, FeatureDetail, FeatureDrift, SeenChange
from sentinel.drift.label_panel import label_bars, label_head, label_lines

_HOUR_US: Final = 3_600_000_000
_MOST_CHANGES: Final = 30
_MOST_FEATURES: Final = 24
_MOST_NOTICES: Final = 20


def changes(found: DriftOverview) -> str:
    """What changed, the newest first."""
    on = sum(one.change.ended_hour is None for one in found.changes)
    tested = f"; tested until {_time(found.tested_until_us)} UTC" if found.tested_until_us else ""
    head = f'<div class="s-title">Changes</div><div class="s-muted s-below">{on} on{tested}</div>'
    if not found.changes:
        said = "No change was found." if found.tested_until_us else "Nothing was tested yet."
        return f'{head}<div class="s-muted">{said}</div>'
    lines = "".join(_change(one) for one in found.changes[:_MOST_CHANGES])
    return f'{head}<div class="s-list">{lines}</div>'


def _change(one: SeenChange) -> str:
    change = one.change
    ended = change.ended_hour
    said = "on" if ended is None else f"{change.ended_by or 'back'} {_time(ended * _HOUR_US)}"
    said += f"; planned: {one.plan}" if one.plan else ""
    said += f"; silent: {one.silence}" if one.silence else ""
    return (
        f'<div class="s-line"><div><span class="s-value">{escape(change.feature)}</span> '
        f'<span class="s-muted">in {escape(change.segment)}</span><br>{escape(change.question)}: '
        f"{change.was:.1%} &rarr; {change.now:.1%}; PSI {change.stability_index:.2f}, JS "
        f"{change.jensen_shannon:.3f}, KS {change.kolmogorov_smirnov:.2f}</div>"
        f'<div>since {_time(change.since_hour * _HOUR_US)}<br><span class="s-muted">{escape(said)}'
        "</span></div></div>"
    )


def labels(found: DriftOverview) -> str:
    """What labels say: what changed, and the four figures day by day."""
    head = (
        f'<div class="s-title">Labels</div><div class="s-muted s-below">'
        f"{escape(label_head(found.labels))}</div>"
    )
    lines = "".join(
        f'<div class="s-line"><div>{escape(words)}</div><div class="s-muted">{escape(state)}</div>'
        "</div>"
        for words, state in label_lines(found.labels)
    )
    bars = label_bars(found.labels, ("s-small", "s-days", "s-hot", "s-muted"), days=60)
    return (
        head
        + (f'<div class="s-list">{lines}</div>' if lines else "")
        + (f'<div class="s-multiples">{bars}</div>' if bars else "")
    )


def features(found: DriftOverview) -> str:
    """Small multiples: each feature's distance from the reference, day by day."""
    head = (
        '<div class="s-title">Features, day by day</div>'
        f'<div class="s-muted s-below">{CAPTION} Figures are of the last seven days, '
        f"{found.payments:,} payment{'' if found.payments == 1 else 's'}.</div>"
    )
    panels = "".join(_panel(one) for one in found.features[:_MOST_FEATURES])
    rest = len(found.features) - _MOST_FEATURES
    more = f'<div class="s-muted">{rest} more lie nearer.</div>' if rest > 0 else ""
    return f'{head}<div class="s-multiples">{panels}</div>{more}'


def _panel(one: FeatureDrift) -> str:
    bars, _ = day_bars(one.days, ("s-hot", "s-few"))
    mark = " s-changed" if one.changed else ""
    missing = (
        f", unknown {one.missing_was:.1%} &rarr; {one.missing_now:.1%}"
        if one.missing_was or one.missing_now
        else ""
    )
    return (
        f'<div class="s-small{mark}"><div class="s-value">{escape(one.feature)}</div>'
        f'<div class="s-days">{bars}</div><div class="s-muted">'
        f"{distance_words(one)}{missing}</div></div>"
    )


def notices(found: DriftOverview) -> str:
    """Silences and planned changes, the newest first."""
    head = '<div class="s-title">Said in advance</div>'
    if not found.notices:
        return (
            f'{head}<div class="s-muted">No silence and no planned change. '
            "<code>sentinel drift plan</code> says what will change, <code>sentinel drift "
            "silence</code> keeps alarms still.</div>"
        )
    lines = "".join(
        f'<div class="s-line"><div>{"Silence" if one.kind == "silence" else "Planned"}: '
        f'{escape(one.why)} <span class="s-muted">{escape(one.feature)} in {escape(one.segment)}, '
        f"by {escape(one.by)}</span></div><div>{_time(one.from_us)} to {_time(one.until_us)}</div>"
        "</div>"
        for one in reversed(found.notices[-_MOST_NOTICES:])
    )
    return f'{head}<div class="s-list">{lines}</div>'


def histogram(found: FeatureDetail) -> str:
    """Shares of payments by cell: of the reference above, of the last seven days below."""
    top = max(*found.was, *found.now, 1e-9)
    lines = "".join(
        f'<div class="s-step"><div><span>{escape(label)}</span><span class="s-value">{was:.1%} '
        f'&rarr; {now:.1%}</span></div><div class="s-track"><i style="left:0;width:'
        f'{100 * was / top:.1f}%;background:rgba(128,140,160,.55)"></i></div>'
        f'<div class="s-track s-whole"><i style="left:0;width:{100 * now / top:.1f}%"></i></div>'
        "</div>"
        for label, was, now in zip(found.labels, found.was, found.now, strict=True)
    )
    return (
        '<div class="s-muted">Grey: payments that the model learnt from; blue: the last seven '
        f'days.</div><div class="s-steps">{lines}</div>'
    )


def _time(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M}"
