"""What models beside the champion say of a batch, and which of them decide on which payments.

A segment model decides where its condition holds. Of the others, challengers are asked in the
order of their start: the first whose draw falls below its share decides, so that a later one
splits what the earlier ones left. Everything else is the champion's.

A model that raises is not asked again, and what it would have decided is the champion's: no
payment waits for it or fails with it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import Transaction
from sentinel.experiments.assignment import draw, units_of
from sentinel.log.columns import DecisionColumns, RoleScores
from sentinel.scoring.panel import Panel, PanelModel
from sentinel.scoring.union import taken
from sentinel.telemetry.safe_errors import shown

log = logging.getLogger(__name__)

Floats = npt.NDArray[np.float64]


class RolesScored(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What the models beside the champion said of a batch; row i is of its i-th transaction.

    Attributes:
        models: They, k of them.
        scores: float64 (1 + k, n), raw, those of the champion first; NaN = not scored.
        probabilities: float64 (1 + k, n), calibrated; likewise.
        deciders: uint8 (n,): 0 = the champion decides, i = ``models[i - 1]`` does; None if the
            champion decides on all.
        took_ns: What each of the models took for the batch, nanoseconds; its share by trees of
            what several took in one call.
    """

    models: tuple[PanelModel, ...]
    scores: Floats
    probabilities: Floats
    deciders: npt.NDArray[np.uint8] | None
    took_ns: Sequence[int] = ()

    def deciding(self) -> Floats:
        """float64 (n,): probabilities of the models that decide."""
        if self.deciders is None:
            return np.asarray(self.probabilities[0])
        return np.asarray(self.probabilities[self.deciders, np.arange(len(self.deciders))])

    def rows(self, kept: list[int]) -> RolesScored:
        """Those of some rows."""
        return RolesScored(
            self.models,
            self.scores[:, kept],
            self.probabilities[:, kept],
            None if self.deciders is None else self.deciders[kept],
            self.took_ns,
        )

    def put_into(self, columns: DecisionColumns) -> DecisionColumns:
        """The columns of the log, and those of roles and deciders."""
        roles = tuple(
            RoleScores(
                role=other.name,
                model_name=other.model.name,
                model_version=other.model.version,
                scores=self.scores[row].tobytes(),
                probabilities=self.probabilities[row].tobytes(),
            )
            for row, other in enumerate(self.models, 1)
        )
        deciders = self.deciders
        return msgspec.structs.replace(
            columns,
            roles=roles,
            deciders=b"" if deciders is None or not deciders.any() else deciders.tobytes(),
        )


class Said(NamedTuple):
    """What models said that scored in one call.

    Attributes:
        scores, probabilities: float64 (models, n), the champion's first.
        took_ns: What they took together, nanoseconds.
    """

    scores: Floats
    probabilities: Floats
    took_ns: int


def score_together(panel: Panel, vectors: npt.NDArray[np.float32]) -> Said | None:
    """Have a batch scored by all models that can do so in one call.

    Args:
        panel: The models.
        vectors: float32 (n, n_features).

    Returns:
        None if each is to score by itself: where there are no such models, and where some model
        has failed, so that the others are held apart from it.
    """
    together = panel.together
    if together is None or panel.failed:
        return None
    began_ns = time.perf_counter_ns()
    try:
        scores, probabilities = together.scorers.score(taken(vectors, panel.columns))
    except Exception:
        log.exception("Models could not score in one call; each scores by itself.")
        return None
    return Said(scores, probabilities, time.perf_counter_ns() - began_ns)


