"""A proposal on one screen, in a longer report, and for programs."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any, Final

from rich.cells import cell_len, set_cell_size

from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Amount, Entity, Question, Roles, Time

WIDTH: Final = 80
LINES: Final = 24

_LABEL: Final = 11
_COLUMN: Final = 24
_NOTE_LINES: Final = 4
_NOTES: Final = 3
_UNITS: Final = {"s": "seconds", "min": "minutes", "h": "hours", "d": "days", "ms": "milliseconds"}


def summary(roles: Roles, endings: Iterable[str] = ()) -> str:
    """One screen: at most 24 lines of at most 80 columns of a terminal.

    Args:
        roles: What was decided.
        endings: Lines to end with, such as what was written.
    """
    profile = roles.profile
    ends = list(endings)
    more = "in proposal.md" if ends else "once all is answered"
    days = f", {roles.days:,.1f} days" if roles.days else ""
    lines = [f"{profile.name}: {_counted(profile)}{days}"]
    if roles.known:
        lines.append(_row("recognised", roles.known))
    if roles.id:
        column = ", ".join(roles.id.columns) or "row number"
        lines.append(_pair("id", column, roles.id.reason))
    if roles.time:
        lines.append(_pair("time", ", ".join(roles.time.columns), time_words(roles.time)))
    if roles.amount:
        lines.append(_pair("amount", roles.amount.column or "none", amount_words(roles.amount)))
    lines.append(_truth_line(roles))
    if roles.outcome:
        lines.append(_pair("outcome", roles.outcome.column, roles.outcome.reason))
    lines += [_entity_line(entity) for entity in roles.entities]
    lines += [_pair("no place", column, why) for column, why in roles.homeless.items()][:2]
    rest = LINES - len(lines) - len(ends)
    body = [*_attribute_lines(roles, 3), *_leak_lines(roles, 4), *_left_out_lines(roles)]
    least = 2 if rest >= 2 * _NOTES + 4 else 1
    for deep in range(_NOTE_LINES, least - 1, -1):
        notes = _note_lines(roles, deep, more)
        if len(notes) + len(body) <= rest:
            break
    room = max(3, rest - len(notes))
    if len(body) > room:
        body = [
            *body[: room - 1],
            _row("", f"... the whole of it is {more}" if ends else "... and more"),
        ]
    return "\n".join([*lines, *body, *notes, *ends])


def questions_text(questions: Iterable[Question]) -> str:
    """What has to be answered, with the flags that answer it."""
    lines = []
    for question in questions:
        lines += textwrap.wrap(question.text, WIDTH) or [""]
        width = max((len(flag) for flag, _ in question.flags), default=0)
        for flag, means in question.flags:
            lines.append(_cut(f"    {flag:<{width}}   {means}".rstrip()))
    return "\n".join(lines)


def _counted(profile: TableProfile) -> str:
    rows, columns = profile.rows, len(profile.columns)
    return f"{rows:,} row{'s' * (rows != 1)}, {columns} column{'s' * (columns != 1)}"


def report_markdown(roles: Roles) -> str:
    """The whole proposal: every column, what it becomes, and why."""
    profile = roles.profile
    becomes = _becomes(roles)
    lines = [
        f"# What `sentinel propose` understood of {profile.name}",
        "",
        f"{_counted(profile)}, {roles.days:,.1f} days.",
        *([f"Recognised: {roles.known}."] if roles.known else []),
        "",
        "| column | type | given | values | becomes | why |",
        "|---|---|---|---|---|---|",
    ]
    for name, column in profile.columns.items():
        what, why = becomes.get(name, ("", ""))
        cells = (
            *(name, column.type, f"{column.share_given:.1%}", f"{column.distinct:,}"),
            *(what, why),
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    for title, listed in (
        ("Suspected leaks", [f"`{leak.column}`: {leak.reason}." for leak in roles.leaks]),
        ("Entities without a place", [f"`{c}`: {why}." for c, why in roles.homeless.items()]),
        ("Notes", roles.notes),
    ):
        if listed:
            lines += ["", f"## {title}", "", *(f"- {item}" for item in listed)]
    if roles.leaks:
        lines += [
            "",
            "A suspected leak is left out. If it is known at the time of the payment, take it in:",
            "`sentinel propose ... --use COLUMN`, or delete it from `exclude` in mapping.toml and",
            "add it to `definitions.py`.",
        ]
    return "\n".join(lines) + "\n"


def report(roles: Roles) -> dict[str, Any]:
    """The proposal for programs."""
    label = roles.label
    return {
        "table": roles.profile.name,
        "rows": roles.profile.rows,
        "columns": len(roles.profile.columns),
        "days": round(roles.days, 2),
        "known": roles.known,
        "id": list(roles.id.columns) or ["row number"] if roles.id else None,
        "time": list(roles.time.columns) if roles.time else None,
        "time_unit": roles.time.unit if roles.time else "",
        "amount": roles.amount.column if roles.amount else None,
        "label": (label.column or label.path) if label else None,
        "fraud_values": list(label.fraud_values) if label else [],
        "outcome": roles.outcome.column if roles.outcome else None,
        "entities": {entity.entity: list(entity.columns) for entity in roles.entities},
        "without_place": dict(roles.homeless),
        "attributes": {a.column: a.kind for a in roles.attributes},
        "times": {name: list(time.columns) for name, time in roles.time_attributes.items()},
        "left_out": dict(roles.left_out),
        "leaks": {leak.column: leak.reason for leak in roles.leaks},
        "questions": [
            {
                "about": question.about,
                "question": question.text,
                "flags": [{"flag": flag, "means": means} for flag, means in question.flags],
            }
            for question in roles.questions
        ],
        "notes": list(roles.notes),
    }


def time_words(time: Time) -> str:
    """How a time is written, and why it is the payment's."""
    if time.format == "epoch":
        since = f"since {time.start}" if time.start else "since 1970"
        return f"{_UNITS.get(time.unit, time.unit)} {since}; {time.reason}"
    return time.reason


