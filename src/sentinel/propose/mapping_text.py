"""A proposal as a commented mapping file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sentinel.propose import toml_text as toml
from sentinel.propose.roles import Amount, Attribute, Entity, Id, Label, Outcome, Roles, Time


def mapping_text(name: str, files: Mapping[str, Any], roles: Roles) -> str:
    """The text of ``mapping.toml``.

    Args:
        name: Of the source.
        files: Keys of the table ``[files]``.
        roles: What was decided; id, time and amount are there.
    """
    assert roles.id is not None
    assert roles.time is not None
    assert roles.amount is not None
    lines = [
        *toml.comment(
            f"What each column of {roles.profile.name} is, as `sentinel propose` understood it "
            f"from {roles.profile.rows:,} rows. Edit it: it is not overwritten once you have. "
            "Every key is explained in docs/sources.md."
        ),
    ]
    if roles.known:
        lines += toml.comment(f"Recognised: {roles.known}.")
    lines += ["", toml.line("name", name), _id(roles.id), "", "[files]"]
    lines += [toml.line(key, item) for key, item in {**files, **_nothing(roles)}.items()]
    lines += ["", "[time]", *_time(roles.time)]
    lines += ["", "[amount]", *_amount(roles.amount)]
    if roles.entities:
        lines += ["", "[entities]", *map(_entity, roles.entities)]
    for column, why in roles.homeless.items():
        lines += toml.comment(f"{column!r}: {why}.")
    lines += ["", "[attributes]", *_attributes(roles)]
    if roles.outcome is not None:
        lines += ["", "[outcome]", *_outcome(roles.outcome)]
    if roles.label is not None:
        lines += ["", "[labels]", *_labels(roles.label)]
    else:
        lines += [
            "",
            *toml.comment("There are no labels yet. Once you have some, say where they are:"),
            "# [labels]",
            '# path = "labels.csv"        # transaction_id and verdict',
            "# delay_days = 7",
        ]
    return toml.block(lines)


def built_in_text(roles: Roles, source: str, folder: Path) -> str:
    """The text of a mapping file that names a built-in source."""
    return toml.block(
        [
            *toml.comment(
                f"Recognised: {roles.known}. A built-in source reads it and joins its files, see "
                "docs/sources.md."
            ),
            "",
            toml.line("source", source),
            toml.line("path", f"{folder.as_posix()}/"),
        ]
    )


def _id(choice: Id) -> str:
    if not choice.columns:
        table: dict[str, Any] = {"row_number": True, "prefix": choice.prefix}
        return toml.line("id", table, choice.reason)
    columns = _columns(choice.columns)
    if choice.tokenize:
        return toml.line("id", {"column": columns, "tokenize": True}, choice.reason)
    return toml.line("id", columns, choice.reason)


def _columns(columns: tuple[str, ...]) -> str | list[str]:
    return columns[0] if len(columns) == 1 else list(columns)


def _nothing(roles: Roles) -> dict[str, Any]:
    """Words for nothing, by column, where they would be taken for something."""
    words: dict[str, list[str]] = {}
    for entity in roles.entities:
        for column in entity.columns:
            if roles.profile.columns[column].nothing:
                words[column] = list(roles.profile.columns[column].nothing)
    for attribute in roles.attributes:
        if attribute.nothing:
            words[attribute.column] = list(attribute.nothing)
    core = [
        *(roles.time.columns if roles.time else ()),
        roles.amount.column if roles.amount else "",
    ]
    core += [column for time in roles.time_attributes.values() for column in time.columns]
    if roles.label is not None and roles.label.arrival is not None and not roles.label.path:
        core += roles.label.arrival.columns
    for column in filter(None, core):
        if roles.profile.columns[column].nothing:
            words[column] = list(roles.profile.columns[column].nothing)
    texts = {column: [*listed, ""] for column, listed in words.items()}
    return {"null_values_by_column": texts} if texts else {}


def _time_table(time: Time) -> dict[str, Any]:
    table: dict[str, Any] = {"column": _columns(time.columns)}
    if time.format != "iso":
        table["format"] = time.format if isinstance(time.format, str) else list(time.format)
    for key, item in (("unit", time.unit), ("start", time.start), ("timezone", time.timezone)):
        if item:
            table[key] = item
    return table


def _time(time: Time) -> list[str]:
    table = _time_table(time)
    lines = [toml.line("column", table.pop("column"), time.reason)]
    for key, item in table.items():
        why = "the moment of 0: change it if you know the day" if key == "start" else ""
        lines.append(toml.line(key, item, why))
    return lines


def _amount(amount: Amount) -> list[str]:
    if not amount.column:
        return [toml.line("none", True, amount.reason)]
    lines = [toml.line("column", amount.column, amount.reason)]
    lines.append(toml.line("unit", amount.unit))
    if amount.unit == "major":
        lines.append(toml.line("scale", amount.scale))
    if amount.decimal != ".":
        lines.append(toml.line("decimal", amount.decimal))
    if amount.thousands:
        lines.append(toml.line("thousands", amount.thousands))
    if amount.currency:
        lines.append(toml.line("currency", amount.currency))
    if amount.currency_column:
        lines.append(toml.line("currency_column", amount.currency_column))
    if amount.rate_column:
        lines.append(toml.line("rate_column", amount.rate_column))
    return lines


def _entity(entity: Entity) -> str:
    columns = _columns(entity.columns)
    if not entity.tokenize:
        return toml.line(entity.entity, columns, entity.reason)
    why = entity.reason + "; only tokens of them are stored"
    return toml.line(entity.entity, {"column": columns, "tokenize": True}, why)


def _attributes(roles: Roles) -> list[str]:
    lines = []
    entities = {column for entity in roles.entities for column in entity.columns}
    twice = [a.column for a in roles.attributes if a.column in entities]
    if twice:
        lines.append(toml.line("include", ["*", *map(_literal, twice)], "numbers as well"))
    excluded = {column: why for column, why in roles.left_out.items() if column}
    if excluded:
        lines.append("exclude = [")
        for column, why in excluded.items():
            lines += [f"    {row}" for row in toml.item(_literal(column), why)]
        lines.append("]")
    exempt = [a.name for a in roles.attributes if a.exempt]
    named = [
        *(roles.id.columns if roles.id else ()),
        *(c for e in roles.entities for c in e.columns),
    ]
    exempt += [name for name in dict.fromkeys(named) if roles.profile.columns[name].by_chance]
    if exempt:
        lines.append(toml.line("exempt", exempt, "look like card numbers by chance"))
    renamed = {a.column: a.name for a in roles.attributes if a.name != a.column}
    if renamed:
        lines.append(toml.line("rename", renamed))
    if roles.decimal != ".":
        lines.append(toml.line("decimal", roles.decimal, "of numbers in text"))
    if roles.thousands:
        lines.append(toml.line("thousands", roles.thousands))
    if roles.attributes:
        lines += ["", "[attributes.types]"]
        lines += [toml.line(a.column, a.kind, _why(a)) for a in roles.attributes]
    if roles.time_attributes:
        lines += ["", "[attributes.times]  # seconds from that time to the payment"]
        lines += [
            toml.line(name, _time_table(time)) for name, time in roles.time_attributes.items()
        ]
    return lines


def _why(attribute: Attribute) -> str:
    return "" if attribute.reason in ("numbers", "two values") else attribute.reason


def _literal(column: str) -> str:
    """A column's name as a pattern that fits only it."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in column)


