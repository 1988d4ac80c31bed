"""Small pieces of HTML of the page of experiments. Pure: text in, text out, all escaped."""

from __future__ import annotations

from html import escape
from typing import Final

from sentinel.dashboard import words
from sentinel.dashboard.api_types import JudgedExperiment, Promotion
from sentinel.dashboard.panels import title
from sentinel.experiments.estimates import PrecisionEstimate
from sentinel.experiments.guardrails import LEAST_CHAMPION, LEAST_OWN, Reading
from sentinel.experiments.judgement import Judgement
from sentinel.experiments.judging import Rules
from sentinel.experiments.lineup import Experiment

_VERDICTS: Final = {
    "wait": ("review", "Not decided"),
    "promote": ("ok", "Better: promote"),
    "keep": ("decline", "Worse: keep the champion"),
    "stop": ("unavailable", "Cannot be decided in time"),
}
_GUARDRAILS: Final = {
    "alerts": "Payments stopped",
    "degraded": "Degraded decisions",
    "errors": "Failures of the model",
    "score_distance": "Distance from the champion's scores",
    "scoring_us": "Time for a payment",
}


def about(found: JudgedExperiment) -> str:
    """What an experiment is, how it stands, and what is missing."""
    experiment = _experiment(found)
    if experiment is None:
        return '<div class="s-muted">It is being judged for the first time.</div>'
    status, here = found.status, found.here
    said = None if status is None else status.judgement
    tone, verdict = _VERDICTS[said.verdict] if said is not None else ("ok", "Runs")
    if here is None:
        tone, verdict = ("review", "Ended") if said is None else (tone, f"Ended · {verdict}")
    lines = [said.why] if said is not None else []
    if said is not None and said.verdict == "wait" and said.looks:
        lines.append(_needs(said))
    if status is not None and status.not_served:
        lines.append(status.not_served)
    if here is not None and here.problem:
        lines.append(f"It does not run here: {here.problem}")
    if here is None and status is not None and status.ended_by:
        lines.append(f"Ended by {status.ended_by}: {status.ended_why}")
    when = "is being judged" if found.judged_at_us is None else ""
    if found.judged_at_us is not None:
        when = f"judged {words.moment(found.judged_at_us)}"
    said_lines = "".join(f"<div>{escape(line)}</div>" for line in lines)
    return (
        f'<div class="s-top" id="experiment-about"><span class="s-big">{escape(experiment.name)}'
        f'</span><span class="s-pill s-{tone}"><span class="s-dot"></span>{escape(verdict)}</span>'
        f'<span class="s-muted">{escape(_role(experiment, found))}</span>'
        f'<span class="s-muted s-right">{escape(when)}</span></div>{said_lines}'
        f'<div class="s-muted">Started {escape(words.moment(experiment.started_at_us))} by '
        f"{escape(experiment.by or words.DASH)}: {escape(experiment.why or words.DASH)}</div>"
    )


def _experiment(found: JudgedExperiment) -> Experiment | None:
    if found.here is not None:
        return found.here.experiment
    return None if found.status is None else found.status.experiment


def _role(experiment: Experiment, found: JudgedExperiment) -> str:
    said = f"{experiment.kind}, version {experiment.version}"
    if experiment.kind == "segment":
        return f"{said}, where {experiment.condition}"
    if experiment.kind == "shadow":
        return f"{said}, scores {words.percent(experiment.sample)} of the cards"
    if found.here is None:
        return said
    grows = f", grows to {words.percent(experiment.share)}" if experiment.canary else ""
    return f"{said}, decides on {words.percent(found.here.share)} of the cards{grows}"


def _needs(said: Judgement) -> str:
    """What a challenger still needs before anything can be said.

    The number of days is that of the judgement; here are the frauds of each side.
    """
    last, least = said.looks[-1], Rules().least_side
    sides = (
        ("champion", last.champion, said.immature_champion),
        ("challenger", last.challenger, said.immature_challenger),
    )
    return " ".join(
        f"Frauds only the {who} catches: {seen} of {least}, {young} more on payments that are "
        "not mature."
        for who, seen, young in sides
    )


def promotion(given: Promotion) -> str:
    """A promotion that is not done."""
    if given.state == "failed":
        said = f"The promotion by {given.by} failed: {given.problem}"
        return f'<div class="s-wrong">{escape(said)}</div>'
    said = f"A promotion by {given.by} is under way; it scores the history first."
    return f'<div class="s-muted">{escape(said)}</div>'


