"""Types, widths of program rows, and parts of words that all files of the kernel share."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sentinel.features.plan.program import (
    SECTION_DISTINCT_OUTPUTS,
    SECTION_DISTINCTS,
    SECTION_LASTS,
    SECTION_OUTPUTS,
    SECTION_RATIOS,
    SECTION_REQUEST,
    SECTION_RINGS,
    SECTION_VIEWS,
    SECTION_WINDOWS,
    WIDTHS,
)

Words = npt.NDArray[np.int64]
Vectors = npt.NDArray[np.float32]

NO_RECORD = -1
"""Offset of a view whose entity key the event does not carry: all its features are null."""

NO_TIME = -(1 << 62)
"""Before every event."""

# Widths of the rows of the program's sections.
VIEW_WIDTH = WIDTHS[SECTION_VIEWS]
RING_WIDTH = WIDTHS[SECTION_RINGS]
WINDOW_WIDTH = WIDTHS[SECTION_WINDOWS]
OUTPUT_WIDTH = WIDTHS[SECTION_OUTPUTS]
LAST_WIDTH = WIDTHS[SECTION_LASTS]
DISTINCT_WIDTH = WIDTHS[SECTION_DISTINCTS]
DISTINCT_OUTPUT_WIDTH = WIDTHS[SECTION_DISTINCT_OUTPUTS]
REQUEST_WIDTH = WIDTHS[SECTION_REQUEST]
RATIO_WIDTH = WIDTHS[SECTION_RATIOS]

# A tile's first word: transactions in the low half, frauds in the high one.
COUNT_MASK = (1 << 32) - 1
ONE_FRAUD = 1 << 32

# Sums of squares come in two limbs: the low bits, and the rest.
LIMB_BITS = 40
LIMB_MASK = (1 << LIMB_BITS) - 1
