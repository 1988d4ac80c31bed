"""The whole attribution of recorded decisions, made again by the model that decided.

A vector in the log is what the model was given, and the kernels give each row the same bits
whatever stands beside it. So scores, probabilities and the strongest reasons come out as they were
recorded, bit for bit; where they do not, what is here is another model than the one that decided.
The sum of all contributions is the score up to rounding: it adds some hundred numbers in another
order than the trees do.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentinel.log.columns import CHAMPION
from sentinel.log.entries import N_REASONS, DecisionGroup
from sentinel.scoring.serving_model import ServingModel

Bools = npt.NDArray[np.bool_]


class Decider(NamedTuple):
    """The model whose probability was ruled on.

    Attributes:
        role: ``champion``, or the name of an experiment's role.
        name, version: Of the model in the registry.
        number: 0 for the champion, i for ``roles[i - 1]`` of the group.
    """

    role: str
    name: str
    version: str
    number: int


def deciders_of(decided: DecisionGroup) -> Iterator[tuple[Decider, list[int]]]:
    """The models that decided in a group, and the rows that each decided on."""
    deciders = decided.columns.deciders or bytes(len(decided.transactions))
    for number in sorted(set(deciders)):
        if number == 0:
            who = Decider(CHAMPION, decided.model_name, decided.model_version, 0)
        else:
            role = decided.columns.roles[number - 1]
            who = Decider(role.role, role.model_name, role.model_version, number)
        yield who, [row for row, decider in enumerate(deciders) if decider == number]


def decider_of(decided: DecisionGroup, row: int) -> Decider:
    """The model that decided on a row."""
    return next(who for who, rows in deciders_of(decided) if row in rows)


@dataclass(frozen=True, eq=False)
class Reproduced:
    """Attributions of n decisions, beside what the log says. f = features of the model.

    Attributes:
        vectors: float32 (n, f), as they were scored.
        contributions: float64 (n, f), exact Shapley values in the model's `unit`.
        scores, probabilities: float64 (n,), made again.
        features, values: int16 and float32 (n, N_REASONS), the strongest reasons made again.
        same_score, same_probability, same_reasons: bool (n,), whether these have the recorded bits.
        reasons_recorded: bool (n,), False where reasons were switched off.
        sum_error: float64 (n,), base value and contributions minus the recorded score.
        sums: bool (n,), whether that is no more than rounding.
    """

    vectors: npt.NDArray[np.float32]
    contributions: npt.NDArray[np.float64]
    scores: npt.NDArray[np.float64]
    probabilities: npt.NDArray[np.float64]
    features: npt.NDArray[np.int16]
    values: npt.NDArray[np.float32]
    same_score: Bools
    same_probability: Bools
    same_reasons: Bools
    reasons_recorded: Bools
    sum_error: npt.NDArray[np.float64]
    sums: Bools

    @property
    def exact(self) -> Bools:
        """Bool (n,): whether all is as the log has it."""
        return self.same_score & self.same_probability & self.same_reasons & self.sums


def reproduce(
    model: ServingModel,
    decided: DecisionGroup,
    rows: Sequence[int],
    columns: npt.NDArray[np.int64] | None = None,
) -> Reproduced:
    """Attribute decisions of a group again.

    Args:
        model: The one that decided on these rows.
        decided: The group.
        rows: Of the group.
        columns: int64 (f,), the column of each of the model's features in the group's vectors;
            None if they are the model's own.
    """
    chosen = np.asarray(rows, dtype=np.int64)
    n = len(decided.transactions)
    vectors = decided.vector_array()[chosen]
    if columns is not None:
        vectors = vectors[:, columns]
    vectors = np.ascontiguousarray(vectors)
    scores, probabilities = model.score(vectors)
    contributions, features, values = model.attribute(vectors)
    shape = (n, N_REASONS)
    recorded = np.frombuffer(decided.reason_features, "<i2").reshape(shape)[chosen]
    weights = np.frombuffer(decided.reason_contributions, "<f4").reshape(shape)[chosen]
    named = features.astype(np.int64)
    if columns is not None:
        named = np.where(named < 0, -1, columns[named])
    is_recorded: Bools = np.asarray((recorded >= 0).any(axis=1))
    same_reasons = ((recorded == named) & _same_bits(weights, values)).all(axis=1)
    score = decided.deciding_scores()[chosen]
    error = contributions.sum(axis=1) + model.base_value - score
    added_up = np.abs(contributions).sum(axis=1) + abs(model.base_value)
    return Reproduced(
        vectors=vectors,
        contributions=contributions,
        scores=scores,
        probabilities=probabilities,
        features=features,
        values=values,
        same_score=_same_bits(scores, score),
        same_probability=_same_bits(probabilities, decided.deciding_probabilities()[chosen]),
        same_reasons=same_reasons | ~is_recorded,
        reasons_recorded=is_recorded,
        sum_error=error,
        sums=np.abs(error) <= model.sum_tolerance * (1.0 + added_up),
    )


def _same_bits(
    one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]
) -> npt.NDArray[np.bool_]:
    """Where two arrays of one type have the same bits; minus zero is not zero."""
    whole = np.dtype(f"u{one.dtype.itemsize}")
    return np.asarray(
        np.ascontiguousarray(one).view(whole) == np.ascontiguousarray(other).view(whole)
    )
