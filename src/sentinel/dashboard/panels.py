"""Small pieces of HTML that Streamlit has no element for. Pure: text in, text out, all escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Final

from sentinel.dashboard import words
from sentinel.dashboard.api_types import Decision, Estimate, Health, MeasuredOn, Model
from sentinel.dashboard.shape import Part, metric_rows, parts
from sentinel.settings import MoneySettings

_NAMED: Final = 3
_LOSSES: Final = ("error", "score", "loss")
_WORDS: Final = {
    "ok": "All parts work",
    "degraded": "Degraded",
    "unavailable": "Cannot score",
    "away": "No answer",
}


def top(status: str, about: str, user: str = "") -> str:
    """The head of the page.

    Args:
        status: The service's, or "away".
        about: What stands at the right.
        user: Who is logged in, and may log out here; empty where nobody has to.
    """
    tone = "unavailable" if status == "away" else status
    return (
        f'<div class="s-top"><span class="s-name">Sentinel</span>'
        f'<span class="s-pill s-{tone}"><span class="s-dot"></span>{_WORDS[status]}</span>'
        f'<span class="s-muted s-right">{escape(about)}</span>{_logout(user)}</div>'
    )


def _logout(user: str) -> str:
    if not user:
        return ""
    return (
        f'<form class="s-user" method="post" action="/logout"><span>{escape(user)}</span>'
        '<button type="submit">Log out</button></form>'
    )


def title(text: str, note: str = "") -> str:
    """The head of a panel, with a quieter remark."""
    quiet = f'<span class="s-muted"> · {escape(note)}</span>' if note else ""
    return f'<div class="s-title">{escape(text)}{quiet}</div>'


def service(health: Health) -> str:
    """Each part with how it is, and what the features are computed with."""
    lines = [_part(part) for part in parts(health)]
    store, ledger = health.feature_store, health.ledger
    behind = ledger.sequence - ledger.snapshot_sequence
    plan = f'<span class="s-mono">{escape(store.plan_hash[:12])}</span>'
    lines += [
        _line("Feature plan", f"{plan} · {words.count(store.features)} features"),
        _line("Since the last snapshot", f"{words.count(max(0, behind))} entries"),
    ]
    if store.unused_attributes:
        lines.append(_line("Attributes no feature reads", _some(store.unused_attributes)))
    return f'{title("Service health")}<div class="s-list">{"".join(lines)}</div>'


def model(health: Health) -> str:
    """The model in charge: what it is, and how good it was on payments it had not seen."""
    given = health.model
    if not given.loaded:
        said = given.problem or "No model has been promoted yet: run `sentinel up` or `train`."
        return f'{title("Model in charge")}<div class="s-muted">{escape(said)}</div>'
    made = f"{given.kind or ''} · trained {words.moment(given.created_at_us or 0)}".strip(" ·")
    measured = "".join(_metric(name, estimate) for name, estimate in metric_rows(given.metrics))
    missing = {words.metric(name): why for name, why in given.not_measured.items()}
    if not measured and missing:
        missing = {"Figures": ", ".join(dict.fromkeys(missing.values()))}
    measured += "".join(
        _line(name, f'<span class="s-muted">{escape(why)}</span>') for name, why in missing.items()
    )
    if given.refit:
        measured += f'<div class="s-muted s-below">{escape(given.refit)}</div>'
    if given.provisional:
        why = f"Provisional: {given.provisional}."
        measured = f'<div class="s-muted s-below">{escape(why)}</div>{measured}'
    if not measured:
        measured = '<div class="s-muted">Its training recorded no metrics.</div>'
    return (
        f"{title('Model in charge', _measured_on(given.measured_on))}"
        f'<div class="s-line"><span class="s-value">{escape(given.name or "")}</span>'
        f'<span class="s-value">version {escape(given.version or "")}</span></div>'
        f'<div class="s-muted s-below">{escape(made)}</div>'
        f'<div class="s-muted s-below">{escape(_vouched(given))}</div>{measured}'
    )


def _measured_on(noted: MeasuredOn | None) -> str:
    """What a model's figures rest on."""
    if noted is None:
        return "on payments it had not seen"
    payments, frauds = words.count(noted.payments), words.count(noted.frauds)
    return (
        f"on {payments} payments with {frauds} known fraud{'' if noted.frauds == 1 else 's'}, none "
        "of which it had seen"
    )


