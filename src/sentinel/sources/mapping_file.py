"""The mapping file: which column of any table is what. See ``docs/sources.md``."""

from __future__ import annotations

import codecs
import tomllib
from pathlib import Path
from typing import Any, Final

import msgspec

from sentinel.domain import ConfigurationError
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue
from sentinel.sources.mapping_tables import (
    FRAUD_WORDS,
    LEGITIMATE_WORDS,
    AmountColumn,
    AttributesTable,
    Columns,
    EntitiesTable,
    FilesTable,
    IdTable,
    KeyTable,
    LabelColumns,
    LabelValue,
    Mapping,
    OutcomeTable,
    TimeColumn,
    several,
)
from sentinel.sources.mapping_words import check_keys, in_words, suggestion, toml_hint
from sentinel.sources.time_patterns import check_patterns, pattern_of_each
from sentinel.sources.times import check_start, check_timezone

__all__ = [
    "FRAUD_WORDS",
    "LEGITIMATE_WORDS",
    "AmountColumn",
    "AttributesTable",
    "Columns",
    "EntitiesTable",
    "FilesTable",
    "IdTable",
    "KeyTable",
    "LabelColumns",
    "LabelValue",
    "Mapping",
    "OutcomeTable",
    "TimeColumn",
    "check_label_columns",
    "load_mapping",
    "parse_mapping",
    "several",
    "suggestion",
    "value_word",
]

