"""What may enter the log: every check of an imported row, a whole chunk at a time.

The codes, in the order in which they are looked for (a row is counted under the first):

    malformed_row       the line has too few or too many fields
    missing_id          no transaction id
    invalid_time        a time that cannot be read, or before 1970
    missing_time        no event time (labels: no arrival time and no declared delay)
    invalid_amount      not a number
    amount_precision    more decimals than the money scale
    amount_too_large    beyond 10^12 minor units
    missing_amount      no amount
    invalid_verdict     neither fraud nor legitimate
    missing_verdict     a label without a verdict
    undecided_verdict   a label that is not decided yet: counted, and no reject
    invalid_attribute   text where the attribute is a number
    control_character   an id or an attribute with a line break, NUL or the like
    id_too_long         more than 128 characters
    lost_digits         an id that was rounded when it was a decimal number
    card_number         an id or an attribute is or holds a raw card number
    future_time         ahead of the clock, or of the time it was received, by over five minutes
    duplicate_id        seen before in this import
    known_already       the ledger has it: counted, and no reject

Zero and negative amounts (refunds) are legal. What is wrong with the label on a payment's row
(``invalid_verdict``, or its arrival time) is found apart: the payment is accepted without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import (
    ENTITY_COLUMNS,
    FUTURE_TOLERANCE_US,
    MAX_AMOUNT_MINOR,
    Verdict,
)
from sentinel.ingest.card_columns import ColumnJudge
from sentinel.ingest.columns import id_flaws, text_flaws
from sentinel.ingest.values import CONTROL_CHARACTER, LOST_DIGITS, TOO_LONG
from sentinel.log.schema import ATTRIBUTE_PREFIX, attribute_columns
from sentinel.sources.base import BoolMask, Chunk, Finding
from sentinel.sources.columns import mask_of
from sentinel.sources.verdicts import UNDECIDED

KnownIds = Callable[[pa.Array], "pa.Array | BoolMask"]
"""Given ids, says which of them the ledger has already."""

KNOWN: Final = "known_already"
"""Code of a row that the ledger has already: it is counted, and is no reject."""

NO_REJECTS: Final = (KNOWN, UNDECIDED)
"""Codes that are counted apart from what is rejected."""

CARD_CODE: Final = "card_number"
_ENOUGH: Final = 20
_TIMELESS_LABEL: Final = "the label has no arrival time; name its column, or declare a delay"
_VERDICTS: Final = pa.array([verdict.value for verdict in Verdict])


class CardJudges:
    """What the columns of an import have shown about card numbers so far.

    Args:
        exempt: Columns whose values look like card numbers and are none.
    """

    def __init__(self, exempt: Iterable[str] = ()) -> None:
        self.exempt = frozenset(exempt)
        self._judges: dict[str, ColumnJudge] = {}

    def look_alikes(self) -> tuple[str, ...]:
        """Columns with enough values to say that those like card numbers are so by chance."""
        return tuple(
            column
            for column, judge in self._judges.items()
            if judge.shaped >= _ENOUGH and judge.right and judge.by_chance
        )

    def of(self, column: str) -> ColumnJudge:
        """The judge of a column."""
        return self._judges.setdefault(column, ColumnJudge())


@dataclass(frozen=True)
class Checked:
    """A chunk after its checks.

    Attributes:
        chunk: What was checked.
        findings: All that was found.
        first: int64, for each row the index of its first finding; -1 = the row is accepted.
        labels: What is wrong with the labels on transactions that the ledger has or will have;
            None if nothing is.
    """

    chunk: Chunk
    findings: tuple[Finding, ...]
    first: npt.NDArray[np.int64]
    labels: Checked | None = None

    @property
    def accepted(self) -> BoolMask:
        """Mask of the rows without any finding."""
        return self.first < 0

    def with_code(self, code: str) -> BoolMask:
        """Mask of the rows that are counted under a code."""
        places = [i for i, finding in enumerate(self.findings) if finding.code == code]
        return np.asarray(np.isin(self.first, places), np.bool_)

    def counts(self) -> dict[str, int]:
        """Rows by the code that they are counted under.

        The sum of these and the accepted rows is the number of rows in the chunk.
        """
        numbers = np.bincount(self.first[self.first >= 0], minlength=len(self.findings))
        found: dict[str, int] = {}
        for finding, number in zip(self.findings, numbers.tolist(), strict=True):
            if number:
                found[finding.code] = found.get(finding.code, 0) + number
        return found


def check_transactions(
    chunk: Chunk,
    *,
    now_us: int,
    known: KnownIds | None = None,
    label_delay_us: int | None = None,
    cards: CardJudges | None = None,
) -> Checked:
    """Check a chunk of transactions.

    Args:
        chunk: Canonical but unvalidated rows.
        now_us: The clock, microseconds UTC.
        known: Which ids the ledger has already.
        label_delay_us: The declared delay of labels; None = a row with a verdict must say when
            it arrived.
        cards: What earlier chunks showed about card numbers; None = there were none.

    Returns:
        The first finding of every row. Duplicates within the import are found later, once all
        rows are read.
    """
    rows = chunk.rows
    findings = [*chunk.findings]
    findings += _missing(rows, "transaction_id", "missing_id", "the row has no transaction id")
    findings += _before_1970(rows, ("event_time_us", "received_at_us"))
    findings += _missing(rows, "event_time_us", "missing_time", "the row has no event time")
    findings += _amounts(rows)
    findings += _missing(rows, "amount_minor", "missing_amount", "the row has no amount")
    cards = cards if cards is not None else CardJudges()
    findings += _ids(rows, ("transaction_id", *ENTITY_COLUMNS), cards)
    findings += _attributes(chunk, cards)
    findings += _future(rows, now_us)
    checked = _checked(chunk, findings, "transaction_id", known)
    there = checked.accepted | checked.with_code(KNOWN)
    return replace(checked, labels=_labels_on_rows(chunk, there, label_delay_us))


def _labels_on_rows(chunk: Chunk, there: BoolMask, delay_us: int | None) -> Checked | None:
    """What is wrong with the labels on payments that the ledger will have; None if nothing is."""
    rows = chunk.rows
    if rows.column("verdict").null_count == rows.num_rows and not chunk.label_findings:
        return None
    findings = [*chunk.label_findings, *_verdicts(rows)]
    given = mask_of(pc.is_valid(rows.column("verdict")))
    findings += [
        replace(finding, rows=finding.rows & given)
        for finding in _before_1970(rows, ("label_received_at_us",))
    ]
    if delay_us is None:
        timeless = given & mask_of(pc.is_null(rows.column("label_received_at_us")))
        findings.append(Finding("missing_time", timeless, _TIMELESS_LABEL))
    found = [replace(finding, rows=finding.rows & there) for finding in findings]
    checked = _checked(chunk, found, "transaction_id", None)
    return checked if checked.findings else None


def check_labels(
    chunk: Chunk,
    *,
    known: KnownIds | None = None,
    delay_us: int | None = None,
    cards: CardJudges | None = None,
) -> Checked:
    """Check a chunk of labels.

    A label that arrives after the clock is no error: it has not arrived yet.

    Args:
        chunk: Canonical but unvalidated labels.
        known: Which label ids the ledger has already.
        delay_us: The declared delay; None = every label must say when it arrived.
        cards: What earlier chunks showed about card numbers; None = there were none.
    """
    rows = chunk.rows
    findings = [*chunk.findings]
    findings += _missing(rows, "transaction_id", "missing_id", "the label names no transaction")
    findings += _before_1970(rows, ("received_at_us",))
    if delay_us is None:
        findings += _missing(rows, "received_at_us", "missing_time", _TIMELESS_LABEL)
    findings += _verdicts(rows)
    findings += _missing(
        rows, "verdict", "missing_verdict", "the label has no verdict; allowed: fraud, legitimate"
    )
    findings += _ids(rows, ("transaction_id", "label_id"), cards or CardJudges())
    return _checked(chunk, findings, "label_id", known)


def _checked(
    chunk: Chunk, findings: Iterable[Finding], id_name: str, known: KnownIds | None
) -> Checked:
    found = [finding for finding in findings if finding.rows.any()]
    first = np.full(chunk.rows.num_rows, -1, np.int64)
    for index in range(len(found) - 1, -1, -1):
        first[found[index].rows] = index
    if known is not None:
        good = np.flatnonzero(first < 0)
        ids = chunk.rows.column(id_name).take(pa.array(good))
        seen = known(ids)
        mask = mask_of(seen) if isinstance(seen, pa.Array) else np.asarray(seen, np.bool_)
        if mask.any():
            rows = np.zeros(len(first), np.bool_)
            rows[good[mask]] = True
            first[rows] = len(found)
            found.append(Finding(KNOWN, rows, f"the {id_name} is in the ledger already"))
    return Checked(chunk, tuple(found), first)


def _missing(rows: pa.RecordBatch, column: str, code: str, reason: str) -> list[Finding]:
    values = rows.column(column)
    return [Finding(code, mask_of(pc.is_null(values)), reason)] if values.null_count else []


def _before_1970(rows: pa.RecordBatch, columns: Iterable[str]) -> list[Finding]:
    reason = "the {} lies before 1970; check the format and the unit"
    return [
        Finding("invalid_time", mask_of(pc.less(rows.column(name), 0)), reason.format(name))
        for name in columns
    ]


def _amounts(rows: pa.RecordBatch) -> list[Finding]:
    amounts = rows.column("amount_minor")
    bound = pa.scalar(MAX_AMOUNT_MINOR, pa.int64())
    beyond = pc.or_(pc.greater(amounts, bound), pc.less(amounts, pc.negate(bound)))
    return [Finding("amount_too_large", mask_of(beyond), "the amount is beyond 10^12 minor units")]


def _verdicts(rows: pa.RecordBatch) -> list[Finding]:
    verdicts = rows.column("verdict")
    wrong = mask_of(pc.and_(pc.is_valid(verdicts), pc.invert(pc.is_in(verdicts, _VERDICTS))))
    return [Finding("invalid_verdict", wrong, "the verdict is neither 'fraud' nor 'legitimate'")]


def _ids(rows: pa.RecordBatch, columns: Iterable[str], cards: CardJudges) -> list[Finding]:
    found: dict[str, list[Finding]] = {}
    for name in columns:
        ids = rows.column(name)
        for flaw, wrong in id_flaws(ids):
            found.setdefault(flaw.code, []).append(
                Finding(flaw.code, wrong, f"the {name} {flaw.message}")
            )
        if name in cards.exempt:
            continue
        guilty = cards.of(name).judge(ids)
        if guilty.any():
            reason = (
                f"the {name} is or holds a raw card number, which must never be stored; "
                "set tokenize = true for it in the mapping, or hash it before the import"
            )
            found.setdefault(CARD_CODE, []).append(Finding(CARD_CODE, guilty, reason))
    order = (CONTROL_CHARACTER.code, TOO_LONG.code, LOST_DIGITS.code, CARD_CODE)
    return [finding for code in order for finding in found.get(code, ())]


def _attributes(chunk: Chunk, cards: CardJudges) -> list[Finding]:
    rows = chunk.rows
    found: list[Finding] = []
    for field in attribute_columns(rows.schema):
        name = ATTRIBUTE_PREFIX + field
        values = rows.column(name)
        if values.null_count == len(values):
            continue
        if pa.types.is_string(values.type):
            found += [
                Finding(flaw.code, wrong, f"the attribute {field!r} {flaw.message}")
                for flaw, wrong in text_flaws(values)
            ]
        if name in cards.exempt:
            continue
        guilty = cards.of(name).judge(values)
        if field in chunk.exact:
            guilty |= cards.of(name).judge(chunk.exact[field])
        if guilty.any():
            reason = (
                f"the attribute {field!r} holds a raw card number, which must never be stored; "
                "exclude it, name it in attributes.tokenize, or, if these are no card numbers, in "
                "attributes.exempt"
            )
            found.append(Finding(CARD_CODE, guilty, reason))
    return found


def _future(rows: pa.RecordBatch, now_us: int) -> list[Finding]:
    event, received = rows.column("event_time_us"), rows.column("received_at_us")
    limit = pa.scalar(now_us + FUTURE_TOLERANCE_US, pa.int64())
    known_by = pc.add(received, pa.scalar(FUTURE_TOLERANCE_US, pa.int64()))
    return [
        Finding(
            "future_time",
            mask_of(pc.greater(event, limit)),
            "the event time lies more than five minutes in the future; check unit and time zone",
        ),
        Finding(
            "future_time",
            mask_of(pc.greater(received, pa.scalar(now_us, pa.int64()))),
            "the received_at lies in the future; check unit and time zone",
        ),
        Finding(
            "future_time",
            mask_of(pc.greater(event, known_by)),
            "the event time lies more than five minutes after received_at",
        ),
    ]
