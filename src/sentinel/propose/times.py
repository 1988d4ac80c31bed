"""Which column says when a payment happened."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import numpy as np

from sentinel.propose import names
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Answers, Question, Roles, Time, quoted
from sentinel.propose.time_formats import (
    UNIT_SECONDS,
    ambiguous,
    has_clock,
    moments,
    partly,
    sorted_share,
    time_of,
    unit_by_name,
    unread_text,
    varies,
)
from sentinel.propose.time_parts import calendar_parts, date_and_clock, told_date_and_clock
from sentinel.propose.totals import total_of
from sentinel.sources.time_patterns import swapped

DEFAULT_START: Final = "2024-01-01"
_FEW: Final = 0.05
"""Share of rows without a time that are worth a note; of more, the format is another one."""
_EITHER_WAY: Final = (
    "Rows where both are 12 or less would be misread: write them in one order in the file first."
)
_LEAST_IN_ORDER: Final = 100
"""Rows in order from which a file counts as one that was."""
_IN_ORDER: Final = 0.98
_BACK_SECONDS: Final = 86_400.0
_BACK_SHARE: Final = 0.01
"""Time goes back if it does so by a day, and by this share of the history, or more."""
UNIT_WORDS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days"}


def choose_time(roles: Roles, answers: Answers) -> None:
    """Decide which column is the time of the payment, or ask."""
    _choose(roles, answers)
    if roles.time is None:
        return
    if answers.timezone and not roles.time.timezone:
        roles.time = replace(roles.time, timezone=answers.timezone)
    _stops_being_in_order(roles, roles.time)
    seconds = moments(roles.profile, roles.time)
    unread = int((~np.isfinite(seconds)).sum()) - _total(roles, roles.time)
    if unread <= 0:
        return
    columns = " and ".join(map(repr, roles.time.columns))
    some = "" if roles.profile.complete else f" of a sample of {len(seconds):,}"
    note = (
        f"Of {unread:,} row{'' if unread == 1 else 's'}{some} the time in {columns} cannot be "
        "read: the import lists them among the rejects."
    )
    if unread <= _FEW * len(seconds):
        roles.notes.append(note)
    else:
        roles.notes.insert(0, note + _why_unread(roles.profile, roles.time))


def _total(roles: Roles, time: Time) -> int:
    """Name the row of totals at the end, if there is one; 1 if its time is one that is unread."""
    profile = roles.profile
    total = total_of(profile)
    if total is None:
        return 0
    timeless = total.given.isdisjoint(time.columns)
    is_one = f"Row {total.row + 1:,} is a total ({total.column!r} says {total.text!r}), no payment"
    if timeless:
        roles.notes.append(f"{is_one}: it has no time, and the import lists it among the rejects.")
        return int(len(profile.sample_rows) > 0 and total.row in profile.sample_rows)
    roles.notes.insert(
        0, f"{is_one}. It has a time, so that the import would take it: delete it from the file."
    )
    return 0


def _stops_being_in_order(roles: Roles, time: Time) -> None:
    """Say at which row a file that is in the order of its times stops being so, if it does."""
    profile = roles.profile
    every = moments(profile, time)
    known = np.isfinite(every)
    seconds, rows = every[known], profile.sample_rows[known]
    if len(seconds) < _LEAST_IN_ORDER:
        return
    latest = np.maximum.accumulate(seconds)
    step = max(_BACK_SECONDS, _BACK_SHARE * float(np.ptp(seconds)))
    back = np.flatnonzero(seconds < latest - step)
    if not len(back) or back[0] < max(_LEAST_IN_ORDER, _BACK_SHARE * len(seconds)):
        return
    at = int(back[0])
    if (np.diff(seconds[:at]) >= 0).mean() < _IN_ORDER:
        return
    days = (latest[at] - seconds[at]) / 86_400
    about = "" if profile.complete else "about "
    roles.notes.append(
        f"The file is in the order of {' and '.join(map(repr, time.columns))} up to {about}row "
        f"{rows[at]:,}; row {rows[at] + 1:,} lies {days:,.1f} days before the latest until then. "
        "The import brings payments in order; look whether two exports stand one behind the other."
    )


def _why_unread(profile: TableProfile, time: Time) -> str:
    """What many times that cannot be read look like, to be put behind a sentence."""
    if len(time.columns) > 1 or not isinstance(time.format, str) or time.format == "epoch":
        return ""
    other = swapped(time.format)
    text = unread_text(profile, time, other) if other else ""
    if text:
        return f" {text!r} has day and month the other way round. {_EITHER_WAY}"
    text = unread_text(profile, time)
    return f" One is {text!r}." if text else ""


def _choose(roles: Roles, answers: Answers) -> None:
    profile = roles.profile
    if answers.time:
        roles.time = _as_told(profile, answers)
        if roles.time is None:
            _ask_how(roles, answers.time[0])
        return
    found = {name: time for name in profile.columns if (time := time_of(profile, name))}
    found = {n: t for n, t in found.items() if profile.columns[n].share_given > 0.98}
    parts = calendar_parts(profile)
    if parts is not None:
        roles.time = parts
        return
    joined = date_and_clock(profile, found)
    if joined is not None:
        roles.time = joined
        return
    if found:
        _best_of(roles, found, answers)
        return
    counters = _counters(profile)
    named = [name for name in counters if names.has(name, names.TIME)]
    candidates = named if len(named) == 1 else counters
    if len(candidates) == 1:
        _counted(roles, candidates[0], answers)
    elif candidates:
        _ask_column(roles, candidates, "counts that never fall")
    else:
        known = [n for n in profile.columns if partly(profile, n)]
        if len(known) == 1:
            _ask_how(roles, known[0])
            return
        every = [n for n, c in profile.columns.items() if c.numeric or c.type == "text"]
        every.sort(key=lambda n: (n not in known, not names.has(n, names.TIME)))
        _ask_column(roles, every, "no column holds times that can be told by themselves")


def default_start(profile: TableProfile, name: str, unit: str) -> str:
    """A moment of 0 that keeps the last payment in the past."""
    years = profile.columns[name].high * UNIT_SECONDS[unit] / (366 * 86_400)
    return DEFAULT_START if years < 1 else f"{max(1970, 2024 - int(years)):04d}-01-01"


def _as_told(profile: TableProfile, answers: Answers) -> Time | None:
    """The time as the user says; None if its unit is still missing."""
    columns = answers.time
    reason = "as you said"
    if answers.time_unit:
        start = answers.start
        if not start and profile.columns[columns[0]].low < 9e8:
            start = default_start(profile, columns[0], answers.time_unit)
        return Time(columns, "epoch", answers.time_unit, start, answers.timezone, reason)
    if answers.time_format:
        return Time(columns, answers.time_format, "", "", answers.timezone, reason)
    if len(columns) > 1:
        parts = calendar_parts(profile, columns) or told_date_and_clock(profile, columns)
        if parts is not None:
            return parts
        return Time(columns, "iso", timezone=answers.timezone, reason=reason)
    found = time_of(profile, columns[0])
    if found is None:
        unit = unit_by_name(columns[0])
        if unit:
            start = answers.start or default_start(profile, columns[0], unit)
            return Time(columns, "epoch", unit, start, reason=reason)
        return None
    return Time(columns, _first(found.format), found.unit, answers.start, answers.timezone, reason)


def _first(pattern: str | tuple[str, ...]) -> str:
    return pattern if isinstance(pattern, str) else pattern[0]


def _best_of(roles: Roles, found: dict[str, Time], answers: Answers) -> None:
    """One of several columns of times, by order in the file, by name and by what they hold."""
    profile = roles.profile
    clocked = {n: t for n, t in found.items() if has_clock(t) and varies(profile, t)}
    pool = clocked or found
    texts = {n: t for n, t in pool.items() if t.format != "epoch"}
    pool = texts or pool
    early = {n: t for n, t in pool.items() if not names.has(n, names.EARLIER | names.LATER)}
    named_event = {n: t for n, t in early.items() if names.has(n, names.EVENT_TIME)}
    candidates = list(named_event or early or pool)
    why = "the only column of times" if len(found) == 1 else "by its name and values"
    if len(candidates) > 1:
        ordered = [n for n in candidates if sorted_share(profile, pool[n]) > 0.999]
        if ordered:
            candidates, why = ordered, "the file is in its order"
    if len(candidates) > 1 and ordered_earliest(profile, pool, candidates):
        candidates = [ordered_earliest(profile, pool, candidates)]
        why = "the earliest of the times in whose order the file is"
    if len(candidates) > 1:
        _ask_column(roles, candidates, "several columns hold times")
        return
    name = candidates[0]
    time = pool[name]
    fitting = ambiguous(time)
    if fitting:
        if answers.time_format:
            time = Time((name,), answers.time_format, reason=why)
        else:
            roles.questions.append(
                Question(
                    "time format",
                    f"Does {name!r} give the day or the month first ({_example(roles, name)})?",
                    tuple((f"--time-format '{p}'", "") for p in fitting[:3]),
                )
            )
            return
    reason = why if not time.reason or len(found) > 1 else f"{why}, {time.reason}"
    roles.time = Time(time.columns, time.format, time.unit, "", answers.timezone, reason)


def _example(roles: Roles, name: str) -> str:
    values = roles.profile.columns[name].examples
    return values[0] if values else ""


def ordered_earliest(profile: TableProfile, pool: dict[str, Time], candidates: list[str]) -> str:
    """The column that is never later than any other candidate in whose order the file is."""
    times = {n: moments(profile, pool[n]) for n in candidates}
    if any(sorted_share(profile, pool[n]) < 0.98 for n in candidates):
        return ""
    for name, own in times.items():
        others = [other for n, other in times.items() if n != name]
        if all(np.nanmean(own <= other) > 0.999 for other in others):
            return name
    return ""


def _counters(profile: TableProfile) -> list[str]:
    """Columns of numbers that never fall from row to row and are no mere row counters."""
    found = []
    for name, column in profile.columns.items():
        counts = column.numeric and column.whole > 0.999 and column.low >= 0
        if not counts or column.share_given < 1 or column.falls:
            continue
        named = names.has(name, names.TIME)
        if named or (column.distinct > 3 and not column.steady and not column.unique):
            found.append(name)
    return found


def _counted(roles: Roles, name: str, answers: Answers) -> None:
    unit = answers.time_unit or unit_by_name(name)
    if not unit:
        _ask_unit(roles, name)
        return
    start = answers.start or default_start(roles.profile, name, unit)
    roles.time = Time((name,), "epoch", unit, start, answers.timezone, _counted_reason(unit))


def _counted_reason(unit: str) -> str:
    return f"counts {UNIT_WORDS.get(unit, unit)} and never falls"


def _ask_unit(roles: Roles, name: str, *, told: bool = False) -> None:
    roles.pending.add(name)
    column = roles.profile.columns[name]
    span = column.high - column.low
    asked = f"--time {quoted(name)} " if told else ""
    flags = tuple(
        (
            f"{asked}--time-unit {unit}",
            _duration_words(span * UNIT_SECONDS[unit]),
        )
        for unit in ("s", "min", "h", "d")
        if 600 < span * UNIT_SECONDS[unit] < 40 * 365 * 86_400
    )
    roles.questions.append(
        Question(
            "time unit",
            f"What does {name!r} count ({column.low:,.0f} to {column.high:,.0f})?",
            flags,
        )
    )


def _ask_how(roles: Roles, name: str) -> None:
    """Ask what a column counts, or how its texts are written, if nothing fits all of them."""
    column = roles.profile.columns[name]
    if column.numeric:
        _ask_unit(roles, name, told=True)
        return
    roles.pending.add(name)
    patterns = partly(roles.profile, name)
    text = f"How is the time in {name!r} written ({_example(roles, name)})?"
    for pattern, _ in patterns:
        other = Time((name,), swapped(pattern))
        if other.format in dict(patterns) and pattern.find("%d") < pattern.find("%m"):
            one = unread_text(roles.profile, other, pattern)
            two = unread_text(roles.profile, Time((name,), pattern), str(other.format))
            text = (
                f"{name!r} has the day first in some rows and the month first in others ({one}, "
                f"{two}). {_EITHER_WAY} Which of them is right?"
            )
            break
    flags = tuple(
        (
            f"--time {quoted(name)} --time-format {quoted(pattern)}",
            f"reads {share:.0%} of the rows",
        )
        for pattern, share in patterns
    )
    asked = f"--time {quoted(name)} --time-format '%d.%m.%Y %H:%M'"
    roles.questions.append(
        Question(
            "time format",
            text,
            flags or ((asked, "a pattern of its parts; or name another column"),),
        )
    )


def _duration_words(seconds: float) -> str:
    for unit, size in (("years", 365 * 86_400), ("days", 86_400), ("hours", 3_600)):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit} of history"
    return f"{seconds / 60:,.0f} minutes of history"


def _ask_column(roles: Roles, candidates: Sequence[str], why: str) -> None:
    roles.pending.update(candidates if len(candidates) <= 3 else ())
    roles.questions.append(
        Question(
            "time",
            f"Which column is the time of the payment ({why})?",
            tuple((f"--time {quoted(name)}", _example(roles, name)) for name in candidates[:6]),
        )
    )
