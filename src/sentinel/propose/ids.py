"""What names a payment."""

from __future__ import annotations

from itertools import combinations
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from sentinel.propose import names
from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.profile import TableProfile
from sentinel.propose.roles import Answers, Id, Roles, quoted
from sentinel.propose.time_formats import time_of

_LONGEST: Final = 64
_BY_NAME: Final = 3
_OF_ITS_OWN: Final = 0.97
"""Share of different values from which a column names rows of which some stand there twice."""
_LEAST_EXPECTED: Final = 30.0
"""Rows with the same pair that chance would make, from which it is none that there are none."""
_MOST_PARTS: Final = 16
"""Columns that are tried as parts of an id: those with the most values."""


def choose_id(roles: Roles, answers: Answers, joined_by: str = "") -> None:
    """Decide what the transaction id is: a column, or the number of the row.

    Args:
        roles: What is known so far; gets the id.
        answers: What the user said.
        joined_by: The column by which a file of labels names payments, if there is one.
    """
    profile = roles.profile
    if answers.id == ("row",):
        roles.id = Id((), "as you said", _prefix(profile))
        return
    if answers.id:
        raw = any(profile.columns[name].card_like for name in answers.id)
        roles.id = Id(answers.id, "as you said", tokenize=raw)
        return
    if joined_by:
        raw = profile.columns[joined_by].card_like
        roles.id = Id((joined_by,), "the labels' file names payments by it", tokenize=raw)
        return
    unique = [
        column
        for column in profile.columns.values()
        if _names_rows(profile, column) and column.name not in roles.used()
    ]
    if not unique or _points(max(unique, key=_points)) < _BY_NAME:
        nearly = [
            column
            for column in profile.columns.values()
            if _names_nearly_all(profile, column) and column.name not in roles.used()
        ]
        nearly.sort(key=lambda column: (-_points(column), column.place))
        repeated = next((c for c in nearly if _is_payments_id(c)), None)
        if repeated is not None and _points(repeated) >= _BY_NAME:
            _take_repeated(roles, repeated, "by its name; hardly a value comes twice")
            return
        if not unique or all(map(_counts_rows, unique)):
            twice = next((c for c in nearly if _repeats_whole_rows(profile, c)), None)
            if twice is not None:
                _take_repeated(roles, twice, "rows that share a value are the same row twice")
                return
    if not unique:
        pair = _pair(roles)
        if pair is not None:
            roles.id = Id(pair, "together they name each row, and neither does alone")
            return
        roles.id = Id((), "no column has a value of its own in every row", _prefix(profile))
        if nearly:
            name = nearly[0].name
            roles.notes.append(
                f"{name!r} names nearly every row, and some of its values come twice. If it is the "
                f"payment's id, say `--id {quoted(name)}`: the number of a row changes when the "
                "file does, and no chargeback names it."
            )
        return
    unique.sort(key=lambda column: (-_points(column), column.place))
    best = unique[0]
    if _counts_rows(best) and _points(best) < _BY_NAME:
        why = f"{_shown(best.name)} only counts the rows"
        roles.id = Id((), why, _prefix(profile))
        return
    reason = "each row has a value of its own"
    if _points(best) >= _BY_NAME:
        reason += ", and its name"
    roles.id = Id((best.name,), reason, tokenize=best.card_like)


def _pair(roles: Roles) -> tuple[str, str] | None:
    """Two columns that name every row together, by more than chance; None if no two do.

    If their values had nothing to do with each other, rows with the same pair would be expected:
    pairs of rows that share the first value, times the chance that two rows share the second. Where
    many are expected and there is none, one column counts within the other.
    """
    profile, used = roles.profile, roles.used()
    found: list[tuple[int, int, tuple[str, str]]] = []
    parts = [
        column
        for column in profile.columns.values()
        if column.name not in used
        and column.given >= _OF_ITS_OWN * column.rows
        and column.distinct > 1
        and not column.card_like
        and not names.has(column.name, names.LATER | names.AMOUNT | names.MONEY_BESIDE)
        and _could_name(profile, column)
    ]
    parts.sort(key=lambda column: -column.distinct)
    codes = {column.name: _codes(profile, column.name) for column in parts[:_MOST_PARTS]}
    for first, second in combinations(codes, 2):
        one, other = codes[first], codes[second]
        both = (one >= 0) & (other >= 0)
        rows = int(both.sum())
        if rows < _OF_ITS_OWN * len(one):
            continue
        expected = _shared(one[both]) * _shared(other[both]) * rows * (rows - 1) / 2
        if expected < _LEAST_EXPECTED:
            continue
        together = one[both] * (int(other.max()) + 1) + other[both]
        if len(np.unique(together)) < rows:
            continue
        columns = sorted((first, second), key=lambda name: profile.columns[name].place)
        points = sum(_points(profile.columns[name]) for name in columns)
        places = sum(profile.columns[name].place for name in columns)
        found.append((-points, places, (columns[0], columns[1])))
    return min(found)[2] if found else None


