"""What a column says about payments: verdicts, and what the system before decided."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import Verdict
from sentinel.sources.base import Finding
from sentinel.sources.columns import category_column, mask_of
from sentinel.sources.mapping_file import LabelValue, OutcomeTable, value_word
from sentinel.sources.observed import Kind, Observed
from sentinel.sources.words import NOTHING_WORDS, counted

UNDECIDED: Final = "undecided_verdict"
"""Code of a label that has no verdict yet: it is counted, and is no reject."""

UNDECIDED_WORDS: Final = (
    *("under review", "in review", "review", "needs response", "awaiting response", "open", "new"),
    *("warning needs response", "warning under review", "pending", "in progress", "processing"),
    *("waiting", "waiting for buyer response", "waiting for seller response", "on hold"),
    *("investigating", "under investigation", "in investigation", "undecided", "undetermined"),
    *("not decided", "not decided yet", "not yet decided", "unresolved", "tbd", "to be decided"),
    *("submitted", "ongoing", "started", "suspected", "suspicious"),
)
"""Words for "not decided yet" that need no declaration, with blanks between them."""


def verdict_column(
    column: pa.Array | pa.ChunkedArray,
    *,
    fraud: Sequence[LabelValue],
    legitimate: Sequence[LabelValue],
    undecided: Sequence[LabelValue] = (),
    name: str = "verdict",
) -> tuple[pa.Array, tuple[Finding, ...], tuple[Observed, ...]]:
    """Verdicts of a column; the rows that say something else; and what these say, counted.

    The findings have the codes ``undecided_verdict`` (a word for "not decided yet", declared or
    usual) and ``invalid_verdict``. Letter case does not matter.

    >>> verdicts, findings, observed = verdict_column(
    ...     pa.array(["1.0", "0", None, "7", "Under_Review"]), fraud=[1], legitimate=[0])
    >>> verdicts.to_pylist()
    ['fraud', 'legitimate', None, None, None]
    >>> findings[0].code, findings[1].reason_of(3)
    ('undecided_verdict', "the verdict '7' is none of fraud: 1; legitimate: 0")
    >>> observed[0].values
    {'Under_Review': 1}
    """
    given = category_column(column)
    words = pc.utf8_lower(given)
    bad = pc.is_in(words, pa.array([value_word(value) for value in fraud], pa.string()))
    good = pc.is_in(words, pa.array([value_word(value) for value in legitimate], pa.string()))
    nothing = pa.scalar(None, pa.string())
    verdicts = pc.if_else(
        bad, Verdict.FRAUD.value, pc.if_else(good, Verdict.LEGITIMATE.value, nothing)
    )
    other = pc.if_else(pc.is_null(verdicts), words, nothing)
    if other.null_count == len(other):
        return verdicts, (), ()
    plain = pc.replace_substring_regex(other, r"[\s_-]+", " ")
    usual = pc.is_in(plain, pa.array([*UNDECIDED_WORDS, *NOTHING_WORDS]))
    usual = pc.or_(usual, pc.is_in(other, pa.array(NOTHING_WORDS)))
    declared = pc.is_in(other, pa.array([value_word(value) for value in undecided], pa.string()))
    open_rows = pc.and_(pc.is_valid(other), pc.or_(usual, declared))
    strange = pc.and_(pc.is_valid(other), pc.invert(open_rows))
    found: list[Finding] = []
    seen: list[Observed] = []
    for kind, rows in ((Kind.UNDECIDED, open_rows), (Kind.UNKNOWN_VERDICT, strange)):
        said = counted(pc.if_else(rows, given, nothing))
        if said:
            seen.append(Observed(kind, name, said, len(words)))
    if mask_of(open_rows).any():
        found.append(Finding(UNDECIDED, mask_of(open_rows), "the label has no verdict yet"))
    if mask_of(strange).any():
        allowed = f"fraud: {_listed(fraud)}; legitimate: {_listed(legitimate)}"
        reasons: list[str | None] = [None] * len(words)
        for row in np.flatnonzero(mask_of(strange)).tolist():
            reasons[row] = f"the verdict {given[row].as_py()!r} is none of {allowed}"
        found.append(Finding("invalid_verdict", mask_of(strange), reasons))
    return verdicts, tuple(found), tuple(seen)


def outcome_column(
    column: pa.Array | pa.ChunkedArray, outcome: OutcomeTable
) -> tuple[pa.Array, tuple[Observed, ...]]:
    """What the system before decided, as approve, review or decline; null where unknown.

    >>> table = OutcomeTable(column="status", approve_values=("ok",), decline_values=("refused",))
    >>> outcome_column(pa.array(["OK", "refused", "?"]), table)[0].to_pylist()
    ['approve', 'decline', None]
    """
    given = category_column(column)
    words = pc.utf8_lower(given)
    nothing = pa.scalar(None, pa.string())
    decided = pa.nulls(len(words), pa.string())
    for decision, values in (
        ("approve", outcome.approve_values),
        ("review", outcome.review_values),
        ("decline", outcome.decline_values),
    ):
        there = pc.is_in(words, pa.array([value_word(value) for value in values], pa.string()))
        decided = pc.if_else(there, decision, decided)
    strange = counted(pc.if_else(pc.is_null(decided), given, nothing))
    if not strange:
        return decided, ()
    return decided, (Observed(Kind.UNKNOWN_OUTCOME, outcome.column, strange, len(words)),)


def _listed(values: Sequence[LabelValue]) -> str:
    return ", ".join(value_word(value) for value in values)
