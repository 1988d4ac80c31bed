"""Columns of a group of decisions that most groups do not have. What is not there costs nothing.

Each has a default for every row, and is empty where all rows have it: nobody else scored, no rule
fired, no control group changed the outcome, nobody is known to have called.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

CHAMPION: Final = "champion"
"""The role whose scores are columns of their own in `DecisionGroup`."""


CALLERS_KEPT: Final = 64
"""Callers whose columns for a group of theirs alone are remembered."""


class RoleScores(msgspec.Struct, frozen=True, array_like=True):
    """What a model beside the champion said of the transactions of a group.

    Attributes:
        role: Challenger, shadow or segment, by the name that it was given.
        model_name, model_version: Which model.
        scores: float64 (n,), raw; NaN for a row that it did not score.
        probabilities: float64 (n,), calibrated; NaN likewise.
    """

    role: str
    model_name: str
    model_version: str
    scores: bytes
    probabilities: bytes


class DecisionColumns(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The columns; n = transactions of the group, arrays are little-endian.

    Attributes:
        roles: Models beside the champion.
        deciders: uint8 (n,): whose probability was ruled on: 0 = the champion, i = ``roles[i-1]``.
            Empty: the champion's, in all rows.
        rules: Ids of the rules that fired somewhere in the group.
        rule_rows, rule_ids: uint16 (k,) each: in this row fired this one of ``rules``; rows rise.
        base_outcomes: uint8 (n,): outcome code before the control group. Empty: as in the flags.
        eligible: uint8 (n,): 1 where the control group could have changed the outcome. Empty: it
            could in no row.
        propensities: float32 (n,): the probability with which the row got the outcome it has.
            Empty: 1.
        callers: Ids of those who sent the transactions.
        caller_rows: uint16 (n,): index into ``callers``. Empty: all rows are of ``callers[0]``, or
            of nobody known where there is none.
        untracked: Entities whose records do not hold some row, for want of room; see
            `sentinel.domain.PartlyTracked`.
        untracked_rows, untracked_views: uint16 (k,) each: the record that this one of
            ``untracked`` would have does not hold this row; rows rise.
        clock_offset_us: The wall clock minus the monotonic clock of the machine when the group was
            decided, microseconds: it jumps where the wall clock did. 0: not recorded.
    """

    roles: tuple[RoleScores, ...] = ()
    deciders: bytes = b""
    rules: tuple[str, ...] = ()
    rule_rows: bytes = b""
    rule_ids: bytes = b""
    base_outcomes: bytes = b""
    eligible: bytes = b""
    propensities: bytes = b""
    callers: tuple[str, ...] = ()
    caller_rows: bytes = b""
    untracked: tuple[str, ...] = ()
    untracked_rows: bytes = b""
    untracked_views: bytes = b""
    clock_offset_us: int = 0

    def rules_by_row(self, n: int) -> list[tuple[str, ...]]:
        """Ids of the rules that fired, by row."""
        return _spread(n, self.rules, self.rule_rows, self.rule_ids)

    def untracked_by_row(self, n: int) -> list[tuple[str, ...]]:
        """Entities whose records do not hold it, by row."""
        return _spread(n, self.untracked, self.untracked_rows, self.untracked_views)

    def callers_by_row(self, n: int) -> list[str]:
        """Who sent each transaction; empty = nobody known."""
        if not self.callers:
            return [""] * n
        if not self.caller_rows:
            return [self.callers[0]] * n
        return [self.callers[i] for i in np.frombuffer(self.caller_rows, "<u2").tolist()]

    def propensity_array(self, n: int) -> npt.NDArray[np.float32]:
        """float32 (n,)."""
        if not self.propensities:
            return np.ones(n, dtype=np.float32)
        return np.frombuffer(self.propensities, "<f4")

    def eligible_array(self, n: int) -> npt.NDArray[np.bool_]:
        """Bool (n,)."""
        if not self.eligible:
            return np.zeros(n, dtype=np.bool_)
        return np.frombuffer(self.eligible, np.bool_)


NO_COLUMNS: Final = DecisionColumns()


def fired_rules(by_row: Sequence[Sequence[str]]) -> DecisionColumns:
    """The columns of the rules that fired in each row.

    >>> fired_rules([(), ("velocity@3", "vip@1"), ("vip@1",)]).rules_by_row(3)
    [(), ('velocity@3', 'vip@1'), ('vip@1',)]
    """
    names, rows, ids = _sparse(by_row)
    return DecisionColumns(rules=names, rule_rows=rows, rule_ids=ids)


def with_untracked(columns: DecisionColumns, by_row: Sequence[Sequence[str]]) -> DecisionColumns:
    """The columns, and those of the entities whose records do not hold each row.

    >>> columns = with_untracked(NO_COLUMNS, [(), ("card_id", "device_id"), ("device_id",)])
    >>> columns.untracked_by_row(3)
    [(), ('card_id', 'device_id'), ('device_id',)]
    """
    names, rows, views = _sparse(by_row)
    return msgspec.structs.replace(
        columns, untracked=names, untracked_rows=rows, untracked_views=views
    )


def with_control_group(
    columns: DecisionColumns,
    base_outcomes: npt.NDArray[np.uint8],
    eligible: npt.NDArray[np.bool_],
    propensities: npt.NDArray[np.float32],
) -> DecisionColumns:
    """The columns, and those of a control group: (n,) each, see `DecisionColumns`."""
    return msgspec.structs.replace(
        columns,
        base_outcomes=base_outcomes.astype(np.uint8).tobytes(),
        eligible=eligible.astype(np.uint8).tobytes(),
        propensities=propensities.astype("<f4").tobytes(),
    )


def _sparse(by_row: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], bytes, bytes]:
    """The names that some rows have, and uint16 (k,) each: this row has this name."""
    numbers: dict[str, int] = {}
    rows: list[int] = []
    ids: list[int] = []
    for row, names in enumerate(by_row):
        for name in names:
            rows.append(row)
            ids.append(numbers.setdefault(name, len(numbers)))
    packed = [np.array(values, dtype="<u2").tobytes() for values in (rows, ids)]
    return tuple(numbers), packed[0], packed[1]


def _spread(n: int, names: Sequence[str], rows: bytes, ids: bytes) -> list[tuple[str, ...]]:
    """What `_sparse` was made of."""
    found: list[tuple[str, ...]] = [()] * n
    numbers = np.frombuffer(ids, "<u2").tolist()
    for row, number in zip(np.frombuffer(rows, "<u2").tolist(), numbers, strict=True):
        found[row] = (*found[row], names[number])
    return found


@lru_cache(maxsize=CALLERS_KEPT)
def _of_one_caller(caller: str) -> DecisionColumns:
    return DecisionColumns(callers=(caller,))


def called_by(callers: Sequence[str]) -> DecisionColumns:
    """The columns of who sent each row; empty = nobody known.

    >>> called_by(["shop-a", "shop-a"]).callers, called_by(["", ""]).callers
    (('shop-a',), ())
    """
    if len(set(callers)) <= 1:
        return _of_one_caller(callers[0]) if callers and callers[0] else NO_COLUMNS
    numbers: dict[str, int] = {}
    codes = [numbers.setdefault(name, len(numbers)) for name in callers]
    return DecisionColumns(
        callers=tuple(numbers), caller_rows=np.array(codes, dtype="<u2").tobytes()
    )