def _vouched(given: Model) -> str:
    """Who let the model serve, in a sentence."""
    who = {
        "passed": "Passed the gate",
        "provisional": "Provisional by the gate",
        "adopted": "Adopted by an operator",
    }
    if given.signed is None or given.signed_by is None:
        return "Not signed: nobody vouches for it."
    return f"{who.get(given.signed, given.signed)}, signed by key {given.signed_by}."


def detail(decision: Decision, base: MoneySettings) -> str:
    """All that is known of one decision."""
    lines = [
        ("Transaction", str(decision.transaction_id)),
        ("Amount", words.money(decision.amount_minor, base)),
        ("Called fraud", "yes" if decision.is_fraud else "no"),
        ("Known truth", decision.label.value if decision.label else "nothing yet"),
        ("Weighed heaviest", words.feature(decision.top_reason)),
        ("Paid", words.moment(decision.event_time_us)),
        ("Received", words.moment(decision.received_at_us)),
        ("Card", decision.card_id),
        ("Customer", decision.customer_id),
        ("Merchant", decision.merchant_id),
        ("Device", decision.device_id),
        ("IP address", decision.ip_address),
        ("Latency", words.milliseconds(decision.latency_us)),
        ("Model", f"version {decision.model_version}"),
        ("Place in the log", words.count(decision.sequence)),
    ]
    if decision.degraded:
        lines.insert(3, ("Feature state", "could not be read: scored without history"))
    if decision.void:
        lines.insert(3, ("Declared void", "features, labels and training leave it out"))
    outcome = decision.decision
    said = "".join(_line(name, escape(value or words.DASH)) for name, value in lines)
    return (
        f'<div class="s-top"><span class="s-big">{words.percent(decision.fraud_probability)}</span>'
        f'<span class="s-muted">fraud probability</span><span class="s-pill s-{outcome.value} '
        f's-right"><span class="s-dot"></span>{words.OUTCOME_WORDS[outcome]}</span></div>'
        f'<div class="s-list">{said}</div>'
    )


def _part(part: Part) -> str:
    return (
        f'<div class="s-line s-{part.status}"><span class="s-dot" title="{part.status}"></span>'
        f"<span>{escape(part.name)}</span>"
        f'<span class="s-muted">{escape(part.line)}</span></div>'
    )


def _line(name: str, value: str) -> str:
    return (
        f'<div class="s-line"><span class="s-muted">{escape(name)}</span>'
        f'<span class="s-value">{value}</span></div>'
    )


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are.

    >>> _some(["a", "b", "c", "d"])
    'a, b, c and 1 more'
    """
    more = len(names) - _NAMED
    shown = escape(", ".join(names[:_NAMED]))
    return f"{shown} and {more} more" if more > 0 else shown


def _metric(name: str, estimate: Estimate) -> str:
    """A metric with its interval; a share of something also on a scale from 0 to 1."""
    value, low, high = estimate.value or 0.0, estimate.low, estimate.high
    interval = f"{_figure(low)} to {_figure(high)}" if low is not None and high is not None else ""
    scale = ""
    share = not name.endswith(_LOSSES)
    if share and low is not None and high is not None and 0 <= low <= high <= 1:
        band = f"left:{100 * low:.2f}%;width:{100 * (high - low):.2f}%"
        dot = f"left:{100 * value:.2f}%"
        scale = f'<div class="s-scale"><i style="{band}"></i><b style="{dot}"></b></div>'
    return (
        f'<div class="s-metric"><div><span>{escape(name)}</span><span><span class="s-value">'
        f'{_figure(value)}</span> <span class="s-muted">{interval}</span></span></div>{scale}</div>'
    )


def _figure(value: float) -> str:
    """Three decimals, or three significant digits of what is smaller.

    >>> _figure(0.71234), _figure(0.00123)
    ('0.712', '0.00123')
    """
    return f"{value:.3f}" if abs(value) >= 0.01 or math.isclose(value, 0) else f"{value:.3g}"
