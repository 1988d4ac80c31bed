"""The part of a vector that needs no state: request features, and ratios of what is there."""

from __future__ import annotations

import numpy as np

from sentinel.features.jit import inner_kernel
from sentinel.features.kernel.words import RATIO_WIDTH, REQUEST_WIDTH, Vectors, Words
from sentinel.features.plan.program import (
    EVENT_AMOUNT,
    EVENT_KIND,
    EVENT_TIME,
    KIND_READ,
    REQUEST_AMOUNT,
    REQUEST_HOUR,
    REQUEST_WEEKDAY,
    SECTION_RATIOS,
    SECTION_REQUEST,
)

_DAY_US = 86_400_000_000
_HOUR_US = 3_600_000_000


@inner_kernel
def finish(code: Words, events: Words, i: int, given: Vectors, out: Vectors, row: int) -> None:
    """Write request features and ratios, the part of a vector that needs no state.

    Args:
        code: The compiled program.
        events, i: int64 (n_events, event_width), of which one is finished.
        given: float32 (n_events, n_given), category codes and numbers of the request.
        out, row: float32 (n_rows, n_features), of which one row has its aggregates already.
    """
    queried = events[i, EVENT_KIND] == KIND_READ
    time = events[i, EVENT_TIME]
    start = code[2 * SECTION_REQUEST]
    for r in range(start, start + code[2 * SECTION_REQUEST + 1] * REQUEST_WIDTH, REQUEST_WIDTH):
        kind = code[r]
        at = code[r + 1]
        if queried:
            out[row, at] = np.nan
        elif kind == REQUEST_AMOUNT:
            out[row, at] = events[i, EVENT_AMOUNT]
        elif kind == REQUEST_HOUR:
            out[row, at] = np.float64(time % _DAY_US) / np.float64(_HOUR_US)
        elif kind == REQUEST_WEEKDAY:
            # 1970-01-01 was a Thursday, day 3 of a week that starts on Monday.
            out[row, at] = (time // _DAY_US + 3) % 7
        else:
            out[row, at] = given[i, code[r + 2]]
    start = code[2 * SECTION_RATIOS]
    for r in range(start, start + code[2 * SECTION_RATIOS + 1] * RATIO_WIDTH, RATIO_WIDTH):
        below = np.float64(out[row, code[r + 1]])
        above = np.float64(np.nan)
        if code[r] >= 0:
            above = np.float64(out[row, code[r]])
        elif not queried:
            above = np.float64(events[i, EVENT_AMOUNT])
        if below == 0.0 or np.isnan(below) or np.isnan(above):
            out[row, code[r + 2]] = np.nan
        else:
            out[row, code[r + 2]] = above / below