_BYTE_ORDER_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as the mark of UTF-16 does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Args:
        path: A TOML file, in UTF-8, or in UTF-16 as some editors save it.

    Raises:
        ConfigurationError: It is missing, no TOML, lacks something, or has an unknown key.
    """
    try:
        text = _decoded(path.read_bytes())
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ConfigurationError(
            f"The mapping file {path} is not UTF-8: line {line} holds the byte "
            f"0x{error.object[error.start]:02X}. Save it as UTF-8."
        ) from None
    except OSError as error:
        why = error.strerror or error
        raise ConfigurationError(f"The mapping file {path} cannot be read: {why}.") from None
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:  # also of numbers and nests beyond all bounds
        hint = toml_hint(text, str(error))
        raise ConfigurationError(f"The mapping file {path} is no TOML: {error}.{hint}") from None
    return parse_mapping(content, str(path), path.stem)


def _decoded(content: bytes) -> str:
    for mark, encoding in _BYTE_ORDER_MARKS:
        if content.startswith(mark):
            return content.decode(encoding).removeprefix("\ufeff")
    if content[1:2] == b"\0":
        return content.decode("utf-16-le")
    if content[:1] == b"\0":
        return content.decode("utf-16-be")
    return content.decode("utf8")


def parse_mapping(content: dict[str, Any], where: str, default_name: str = "mapping") -> Mapping:
    """Check the content of a mapping file.

    >>> parse_mapping({"id": "ref", "tme": {"column": "at"}}, "my.toml")
    Traceback (most recent call last):
        ...
    sentinel.domain.ConfigurationError: my.toml: unknown key 'tme' (did you mean 'time'?)
    """
    check_keys(content, Mapping, where)
    try:
        mapping = msgspec.convert(_moments_as_text(content), Mapping)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {in_words(str(error), Mapping)}") from None
    _check_id(mapping, where)
    _check_files(mapping.files, "files", where)
    for name, column in _times(mapping).items():
        _check_time(column, name, where)
    _check_amount(mapping.amount, where)
    _check_separators(mapping.attributes, "attributes", where)
    for name, table in mapping.entities.keys().items():
        if (table.bin or table.last_four) and len(several(table.column)) > 1:
            raise ConfigurationError(
                f"{where}: entities.{name}: bin and last_four are digits of one column; "
                "give the number's column alone."
            )
    if mapping.outcome is not None:
        _check_outcome(mapping.outcome, where)
    if mapping.labels is not None:
        check_label_columns(mapping.labels, where)
        _check_files(mapping.labels, "labels", where)
    return mapping if mapping.name else msgspec.structs.replace(mapping, name=default_name)


def check_label_columns(labels: LabelColumns, where: str) -> None:
    """Raise ``ConfigurationError`` unless labels have a place, a time and distinct words."""
    if labels.column is None and labels.path is None:
        raise ConfigurationError(
            f"{where}: labels need a column of the transactions, or the path of their own files."
        )
    if labels.arrival is None and labels.delay_days is None:
        raise ConfigurationError(
            f"{where}: say when labels arrive: labels.arrival (a column) or labels.delay_days."
        )
    try:
        Guard().id("origin", labels.origin)
    except BadValue as error:
        raise ConfigurationError(f"{where}: labels.origin {error}.") from None
    if labels.delay_days is not None and not 0 <= labels.delay_days <= 3650:
        raise ConfigurationError(f"{where}: labels.delay_days is 0 to 3650 days.")
    if labels.format == "json_map":
        if labels.path is None:
            raise ConfigurationError(f'{where}: labels.format = "json_map" needs labels.path.')
        if labels.arrival is not None:
            raise ConfigurationError(
                f"{where}: a json_map holds ids and verdicts only; "
                "say when labels arrive by labels.delay_days."
            )
    elif labels.key is not None:
        raise ConfigurationError(f'{where}: labels.key goes with labels.format = "json_map".')
    _check_distinct(
        {
            "labels.fraud_values": labels.fraud_values,
            "labels.legitimate_values": labels.legitimate_values,
            "labels.undecided_values": labels.undecided_values,
        },
        where,
    )


def value_word(value: LabelValue) -> str:
    """A value of the mapping as columns are compared with it: text in lower case.

    >>> value_word(1.0), value_word("Lost "), value_word(True)
    ('1', 'lost', 'true')
    """
    return str(value).strip().lower().removesuffix(".0")


def _times(mapping: Mapping) -> dict[str, TimeColumn]:
    """All columns of times by the name of their table."""
    found = {"time": mapping.time}
    if mapping.received_at is not None:
        found["received_at"] = mapping.received_at
    if mapping.labels is not None and mapping.labels.arrival is not None:
        found["labels.arrival"] = mapping.labels.arrival
    return found | {f"attributes.times.{k}": v for k, v in mapping.attributes.times.items()}


def _check_id(mapping: Mapping, where: str) -> None:
    table = mapping.id_table()
    columns = several(table.column)
    if bool(columns) == table.row_number:
        raise ConfigurationError(
            f"{where}: id needs a column, a list of columns, or {{ row_number = true }}"
            + (", not both." if columns else ".")
        )
    if table.prefix is not None and not table.row_number:
        raise ConfigurationError(f"{where}: id.prefix goes with id.row_number = true.")


def _check_files(files: FilesTable | LabelColumns, name: str, where: str) -> None:
    if isinstance(files, FilesTable) and not several(files.path):
        raise ConfigurationError(f"{where}: files.path is empty; give a file, a folder or a glob.")
    if files.skip_lines < 0:
        raise ConfigurationError(f"{where}: {name}.skip_lines is 0 or more lines.")
    for place in files.names:
        if not place.isdecimal() or int(place) < 1:
            raise ConfigurationError(
                f"{where}: {name}.names goes by the place of a column, counted from 1, "
                f'such as {{ 1 = "row" }}; {place!r} is none.'
            )


def _check_time(column: TimeColumn, name: str, where: str) -> None:
    check_timezone(column.timezone)
    if not column.columns:
        raise ConfigurationError(f"{where}: {name}.column is empty; name the column of the time.")
    formats = several(column.format)
    if isinstance(column.format, tuple) and len(formats) != len(column.columns) > 1:
        raise ConfigurationError(
            f"{where}: {name}.format has {len(formats)} patterns for "
            f"{len(column.columns)} columns; give one for each, or one text for all of them."
        )
    if len(column.columns) > 1 and "epoch" in formats:
        raise ConfigurationError(
            f'{where}: {name}.format = "epoch" is the count in one column; '
            "give a pattern for several, such as %Y%m%d%H%M%S."
        )
    if len(column.columns) > 1 or column.format not in ("iso", "epoch"):
        check_patterns(formats, f"{where}: {name}.format", alternatives=len(column.columns) == 1)
    if len(column.columns) > 1 and formats != ("iso",) and len(formats) == 1:
        pattern_of_each(formats[0], len(column.columns), f"{where}: {name}.format")
    counts = column.unit is not None or "epoch" in formats
    if column.start is not None and not counts:
        raise ConfigurationError(
            f"{where}: {name}.start is the beginning of a count; say what is counted: {name}.unit."
        )
    if column.offset_column is not None and column.format == "epoch":
        raise ConfigurationError(
            f"{where}: {name}.offset_column is for times of day somewhere; "
            "an epoch counts from one moment for all."
        )
    if column.start is not None:
        check_start(column.start, column.timezone, f"{where}: {name}.start")


def _check_amount(amount: AmountColumn, where: str) -> None:
    if amount.none == (amount.column is not None):
        raise ConfigurationError(
            f"{where}: amount.none = true and amount.column exclude each other."
            if amount.none
            else f"{where}: missing 'column' (in 'amount'); name the column of the amount, or say "
            "amount.none = true where the events are no payments."
        )
    if not 0 <= amount.scale <= 4:
        raise ConfigurationError(f"{where}: amount.scale is 0 to 4 decimals.")
    _check_separators(amount, "amount", where)
    if amount.rates and amount.rate_column is not None:
        raise ConfigurationError(f"{where}: give amount.rates or amount.rate_column, not both.")
    if amount.rates and amount.currency_column is None:
        raise ConfigurationError(
            f"{where}: amount.rates needs amount.currency_column, the column of the codes."
        )
    if amount.currency is not None and (amount.rates or amount.rate_column):
        raise ConfigurationError(
            f"{where}: amount.currency says that all amounts are in one currency; "
            "leave it out where there are rates."
        )
    if amount.unit == "minor" and (amount.rates or amount.rate_column):
        raise ConfigurationError(
            f"{where}: amounts in minor units cannot be converted, since a unit of one currency "
            "has more of them than one of another; give amounts in major units with their rates."
        )
    for code, rate in amount.rates.items():
        if not 0 < rate < float("inf"):
            raise ConfigurationError(f"{where}: amount.rates.{code} must be above 0.")


def _check_separators(table: AmountColumn | AttributesTable, name: str, where: str) -> None:
    if table.decimal == table.thousands:
        raise ConfigurationError(f"{where}: {name}.decimal and {name}.thousands are the same.")
    if len(table.decimal) != 1 or len(table.thousands) > 1:
        raise ConfigurationError(
            f"{where}: {name}.decimal is one character and {name}.thousands at most one."
        )


def _check_outcome(outcome: OutcomeTable, where: str) -> None:
    values = {
        "outcome.approve_values": outcome.approve_values,
        "outcome.review_values": outcome.review_values,
        "outcome.decline_values": outcome.decline_values,
    }
    if not any(values.values()):
        raise ConfigurationError(
            f"{where}: outcome needs {', '.join(values)}: what the column says for each."
        )
    _check_distinct(values, where)


def _check_distinct(values: dict[str, tuple[LabelValue, ...]], where: str) -> None:
    seen: dict[str, str] = {}
    for name, items in values.items():
        for item in items:
            before = seen.setdefault(value_word(item), name)
            if before != name:
                raise ConfigurationError(f"{where}: the value {item!r} is in {before} and {name}.")


def _moments_as_text(content: Any) -> Any:
    """Dates and times of TOML as text: ``start = 2024-01-01`` needs no quotes."""
    if isinstance(content, dict):
        return {key: _moments_as_text(value) for key, value in content.items()}
    return content.isoformat() if hasattr(content, "isoformat") else content