def _outcome(outcome: Outcome) -> list[str]:
    lines = [toml.line("column", outcome.column, outcome.reason)]
    keys = ("approve_values", "review_values", "decline_values")
    lines += [toml.line(key, list(getattr(outcome, key))) for key in keys if getattr(outcome, key)]
    return lines


def _labels(label: Label) -> list[str]:
    lines = []
    if label.path:
        lines.append(toml.line("path", label.path, label.reason))
        if label.format:
            lines.append(toml.line("format", label.format))
        if label.key:
            lines.append(toml.line("key", label.key))
        if label.transaction_id:
            lines.append(toml.line("transaction_id", label.transaction_id))
    if label.column:
        lines.append(toml.line("column", label.column, "" if label.path else label.reason))
    lines.append(toml.line("fraud_values", list(label.fraud_values)))
    if label.legitimate_values:
        lines.append(toml.line("legitimate_values", list(label.legitimate_values)))
    if label.undecided_values:
        lines.append(toml.line("undecided_values", list(label.undecided_values)))
    if label.arrival is not None:
        lines.append(toml.line("arrival", _time_table(label.arrival)))
    if label.delay_days is not None:
        why = "as you said" if label.delay_told else ""
        if not label.arrival and not label.delay_told:
            why = "assumed: the data does not tell when a label arrives"
        lines.append(toml.line("delay_days", label.delay_days, why))
    return lines
