"""The payments of one model in memory: hours that are open, and vectors that wait to be counted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.drift.counting import count_cells
from sentinel.drift.detector import DriftDetector
from sentinel.drift.reference import DriftReference
from sentinel.drift.rows import Counts, Events, StreamRow
from sentinel.drift.segments import members

COUNT_ROWS: Final = 8_192
"""Decisions of one model that wait to be counted together."""

Rows = npt.NDArray[np.int64]
Columns = npt.NDArray[np.int64]


class FollowedModel(NamedTuple):
    """A model whose decisions are counted.

    Attributes:
        reference: What its payments looked like.
        columns: Finds its features in vectors of a plan, by the plan's hash: int64 (its features,),
            -1 for those that the plan lacks; None if the plan is not known.
    """

    reference: DriftReference
    columns: Callable[[str], Columns | None]


FindModel = Callable[[str, str], FollowedModel | str]
"""Finds a model by name and version; or says why its decisions cannot be counted."""


@dataclass
class OpenStream:
    """A stream in memory.

    Attributes:
        model: Its reference; None where nothing is counted.
        detector: None where nothing is tested.
        open: Counts of hours that were not tested, or not kept yet, by hour.
        changed: Hours whose counts changed since the last transaction.
        waiting: Vectors, scores and hours that wait to be counted.
        absent: Columns that these vectors lack, and the score where another model gave it.
    """

    row: StreamRow
    model: FollowedModel | None
    detector: DriftDetector | None
    open: dict[int, tuple[Events, Counts]] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    waiting: list[tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], Rows]] = field(
        default_factory=list
    )
    rows_waiting: int = 0
    absent: tuple[int, ...] = ()
    touched: bool = False
    tested: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it has counts that are not tested yet."""
        return bool(self.waiting) or any(hour > self.row.tested_hour for hour in self.open)

    def wait(
        self,
        columns: Columns,
        vectors: npt.NDArray[np.float32],
        scores: npt.NDArray[np.float32] | None,
        hours: Rows,
        counted: npt.NDArray[np.bool_],
    ) -> None:
        """Have some of a group's vectors wait to be counted, without scores that others gave."""
        if not counted.any():
            return
        lacking = np.flatnonzero(columns < 0)
        absent = (*lacking.tolist(), *(() if scores is not None else (len(columns),)))
        if scores is None:
            scores = np.full(len(hours), np.nan, np.float32)
        if absent != self.absent:
            self.count()
            self.absent = absent
        own = len(columns) == vectors.shape[1] and bool((columns == np.arange(len(columns))).all())
        if not counted.all():
            vectors, scores, hours = vectors[counted], scores[counted], hours[counted]
        if not own:
            vectors = vectors.take(columns, axis=1)  # -1 takes any column, which is not counted
            vectors[:, lacking] = np.nan
        self.waiting.append((vectors, scores, hours))
        self.rows_waiting += len(scores)
        if self.rows_waiting >= COUNT_ROWS:
            self.count()

    def count(self) -> None:
        """Count the vectors that wait."""
        if not self.waiting:
            return
        assert self.model is not None
        reference = self.model.reference
        bins, segments = reference.bins, reference.segments
        vectors, scores, hours = (
            np.concatenate(parts) for parts in zip(*self.waiting, strict=True)
        )
        self.waiting.clear()
        self.rows_waiting = 0
        X = np.empty((len(scores), len(bins.columns)), np.float32)
        X[:, :-1], X[:, -1] = vectors, scores
        member = members(segments, X, bins.names)
        for hour in np.unique(hours):
            here = hours == hour
            if int(hour) not in self.open:
                self.open[int(hour)] = (
                    np.zeros(len(segments), np.int64),
                    np.zeros((len(segments), bins.cells), np.uint32),
                )
            events, counts = self.open[int(hour)]
            if self.absent:
                added = np.zeros_like(counts)
                count_cells(bins, X[here], member[here], added)
                for column in self.absent:
                    added[:, bins.starts[column] : bins.starts[column + 1]] = 0
                counts += added
            else:
                count_cells(bins, X[here], member[here], counts)
            events += member[here].sum(axis=0)
            self.changed.add(int(hour))


def columns_by_plan(
    find: Callable[[str], Columns | None], known: Mapping[str, Columns]
) -> Callable[[str], Columns | None]:
    """Finds columns once for each plan; a plan that was not found is looked for again.

    Args:
        find: Finds the columns of a plan by its hash.
        known: Those that need no looking.
    """
    found = dict(known)

    def columns(plan_hash: str) -> Columns | None:
        if plan_hash not in found:
            looked = find(plan_hash)
            if looked is None:
                return None
            found[plan_hash] = looked
        return found[plan_hash]

    return columns
