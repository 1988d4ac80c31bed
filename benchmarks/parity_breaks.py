"""The backfill that every engine is compared with, and how to break it.

A comparison that cannot fail proves nothing: with ``broken`` the backfill makes one mistake that
feature pipelines really make, and every other engine must then disagree with it.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import (
    EVENT_KIND,
    EVENT_TIME,
    KIND_ADD,
    KIND_PEEK,
    compile_program,
)
from sentinel.log.schema import KIND_LABEL

Break = Literal["hop", "tie", "label", "drop"]
BREAKS: Final[dict[str, str]] = {
    "hop": "tiles are half as long",
    "tie": "events of the same microsecond don't see each other",
    "label": "labels take effect a batch too late",
    "drop": "one event never enters the state",
}

Events = npt.NDArray[np.int64]


def backfill_of(plan: Plan, book: LabelBook, broken: Break | None, dropped: str) -> OfflineFold:
    """The fold of a whole log, sound or broken; ``dropped`` is the transaction to lose."""
    if broken is None:
        return OfflineFold(compile_program(plan), book=book)
    if broken == "hop":
        plan = _with_shorter_hops(plan)
    return _BrokenFold(plan, book, broken, dropped)


def _with_shorter_hops(plan: Plan) -> Plan:
    views = tuple(
        msgspec.structs.replace(
            view,
            aggregates=tuple(
                msgspec.structs.replace(a, hop_us=max(1, a.hop_us // 2)) for a in view.aggregates
            ),
        )
        for view in plan.views
    )
    return msgspec.structs.replace(plan, views=views)


class _BrokenFold(OfflineFold):
    def __init__(self, plan: Plan, book: LabelBook, broken: Break, dropped: str) -> None:
        super().__init__(compile_program(plan), book=book)
        self._broken = broken
        self._dropped = dropped
        self._held: pa.RecordBatch | None = None

    def step(
        self,
        batch: pa.RecordBatch,
        *,
        vectors: bool = True,
        out: npt.NDArray[np.float32] | None = None,
    ) -> npt.NDArray[np.float32]:
        if self._broken == "label":
            batch = self._with_held_labels(batch)
        return super().step(batch, vectors=vectors, out=out)

    def _with_held_labels(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        is_label = pc.equal(batch.column("kind"), KIND_LABEL)
        held, self._held = self._held, batch.filter(is_label)
        rest = batch.filter(pc.invert(is_label))
        if held is None:
            return rest
        both = [pa.Table.from_batches([part]) for part in (held, rest)]
        together = pa.concat_tables(both, promote_options="default")
        return together.select(rest.schema.names).combine_chunks().to_batches()[0]

    def _merge_labels(
        self,
        batch: pa.RecordBatch,
        is_label: npt.NDArray[np.bool_],
        events: Events,
        rows: npt.NDArray[np.int64],
    ) -> tuple[Events, npt.NDArray[np.int64]]:
        if self._broken == "drop":
            ids = batch.column("transaction_id").filter(pa.array(~is_label))
            lost = pc.equal(ids, self._dropped).to_numpy(zero_copy_only=False)
            events[lost, EVENT_KIND] = KIND_PEEK
        events, rows = super()._merge_labels(batch, is_label, events, rows)
        return _blind_to_ties(events, rows) if self._broken == "tie" else (events, rows)


def _blind_to_ties(
    events: Events, rows: npt.NDArray[np.int64]
) -> tuple[Events, npt.NDArray[np.int64]]:
    """Of each run of events at the same time: all are read first, then all are added."""
    starts_run = np.ones(len(events), dtype=np.bool_)
    same_time = events[1:, EVENT_TIME] == events[:-1, EVENT_TIME]
    both_add = (events[1:, EVENT_KIND] == KIND_ADD) & (events[:-1, EVENT_KIND] == KIND_ADD)
    starts_run[1:] = ~(same_time & both_add)
    run = np.cumsum(starts_run)
    adds = np.flatnonzero(events[:, EVENT_KIND] == KIND_ADD)
    everything = np.arange(len(events))
    # Reads at (run, 0), everything else at (run, 1), each in the order of the log.
    index = np.concatenate([adds, everything])
    second = np.concatenate([np.zeros(len(adds)), np.ones(len(events))])
    order = np.lexsort((index, second, run[index]))
    kinds = np.concatenate([np.full(len(adds), KIND_PEEK), events[:, EVENT_KIND]])
    answers = np.concatenate([rows[adds], np.where(events[:, EVENT_KIND] == KIND_ADD, -1, rows)])
    broken = events[index[order]]
    broken[:, EVENT_KIND] = kinds[order]
    return broken, answers[order]
