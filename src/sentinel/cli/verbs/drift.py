"""Verbs about drift: what changed, what is known of it, and counting it anew."""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Callable
from typing import Annotated, Final

import typer

from sentinel.cli.console import err, out, plain_errors, settings_for, system_user
from sentinel.cli.options import Workspace, said

AsJson = Annotated[bool, typer.Option("--json", help="Print it as JSON.")]

Why = Annotated[
    str, typer.Option(help="Why; shown beside the changes that it is about.", callback=said)
]
By = Annotated[str, typer.Option(help="Who says so; default: the user of the system.")]
Feature = Annotated[str, typer.Option(help="Feature; `*` and `?` stand for any signs.")]
SegmentName = Annotated[str, typer.Option(help="Segment; `*` and `?` stand for any signs.")]
From = Annotated[str, typer.Option("--from", help="When it begins, UTC; default: now.")]
MOST_HOURS: Final = 8_784.0
"""A year: what holds for longer is said again."""
Hours = Annotated[float, typer.Option(help="How long it lasts.", min=0.1, max=MOST_HOURS)]


def status(as_json: AsJson = False, workspace: Workspace = None) -> None:
    """What changed in the payments, how far the log was followed, and what was said in advance."""
    import msgspec

    from sentinel.cli.drift_report import drift_report
    from sentinel.drift.store import open_drift
    from sentinel.pipeline.drift_status import status_of

    with plain_errors():
        settings = settings_for(workspace)
        store = open_drift(settings)
        try:
            found = status_of(settings, store, time.time_ns() // 1000)
        finally:
            store.close()
        if as_json:
            typer.echo(msgspec.json.format(msgspec.json.encode(found)).decode())
        else:
            drift_report(out, found)


def _noticing(kind: str, says: str) -> Callable[..., None]:
    """A verb that says something in advance; typer shows ``says`` as its help."""

    def verb(
        why: Why,
        hours: Hours = 24.0,
        from_: From = "",
        feature: Feature = "*",
        segment: SegmentName = "*",
        by: By = "",
        workspace: Workspace = None,
    ) -> None:
        _say(kind, why, hours, from_, feature, segment, by, workspace)

    verb.__name__, verb.__doc__ = kind, says
    return verb


silence = _noticing("silence", "Have changes recorded and raise no alarm for a while.")
plan = _noticing(
    "plan",
    "Say in advance what will change, such as a new merchant: it is shown at what it explains.",
)


def end(
    number: Annotated[int, typer.Argument(help="Of a silence or a planned change.")],
    workspace: Workspace = None,
) -> None:
    """End a silence or a planned change now."""
    from sentinel.drift.store import open_drift

    with plain_errors():
        store = open_drift(settings_for(workspace))
        try:
            ended = store.end_notice(number, time.time_ns() // 1000)
        finally:
            store.close()
        out.print(f"Ended {ended.kind} {ended.id}: {ended.why}", markup=False, soft_wrap=True)


def rebuild(workspace: Workspace = None) -> None:
    """Have everything counted anew from the log. Silences and planned changes stay."""
    from sentinel.drift.store import open_drift

    with plain_errors():
        store = open_drift(settings_for(workspace))
        try:
            store.forget_counts()
        finally:
            store.close()
        out.print("The monitor counts the log anew from its beginning.")


def _say(
    kind: str,
    why: str,
    hours: float,
    from_: str,
    feature: str,
    segment: str,
    by: str,
    workspace: Workspace,
) -> None:
    import msgspec

    from sentinel.drift.notices import MOST_TEXT, Notice
    from sentinel.drift.store import open_drift

    if math.isnan(hours):
        err.print(f"--hours is a number from 0.1 to {MOST_HOURS:,.0f}.", markup=False)
        raise SystemExit(2)
    with plain_errors():
        now_us = time.time_ns() // 1000
        from_us = now_us if not from_ else _moment_us(from_)
        notice = msgspec.convert(
            {
                "kind": kind,
                "why": why[:MOST_TEXT],
                "by": (by or system_user())[:MOST_TEXT],
                "said_at_us": now_us,
                "from_us": from_us,
                "until_us": from_us + int(hours * 3_600e6),
                "feature": feature[:MOST_TEXT],
                "segment": segment[:MOST_TEXT],
            },
            type=Notice,
        )
        store = open_drift(settings_for(workspace))
        try:
            kept = store.add_notice(notice)
        finally:
            store.close()
        what = "Silence" if kind == "silence" else "Planned change"
        out.print(
            f"{what} {kept.id} holds until {_words(kept.until_us)} UTC. `sentinel drift end "
            f"{kept.id}` ends it sooner.",
            markup=False,
            soft_wrap=True,
        )


def _moment_us(text: str) -> int:
    """A time of the command line, microseconds UTC."""
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        err.print(f"{text!r} is no time. Write it as 2026-11-30T08:00, in UTC.", markup=False)
        raise SystemExit(2) from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=dt.UTC)
    return int(moment.timestamp() * 1e6)


def _words(at_us: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(at_us / 1e6))