def score_roles(
    panel: Panel,
    vectors: npt.NDArray[np.float32],
    scores: Floats,
    probabilities: Floats,
    transactions: Sequence[Transaction],
    *,
    all_roles: bool = True,
    said: Said | None = None,
) -> RolesScored | None:
    """Have a batch scored by all models beside the champion that want it.

    Args:
        panel: The models.
        vectors: float32 (n, n_features).
        scores, probabilities: float64 (n,), the champion's.
        transactions: (n,).
        all_roles: Whether those that decide on none of the payments score them, too.
        said: What `score_together` gave. A model that failed since then is asked once more: the
            rows of what was said are those of all models.

    Returns:
        None if no other model is there.
    """
    others = panel.others
    if panel.failed and said is None:
        others = tuple(other for other in others if other.name not in panel.failed)
    if not others:
        return None
    n = len(transactions)
    done: tuple[int, ...] = (0,)
    took_ns = [0] * len(others)
    if said is not None and panel.together is not None:
        done = panel.together.numbers
        for number, share in zip(done[1:], panel.together.scorers.shares[1:], strict=True):
            took_ns[number - 1] = int(said.took_ns * share)
    if said is not None and len(done) == 1 + len(others):
        all_scores, all_probabilities = said.scores, said.probabilities
    else:
        all_scores = np.full((1 + len(others), n), np.nan)
        all_probabilities = np.full((1 + len(others), n), np.nan)
        if said is None:
            all_scores[0], all_probabilities[0] = scores, probabilities
        else:
            rows_of = list(done)
            all_scores[rows_of], all_probabilities[rows_of] = said.scores, said.probabilities
    units = units_of(transactions) if any(map(_draws, others)) else []
    deciders = _deciders(panel, others, transactions, units)
    for number, other in enumerate(others, 1):
        if number in done:
            continue
        rows = _rows_of(other, number, deciders, units, all_roles=all_roles)
        if rows is not None and not len(rows):
            continue
        began_ns = time.perf_counter_ns()
        try:
            wanted = vectors if rows is None else vectors[rows]
            alone = other.model.score(taken(wanted, other.columns))
        except Exception as error:  # noqa: BLE001 -- no payment fails with an experiment
            drop(panel, other, error, "scored")
            if deciders is not None:
                deciders[deciders == number] = 0
            continue
        took_ns[number - 1] = time.perf_counter_ns() - began_ns
        if rows is None:
            all_scores[number], all_probabilities[number] = alone
        else:
            all_scores[number, rows], all_probabilities[number, rows] = alone
    if deciders is not None and not deciders.any():
        deciders = None
    return RolesScored(others, all_scores, all_probabilities, deciders, took_ns)


def drop(panel: Panel, other: PanelModel, error: Exception, doing: str) -> None:
    """Ask a model no more: it raised."""
    panel.failures.count += 1
    panel.failed[other.name] = (
        f"version {other.model.version} failed while it {doing}: {shown(error)}"
    )
    log.error(
        "Experiment %s scores no longer, the champion decides on its payments.",
        other.name,
        exc_info=error,
    )


def _draws(other: PanelModel) -> bool:
    return other.kind == "challenger" or other.sample < 1.0


def _deciders(
    panel: Panel,
    others: Sequence[PanelModel],
    transactions: Sequence[Transaction],
    units: Sequence[str],
) -> npt.NDArray[np.uint8] | None:
    """uint8 (n,), see `RolesScored.deciders`; None if none of them ever decides."""
    asked = [(number, o) for number, o in enumerate(others, 1) if o.kind != "shadow"]
    if not asked:
        return None
    deciders = np.zeros(len(transactions), dtype=np.uint8)
    for number, other in asked:
        if other.holds is not None:
            try:
                held = [other.holds(transaction) for transaction in transactions]
            except Exception as error:  # noqa: BLE001 -- no payment fails with an experiment
                drop(panel, other, error, "was asked for its condition")
                continue
            deciders[(deciders == 0) & np.array(held, dtype=np.bool_)] = number
    for number, other in asked:
        if other.kind == "challenger":
            for row in np.flatnonzero(deciders == 0).tolist():
                if draw(other.name, units[row]) < other.share:
                    deciders[row] = number
    return deciders


def _rows_of(
    other: PanelModel,
    number: int,
    deciders: npt.NDArray[np.uint8] | None,
    units: Sequence[str],
    *,
    all_roles: bool,
) -> npt.NDArray[np.int64] | None:
    """Rows that a model scores; None = all."""
    if other.kind == "segment" or not all_roles:
        if deciders is None:
            return np.empty(0, dtype=np.int64)
        return np.flatnonzero(deciders == number)
    if other.kind == "shadow" and other.sample < 1.0:
        return np.array(
            [row for row, unit in enumerate(units) if draw(other.name, unit) < other.sample],
            dtype=np.int64,
        )
    return None
