"""Which log this is, up to an entry: what is made of a log remembers it, and is refused by another.

A backup that is put back takes the log to an earlier end, and it goes on from there otherwise than
before. What was made of the entries that are no more (a snapshot, vectors, a watermark) must not
be met with those that stand in their places now. So whatever keeps "made of the log through entry
n" keeps the fingerprint of the group that holds entry n with it.

That one group stands for the whole log before it: a group of decisions or labels has moments of
receipt to the microsecond, and an imported one a random mark (`append_import`), so that the same
bytes in the same place mean the same append, to a log that was the same until then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import numpy as np

from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log
from sentinel.log.entries import fingerprint
from sentinel.log.schema import KIND_TRANSACTION

_LOOKED_BACK: Final = 1_024


def timeline_at(ledger: Ledger, sequence: int) -> str:
    """The fingerprint of the group that holds an entry; empty if the log does not hold it.

    Raises:
        LedgerUnavailable: The ledger cannot be read right now.
    """
    if sequence < 1:
        return ""
    group = next(iter(ledger.groups(sequence - 1)), None)
    return "" if group is None or group.first_sequence > sequence else fingerprint(group)


def ids_before(ledger: Ledger, sequence: int) -> Iterable[str]:
    """Ids of the transactions among the last entries through a sequence.

    For what an older version made, which kept no fingerprint: a log that parted from the one that
    it was made of has other transactions there.
    """
    after = max(0, sequence - _LOOKED_BACK)
    for _, batch in read_log(ledger, after, sequence, columns=("kind", "transaction_id")):
        kinds = batch.column("kind").to_numpy(zero_copy_only=False)
        ids = batch.column("transaction_id").to_pylist()
        yield from (ids[row] for row in np.flatnonzero(kinds == KIND_TRANSACTION).tolist())


class LogOf:
    """Whether a log is the one that something was made of. See `sentinel.state.embedded.Origin`.

    Args:
        ledger: The log.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def refusal(self, sequence: int, timeline: str, knows: Callable[[str], bool]) -> str:
        """Why something made of a log through an entry is not of this one; empty if it is.

        Args:
            sequence: The last entry that it was made of.
            timeline: What it kept of the log; empty: an older version made it.
            knows: Whether it was made of a transaction, if ``timeline`` is empty.

        Raises:
            LedgerUnavailable: The ledger cannot be read right now.
        """
        if sequence > self._ledger.last_sequence():
            return f"it holds entry {sequence}, and the log ends before it"
        if timeline:
            if timeline != timeline_at(self._ledger, sequence):
                return f"it was made of another log: entry {sequence} is another one there"
        elif not all(knows(identifier) for identifier in ids_before(self._ledger, sequence)):
            return f"it was made of another log: it knows other payments before entry {sequence}"
        return ""
