"""An explanation as a picture: from the expected score to the score, one bar for each feature.

Pure: an explanation in, HTML out, all escaped.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from typing import Final

from sentinel.dashboard import words
from sentinel.dashboard.api_types import Explanation, PolicyLines

MOST_BARS: Final = 10
"""Features with a bar of their own."""


@dataclass(frozen=True)
class Step:
    """A bar.

    Attributes:
        label: What it stands for.
        start, end: Of the score, before and after.
        whole: Whether it is a score, drawn from the left edge, and no contribution.
    """

    label: str
    start: float
    end: float
    whole: bool = False


def steps(said: Explanation, most: int = MOST_BARS) -> list[Step]:
    """The bars from the expected score to the score.

    The last contribution takes what rounding left, so that the bars end where the score is.
    """
    at = said.base_value
    made = [Step("Expected of any payment", at, at, whole=True)]
    shown = [one for one in said.features[:most] if one.contribution]
    others = said.features[len(shown) :]
    for one in shown:
        made.append(Step(one.words, at, at + one.contribution))
        at += one.contribution
    if others:
        made.append(Step(f"All {len(others)} others together", at, said.score))
    made.append(Step("Score", said.score, said.score, whole=True))
    return made


def explanation(said: Explanation) -> str:
    """The picture, with what has to be known to read it."""
    made = steps(said)
    low = min(min(step.start, step.end) for step in made)
    high = max(max(step.start, step.end) for step in made)
    bars = "".join(_bar(step, low, (high - low) or 1.0) for step in made)
    who = "" if said.role == "champion" else f" as {said.role}"
    about = f"in {said.unit}, by version {said.model_version}{who}; red speaks for fraud"
    loud = said.reproduced.problem if not said.reproduced.exact else None
    problem = f'<div class="s-wrong">{escape(loud)}</div>' if loud else ""
    return (
        f'<div class="s-title">Why<span class="s-muted"> · {escape(about)}</span></div>{problem}'
        f'<div class="s-muted s-below">{escape(_lines(said.policy))}</div>{_notes(said.notes)}'
        f'<div class="s-steps">{bars}</div>'
    )


def missing(problem: str) -> str:
    """What is shown where there is no explanation."""
    return f'<div class="s-title">Why</div><div class="s-muted">{escape(problem)}</div>'


def _bar(step: Step, low: float, span: float) -> str:
    left, right = sorted((step.start, step.end))
    at, width = 100 * (left - low) / span, 100 * (right - left) / span
    change = step.end - step.start
    tone = "s-whole" if step.whole else "s-towards" if change > 0 else "s-away"
    figure = f"{step.end:+.2f}" if step.whole else f"{change:+.2f}"
    return (
        f'<div class="s-step {tone}"><div><span>{escape(step.label)}</span>'
        f'<span class="s-value">{figure}</span></div>'
        f'<div class="s-track"><i style="left:{at:.2f}%;width:{width:.2f}%"></i></div></div>'
    )


def _notes(notes: Iterable[str]) -> str:
    return "".join(f'<div class="s-muted s-below">{escape(note)}</div>' for note in notes)


def _lines(policy: PolicyLines) -> str:
    """What the probability was held against, in a sentence."""
    if policy.by is None or policy.review is None or policy.decline is None:
        return "The policy that ruled is not known any more."
    review, decline = (
        f"never {what}" if line >= 1 else f"{what} from {words.percent(line)} on"
        for what, line in (("reviewed", policy.review), ("declined", policy.decline))
    )
    return f"{review.capitalize()}, {decline}."
