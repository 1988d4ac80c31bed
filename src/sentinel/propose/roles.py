"""What columns are for: the choices of a proposal, each with its reason."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from sentinel.propose.profile import TableProfile


def quoted(name: str) -> str:
    """A column's name as a word of a shell command."""
    return name if re.fullmatch(r"[\w.-]+", name) else "'" + name.replace("'", "'\\''") + "'"


@dataclass(frozen=True)
class Id:
    """What names a payment.

    Attributes:
        columns: One, or several that are joined; empty for the number of the row.
        prefix: Before row numbers.
        tokenize: The values are raw card numbers.
        reason: Why.
    """

    columns: tuple[str, ...]
    reason: str
    prefix: str = ""
    tokenize: bool = False


@dataclass(frozen=True)
class Time:
    """How a time is written.

    Attributes:
        columns: One, or several that say the time together.
        format: ``iso``, ``epoch``, or a strptime pattern, or one for each column.
        unit: Of numbers.
        start: The moment at which a count is 0; empty for 1970.
        timezone: Of times that do not name theirs.
        reason: Why.
    """

    columns: tuple[str, ...]
    format: str | tuple[str, ...] = "iso"
    unit: str = ""
    start: str = ""
    timezone: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Amount:
    """How an amount of money is written.

    Attributes:
        column: Empty: the events are no payments.
        unit: ``major`` or ``minor``.
        scale: Decimals of one unit of money.
        decimal, thousands: Separators.
        currency: ISO 4217; empty if not told.
        currency_column: Where each row's currency stands, if there are several.
        rate_column: One unit of that currency in the base currency.
        reason: Why.
    """

    column: str
    reason: str
    unit: Literal["major", "minor"] = "major"
    scale: int = 2
    decimal: str = "."
    thousands: str = ""
    currency: str = ""
    currency_column: str = ""
    rate_column: str = ""


@dataclass(frozen=True)
class Label:
    """Where the truth is.

    Attributes:
        column: Of the payments or of the file of labels.
        fraud_values, legitimate_values, undecided_values: What it says.
        arrival: When it arrived.
        delay_days: Where that is not told.
        delay_told: The user said so.
        path, format, key, transaction_id: Of a file of its own.
        joined_by: The payments' column that such a file names them by.
        share: Frauds as a share of the payments.
        reason: Why.
    """

    column: str
    fraud_values: tuple[str, ...]
    reason: str
    legitimate_values: tuple[str, ...] = ()
    undecided_values: tuple[str, ...] = ()
    arrival: Time | None = None
    delay_days: float | None = None
    delay_told: bool = False
    path: str = ""
    format: str = ""
    key: str = ""
    transaction_id: str = ""
    joined_by: str = ""
    share: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What the system before decided."""

    column: str
    approve_values: tuple[str, ...]
    review_values: tuple[str, ...]
    decline_values: tuple[str, ...]
    reason: str


@dataclass(frozen=True)
class Entity:
    """Whose history features keep.

    Attributes:
        entity: One of the five.
        columns: One, or several that are joined.
        tokenize: The values are raw card numbers.
        nothing: Words that stand for no entity.
        reason: Why.
        typical_count: How often the entity of a typical payment recurs.
        distinct: How many there are.
        by_values: Only the values say so, so that whole numbers stay an attribute as well.
    """

    entity: str
    columns: tuple[str, ...]
    reason: str
    tokenize: bool = False
    nothing: tuple[str, ...] = ()
    typical_count: float = 0.0
    distinct: int = 0
    by_values: bool = False


@dataclass(frozen=True)
class Attribute:
    """A feature of the payment itself.

    Attributes:
        column: Where it stands.
        name: The attribute's name.
        kind: What its values are.
        reason: Why.
        nothing: Words that stand for no value, where numbers are wanted.
        exempt: Its values look like card numbers by chance.
    """

    column: str
    name: str
    kind: Literal["number", "category", "boolean"]
    reason: str
    nothing: tuple[str, ...] = ()
    exempt: bool = False


@dataclass(frozen=True)
class Leak:
    """A column that knows the truth before it can be known."""

    column: str
    reason: str


@dataclass(frozen=True)
class Question:
    """What two readings fit equally.

    Attributes:
        about: What is not known.
        text: The question.
        flags: What to add to the command for each reading, with what it would mean.
    """

    about: str
    text: str
    flags: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answers:
    """What the user has said by flags; empty where nothing was said.

    Attributes:
        id: Columns, or ``("row",)`` for the number of the row.
        time, time_format, time_unit, start, timezone: Of the payment.
        amount, amount_unit, currency: Its column ("none": no payments), ``major`` or ``minor``.
        label, fraud_values, delay_days: Of the truth ("none": there are no labels).
        entities: Entity to its columns; to nothing, if no column is that entity.
        use: Columns suspected of leaking that are taken all the same.
        exclude: Columns that are left out.
        encoding: Of the text of the files.
    """

    id: tuple[str, ...] = ()
    time: tuple[str, ...] = ()
    time_format: str = ""
    time_unit: str = ""
    start: str = ""
    timezone: str = ""
    amount: str = ""
    amount_unit: str = ""
    currency: str = ""
    label: str = ""
    fraud_values: tuple[str, ...] = ()
    delay_days: float | None = None
    entities: dict[str, tuple[str, ...]] = field(default_factory=dict)
    use: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    encoding: str = ""


@dataclass
class Roles:
    """Everything that a proposal says.

    Attributes:
        profile: Of the table.
        known: The public data set whose header it is; empty for none.
        id, time, amount, label, outcome, entities: The choices; None where there is none (yet).
        homeless: Columns that look like entities and have no place among the five, with why.
        attributes, time_attributes: What else becomes a feature; the latter by name.
        decimal, thousands: Separators in the text of attributes that are numbers.
        left_out: Column to the reason why it is not used.
        leaks: Suspects; each is in ``left_out`` as well, unless the user takes it in.
        pending: Columns that a question is about.
        label_days: Days after which most labels are known.
        days: Length of the history; 0 = not known.
        questions: What has to be answered first.
        notes: What else should be known.
    """

    profile: TableProfile
    known: str = ""
    id: Id | None = None
    time: Time | None = None
    amount: Amount | None = None
    label: Label | None = None
    outcome: Outcome | None = None
    entities: tuple[Entity, ...] = ()
    homeless: dict[str, str] = field(default_factory=dict)
    attributes: tuple[Attribute, ...] = ()
    time_attributes: dict[str, Time] = field(default_factory=dict)
    decimal: str = "."
    thousands: str = ""
    left_out: dict[str, str] = field(default_factory=dict)
    leaks: tuple[Leak, ...] = ()
    pending: set[str] = field(default_factory=set)
    label_days: float = 0.0
    days: float = 0.0
    questions: list[Question] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def used(self) -> set[str]:
        """Columns that have a role by now."""
        found: set[str] = set(self.left_out) | self.pending
        if self.id:
            found.update(self.id.columns)
        if self.time:
            found.update(self.time.columns)
        if self.amount:
            found.update({self.amount.column, self.amount.currency_column, self.amount.rate_column})
        if self.label and not self.label.path:
            found.add(self.label.column)
        if self.label and self.label.arrival and not self.label.path:
            found.update(self.label.arrival.columns)
        if self.outcome:
            found.add(self.outcome.column)
        for entity in self.entities:
            found.update(entity.columns)
        return found - {""}
