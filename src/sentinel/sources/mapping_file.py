"""The mapping file: which column of any table is what. See ``docs/sources.md``."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import msgspec

from sentinel.domain import ConfigurationError
from sentinel.sources.base import AttributeType
from sentinel.sources.readers import CsvLayout, FileFormat
from sentinel.sources.times import TimeUnit, check_timezone

LabelValue = str | int | float | bool

FRAUD_WORDS = ("1", "true", "t", "yes", "y", "fraud", "fraudulent")
LEGITIMATE_WORDS = ("0", "false", "f", "no", "n", "legitimate", "legit", "genuine")


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the mapping file's tables: unknown keys are errors."""


class FilesTable(_Table, frozen=True):
    """Where the rows are.

    Attributes:
        path: A file, a folder or a glob, relative to the mapping file.
        format: Default: told from the name.
        delimiter, quote, encoding, null_values: How CSV files are written.
    """

    path: str
    format: FileFormat | None = None
    delimiter: str = ""
    quote: str = '"'
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)

    def layout(self) -> CsvLayout:
        """How CSV files are written."""
        return CsvLayout(self.delimiter, self.quote, self.encoding, self.null_values)


class TimeColumn(_Table, frozen=True):
    """A column of times.

    Attributes:
        column: Its name.
        format: Of text: ``iso``, ``epoch`` or a strptime pattern.
        unit: Of numbers since 1970.
        timezone: Of times that do not name theirs.
    """

    column: str
    format: str = "iso"
    unit: TimeUnit = "s"
    timezone: str = "UTC"


class AmountColumn(_Table, frozen=True):
    """The column of amounts.

    Attributes:
        column: Its name.
        unit: ``major`` (euros) or ``minor`` (cents).
        scale: Decimals of one unit of money.
        decimal, thousands: Separators in text.
    """

    column: str
    unit: Literal["major", "minor"] = "major"
    scale: int = 2
    decimal: str = "."
    thousands: str = ""


class EntitiesTable(_Table, frozen=True):
    """Columns of the entity keys; several columns make one key together."""

    customer_id: str | tuple[str, ...] = ()
    card_id: str | tuple[str, ...] = ()
    merchant_id: str | tuple[str, ...] = ()
    device_id: str | tuple[str, ...] = ()
    ip_address: str | tuple[str, ...] = ()

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Entity to its columns, for those that are mapped."""
        found = {name: getattr(self, name) for name in self.__struct_fields__}
        return {
            name: (value,) if isinstance(value, str) else tuple(value)
            for name, value in found.items()
            if value
        }


class AttributesTable(_Table, frozen=True):
    """Which other columns are kept.

    Attributes:
        include, exclude: Patterns such as ``id_*``; ``*`` = every column not used otherwise.
        types: ``category`` or ``number`` where the data would be misread.
        rename: Column to attribute name.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    types: dict[str, AttributeType] = {}
    rename: dict[str, str] = {}


class LabelColumns(_Table, frozen=True):
    """Where labels are: a column of the transactions, or (with ``path``) files of their own.

    Attributes:
        column: The verdict. In files of their own, None = every row is a fraud.
        fraud_values, legitimate_values: What the column says; letter case does not matter.
        record_legitimate: Whether a legitimate value on a transaction is a label too. Usually
            it only means that nothing has been reported.
        arrival: When the label arrived.
        delay_days: From transaction to label, where there is no arrival.
        origin: What the log says about where labels come from.
        path, format, delimiter, quote, encoding, null_values: Files of their own.
        transaction_id, label_id: Columns of those files.
    """

    column: str | None = None
    fraud_values: tuple[LabelValue, ...] = FRAUD_WORDS
    legitimate_values: tuple[LabelValue, ...] = LEGITIMATE_WORDS
    record_legitimate: bool = False
    arrival: TimeColumn | None = None
    delay_days: float | None = None
    origin: str = "chargeback"
    path: str | None = None
    format: FileFormat | None = None
    delimiter: str = ""
    quote: str = '"'
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    transaction_id: str = "transaction_id"
    label_id: str | None = None

    def layout(self) -> CsvLayout:
        """How CSV files are written."""
        return CsvLayout(self.delimiter, self.quote, self.encoding, self.null_values)


