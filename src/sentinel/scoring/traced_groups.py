"""Traces of payments: the request, its wait, state, score and commit, as OpenTelemetry has them."""

from __future__ import annotations

import time
from typing import Final

from sentinel.scoring.group import Group
from sentinel.scoring.told_groups import Asked
from sentinel.telemetry.request_ids import CallersIds
from sentinel.telemetry.sampling import is_sampled
from sentinel.telemetry.tracing import Span, Trace, TraceWriter

MOST_OF_A_GROUP: Final = 4
"""Payments of a group that are traced; they share all stages but the wait."""


class GroupTraces:
    """Traces a share of the payments, and those whose callers record their own traces.

    Args:
        writer: Takes finished traces.
        share: Of the requests, 0 to 1.
    """

    def __init__(self, writer: TraceWriter, share: float) -> None:
        self._writer = writer
        self._share = share

    def choose(self, work: Group) -> Asked:
        """See `GroupTeller`."""
        chosen: list[tuple[int, CallersIds]] = []
        for row, pending in enumerate(work.pending):
            if len(chosen) == MOST_OF_A_GROUP:
                break
            ids = pending.receivers[0].ids
            if ids.sampled or is_sampled(ids.request_id, self._share):
                chosen.append((row, ids))
        return chosen

    def told(self, work: Group, asked: Asked, first_sequence: int) -> None:
        """See `GroupTeller`."""
        done_ns, scored = time.perf_counter_ns(), work.scored
        for row, ids in asked:
            pending = work.pending[row]
            stages = (
                Span("wait", pending.arrived_ns, scored.began_ns),
                Span("state", scored.began_ns, scored.read_ns),
                Span("score", scored.read_ns, work.scored_ns),
                Span("commit", work.scored_ns, done_ns),
            )
            self._writer.take(
                Trace(
                    Span("decide", pending.arrived_ns, done_ns),
                    stages,
                    ids,
                    {
                        "sentinel.sequence": first_sequence + row,
                        "sentinel.group_size": len(work.pending),
                        "sentinel.batch": pending.batched,
                        "sentinel.model": scored.decider(row).version,
                    },
                )
            )
