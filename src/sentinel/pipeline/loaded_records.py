"""Shared records as they were loaded, and as they would be without what is void by now."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.program import Program
from sentinel.features.voids import RecordsAnew, payments_of
from sentinel.ledger.base import Ledger
from sentinel.ledger.log import read_log

Words = npt.NDArray[np.int64]


class LoadedRecords:
    """The records as they were loaded, and as they would have been without what is void by now.

    Args:
        program: The compiled plan.
        ledger: Everything that was recorded.
        through: The log entry through which the state was loaded.
        fold: The log up to there.
        voids: Sequences of later voids, by transaction.

    Attributes:
        arena: The records.
        book: What labels said by then.
    """

    def __init__(
        self,
        program: Program,
        ledger: Ledger,
        through: int,
        fold: OfflineFold,
        voids: Mapping[str, int],
    ) -> None:
        self.arena = fold.arena
        self.book: LabelBook = fold.book
        self._program = program
        self._ledger, self._through = ledger, through
        self._voids: list[tuple[int, str]] = []
        if voids and through:
            found = payments_of(self._batches(), voids, program.plan)
            here = set(found.column("transaction_id").to_pylist())
            self._voids = sorted((voids[i], i) for i in here - fold.book.void)
        self._without: dict[int, dict[tuple[int, str], Words]] = {}

    def record(self, view: int, key: str, base: Words, through: int) -> Words:
        """A record without the payments of which the log says through an entry that they are void.

        Args:
            view, key: Which.
            base: As it was loaded.
            through: The entry.
        """
        gone = [identifier for sequence, identifier in self._voids if sequence <= through]
        if not gone:
            return base
        found = self._without.get(len(gone))
        if found is None:
            payments = payments_of(self._batches(), gone, self._program.plan)
            anew = RecordsAnew(self._program, payments, {*self.book.void, *gone})
            for batch in self._batches():
                anew.take(batch)
            anew.fold()
            found = {record: anew.record(*record) for record in anew.records}
            self._without[len(gone)] = found
        return found.get((view, key), base)

    def _batches(self) -> Iterator[pa.RecordBatch]:
        return (batch for _, batch in read_log(self._ledger, until=self._through))
