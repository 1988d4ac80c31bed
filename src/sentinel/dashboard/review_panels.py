"""What was said of a payment, as HTML. Pure: values in, text out, all escaped."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from sentinel.dashboard import words
from sentinel.dashboard.api_types import RecordedLabel


def said(labels: Sequence[RecordedLabel]) -> str:
    """The labels of a payment, the latest first."""
    if not labels:
        return '<div class="s-list"><span class="s-muted">Nobody has said anything.</span></div>'
    lines = "".join(_line(label) for label in reversed(labels))
    return f'<div class="s-list">{lines}</div>'


def _line(label: RecordedLabel) -> str:
    by = escape(f"{label.origin}, {words.moment(label.received_at_us)}")
    return (
        f'<div class="s-line" title="{escape(str(label.label_id))}">'
        f'<span class="s-muted">{by}</span>'
        f'<span class="s-value">{escape(label.verdict.value)}</span></div>'
    )
