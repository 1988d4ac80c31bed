"""What a label does to the records of the transaction that it is about: the one rule.

A record counts each fraud once. So a label changes something only where it changes whether the
transaction is held to be fraud: a first verdict of fraud counts it, a correction to legitimate
takes it back, and anything else does nothing. Labels take effect in log order. A label that stands
in the log before its transaction waits, and takes effect right after the transaction was added.

Who applies labels keeps the set of transactions whose newest verdict is fraud, also of those that
the log does not hold yet, and the set of those that are void, and asks here:

- `take_label` for each label of the log, in order. It changes the set and gives the kind of event
  to apply to the records of the transaction, if that transaction is in them already.
- `take_arrival` for each transaction, once it was added: the kind of event to apply then.
- `changes_of` for labels that were appended together: the same, with each label's sequence.
- `take_void` for each void of the log: labels about its transaction do nothing from there on.

State in one process holds the set itself (`EmbeddedState.fraud`). Many scorers share no set; there
the ledger says what the newest verdict was just before an append (`Appended.before`), and the set
is made of that: ``{id for id, s in before.items() if s.verdict == Verdict.FRAUD}``.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Final, NamedTuple

from sentinel.domain import Label, Verdict

KIND_FRAUD: Final = 3
"""Count a fraud in the records of a transaction. The number is the kernel's, see
`sentinel.features.plan.program`."""
KIND_RETRACT: Final = 4
"""Take it back."""


class LabelChange(NamedTuple):
    """A label that changes records.

    Attributes:
        transaction_id: Whose records.
        kind: KIND_FRAUD or KIND_RETRACT.
        label_sequence: The label's place in the log.
    """

    transaction_id: str
    kind: int
    label_sequence: int


def take_label(
    fraud: set[str], transaction_id: str, verdict: str, void: Container[str] = ()
) -> int | None:
    """Take the next label of the log in.

    Args:
        fraud: Transactions whose newest verdict is fraud; changed.
        transaction_id, verdict: What the label says.
        void: Transactions that are void.

    Returns:
        KIND_FRAUD, KIND_RETRACT, or None if the label changes nothing.

    >>> fraud: set[str] = set()
    >>> [take_label(fraud, "t", verdict) for verdict in ("legitimate", "fraud", "fraud")]
    [None, 3, None]
    >>> take_label(fraud, "t", "legitimate"), fraud
    (4, set())
    """
    if transaction_id in void:
        return None
    was = transaction_id in fraud
    now = verdict == Verdict.FRAUD
    if was == now:
        return None
    if now:
        fraud.add(transaction_id)
        return KIND_FRAUD
    fraud.discard(transaction_id)
    return KIND_RETRACT


def take_void(fraud: set[str], void: set[str], transaction_id: str) -> bool:
    """Take the next void of the log in.

    Args:
        fraud: See `take_label`; changed.
        void: Transactions that are void; changed.
        transaction_id: Of the void.

    Returns:
        Whether it changes records; the second void of a transaction does not.

    >>> fraud, void = {"t"}, set()
    >>> take_void(fraud, void, "t"), fraud, void, take_void(fraud, void, "t")
    (True, set(), {'t'}, False)
    """
    if transaction_id in void:
        return False
    fraud.discard(transaction_id)
    void.add(transaction_id)
    return True


def take_arrival(fraud: Container[str], transaction_id: str) -> int | None:
    """What the labels that came before a transaction do once it was added.

    Returns:
        KIND_FRAUD, or None if it is not held to be fraud.
    """
    return KIND_FRAUD if transaction_id in fraud else None


def changes_of(
    labels: Iterable[Label], first_sequence: int, fraud: set[str], void: Container[str] = ()
) -> list[LabelChange]:
    """The changes that labels make which stand in the log one after the other.

    Args:
        labels: In log order.
        first_sequence: The place of the first one in the log.
        fraud: See `take_label`; changed.
        void: Transactions that are void.
    """
    changes = []
    for sequence, label in enumerate(labels, first_sequence):
        kind = take_label(fraud, label.transaction_id, label.verdict, void)
        if kind is not None:
            changes.append(LabelChange(label.transaction_id, kind, sequence))
    return changes
