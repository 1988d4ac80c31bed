"""Comparing values bit for bit, and counting."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]


@dataclass
class Tally:
    """What the comparison of one engine with the backfill found.

    Attributes:
        rows: Vectors compared.
        values: Numbers in them.
        known: Those that are not null in the backfill.
        mismatches: Those of which not every bit is the same (null is null).
        features: How often each feature differs.
        seconds: What the engine took for it.
        words: Words of state that were compared besides.
    """

    rows: int = 0
    values: int = 0
    known: int = 0
    mismatches: int = 0
    features: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0
    words: int = 0

    def compare(self, names: list[str], expected: Vectors, found: Vectors) -> None:
        """Compare some rows; ``names`` are those of the columns."""
        if expected.shape != found.shape:
            raise AssertionError(f"{found.shape} values instead of {expected.shape}")
        unknown = np.isnan(expected)
        same = expected.view(np.uint32) == found.view(np.uint32)
        same |= unknown & np.isnan(found)
        self.rows += len(expected)
        self.values += expected.size
        self.known += int(expected.size - np.count_nonzero(unknown))
        wrong = np.count_nonzero(~same, axis=0)
        self.mismatches += int(wrong.sum())
        for column in np.flatnonzero(wrong).tolist():
            name = names[column]
            self.features[name] = self.features.get(name, 0) + int(wrong[column])

    def add_state(self, words: int, differing: int) -> None:
        """Count words of state that were compared besides."""
        self.words += words
        if differing:
            self.mismatches += differing
            self.features["(state)"] = self.features.get("(state)", 0) + differing
