"""The page of reviews: payments that wait for a verdict, any payment by its id, and verdicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

import streamlit as st

from sentinel.dashboard import frame, panels, review_panels, shape, words
from sentinel.dashboard.api_types import Decision, RecordedLabel
from sentinel.dashboard.client import ScoringApi, api_url
from sentinel.domain import Unavailable, Verdict
from sentinel.settings import load_settings

REFRESH_SECONDS: Final = 3.0

_TABLE_ROWS: Final = 200
_MOST_PAGES: Final = 10
"""Of payments that were declared void or judged a moment ago, before the next ones are shown."""
_TRANSACTION: Final = "transaction_id"
_KINDS: Final = {
    _TRANSACTION: "Transaction",
    "customer_id": "Customer",
    "card_id": "Card",
    "merchant_id": "Merchant",
}
_NONE_WAITS: Final = "No payment that was held for review waits for a verdict."
_MOST_JUDGED: Final = 200
"""Payments that this session gave a verdict on, and does not offer again before the index knows."""


def page() -> None:
    """Draw the page; the payments that wait renew themselves."""
    api = frame.scoring_api(api_url(load_settings().api))
    try:
        status = api.health().status
    except Unavailable as error:
        st.html(panels.top("away", "", frame.user()), width="stretch")
        st.warning(words.literal(str(error)), icon=":material/cloud_off:")
        return
    st.html(panels.top(status, "", frame.user()), width="stretch")
    _search()
    _desk()


def _search() -> None:
    """A field for an id; apart from the table, so that renewing that does not disturb who types."""
    with st.form("search", border=False):
        kind, text, find, back = st.columns([1, 3, 0.8, 1.4], vertical_alignment="bottom")
        chosen = kind.selectbox(
            "Find payments by", list(_KINDS), format_func=_KINDS.__getitem__, key="sought-kind"
        )
        given = text.text_input("Its id", key="sought-id", max_chars=128).strip()
        sought = find.form_submit_button("Find", width="stretch")
        waiting = back.form_submit_button("Back to those that wait", width="stretch")
    if waiting or (sought and not given):
        _forget("sought")
    elif sought:
        st.session_state["sought"] = (chosen, given)
        st.session_state["open-found"] = True
        _forget("reviewed")
        _forget("verdict-said")


@st.fragment(run_every=REFRESH_SECONDS)
def _desk() -> None:
    settings = load_settings()
    api = frame.scoring_api(api_url(settings.api))
    sought: tuple[str, str] | None = st.session_state.get("sought")
    try:
        title, rows, empty = _waiting(api) if sought is None else _found(api, *sought)
        opened = _opened(api, rows)
        labels = () if opened is None else _labels(api, opened)
    except Unavailable as error:
        st.warning(words.literal(str(error)), icon=":material/cloud_off:")
        return
    wide, narrow = st.columns([2.35, 1], gap="medium")
    with wide:
        st.html(title)
        frame.decision_table(
            "reviews",
            shape.table_rows(rows, settings.money),
            open_sequence=None if opened is None else opened.sequence,
            empty=empty,
            on_pick=_pick,
        )
    with narrow:
        _said()
        if opened is None:
            st.caption("Click a payment to see why it was decided so, and to give a verdict on it.")
            return
        with st.container(border=True, key="verdict"):
            _verdict(api, opened, labels)
        with st.container(border=True, key="reviewed-detail"):
            st.html(panels.detail(opened, settings.money))
            st.html(frame.explanation(api, opened))
            st.button("Close", on_click=_forget, args=("reviewed",), width="stretch")


def _waiting(api: ScoringApi) -> tuple[str, list[Decision], str]:
    """Payments that wait for a verdict: a title, the payments, and what is said without any."""
    judged = st.session_state.get("judged", ())
    found, rows = api.waiting(_TABLE_ROWS), list[Decision]()
    for _ in range(_MOST_PAGES):
        rows += (row for row in found.decisions if row.sequence not in judged and not row.void)
        if rows or found.next_before is None:
            break
        found = api.waiting(_TABLE_ROWS, found.next_before)
    more = "" if found.next_before is None else " of more"
    about = f"{len(rows):,}{more}, the newest first" if rows else "none"
    return panels.title("Held for review, without a verdict", about), rows, _NONE_WAITS


def _found(api: ScoringApi, kind: str, identifier: str) -> tuple[str, list[Decision], str]:
    """Payments that somebody looks for: a title, the payments, and what is said without any."""
    name = _KINDS[kind].lower()
    if kind == _TRANSACTION:
        detail = api.detail(identifier)
        row = None if detail is None else api.decision(detail.sequence)
        rows, more = [] if row is None else [row], False
        if row is not None and st.session_state.pop("open-found", False):
            st.session_state["reviewed"] = row.sequence
    else:
        page = api.decisions_of(kind, identifier, _TABLE_ROWS)
        rows, more = list(page.decisions), page.next_before is not None
    about = f"the newest {len(rows):,}" if more else f"{len(rows):,}"
    empty = f"No payment of {name} {identifier} was decided on here."
    if kind == _TRANSACTION:
        empty = f"No payment with the id {identifier} was decided on here."
    return panels.title(f"Payments of {name} {identifier}", about), rows, empty


def _opened(api: ScoringApi, rows: Sequence[Decision]) -> Decision | None:
    """The payment that was clicked; None if none is open."""
    sequence: int | None = st.session_state.get("reviewed")
    if sequence is None:
        return None
    return next((row for row in rows if row.sequence == sequence), None) or api.decision(sequence)


def _labels(api: ScoringApi, opened: Decision) -> tuple[RecordedLabel, ...]:
    detail = api.detail(opened.transaction_id)
    return () if detail is None else detail.labels


def _verdict(api: ScoringApi, opened: Decision, labels: Sequence[RecordedLabel]) -> None:
    """What was said of a payment, and buttons to say something."""
    user = frame.user()
    st.html(panels.title("Verdict", f"as {user}" if user else "as anyone at this dashboard"))
    st.html(review_panels.said(labels))
    if opened.void:
        st.caption("The payment was declared void, so a verdict on it would have no effect.")
        return
    fraud, good = st.columns(2, gap="small")
    for column, name, verdict, kind in (
        (fraud, "Fraud", Verdict.FRAUD, "primary"),
        (good, "Legitimate", Verdict.LEGITIMATE, "secondary"),
    ):
        column.button(
            name,
            key=f"verdict-{verdict.value}",
            type=kind,  # type: ignore[arg-type]
            width="stretch",
            on_click=_judge,
            args=(api, opened, verdict),
        )
    st.caption(
        "A later verdict corrects an earlier one. Features know it at once, and training learns "
        "from it."
    )


def _judge(api: ScoringApi, opened: Decision, verdict: Verdict) -> None:
    """Record a verdict on a payment, and close it."""
    label_id = words.verdict_id(frame.user() or "dashboard")
    try:
        api.give_verdict(opened.transaction_id, verdict, label_id)
    except Unavailable as error:
        st.session_state["verdict-said"] = (False, str(error))
        return
    judged = (*st.session_state.get("judged", ()), opened.sequence)
    st.session_state["judged"] = judged[-_MOST_JUDGED:]
    said = f"{opened.transaction_id} is {verdict.value}: recorded at {frame.clock(_now_us())}."
    st.session_state["verdict-said"] = (True, said)
    _forget("reviewed")


def _said() -> None:
    """What became of the last verdict, until something else is opened."""
    said: tuple[bool, str] | None = st.session_state.get("verdict-said")
    if said is not None:
        (st.success if said[0] else st.error)(words.literal(said[1]))


def _pick() -> None:
    """Open the payment that was clicked, or close it if it was open."""
    sequence = st.session_state["reviews"].picked
    _forget("verdict-said")
    if st.session_state.get("reviewed") == sequence:
        _forget("reviewed")
    else:
        st.session_state["reviewed"] = sequence


def _forget(name: str) -> None:
    st.session_state.pop(name, None)


def _now_us() -> int:
    return time.time_ns() // 1000