def guardrails(found: JudgedExperiment) -> str:
    """What each guardrail sees, beside its bound."""
    head = title("Guardrails", "the last hour, in this scorer")
    if found.here is None:
        return f'{head}<div class="s-muted">They watch while it runs.</div>'
    if not found.guardrails:
        return f'{head}<div class="s-muted">They look every two seconds; not yet here.</div>'
    lines = "".join(_reading(one) for one in found.guardrails)
    note = (
        f"Shares are compared from {LEAST_OWN} payments of the experiment and {LEAST_CHAMPION} of "
        "the champion on. A breach stops the experiment within a minute."
    )
    return f'{head}<div class="s-list">{lines}</div><div class="s-muted">{note}</div>'


def _reading(one: Reading) -> str:
    limit = "no limit" if one.limit is None else f"stops {_limit(one)}"
    value = words.DASH if one.value is None else _value(one.name, one.value)
    beside = "" if one.champion is None else f" (champion {words.percent(one.champion)})"
    return (
        f'<div class="s-line"><span>{escape(_GUARDRAILS.get(one.name, one.name))}'
        f'<span class="s-muted"> · {escape(limit)}</span></span>'
        f'<span class="s-value">{escape(value)}<span class="s-muted">{escape(beside)}</span></span>'
        "</div>"
    )


def _value(name: str, value: float) -> str:
    """A reading in its unit.

    >>> _value("alerts", 0.031), _value("scoring_us", 12.4), _value("errors", 0.0)
    ('3.1 %', '12 µs', '0')
    """
    if name in ("alerts", "degraded"):
        return words.percent(value)
    if name == "scoring_us":
        return f"{value:,.0f} µs"
    return f"{value:.0f}" if name == "errors" else f"{value:.2f}"


def _limit(one: Reading) -> str:
    assert one.limit is not None
    if one.name in ("alerts", "degraded"):
        bound = f", {words.percent(one.limit * one.champion)}" if one.champion else ""
        return f"above {one.limit:g} times the champion's{bound}"
    return f"{'at' if one.name == 'errors' else 'above'} {_value(one.name, one.limit)}"


def estimates(said: Judgement) -> str:
    """How precise alerts are before labels come."""
    rows = (("Champion", said.champion_precision), ("Challenger", said.challenger_precision))
    lines = "".join(_estimate(who, one) for who, one in rows if one is not None)
    lines = lines or '<div class="s-muted">Neither model has raised an alert yet.</div>'
    return f"{title('Precision of alerts: estimate', 'before labels; it decides nothing')}{lines}"


def _estimate(who: str, one: PrecisionEstimate) -> str:
    band = f"left:{100 * one.low:.2f}%;width:{100 * (one.high - one.low):.2f}%"
    by = (
        "probabilities"
        if one.method == "probabilities"
        else f"probabilities and {one.known} payments of the control group"
    )
    return (
        f'<div class="s-metric"><div><span>{who}<span class="s-muted"> · by {escape(by)}, '
        f'{words.count(one.alerts)} alerts</span></span><span><span class="s-value">'
        f'{one.precision:.0%}</span> <span class="s-muted">{one.low:.0%} to {one.high:.0%}</span>'
        f'</span></div><div class="s-scale"><i style="{band}"></i>'
        f'<b style="left:{100 * one.precision:.2f}%"></b></div></div>'
    )


def left_out(said: Judgement) -> str:
    """What does not count, and why."""
    lines = (
        (
            "Payments that only one model would stop",
            f"{words.count(said.disagreements)} of {words.count(said.payments)}",
        ),
        ("of them stopped by the other one, too", words.count(said.agreed)),
        (
            "Frauds of payments that are not mature",
            f"{said.immature_champion} : {said.immature_challenger}",
        ),
        ("Further frauds of the same cards", words.count(said.repeated)),
        ("Reported after the payment was mature", words.count(said.late)),
        ("Degraded decisions", words.count(said.degraded)),
    )
    shown = "".join(
        f'<div class="s-line"><span class="s-muted">{name}</span>'
        f'<span class="s-value">{value}</span></div>'
        for name, value in lines
    )
    return f'{title("Disagreements, and what does not count")}<div class="s-list">{shown}</div>'
