"""Stops by guardrails beside a line-up in PostgreSQL, for scorers that may not write the line-up.

A row says that a guardrail has ended an experiment. It can only take one away, so that the role of
scorers may add rows without being able to start, change or promote anything. Readers of the line-up
leave out what was stopped, and whoever may write the line-up writes it into that before any other
change, so that its history tells it like every other end.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from sentinel.experiments.lineup import LineUp

STOPPED_BY: Final = "guardrails"
"""Who stops an experiment, as the line-up says it."""


class Stop(msgspec.Struct, frozen=True, kw_only=True):
    """An experiment that a guardrail has ended.

    Attributes:
        name, started_at_us: Of the experiment.
        why: The breach, in words.
        at_us: When, microseconds UTC.
    """

    name: str
    started_at_us: int
    why: str
    at_us: int


def without_stopped(line_up: LineUp, stops: Iterable[Stop]) -> LineUp:
    """The line-up as it is once some stops are written into it: the last one says who and why.

    Args:
        line_up: A version of it.
        stops: In the order in which they came.
    """
    for stop in stops:
        left = tuple(
            one
            for one in line_up.experiments
            if (one.name, one.started_at_us) != (stop.name, stop.started_at_us)
        )
        if len(left) < len(line_up.experiments):
            line_up = msgspec.structs.replace(
                line_up, experiments=left, by=STOPPED_BY, why=stop.why, at_us=stop.at_us
            )
    return line_up
