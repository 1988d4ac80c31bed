"""The letter that sums up a day or a week: figures, one picture, what changed and what waits."""

from __future__ import annotations

import io
from collections.abc import Sequence
from html import escape
from typing import Any, Final

import msgspec
from matplotlib import rc_context
from matplotlib.figure import Figure

from sentinel.alerts.letters import INK, LINE, QUIET, page
from sentinel.alerts.mail import Letter

PICTURE: Final = "decisions"
_BLUE, _RED, _PALE = "#1f5fa8", "#c8553d", "#b9cce3"


class DigestFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What a digest says.

    Attributes:
        title: "Thursday, 26 November 2026", or of a week.
        span: "day" or "week".
        decisions, decisions_before: Payments decided, and in the time of the same length before.
        stopped, stopped_before: Of these, sent to review or declined.
        money_minor, stopped_minor: Amounts of both.
        degraded: Decisions without feature state, or without a part of it.
        fraud, fraud_minor: Payments that labels of the time call fraud, and their amounts as far as
            the payments were decided in the last weeks.
        confirmed, judged: Stopped payments that labels of the time call fraud, and those that they
            say anything of.
        passed: Fraud among these labels that was approved.
        reviews, reviews_minor: Payments sent to review in the last weeks that have no verdict, and
            their amounts.
        drift_found: Changes of payments that were found in the time.
        drift_alarms: Changes that are on now, and that nobody silenced.
        bars: Of each part of the time, its name, decisions and stopped payments.
        changed, waits: Sentences.
        currency, scale: Of amounts.
    """

    title: str
    span: str
    decisions: int
    decisions_before: int
    stopped: int
    stopped_before: int
    money_minor: int
    stopped_minor: int
    degraded: int
    fraud: int
    fraud_minor: int
    confirmed: int
    judged: int
    passed: int
    reviews: int
    reviews_minor: int
    drift_found: int
    drift_alarms: int
    bars: Sequence[tuple[str, int, int]]
    changed: Sequence[str]
    waits: Sequence[str]
    currency: str
    scale: int

    def money(self, minor: int) -> str:
        """An amount in words."""
        return f"{minor / 10**self.scale:,.0f} {self.currency}"


def digest_letter(figures: DigestFigures, *, deployment: str) -> Letter:
    """The letter.

    Args:
        figures: What it says.
        deployment: What the deployment is called.
    """
    tiles = _tiles(figures)
    changed = figures.changed or ["Nothing: same model, same policy, no experiment began or ended."]
    waits = figures.waits or ["Nothing waits for anybody."]
    head = f"{figures.decisions:,} payments, {figures.stopped:,} stopped"
    lines = [
        f"{name}: {value} ({note})" if note else f"{name}: {value}" for name, value, note in tiles
    ]
    text = [f"{figures.title}: {head}", "\n".join(lines)]
    text += [f"What changed\n{_dashes(changed)}", f"What waits\n{_dashes(waits)}"]
    picture = (
        f'<tr><td style="padding:0 0 12px 0"><img src="cid:{PICTURE}" width="638" '
        f'alt="Decisions and stopped payments over the {figures.span}" style="width:100%;'
        f'max-width:638px;border:1px solid {LINE};background:#ffffff;display:block"></td></tr>'
    )
    body = _tile_rows(tiles) + picture + _listed("What changed", changed)
    return Letter(
        subject=f"[{deployment}] {figures.title}: {head}",
        text="\n\n".join(text) + "\n",
        html=page(
            head,
            f"{deployment} · {figures.title}",
            body + _listed("What waits", waits),
            f"Sentinel sends this each {figures.span}; the settings <b>[digest]</b> say when and "
            "to whom.",
        ),
        pictures={PICTURE: drawn(figures)},
    )


def drawn(figures: DigestFigures) -> bytes:
    """The picture, as PNG: decisions as bars, stopped payments as a line on an axis of its own."""
    style: Any = {"font.size": 9, "axes.spines.top": False, "axes.edgecolor": "#b4bcc6"}
    with rc_context(style):
        figure = Figure(figsize=(6.4, 2.4), dpi=200, layout="constrained")
        axes = figure.subplots()
        places = range(len(figures.bars))
        axes.bar(places, [bar[1] for bar in figures.bars], color=_PALE, width=0.8)
        axes.set_ylabel("payments", color=_BLUE)
        beside = axes.twinx()
        beside.plot(places, [bar[2] for bar in figures.bars], color=_RED, marker="o", markersize=3)
        beside.set_ylim(bottom=0)
        beside.set_ylabel("stopped", color=_RED)
        every = max(1, len(figures.bars) // 12)
        axes.set_xticks(list(places)[::every], [bar[0] for bar in figures.bars][::every])
        out = io.BytesIO()
        figure.savefig(out, format="png")
    return out.getvalue()


def _tiles(figures: DigestFigures) -> list[tuple[str, str, str]]:
    """Name, value and remark of each figure."""
    share = figures.stopped / figures.decisions if figures.decisions else 0.0
    precision = f"{figures.confirmed / figures.judged:.0%}" if figures.judged else "not known"
    span = figures.span
    stopped = f"{share:.2%}; {_against(figures.stopped, figures.stopped_before, span)}"
    waiting = figures.money(figures.reviews_minor) if figures.reviews else ""
    known = f"{figures.money(figures.fraud_minor)}; {figures.passed:,} had been approved"
    return [
        (
            "Decisions",
            f"{figures.decisions:,}",
            _against(figures.decisions, figures.decisions_before, span),
        ),
        ("Stopped", f"{figures.stopped:,}", stopped),
        ("Money decided", figures.money(figures.money_minor), ""),
        ("Money stopped", figures.money(figures.stopped_minor), ""),
        ("Fraud that became known", f"{figures.fraud:,}", known),
        (
            "Precision of what was stopped",
            precision,
            f"of {figures.judged:,} with a verdict now",
        ),
        ("Reviews without a verdict", f"{figures.reviews:,}", waiting),
        (
            "Changes of payments (drift)",
            f"{figures.drift_alarms:,} on",
            f"{figures.drift_found:,} found in the {span}",
        ),
    ]


def _against(now: int, before: int, span: str) -> str:
    if not before:
        return f"none the {span} before"
    return f"{now / before - 1:+.0%} against the {span} before"


def _tile_rows(tiles: Sequence[tuple[str, str, str]]) -> str:
    cells = [
        f'<td width="50%" style="background:#ffffff;border:1px solid {LINE};padding:12px 16px">'
        f'<div style="color:{QUIET};font-size:13px">{escape(name)}</div>'
        f'<div style="font-size:22px;font-weight:600;color:{INK}">{escape(value)}</div>'
        f'<div style="color:{QUIET};font-size:12px">{escape(note)}&nbsp;</div></td>'
        for name, value, note in tiles
    ]
    rows = "".join(f"<tr>{a}{b}</tr>" for a, b in zip(cells[::2], cells[1::2], strict=True))
    return (
        '<tr><td style="padding:0 0 12px 0"><table role="presentation" width="100%" '
        f'cellpadding="0" cellspacing="0" style="border-collapse:collapse">{rows}</table></td></tr>'
    )


def _listed(title: str, sentences: Sequence[str]) -> str:
    items = "".join(f'<li style="padding:2px 0">{escape(one)}</li>' for one in sentences)
    return (
        f'<tr><td style="padding:0 0 12px 0"><table role="presentation" width="100%" '
        f'cellpadding="0" cellspacing="0" style="background:#ffffff;border:1px solid {LINE}"><tr>'
        f'<td style="padding:14px 16px"><b style="font-size:16px">{title}</b>'
        f'<ul style="margin:6px 0 0 0;padding-left:20px">{items}</ul></td></tr></table></td></tr>'
    )


def _dashes(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {one}" for one in sentences)
