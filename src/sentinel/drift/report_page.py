"""The report of drift as one HTML file that needs nothing else: what moved, how far, since when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from sentinel.drift.day_bars import CAPTION, day_bars, distance_words
from sentinel.drift.estimates import Figures, LabelFree
from sentinel.drift.figures import DriftOverview, FeatureDrift, SeenChange
from sentinel.drift.label_figures import LabelFigures
from sentinel.drift.label_panel import label_bars, label_head, label_lines
from sentinel.drift.notices import Notice
from sentinel.models.intervals import Estimate
from sentinel.models.report_page import STYLE

_HOUR_US: Final = 3_600_000_000
_MOST_PANELS: Final = 24
_MOST_CHANGES: Final = 20
"""Changes that are shown before one asks for the others."""
_OWN: Final = """
.small{display:grid;grid-template-columns:repeat(auto-fill,minmax(250px,1fr));gap:12px}
.small .card{padding:11px 13px}.on{border-color:#c8553d;border-width:2px}
.tag{display:inline-block;border-radius:9px;padding:0 8px;font-size:12px;background:#e8ecf0;
margin-left:4px}
.on .tag{background:#f6dfd9;color:#8f2f18}
.bars{display:flex;align-items:flex-end;gap:1px;height:56px}
.bars i{flex:1;display:block;background:#1f5fa8;min-width:1px}.bars i.hot{background:#c8553d}
.labels{margin-top:12px}.labels .bars{gap:0}.labels .bars i{min-width:0}
.warn{border-left:4px solid #c8553d}
td.said,th.said{text-align:left;white-space:normal;min-width:130px}
.changes td:first-child{min-width:230px}.small h3{overflow-wrap:anywhere}
.bars i.few{background:#c3ccd5}
summary{cursor:pointer;padding:8px 0}
"""


def drift_page(
    overview: DriftOverview,
    *,
    shares: Mapping[str, float],
    moved: float,
    estimate: LabelFree | None,
    made_us: int,
    without: str = "",
) -> str:
    """The report.

    Args:
        overview: What the monitor knows.
        shares: Of the features that moved, how much higher the mean score is by their change.
        moved: How much higher it is by all that changed: recent mean less that of the reference.
        estimate: Of the model's figures before labels come; None if none was made.
        made_us: When, microseconds UTC.
        without: Why the model's part is missing; empty if it is not.
    """
    title = "Drift" + (f" of version {overview.model_version}" if overview.model_version else "")
    parts = [f"<h1>{escape(title)}</h1>", f'<p class="quiet">{escape(_about(overview))}</p>']
    if overview.missing:
        parts.append(f'<div class="card warn">{escape(overview.missing)}</div>')
    if overview.left_out:
        parts.append(f'<p class="quiet">{escape(overview.left_out_words)}</p>')
    if without:
        parts.append(f'<div class="card warn">{escape(without)}</div>')
    parts += [
        "<h2>What changed</h2>",
        _changes(overview.changes, tested=overview.tested_until_us > 0),
        "<h2>What labels say</h2>",
        _labels(overview.labels),
        "<h2>What moves the score</h2>" if shares else "",
        _shares(shares, moved),
        "<h2>Before labels come</h2>" if estimate else "",
        _estimate(estimate),
        "<h2>Features, day by day</h2>" if overview.features else "",
        _panels(overview.features),
        "<h2>All features</h2>" if overview.features else "",
        _table(overview.features),
        "<h2>Said in advance</h2>",
        _notices(overview.notices),
        f'<p class="quiet">Made {_time(made_us)} UTC by sentinel drift report.</p>',
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}{_OWN}</style></head><body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )


def _about(overview: DriftOverview) -> str:
    if not overview.tested_until_us:
        return "No hour was tested yet."
    return (
        f"Tested hour by hour until {_time(overview.tested_until_us)} UTC. Figures of now are of "
        f"the last seven days, {overview.payments:,} payments, held against the payments that the "
        "model learnt from. A change is a tested finding; distances alone may be chance."
    )


def _changes(changes: Sequence[SeenChange], tested: bool) -> str:
    if not changes:
        said = "No change was found." if tested else "Nothing was tested yet."
        return f'<div class="card">{said}</div>'
    shown, rest = _change_table(changes[:_MOST_CHANGES]), changes[_MOST_CHANGES:]
    if rest:
        shown += f"<details><summary>{len(rest):,} more</summary>{_change_table(rest)}</details>"
    return f'<div class="card">{shown}</div>'


def _change_table(changes: Sequence[SeenChange]) -> str:
    rows = "".join(
        f"<tr><td>{escape(one.change.feature)}<br><span class=i>{escape(one.change.segment)}"
        f"</span></td><td>{_moment(one.change.since_hour)}</td>"
        f"<td>{_moment(one.change.at_hour)}</td>"
        f"<td class=said>{escape(one.change.question.removeprefix(f'{one.change.feature}: '))}: "
        f"{one.change.was:.1%} &rarr; {one.change.now:.1%}</td>"
        f"<td>{one.change.total_variation:.2f}</td><td>{one.change.stability_index:.2f}</td>"
        f"<td>{one.change.jensen_shannon:.3f}</td><td>{one.change.kolmogorov_smirnov:.2f}</td>"
        f"<td>{_pair(one.change.missing_was, one.change.missing_now)}</td>"
        f"<td>{_pair(one.change.new_was, one.change.new_now)}</td>"
        f"<td class=said>{escape(_said(one))}</td></tr>"
        for one in changes
    )
    return (
        "<table class=changes><tr><th>what</th><th>since (UTC)</th><th>found</th>"
        "<th class=said>what moved most</th><th>TV</th><th>PSI</th><th>JS</th><th>KS</th>"
        f"<th>unknown</th><th>new values</th><th class=said>state</th></tr>{rows}</table>"
    )


def _said(one: SeenChange) -> str:
    ended = one.change.ended_hour
    words = "on" if ended is None else f"{one.change.ended_by or 'back'} {_hour(ended)}"
    if one.plan:
        words += f"; planned: {one.plan}"
    if one.silence:
        words += f"; silent: {one.silence}"
    return words


def _labels(found: LabelFigures | None) -> str:
    rows = "".join(
        f"<tr><td>{escape(words)}</td><td>{escape(state)}</td></tr>"
        for words, state in label_lines(found)
    )
    table = f"<table><tr><th>what changed</th><th>state</th></tr>{rows}</table>" if rows else ""
    if found is not None and not found.missing and not rows:
        table = "<p>No change was found.</p>"
    bars = label_bars(found, ("card", "bars", "hot", "i"))
    return f'<div class="card"><p>{escape(label_head(found))}</p>{table}</div>' + (
        f'<div class="small labels">{bars}</div>' if bars else ""
    )


def _shares(shares: Mapping[str, float], moved: float) -> str:
    if not shares:
        return ""
    rows = "".join(
        f"<tr><td>{escape(name)}</td><td>{value:+.5f}</td><td>{_part(value, moved)}</td></tr>"
        for name, value in sorted(shares.items(), key=lambda item: -abs(item[1]))
    )
    return (
        f'<div class="card"><p>The mean probability has moved by {moved:+.5f}. Recent payments '
        "were scored again with one feature at a time put back to where the reference had it: what "
        "that takes away is the part of the feature. Features act together, so parts need not add "
        "up.</p><table><tr><th>feature</th><th>adds to the mean probability</th>"
        f"<th>share of its move</th></tr>{rows}</table></div>"
    )


def _part(value: float, moved: float) -> str:
    """A feature's part in the move of the score, without a sign where it rounds to nothing."""
    if abs(moved) <= 1e-9:
        return ""
    return f"{round(value / moved, 2) + 0.0:.0%}"


def _estimate(found: LabelFree | None) -> str:
    if found is None:
        return ""
    parts = [f"<p>{escape(found.status.capitalize())}. {escape(found.why)}</p>"]
    columns = {
        "to go by": found.figures,
        "if kinds of payments changed": found.covariate_shift,
        "if the share of fraud changed": found.label_shift,
    }
    shown = {name: figures for name, figures in columns.items() if figures is not None}
    if shown:
        lines = [_figures(figures) for figures in shown.values()]
        head = "".join(f"<th>{escape(name)}</th>" for name in shown)
        rows = "".join(
            f"<tr><td>{escape(name)}</td>"
            + "".join(f"<td>{escape(str(line[name]))}</td>" for line in lines)
            + "</tr>"
            for name in lines[0]
        )
        parts.append(f"<table><tr><th>figure, 95 %</th>{head}</tr>{rows}</table>")
    return f'<div class="card">{"".join(parts)}</div>'


def _figures(figures: Figures) -> dict[str, Estimate]:
    found = {
        "share of fraud": figures.fraud_share,
        "average precision": figures.average_precision,
    }
    for name in figures.alert_rate:
        found[f"payments at or above {name}"] = figures.alert_rate[name]
        found[f"precision of these, {name}"] = figures.precision[name]
    return found


def _panels(features: Sequence[FeatureDrift]) -> str:
    if not features:
        return ""
    panels = "".join(_panel(one) for one in features[:_MOST_PANELS])
    rest = len(features) - _MOST_PANELS
    more = f'<p class="quiet">{rest} more are in the table.</p>' if rest > 0 else ""
    return (
        f'<p class="quiet">{CAPTION} A full bar is the distance given as top.</p>'
        f'<div class="small">{panels}</div>{more}'
    )


def _panel(one: FeatureDrift) -> str:
    bars, top = day_bars(one.days, ("hot", "few"))
    span = f"{_day(one.days[0].day)} to {_day(one.days[-1].day)}" if one.days else ""
    missing = _pair(one.missing_was, one.missing_now)
    unknown = f", unknown {missing}" if missing else ""
    tag = f'<span class="tag">changed in {len(one.changed)}</span>' if one.changed else ""
    return (
        f'<div class="card {"on" if one.changed else ""}"><h3>{escape(one.feature)}{tag}</h3>'
        f'<div class="bars">{bars}</div><span class="i">{span}; top {top:.2f}; now '
        f"{distance_words(one)}{unknown}</span></div>"
    )


def _table(features: Sequence[FeatureDrift]) -> str:
    if not features:
        return ""
    rows = "".join(
        f"<tr><td>{escape(one.feature)}</td><td>{one.stability_index:.3f}</td>"
        f"<td>{one.jensen_shannon:.3f}</td><td>{one.kolmogorov_smirnov:.3f}</td>"
        f"<td>{_pair(one.missing_was, one.missing_now)}</td>"
        f"<td>{_pair(one.new_was, one.new_now)}</td>"
        f"<td class=said>{escape(', '.join(one.changed))}</td></tr>"
        for one in features
    )
    return (
        '<div class="card"><table><tr><th>feature</th><th>PSI</th><th>JS</th><th>KS</th>'
        "<th>unknown</th><th>new values</th><th class=said>changed in</th></tr>"
        f"{rows}</table></div>"
    )


def _notices(notices: Sequence[Notice]) -> str:
    if not notices:
        return '<div class="card">No silence and no planned change.</div>'
    rows = "".join(
        f"<tr><td>{'silence' if one.kind == 'silence' else 'planned change'}</td>"
        f"<td>{_time(one.from_us)}</td><td>{_time(one.until_us)}</td>"
        f"<td>{escape(one.feature)} in {escape(one.segment)}</td><td>{escape(one.why)}</td>"
        f"<td>{escape(one.by)}</td></tr>"
        for one in reversed(notices[-100:])
    )
    return (
        '<div class="card"><table><tr><th>kind</th><th>from (UTC)</th><th>until</th><th>about</th>'
        f"<th>why</th><th>by</th></tr>{rows}</table></div>"
    )


def _pair(was: float, now: float) -> str:
    return f"{was:.1%} &rarr; {now:.1%}" if was or now else ""


def _moment(hour: int) -> str:
    return _hour(hour).replace(" ", "<br>")


def _hour(hour: int) -> str:
    return _time(hour * _HOUR_US)


def _day(day: int) -> str:
    return _time(day * 24 * _HOUR_US)[:10]


def _time(time_us: int) -> str:
    return f"{datetime.fromtimestamp(time_us / 1e6, UTC):%Y-%m-%d %H:%M}"
