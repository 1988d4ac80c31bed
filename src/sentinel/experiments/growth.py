"""Steps of canaries: a share grows because the model has run at the share before.

Whichever scorer first has had a canary's model at one share for as long as the canary holds it
notes a step, and all scorers follow. A canary whose model runs nowhere keeps its share. Where
scorers may only read the line-up, they add the step beside it, as they do with stops
(`sentinel.experiments.stops`); a step beside it that comes sooner than the share was held counts
for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from sentinel.domain import NotFound
from sentinel.experiments.lineup import Experiment, LineUp

GROWN_BY: Final = "canaries"
"""Who lets a canary's share grow, as the line-up says it."""
_CLOCKS_APART_US: Final = 5_000_000
"""How far the clocks of a scorer and of whoever started an experiment may be apart."""


class Growth(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a canary.

    Attributes:
        name, started_at_us: Of the experiment.
        step: Counted from 1.
        at_us: When, microseconds UTC.
    """

    name: str
    started_at_us: int
    step: int
    at_us: int


def next_step(experiment: Experiment, at_us: int) -> Growth | None:
    """The step that a canary would take now; None if its share does not grow by steps any more."""
    canary = experiment.canary
    if canary is None or canary.grew_at_us is None:
        return None
    steps = len(canary.grew_at_us)
    if min(canary.first_share * canary.growth**steps, experiment.share) >= experiment.share:
        return None
    return Growth(
        name=experiment.name, started_at_us=experiment.started_at_us, step=steps + 1, at_us=at_us
    )


def why(experiment: Experiment, step: int) -> str:
    """Why a canary takes a step, as the line-up says it."""
    canary = experiment.canary
    assert canary is not None  # others take none
    share = min(canary.first_share * canary.growth**step, experiment.share)
    return (
        f"Canary {experiment.name} takes {100 * share:g} % of the cards: its model has run for "
        f"{canary.hold_seconds:g} s at the share before."
    )


def grown(line_up: LineUp, growth: Growth) -> LineUp:
    """The line-up with a step of a canary.

    Raises:
        NotFound: No such canary runs, or it has taken that step already.
    """
    found = line_up.find(growth.name)
    if found is not None and found.started_at_us == growth.started_at_us:
        wanted = next_step(found, growth.at_us)
        if wanted == growth and found.canary is not None:
            at_us = (*(found.canary.grew_at_us or ()), growth.at_us)
            canary = msgspec.structs.replace(found.canary, grew_at_us=at_us)
            changed = msgspec.structs.replace(found, canary=canary)
            return msgspec.structs.replace(
                line_up,
                experiments=tuple(changed if one is found else one for one in line_up.experiments),
                by=GROWN_BY,
                why=why(found, growth.step),
                at_us=growth.at_us,
            )
    raise NotFound(f"Canary {growth.name!r} does not run, or has taken step {growth.step}.")


def with_steps(line_up: LineUp, steps: Iterable[Growth]) -> LineUp:
    """The line-up as it is once steps beside it are written into it.

    Args:
        line_up: A version of it.
        steps: In the order in which they came.
    """
    for step in steps:
        found = line_up.find(step.name)
        canary = None if found is None else found.canary
        if found is None or canary is None:
            continue
        before_us = (found.started_at_us, *(canary.grew_at_us or ()))[-1]
        held_us = step.at_us - before_us
        if held_us < canary.hold_seconds * 1e6 - _CLOCKS_APART_US:
            continue
        try:
            line_up = grown(line_up, step)
        except NotFound:
            continue  # it was written there meanwhile
    return line_up


def told_steps(line_ups: Iterable[LineUp]) -> dict[tuple[str, int], tuple[int, ...]]:
    """All steps of canaries, by name and start of their experiments.

    Args:
        line_ups: Versions of the line-up, newest first.
    """
    found: dict[tuple[str, int], tuple[int, ...]] = {}
    for line_up in line_ups:
        for one in line_up.experiments:
            if one.canary is not None and one.canary.grew_at_us is not None:
                found.setdefault((one.name, one.started_at_us), one.canary.grew_at_us)
    return found
