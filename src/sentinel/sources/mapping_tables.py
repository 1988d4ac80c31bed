"""The tables of a mapping file, key by key. ``docs/sources.md`` is their reference."""

from __future__ import annotations

from typing import Literal

import msgspec

from sentinel.sources.layout import CsvLayout, FileFormat, names_by_place
from sentinel.sources.times import TimeUnit

LabelValue = str | int | float | bool
Columns = str | tuple[str, ...]
DeclaredType = Literal["category", "number", "boolean"]

FRAUD_WORDS = ("1", "true", "t", "yes", "y", "fraud", "fraudulent")
LEGITIMATE_WORDS = ("0", "false", "f", "no", "n", "legitimate", "legit", "genuine")


class Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Base of the mapping file's tables: unknown keys are errors."""


def several(columns: Columns) -> tuple[str, ...]:
    """One column or a list of them, as a tuple.

    >>> several("Day"), several(("Year", "Month"))
    (('Day',), ('Year', 'Month'))
    """
    if isinstance(columns, str):
        return (columns,) if columns else ()
    return tuple(columns)


class IdTable(Table, frozen=True):
    """The transaction id, where it is more than the name of a column.

    Attributes:
        column: One column, or several that are joined by ``|``.
        row_number: The id is the number of the row in its file.
        prefix: Before row numbers; None = the file's name without its ending, and "-".
        tokenize: Whether the id is stored as a token.
    """

    column: Columns = ()
    row_number: bool = False
    prefix: str | None = None
    tokenize: bool = False


class KeyTable(Table, frozen=True):
    """An entity, where it is more than the name of a column.

    Attributes:
        column: One column, or several that are joined by ``|``.
        tokenize: Whether the entity is stored as a token.
        bin, last_four: Names of attributes for the first six and the last four digits.
    """

    column: Columns
    tokenize: bool = False
    bin: str | None = None
    last_four: str | None = None


class FilesTable(Table, frozen=True):
    """Where the rows are.

    Attributes:
        path: A file, a folder, a glob, or a list of these, relative to the mapping file.
        format: Default: told from the name.
        delimiter, quote, escape, encoding, null_values: How CSV files are written.
        null_values_by_column: Column to the texts that mean "not given" there.
        skip_lines: Lines before the header.
        header: Whether the first line names the columns.
        names: Place of a column, from "1", to its name.
        overlap: Whether later files repeat rows of earlier ones; those are counted apart.
    """

    path: Columns
    format: FileFormat | None = None
    delimiter: str = ""
    quote: str = '"'
    escape: str = ""
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    null_values_by_column: dict[str, tuple[str, ...]] = {}
    skip_lines: int = 0
    header: bool = True
    names: dict[str, str] = {}
    overlap: bool = False

    def layout(self) -> CsvLayout:
        """How CSV files are written."""
        return _layout(self, "files")