class Mapping(_Table, frozen=True):
    """A whole mapping file."""

    files: FilesTable
    id: str
    time: TimeColumn
    amount: AmountColumn
    name: str = ""
    received_at: TimeColumn | None = None
    entities: EntitiesTable = EntitiesTable()
    attributes: AttributesTable = AttributesTable()
    labels: LabelColumns | None = None


def load_mapping(path: Path) -> Mapping:
    """Read and check a mapping file.

    Args:
        path: A TOML file.

    Raises:
        ConfigurationError: It is missing, no TOML, lacks something, or has an unknown key.
    """
    try:
        text = path.read_text("utf8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The mapping file {path} cannot be read: {error}.") from None
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"The mapping file {path} is no TOML: {error}.") from None
    return parse_mapping(content, str(path), path.stem)


def parse_mapping(content: dict[str, Any], where: str, default_name: str = "mapping") -> Mapping:
    """Check the content of a mapping file.

    >>> parse_mapping({"id": "ref", "tme": {"column": "at"}}, "my.toml")
    Traceback (most recent call last):
        ...
    sentinel.domain.ConfigurationError: my.toml: unknown key 'tme' (did you mean 'time'?)
    """
    _check_keys(content, Mapping, where, "")
    try:
        mapping = msgspec.convert(content, Mapping)
    except msgspec.ValidationError as error:
        raise ConfigurationError(f"{where}: {_in_words(str(error))}") from None
    arrival = mapping.labels.arrival if mapping.labels is not None else None
    for column in (mapping.time, mapping.received_at, arrival):
        if column is not None:
            check_timezone(column.timezone)
    if not 0 <= mapping.amount.scale <= 4:
        raise ConfigurationError(f"{where}: amount.scale is 0 to 4 decimals.")
    if mapping.amount.decimal == mapping.amount.thousands:
        raise ConfigurationError(f"{where}: amount.decimal and amount.thousands are the same.")
    if mapping.labels is not None:
        check_label_columns(mapping.labels, where)
    return mapping if mapping.name else msgspec.structs.replace(mapping, name=default_name)


def check_label_columns(labels: LabelColumns, where: str) -> None:
    """Raise ``ConfigurationError`` unless labels have a place and a time."""
    if labels.column is None and labels.path is None:
        raise ConfigurationError(
            f"{where}: labels need a column of the transactions, or the path of their own files."
        )
    if labels.arrival is None and labels.delay_days is None:
        raise ConfigurationError(
            f"{where}: say when labels arrive: labels.arrival (a column) or labels.delay_days."
        )
    if labels.delay_days is not None and not 0 <= labels.delay_days <= 3650:
        raise ConfigurationError(f"{where}: labels.delay_days is 0 to 3650 days.")


def suggestion(name: str, known: Iterable[str]) -> str:
    """A hint at the closest known name, or nothing.

    >>> suggestion("amout", ["amount", "id"])
    " (did you mean 'amount'?)"
    >>> suggestion("zzz", ["amount"])
    ''
    """
    by_lower = {item.lower(): item for item in known}
    close = difflib.get_close_matches(name.lower(), by_lower, n=1, cutoff=0.6)
    return f" (did you mean {by_lower[close[0]]!r}?)" if close else ""


_TABLES: dict[str, type[_Table]] = {
    "files": FilesTable,
    "time": TimeColumn,
    "received_at": TimeColumn,
    "arrival": TimeColumn,
    "amount": AmountColumn,
    "entities": EntitiesTable,
    "attributes": AttributesTable,
    "labels": LabelColumns,
}


def _check_keys(content: dict[str, Any], table: type[_Table], where: str, prefix: str) -> None:
    known = table.__struct_fields__
    for key, value in content.items():
        if key not in known:
            hint = suggestion(key, known) or f" (allowed: {', '.join(known)})"
            raise ConfigurationError(f"{where}: unknown key '{prefix}{key}'{hint}")
        if isinstance(value, dict) and key in _TABLES:
            _check_keys(value, _TABLES[key], where, f"{prefix}{key}.")


def _in_words(message: str) -> str:
    """The message of msgspec with the path as the user writes it."""
    message = message.replace("Object missing required field", "missing")
    message = re.sub(r" - at `\$\.?([^`]*)`", r" (in '\1')", message)
    return message.replace("`", "'") + "; see the mapping reference in docs/sources.md."