def amount_words(amount: Amount) -> str:
    """How amounts are written, and why the column is the amount."""
    if not amount.column:
        return amount.reason
    unit = "minor units" if amount.unit == "minor" else f"{amount.scale} decimals"
    return "; ".join(filter(None, (f"{amount.currency} {unit}".strip(), amount.reason)))


def _becomes(roles: Roles) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {n: ("left out", why) for n, why in roles.left_out.items()}
    for attribute in roles.attributes:
        found[attribute.column] = (f"attribute, {attribute.kind}", attribute.reason)
    for name, time in roles.time_attributes.items():
        found[time.columns[0]] = (f"attribute {name}", "seconds from that time to the payment")
    if roles.outcome:
        found[roles.outcome.column] = ("outcome before", roles.outcome.reason)
    if roles.label and not roles.label.path:
        found[roles.label.column] = ("label", roles.label.reason)
    for entity in roles.entities:
        for column in entity.columns:
            what = f"{entity.entity}, token" if entity.tokenize else entity.entity
            if column in found and not found[column][0].startswith("left out"):
                what = f"{found[column][0]}, {what}"
            found[column] = (what, entity.reason)
    if roles.amount and roles.amount.column:
        found[roles.amount.column] = ("amount", amount_words(roles.amount))
        if roles.amount.currency_column:
            found[roles.amount.currency_column] = ("currency", "")
        if roles.amount.rate_column:
            found[roles.amount.rate_column] = ("rate of the currency", "")
    for column in roles.time.columns if roles.time else ():
        found[column] = ("time", time_words(roles.time) if roles.time else "")
    for column in roles.id.columns if roles.id else ():
        found[column] = ("transaction id", roles.id.reason if roles.id else "")
    return found


def _truth_line(roles: Roles) -> str:
    label = roles.label
    if label is None:
        asked = any(question.about in ("label", "fraud values") for question in roles.questions)
        return _pair("truth", "?" if asked else "none", "" if asked else "see the notes")
    known = ""
    if label.arrival is not None:
        known = f"known at {label.arrival.columns[0]}"
    elif label.delay_days is not None:
        known = f"{'' if label.delay_told else 'assumed '}known after {label.delay_days:g} days"
    where = label.column or label.path.rpartition("/")[2]
    # A file of its own is named by the command; when its labels are known is not.
    said = (known, label.reason) if label.path else (label.reason, known)
    why = "; ".join(filter(None, said))
    return _pair("truth", f"{where} = {' or '.join(label.fraud_values)}", why)


def _entity_line(entity: Entity) -> str:
    column = " + ".join(entity.columns) + (" -> tokens" if entity.tokenize else "")
    return _pair(entity.entity.partition("_")[0], column, entity.reason)


def _attribute_lines(roles: Roles, most: int) -> list[str]:
    listed = [a.name for a in roles.attributes] + [
        f"{name} (seconds)" for name in roles.time_attributes
    ]
    if not listed:
        return [_row("attributes", "none")]
    return _listed("attributes", f"{len(listed)}: " + ", ".join(listed), most)


def _leak_lines(roles: Roles, most: int) -> list[str]:
    lines = [_pair("leak?", leak.column, leak.reason) for leak in roles.leaks]
    if len(lines) > most:
        lines = [*lines[: most - 1], _row("leak?", f"{len(lines) - most + 1} more")]
    return lines


def _left_out_lines(roles: Roles) -> list[str]:
    by_reason: dict[str, list[str]] = {}
    suspects = {leak.column for leak in roles.leaks}
    for column, why in roles.left_out.items():
        if column not in suspects:
            by_reason.setdefault(why, []).append(column)
    return [
        _pair("left out", ", ".join(columns), why)
        if len(", ".join(columns)) <= _COLUMN
        else _row("left out", f"{', '.join(columns)}: {why}")
        for why, columns in by_reason.items()
    ]


def _note_lines(roles: Roles, most: int, where: str) -> list[str]:
    """The notes, each of so many lines at most; ``where`` says where the others are told."""
    notes = [line for note in roles.notes[:_NOTES] for line in _listed("note", note, most)]
    more = len(roles.notes) - _NOTES
    if more > 0:
        notes.append(_row("", f"... and {more} more note{'s' * (more > 1)} {where}"))
    return notes


def _row(label: str, text: str) -> str:
    return _cut(f"{label:<{_LABEL}}{text}")


def _pair(label: str, column: str, why: str) -> str:
    if cell_len(column) > _COLUMN:
        column = set_cell_size(column, _COLUMN - 3) + "..."
    return _cut(f"{label:<{_LABEL}}{set_cell_size(column, _COLUMN)} {why}")


def _listed(label: str, text: str, most: int) -> list[str]:
    rows = textwrap.wrap(text, WIDTH - _LABEL) or [""]
    if len(rows) > most:
        rows = [*rows[: most - 1], rows[most - 1][: WIDTH - _LABEL - 4] + " ..."]
    return [_row(label if i == 0 else "", row) for i, row in enumerate(rows)]


def _cut(line: str) -> str:
    line = " ".join(line.splitlines())
    return line if cell_len(line) <= WIDTH else set_cell_size(line, WIDTH - 3).rstrip() + "..."


def _cell(text: str) -> str:
    return " ".join(str(text).split()).replace("|", "\\|")
