"""A model report as one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Final

from sentinel.models.artifact import ModelManifest
from sentinel.models.intervals import Estimate
from sentinel.models.report_facts import ReportFacts
from sentinel.models.report_words import (
    LOWER_IS_BETTER,
    NONE_KNOWN,
    day,
    money_words,
    plain,
    word,
)

STYLE: Final = """
:root{color-scheme:light}*{box-sizing:border-box}
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;color:#1d2733;
background:#f5f7f9;margin:0}
main{max-width:1120px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:27px;margin:0 0 2px}h2{font-size:18px;margin:34px 0 10px}
h3{font-size:14px;margin:0 0 6px;color:#3d4753}
p{margin:6px 0 10px;max-width:78ch}.quiet{color:#66727f;font-size:13px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(200px,1fr));gap:12px;margin:18px 0}
.card{background:#fff;border:1px solid #e1e6eb;border-radius:10px;padding:14px 16px;
overflow-x:auto}
.tile b{display:block;font-size:25px;font-weight:650;font-variant-numeric:tabular-nums}
.grid{display:grid;grid-template-columns:repeat(auto-fit,minmax(440px,1fr));gap:14px}
.card svg{width:100%;height:auto;display:block}
table{border-collapse:collapse;width:100%;font-size:13.5px;font-variant-numeric:tabular-nums}
th{text-align:right;font-weight:600;color:#3d4753;border-bottom:2px solid #d5dce3;padding:5px 9px}
td{text-align:right;border-bottom:1px solid #edf0f3;padding:5px 9px;white-space:nowrap}
th:first-child,td:first-child{text-align:left;white-space:normal}
.better{color:#1d7a46}.worse{color:#b3402a}.i{color:#7a8694;font-size:12px}
.bar{display:flex;height:26px;border-radius:6px;overflow:hidden;margin:8px 0;font-size:12px}
.bar span{display:flex;align-items:center;justify-content:center;color:#fff;min-width:2px}
.known{background:#1f5fa8}.unknown{color:#3d4753!important;
background:repeating-linear-gradient(45deg,#d5dce3 0 6px,#eef1f4 6px 12px)}
@media print{body{background:#fff}.card{break-inside:avoid}}
@media(max-width:560px){.grid{grid-template-columns:1fr}}
"""


def html_page(facts: ReportFacts, manifest: ModelManifest, pictures: Mapping[str, str]) -> str:
    """The report.

    Args:
        facts: What it says.
        manifest: Of the model, with what the one that was judged learnt from: the twin, where a
            refit serves.
        pictures: SVG elements by heading, in their order.
    """
    title = f"Model {manifest.name} {facts.version}"
    against = f" against {facts.against}" if facts.against else ""
    parts = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(_about(facts, manifest))}</p>',
        _tiles(facts),
        f"<h2>Figures{escape(against)}</h2>",
        _figures_table(facts),
        (
            '<p class="quiet">In brackets: 95 % intervals from resampled cards. Differences are '
            "paired on the same payments; coloured where the interval leaves out zero.</p>"
        ),
        _sections(pictures),
        "<h2>By segment</h2>",
        _segment_table(facts),
        "<h2>At the model's own lines</h2>",
        _lines(facts, manifest),
        "<h2>What nobody knows</h2>",
        _unknown(facts),
        _notes(manifest),
        f'<p class="quiet">Made {day(facts.created_us)} by sentinel report.</p>',
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body><main>"
        + "\n".join(part for part in parts if part)
        + "</main></body></html>\n"
    )


def _about(facts: ReportFacts, manifest: ModelManifest) -> str:
    judged = NONE_KNOWN
    if facts.payments:
        judged = (
            f"Judged on {facts.payments:,} later payments with {facts.frauds:,} known frauds, "
            f"{day(facts.start_us)} to {day(facts.end_us)}, that none of the judged models has "
            "seen."
        )
    about = (
        f"{manifest.kind.replace('_', ' ')}, {len(manifest.feature_names)} features of plan "
        f"{manifest.plan_hash}; learnt from {manifest.training.rows:,} payments, "
        f"{day(manifest.training.start_us)} to {day(manifest.training.end_us)}. {judged}"
    )
    return about if manifest.refit is None else f"{about} {manifest.refit.words}"


def _tiles(facts: ReportFacts) -> str:
    own = next(iter(facts.metrics.values()), {})
    shown = [name for name in own if not name.startswith(("weighted_", "roc", "brier", "log_"))][:5]
    tiles = "".join(
        f'<div class="card tile"><span class="quiet">{escape(word(name))}</span>'
        f'<b>{own[name].value:.3f}</b><span class="i">{own[name].low:.3f} to '
        f"{own[name].high:.3f}</span></div>"
        for name in shown
    )
    return f'<div class="tiles">{tiles}</div>' if tiles else ""


def _figures_table(facts: ReportFacts) -> str:
    if not facts.metrics:
        why = "; ".join(sorted(set(facts.not_measured.values()))) or "no payments to judge on"
        return f'<div class="card">Nothing could be measured: {escape(why)}.</div>'
    names = list(facts.metrics)
    head = "".join(
        f"<th>{escape(name)}</th>"
        + (f"<th>difference to {escape(name)}</th>" if name in facts.better_by else "")
        for name in names
    )
    rows = []
    for figure in next(iter(facts.metrics.values())):
        cells = []
        for name in names:
            value = facts.metrics[name].get(figure)
            cells.append(f"<td>{_estimate(value)}</td>")
            if name in facts.better_by:
                difference = facts.better_by[name].get(figure)
                cells.append(f"<td>{_difference(difference, figure)}</td>")
        rows.append(f"<tr><td>{escape(word(figure))}</td>{''.join(cells)}</tr>")
    for figure, why in facts.not_measured.items():
        rows.append(
            f'<tr><td>{escape(word(figure))}</td><td colspan="9" class="i">{escape(why)}</td></tr>'
        )
    return (
        f'<div class="card"><table><thead><tr><th></th>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _sections(pictures: Mapping[str, str]) -> str:
    cards = "".join(
        f'<div class="card"><h3>{escape(heading)}</h3>{picture}</div>'
        for heading, picture in pictures.items()
    )
    return f'<h2>Pictures</h2><div class="grid">{cards}</div>' if cards else ""


def _segment_table(facts: ReportFacts) -> str:
    if not facts.segments:
        return '<div class="card">There are no payments to cut into segments.</div>'
    rows = "".join(
        f"<tr><td>{escape(one.what)}: {escape(one.name)}</td><td>{one.payments:,}</td>"
        f"<td>{one.frauds:,}</td>"
        + (
            f"<td>{_estimate(one.average_precision)}</td>"
            if one.average_precision
            else '<td class="i">too few frauds to say</td>'
        )
        + (
            f"<td>{_difference(one.better_by, 'average_precision')}</td></tr>"
            if facts.against
            else "</tr>"
        )
        for one in facts.segments
    )
    against = f"<th>difference to {escape(facts.against)}</th>" if facts.against else ""
    return (
        '<div class="card"><table><thead><tr><th></th><th>payments</th><th>frauds</th>'
        f"<th>average precision</th>{against}</tr></thead>"
        f"<tbody>{rows}</tbody></table></div>"
    )


def _lines(facts: ReportFacts, manifest: ModelManifest) -> str:
    lines = manifest.thresholds
    said = ", ".join(f"{name.replace('_', ' ')} {v:.4g}" for name, v in facts.at_lines.items())
    return (
        f'<div class="card">A review begins at a probability of {lines.review:.4g}, a decline at '
        f"{lines.decline:.4g}. On these payments: {escape(said) or 'nothing can be said'}.</div>"
    )


def _unknown(facts: ReportFacts) -> str:
    unknown = facts.unknown
    if not facts.payments:
        later = sum(unknown.unknown.values())
        of_them = f" There are {later:,} of them." if later else ""
        return f'<div class="card"><p>{NONE_KNOWN}{of_them}</p></div>'
    missing = sum(unknown.unknown.values())
    whole = max(unknown.known + missing, 1)
    spans = f'<span class="known" style="flex:{unknown.known}">{unknown.known:,} known</span>'
    if missing:
        spans += f'<span class="unknown" style="flex:{missing}">{missing:,} unknown</span>'
    why = "; ".join(f"{count:,} {reason}" for reason, count in unknown.unknown.items())
    amount = money_words(unknown.amount_minor, facts.money_scale)
    worth = f", worth {amount} {facts.currency}".rstrip() if missing else ""
    return (
        f'<div class="card"><div class="bar">{spans}</div><p>Of {missing / whole:.1%} of the '
        f"payments of this time{worth}, the truth is unknown, and no figure above speaks of them."
        f" {escape(why)}.</p></div>"
        if missing
        else f'<div class="card"><div class="bar">{spans}</div><p>The truth of every payment of '
        "this time is known, or counts as known.</p></div>"
    )


def _notes(manifest: ModelManifest) -> str:
    if not manifest.notes and not manifest.provisional:
        return ""
    notes = [*manifest.notes, *([manifest.provisional] if manifest.provisional else [])]
    items = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f'<h2>Notes</h2><div class="card"><ul>{items}</ul></div>'


def _estimate(one: Estimate | None) -> str:
    if one is None:
        return ""
    return f'{one.value:.4g} <span class="i">[{one.low:.4g}, {one.high:.4g}]</span>'


def _difference(one: Estimate | None, figure: str) -> str:
    if one is None:
        return ""
    kind = ""
    if one.low > 0 or one.high < 0:
        kind = "better" if (one.low > 0) != (plain(figure) in LOWER_IS_BETTER) else "worse"
    return (
        f'<span class="{kind}">{one.value:+.4f}</span> '
        f'<span class="i">[{one.low:+.4f}, {one.high:+.4f}]</span>'
    )