def _codes(profile: TableProfile, column: str) -> npt.NDArray[np.int64]:
    """A number for each value of a column of the sample, -1 where there is none."""
    indices = profile.texts(column).dictionary_encode().indices
    return np.asarray(pc.fill_null(indices, -1).to_numpy(zero_copy_only=False), np.int64)


def _shared(codes: npt.NDArray[np.int64]) -> float:
    """The chance that two different rows have the same value."""
    counts = np.bincount(codes).astype(np.float64)
    return float((counts * (counts - 1)).sum() / max(len(codes) * (len(codes) - 1), 1))


def names_payments(profile: TableProfile) -> list[ColumnProfile]:
    """Columns by which another table could name the payments, the file's order kept.

    Exports that were taken twice hold rows twice, and end in totals: a column whose name says
    that it is the payment's id may repeat some values, and lack some.
    """
    return [
        column
        for column in profile.columns.values()
        if (column.unique and column.given == column.rows)
        or (_names_nearly_all(profile, column) and _is_payments_id(column))
    ]


def _is_payments_id(column: ColumnProfile) -> bool:
    words = set(names.words_of(column.name))
    return bool(words & names.ID and words & names.PAYMENT)


def _repeats_whole_rows(profile: TableProfile, column: ColumnProfile) -> bool:
    """Whether the rows that share a value of a column are the same in all columns."""
    rows, ids = profile.sample, profile.texts(column.name)
    counted = pc.value_counts(pc.drop_null(ids))
    again = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
    if not len(again):
        return False  # a sample that holds none tells nothing
    same = rows.filter(pc.is_in(ids, again))
    return bool(same.group_by(same.column_names).aggregate([]).num_rows == len(again))


def _take_repeated(roles: Roles, column: ColumnProfile, why: str) -> None:
    roles.id = Id((column.name,), why, tokenize=column.card_like)
    texts = pc.drop_null(roles.profile.texts(column.name))
    again = len(texts) - len(pc.unique(texts))
    some = "" if roles.profile.complete else f" of a sample of {len(texts):,}"
    if again:
        roles.notes.append(
            f"{again:,} {'row has' if again == 1 else 'rows have'}{some} the {column.name!r} of "
            "another row: the import keeps the first of each and lists the others among the "
            "rejects."
        )


def _shown(name: str) -> str:
    return repr(name) if name else "the column without a name"


def _prefix(profile: TableProfile) -> str:
    return names.slug(profile.name).replace("_", "-")[:32] + "-"


def _names_rows(profile: TableProfile, column: ColumnProfile) -> bool:
    """Whether the column has another value in every row and could be a name."""
    if not column.unique or column.given < column.rows:
        return False
    return _could_name(profile, column)


def _names_nearly_all(profile: TableProfile, column: ColumnProfile) -> bool:
    """Whether hardly a value comes twice, hardly a row lacks one, and it could be a name."""
    least = _OF_ITS_OWN * column.rows
    return min(column.given, column.distinct) >= least and _could_name(profile, column)


def _could_name(profile: TableProfile, column: ColumnProfile) -> bool:
    if column.lengths[1] > _LONGEST:
        return False
    if names.has(column.name, names.AMOUNT) and not names.has(column.name, names.ID):
        return False  # amounts of a small table may all differ
    if column.type not in ("text", "integer") or column.luhn > 0.9 or column.negatives:
        return False
    return column.type == "integer" or time_of(profile, column.name) is None


def _counts_rows(column: ColumnProfile) -> bool:
    """Whether a column is the number of the row; ids that are given in turn begin elsewhere."""
    return column.steady and column.low <= 1


def _points(column: ColumnProfile) -> int:
    """How much speaks for an id: its name, and that it is more than a count."""
    words = set(names.words_of(column.name))
    points = 0
    if words & names.ID:
        points += 3 if words <= names.ID or words & names.PAYMENT else 2
    elif words & names.PAYMENT:
        points += 2
    if column.type == "text":
        points += 1
    if not _counts_rows(column):
        points += 1
    elif not words & (names.ID | names.PAYMENT):
        points -= 1
    return points
