"""What an import notices in rows that it accepts: counted, and told as warnings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SHOWN: Final = 6
_SET: Final = 40  # words of a setting that is to be copied


class Kind(StrEnum):
    """What can be noticed."""

    NOTHING_IN_ENTITY = "nothing_in_entity"
    NOTHING_IN_NUMBER = "nothing_in_number"
    CURRENCY = "currency"
    MIDNIGHT = "midnight"
    YEAR_1970 = "year_1970"
    TIME_UNREADABLE = "time_unreadable"
    UNDECIDED = "undecided"
    UNKNOWN_VERDICT = "unknown_verdict"
    UNKNOWN_OUTCOME = "unknown_outcome"
    UNKNOWN_BOOLEAN = "unknown_boolean"


@dataclass(frozen=True)
class Observed:
    """Something that was noticed in some rows of a chunk.

    Attributes:
        kind: What it is.
        column: Where.
        values: What the rows hold, and how many hold it.
        rows: How many rows were looked at.
        becomes: What the column is in the log, such as ``device_id``.
    """

    kind: Kind
    column: str
    values: dict[str, int]
    rows: int
    becomes: str = ""


class Observations:
    """All that was noticed in an import, added up.

    >>> seen = Observations()
    >>> seen.add([Observed(Kind.UNDECIDED, "dispute", {"under_review": 2}, 5)])
    >>> seen.warnings()
    ['2 labels without a verdict: under_review 2']
    """

    def __init__(self) -> None:
        self._counts: dict[tuple[Kind, str, str], Counter[str]] = {}
        self._rows: Counter[tuple[Kind, str, str]] = Counter()

    def add(self, observed: Iterable[Observed]) -> None:
        """Count what was noticed in one more chunk."""
        for item in observed:
            key = (item.kind, item.column, item.becomes)
            self._rows[key] += item.rows
            self._counts.setdefault(key, Counter()).update(item.values)

    def refusal(self) -> str | None:
        """Why the data must not be imported as it is; None if it may.

        Amounts of several currencies that nothing converts would be added up side by side.
        """
        for (kind, column, _), counts in self._counts.items():
            if kind is Kind.CURRENCY and len(counts) > 1:
                return _currencies(column, counts)
        return None

    def warnings(self) -> list[str]:
        """One sentence for each thing that was noticed, with counts and what ends it."""
        told = []
        for key, counts in self._counts.items():
            sentence = _sentence(*key, counts, self._rows[key])
            if sentence:
                told.append(sentence)
        return told


def _sentence(kind: Kind, column: str, becomes: str, counts: Counter[str], rows: int) -> str:
    total = counts.total()
    if not total:
        return ""
    if kind is Kind.NOTHING_IN_ENTITY:
        words = ", ".join(f'"{word}"' for word, _ in counts.most_common(_SET))
        escaped = words.replace("\\", "\\\\")
        return (
            f"{becomes}: {total:,} of {rows:,} rows hold a word for 'nothing' ({_listed(counts)}), "
            "which would be one big entity; set files.null_values_by_column = "
            f"{{ {_key(column)} = [{escaped}] }}, or files.null_values for all columns"
        )
    if kind is Kind.NOTHING_IN_NUMBER:
        return (
            f"the number {column!r}: {total:,} of {rows:,} rows hold a word for 'nothing' "
            f"({_listed(counts)}) and are unknown there"
        )
    if kind is Kind.MIDNIGHT and total == rows and rows > 1:
        return (
            f"all times in {column!r} are 00:00:00: the order within a day and windows of less "
            "than a day say nothing; if another column holds the time of day, name both"
        )
    if kind is Kind.YEAR_1970 and total == rows:
        return (
            f"all times in {column!r} lie in 1970; check the unit, and set a start if they count "
            "from another moment"
        )
    if kind is Kind.TIME_UNREADABLE:
        return (
            f"{becomes}: {total:,} of {rows:,} rows have no readable time in {column!r} "
            f"({_listed(counts)}) and are unknown there"
        )
    if kind is Kind.UNDECIDED:
        return f"{total:,} label{_s(total)} without a verdict: {_listed(counts)}"
    if kind is Kind.UNKNOWN_VERDICT:
        return (
            f"{total:,} label{_s(total)} with a verdict that the mapping does not know: "
            f"{_listed(counts)}; add each to labels.fraud_values, legitimate_values or "
            "undecided_values"
        )
    if kind is Kind.UNKNOWN_OUTCOME:
        return (
            f"outcome_before: {total:,} of {rows:,} rows say something that the mapping does not "
            f"know ({_listed(counts)}); add each to outcome.approve_values, review_values or "
            "decline_values"
        )
    if kind is Kind.UNKNOWN_BOOLEAN:
        return (
            f"{column!r}: {total:,} of {rows:,} rows are neither true nor false "
            f"({_listed(counts)}) and are unknown there"
        )
    return ""


def _currencies(column: str, counts: Counter[str]) -> str:
    rates = ", ".join(f"{_key(code)} = ..." for code, _ in counts.most_common(_SET))
    return (
        f"{column} holds several currencies ({_listed(counts)}), and amounts of different money "
        "cannot be added up. Say what one unit of each is worth: amount.currency_column and "
        f"amount.rates = {{ {rates} }}, or amount.rate_column; or declare that all amounts are in "
        'one currency: amount.currency = "..."'
    )


def _listed(counts: Counter[str]) -> str:
    shown = [f"{word} {count:,}" for word, count in counts.most_common(_SHOWN)]
    more = len(counts) - _SHOWN
    return ", ".join(shown) + (f" and {more:,} more" if more > 0 else "")


def _s(count: int) -> str:
    return "" if count == 1 else "s"


def _key(name: str) -> str:
    """A name as a key of TOML."""
    bare = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
    return name if bare else f'"{name}"'
