"""Alerts as a letter: what happened, what to do, and since when, as text and as HTML.

Mail programs know little of HTML: tables, and styles at each element.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from html import escape
from typing import Final

from sentinel.alerts.catalogue import ALERTS
from sentinel.alerts.mail import Letter
from sentinel.alerts.notices import Notice, taken_on
from sentinel.alerts.states import Held
from sentinel.alerts.store import Acknowledgement

FONT: Final = "font-family:-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
INK, QUIET, PAPER, LINE = "#1d2733", "#66717e", "#f3f5f7", "#e3e7eb"
_RED, _AMBER, _GREEN = "#b3372a", "#b97a10", "#2f7d4f"
_COMMAND: Final = re.compile(r"`([^`]+)`")
_SECONDS: Final = ((86_400, "day"), (3_600, "hour"), (60, "minute"), (1, "second"))


def letter_of(notice: Notice, *, deployment: str, runbooks_url: str = "") -> Letter:
    """The letter about alerts.

    Args:
        notice: What to tell.
        deployment: What the deployment is called.
        runbooks_url: Where the folder of runbooks can be read; empty: only its files are named.
    """
    firing, resolved = notice.firing, notice.resolved
    return Letter(
        subject=_subject(notice, deployment),
        text=_text(notice, deployment, runbooks_url),
        html=page(
            _headline(firing, resolved),
            f"{deployment} · {_clock(notice.at_us)}",
            "".join(_card(one, notice, runbooks_url) for one in (*firing, *resolved)),
            "Sentinel sends this. <b>sentinel alerts list</b> shows all alerts; "
            "<b>sentinel alerts acknowledge NAME --why WHY</b> says that you are on one.",
        ),
        about=tuple(f"{one.name}.{one.fired_at_us}" for one in notice.alerts),
        urgent=any(one.severity == "page" for one in firing),
    )


def page(headline: str, beneath: str, body: str, foot: str) -> str:
    """A letter's HTML around its parts.

    Args:
        headline, beneath: As text.
        body, foot: As HTML.
    """
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(headline)}</title></head>"
        f'<body style="margin:0;padding:0;background:{PAPER}">'
        f'<table role="presentation" width="100%" cellpadding="0" cellspacing="0" '
        f'style="background:{PAPER}"><tr><td align="center" style="padding:24px 12px">'
        f'<table role="presentation" width="640" cellpadding="0" cellspacing="0" '
        f'style="max-width:640px;width:100%;{FONT};color:{INK};font-size:15px;line-height:1.5">'
        f'<tr><td style="padding:4px 8px 16px 8px">'
        f'<div style="font-size:22px;line-height:1.3;font-weight:600">{escape(headline)}</div>'
        f'<div style="color:{QUIET};font-size:13px">{escape(beneath)}</div></td></tr>'
        f"{body}"
        f'<tr><td style="padding:16px 8px;color:{QUIET};font-size:12px">{foot}</td></tr>'
        "</table></td></tr></table></body></html>"
    )


def lasting(us: int) -> str:
    """A length of time in words.

    >>> lasting(0), lasting(90_000_000), lasting(7_200_000_000)
    ('a moment', '1 minute', '2 hours')
    """
    seconds = us // 1_000_000
    for size, name in _SECONDS:
        if seconds >= size:
            count = seconds // size
            return f"{count:,} {name}{'s' if count > 1 else ''}"
    return "a moment"


def _headline(firing: Sequence[Held], resolved: Sequence[Held]) -> str:
    first = (firing or resolved)[0]
    alerts = len(firing or resolved)
    more = f" and {alerts - 1} more" if alerts > 1 else ""
    return (
        f"{first.name}{more} {'fires' if alerts == 1 else 'fire'}"
        if firing
        else (f"{first.name}{more} {'is' if alerts == 1 else 'are'} resolved")
    )


def _subject(notice: Notice, deployment: str) -> str:
    what = f"[{deployment} {notice.severity}] {_headline(notice.firing, notice.resolved)}"
    if notice.firing and notice.resolved:
        what += f", {len(notice.resolved)} resolved"
    return f"{what} (still)" if notice.repeated else what


def _text(notice: Notice, deployment: str, runbooks_url: str) -> str:
    parts = [f"{_headline(notice.firing, notice.resolved)}: {deployment}, {_clock(notice.at_us)}"]
    for one in notice.alerts:
        lines = [f"{_badge(one)[0].upper()}  {_title(one)}", one.summary]
        if one.state == "firing":
            lines += [f"Do: {_action(one)}", f"Runbook: {_runbook(one, runbooks_url)}"]
        lines.append(_times(one, notice.at_us))
        known = taken_on(one, notice.acknowledged)
        if known is not None:
            lines.append(_taken_on(known))
        parts.append("\n".join(lines))
    parts.append(
        "--\n`sentinel alerts list` shows all alerts; `sentinel alerts acknowledge NAME`\n"
        "says that you are on one."
    )
    return "\n\n".join(parts) + "\n"


def _card(one: Held, notice: Notice, runbooks_url: str) -> str:
    badge, colour = _badge(one)
    title = (
        f'<span style="color:#ffffff;background:{colour};border-radius:3px;padding:2px 8px;'
        f'font-size:12px;font-weight:600">{badge}</span>'
        f'&nbsp; <b style="font-size:16px">{escape(_title(one))}</b>'
    )
    lines = [title, f'<div style="padding-top:8px">{escape(one.summary)}</div>']
    if one.state == "firing":
        action = _COMMAND.sub(r"<b>\1</b>", escape(_action(one)))
        runbook = _runbook(one, runbooks_url)
        shown = escape(runbook)
        if runbooks_url:
            shown = (
                f'<a href="{shown}" style="color:{INK}">{escape(ALERT_PAGE.format(one.name))}</a>'
            )
        lines.append(f'<div style="padding-top:8px"><b>Do this:</b> {action}</div>')
        lines.append(f'<div style="padding-top:4px"><b>Runbook:</b> {shown}</div>')
    quiet = [_times(one, notice.at_us)]
    known = taken_on(one, notice.acknowledged)
    if known is not None:
        quiet.append(_taken_on(known))
    lines.append(
        f'<div style="padding-top:8px;color:{QUIET};font-size:13px">'
        f"{'<br>'.join(escape(line) for line in quiet)}</div>"
    )
    return (
        '<tr><td style="padding:0 0 12px 0"><table role="presentation" width="100%" '
        f'cellpadding="0" cellspacing="0" style="background:#ffffff;border:1px solid {LINE};'
        f'border-left:5px solid {colour}"><tr><td style="padding:14px 16px">{"".join(lines)}'
        "</td></tr></table></td></tr>"
    )


ALERT_PAGE: Final = "{}: what it means and what to do"


def _badge(one: Held) -> tuple[str, str]:
    if one.state == "resolved":
        return "resolved", _GREEN
    return one.severity, _RED if one.severity == "page" else _AMBER


def _title(one: Held) -> str:
    return f"{one.name}: {one.subject}" if one.subject else one.name


def _action(one: Held) -> str:
    return ALERTS[one.name].action if one.name in ALERTS else "Run `sentinel doctor`."


def _runbook(one: Held, runbooks_url: str) -> str:
    if runbooks_url:
        return f"{runbooks_url.rstrip('/')}/{one.name}.md"
    return f"docs/runbooks/{one.name}.md"


def _times(one: Held, now_us: int) -> str:
    if one.state == "resolved":
        lasted = lasting(one.resolved_at_us - one.fired_at_us)
        return f"Fired {_clock(one.fired_at_us)}, resolved {_clock(one.resolved_at_us)}: {lasted}."
    return f"Fires since {_clock(one.fired_at_us)}: {lasting(now_us - one.fired_at_us)}."


def _taken_on(known: Acknowledgement) -> str:
    return f"{known.by} acknowledged it {_clock(known.at_us)}: {known.why}"


def _clock(us: int) -> str:
    return f"{datetime.fromtimestamp(us / 1e6, UTC):%Y-%m-%d %H:%M:%S} UTC"