class TimeColumn(Table, frozen=True):
    """A column of times, or several that say the time together.

    Attributes:
        column: Its name, or a list of names.
        format: Of text: ``iso``, ``epoch``, or a strptime pattern; with a list of columns one
            pattern for the joined text, or a list with one pattern for each column.
        unit: Of numbers; None = seconds, where the format is ``epoch``.
        start: The moment at which the count of numbers is 0, ISO 8601; None = 1970-01-01 UTC.
        timezone: Of times that do not name theirs.
        offset_column: Hours from UTC, such as 5.75, row by row.
    """

    column: Columns
    format: str | tuple[str, ...] = "iso"
    unit: TimeUnit | None = None
    start: str | None = None
    timezone: str = "UTC"
    offset_column: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that say the time, without that of the offset."""
        return several(self.column)


class AmountColumn(Table, frozen=True):
    """The column of amounts.

    Attributes:
        column: Its name; None only with ``none``.
        none: The events are no payments: every amount is 0.
        unit: ``major`` (euros) or ``minor`` (cents).
        scale: Decimals of one unit of money.
        decimal, thousands: Separators in text.
        currency: The one currency of all amounts, whatever another column says.
        currency_column: The currency of each row.
        rate_column: One unit of that row's currency in the currency of the deployment.
        rates: The same for currencies by code.
    """

    column: str | None = None
    none: bool = False
    unit: Literal["major", "minor"] = "major"
    scale: int = 2
    decimal: str = "."
    thousands: str = ""
    currency: str | None = None
    currency_column: str | None = None
    rate_column: str | None = None
    rates: dict[str, float] = {}


class EntitiesTable(Table, frozen=True):
    """Columns of the entity keys; several columns make one key together."""

    customer_id: Columns | KeyTable = ()
    card_id: Columns | KeyTable = ()
    merchant_id: Columns | KeyTable = ()
    device_id: Columns | KeyTable = ()
    ip_address: Columns | KeyTable = ()

    def keys(self) -> dict[str, KeyTable]:
        """Entity to its table, for those that are mapped."""
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        tables = {
            name: value if isinstance(value, KeyTable) else KeyTable(column=value)
            for name, value in given.items()
        }
        return {name: table for name, table in tables.items() if several(table.column)}

    def columns(self) -> dict[str, tuple[str, ...]]:
        """Entity to its columns, for those that are mapped."""
        return {name: several(table.column) for name, table in self.keys().items()}


class AttributesTable(Table, frozen=True):
    """Which other columns are kept.

    Attributes:
        include, exclude: Patterns such as ``id_*``; ``*`` = every column not used otherwise.
        types: ``category``, ``number`` or ``boolean`` where the data would be misread.
        decimal, thousands: Separators in text of numbers.
        rename: Column to attribute name.
        tokenize: Attributes that are stored as tokens.
        exempt: Attributes whose values look like card numbers and are none.
        times: New number attribute to a column of times: seconds from there to the payment.
    """

    include: tuple[str, ...] = ("*",)
    exclude: tuple[str, ...] = ()
    types: dict[str, DeclaredType] = {}
    decimal: str = "."
    thousands: str = ""
    rename: dict[str, str] = {}
    tokenize: tuple[str, ...] = ()
    exempt: tuple[str, ...] = ()
    times: dict[str, TimeColumn] = {}


class OutcomeTable(Table, frozen=True):
    """What the system before decided, kept as the attribute ``outcome_before``.

    Attributes:
        column: Where it stands.
        approve_values, review_values, decline_values: What the column says; letter case does
            not matter.
    """

    column: str
    approve_values: tuple[LabelValue, ...] = ()
    review_values: tuple[LabelValue, ...] = ()
    decline_values: tuple[LabelValue, ...] = ()


class LabelColumns(Table, frozen=True):
    """Where labels are: a column of the transactions, or (with ``path``) files of their own.

    Attributes:
        column: The verdict. In files of their own, None = every row is a fraud.
        fraud_values, legitimate_values: What the column says; letter case does not matter.
        undecided_values: What the column says while nothing is decided, beside the usual words.
        record_legitimate: Whether a legitimate value on a transaction is a label too. Usually
            it only means that nothing has been reported.
        arrival: When the label arrived.
        delay_days: From transaction to label, where there is no arrival.
        origin: What the log says about where labels come from.
        path, format, delimiter, quote, escape, encoding, null_values, skip_lines, header, names:
            Files of their own; ``json_map`` is an object of transaction ids and verdicts.
        key: Of a ``json_map``: where in the file the object is, such as "target".
        transaction_id, label_id: Columns of those files.
    """

    column: str | None = None
    fraud_values: tuple[LabelValue, ...] = FRAUD_WORDS
    legitimate_values: tuple[LabelValue, ...] = LEGITIMATE_WORDS
    undecided_values: tuple[LabelValue, ...] = ()
    record_legitimate: bool = False
    arrival: TimeColumn | None = None
    delay_days: float | None = None
    origin: str = "chargeback"
    path: Columns | None = None
    format: FileFormat | Literal["json_map"] | None = None
    key: str | None = None
    delimiter: str = ""
    quote: str = '"'
    escape: str = ""
    encoding: str = "utf8"
    null_values: tuple[str, ...] = ("",)
    skip_lines: int = 0
    header: bool = True
    names: dict[str, str] = {}
    transaction_id: Columns = "transaction_id"
    label_id: str | None = None

    def layout(self) -> CsvLayout:
        """How CSV files are written."""
        return _layout(self, "labels")


class Mapping(Table, frozen=True):
    """A whole mapping file."""

    files: FilesTable
    id: Columns | IdTable
    time: TimeColumn
    amount: AmountColumn
    name: str = ""
    received_at: TimeColumn | None = None
    entities: EntitiesTable = EntitiesTable()
    attributes: AttributesTable = AttributesTable()
    outcome: OutcomeTable | None = None
    labels: LabelColumns | None = None

    def id_table(self) -> IdTable:
        """The id as a table, however it was written."""
        return self.id if isinstance(self.id, IdTable) else IdTable(column=self.id)


def _layout(table: FilesTable | LabelColumns, where: str) -> CsvLayout:
    """The layout of text files."""
    return CsvLayout(
        delimiter=table.delimiter,
        quote=table.quote,
        escape=table.escape,
        encoding=table.encoding,
        null_values=table.null_values,
        null_values_by_column=(
            table.null_values_by_column if isinstance(table, FilesTable) else {}
        ),
        skip_lines=table.skip_lines,
        header=table.header,
        names=names_by_place(table.names, f"{where}.names"),
    )
