"""The first page: what is decided right now, by which model, and whether all parts are well."""

from __future__ import annotations

import time
from typing import Final

import streamlit as st

from sentinel.dashboard import charts, frame, panels, shape, words
from sentinel.dashboard.client import api_url
from sentinel.dashboard.feed import Feed, Snapshot
from sentinel.domain import Unavailable
from sentinel.settings import Settings, load_settings

REFRESH_SECONDS: Final = 2.0

_TABLE_ROWS: Final = 100
_PERIODS: Final = {"15 min": 15, "1 hour": 60, "All": None}
_EMPTY: Final = {
    "All decisions": "No payment has been scored yet. Send one with POST /predict.",
    "Alerts": "No payment has been held for review or declined yet.",
}


@st.cache_resource(show_spinner=False)
def _feed(url: str) -> Feed:
    """One record for everybody who looks."""
    return Feed(frame.scoring_api(url))


def page() -> None:
    """Draw the page; from then on it renews itself."""
    _live()


@st.fragment(run_every=REFRESH_SECONDS)
def _live() -> None:
    settings = load_settings()
    url = api_url(settings.api)
    api, feed = frame.scoring_api(url), _feed(url)
    try:
        snapshot = feed.snapshot()
        open_sequence = st.session_state.get("open")
        opened = api.decision(open_sequence) if open_sequence is not None else None
    except Unavailable as error:
        _away(str(error), feed.last_seen_us)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.html(
            panels.top(snapshot.health.status, frame.clock(snapshot.now_us), frame.user()),
            width="stretch",
        )
        period = _choice("Time that the page covers", "period", list(_PERIODS))
    _problems(snapshot)
    since_us = shape.period_start(snapshot, _PERIODS[period])
    _headline(settings, snapshot, since_us)
    _charts(settings, snapshot, since_us)
    wide, narrow = st.columns([2.35, 1], gap="medium")
    with wide:
        _decisions(settings, snapshot)
    with narrow:
        if opened is not None:
            with st.container(border=True, key="detail"):
                st.html(panels.detail(opened, settings.money))
                st.html(frame.explanation(api, opened))
                st.button("Close", on_click=_close, key="close", width="stretch")
        with st.container(border=True, key="model"):
            st.html(panels.model(snapshot.health))
        with st.container(border=True, key="service"):
            st.html(panels.service(snapshot.health))


def _away(problem: str, last_seen_us: int | None) -> None:
    st.html(panels.top("away", frame.clock(time.time_ns() // 1000), frame.user()))
    seen = f" It answered last at {words.clock(last_seen_us)} UTC." if last_seen_us else ""
    st.warning(
        f"{words.literal(problem)}{seen}\n\nThis page asks again every {REFRESH_SECONDS:g} "
        "seconds and goes on by itself.",
        icon=":material/cloud_off:",
    )


def _problems(snapshot: Snapshot) -> None:
    health = snapshot.health
    for problem in (health.feature_store.problem, health.model.problem):
        if problem:
            st.warning(words.literal(problem), icon=":material/warning:")
    if not health.model.loaded and not health.model.problem:
        st.info("No model has been promoted yet, so payments cannot be scored: run `sentinel up`.")


def _headline(settings: Settings, snapshot: Snapshot, since_us: int) -> None:
    figures = shape.headline(snapshot, since_us)
    counted, totals = figures.counted, snapshot.totals
    budget = settings.training.alert_budget_per_1000
    rate = figures.alerts_per_1000
    one, two, three, four, five = st.columns(5, gap="small")
    one.metric(
        "Decisions, last minute",
        words.DASH if figures.per_minute is None else words.count(figures.per_minute),
        words.DASH if figures.per_minute is None else f"{figures.per_minute / 60:.1f} a second",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
    )
    two.metric(
        "Alerts per 1,000 decisions",
        words.DASH if rate is None else f"{rate:.1f}",
        f"{budget:g} can be reviewed",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help="Payments held for review or declined, in the time that the charts show; from "
        f"{shape.LEAST_FOR_A_RATE} decisions on.",
    )
    three.metric(
        "Review and declined",
        f"{words.count(counted.review)} + {words.count(counted.decline)}",
        f"of {words.count(counted.decisions)} decisions",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
    )
    four.metric(
        "Median latency",
        words.DASH if figures.median_us is None else words.milliseconds(figures.median_us),
        words.DASH if figures.p99_us is None else f"p99 {words.milliseconds(figures.p99_us)}",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
        help=f"From arrival to a durable record, of the last {len(snapshot.rows):,} decisions.",
    )
    five.metric(
        "Decisions since the scorer's start",
        words.count(totals.decisions),
        f"{words.count(totals.labels)} {'label' if totals.labels == 1 else 'labels'} arrived",
        delta_color="off",
        delta_arrow="off",
        border=True,
        height="stretch",
    )


def _charts(settings: Settings, snapshot: Snapshot, since_us: int) -> None:
    minutes = shape.by_minute(snapshot, since_us)
    reasons = shape.top_reasons(snapshot.alerts, since_us)
    budget, least = settings.training.alert_budget_per_1000, shape.LEAST_FOR_A_RATE
    one, two, three = st.columns(3, gap="small")
    with one.container(border=True, height="stretch"):
        st.html(
            panels.title("Alert rate", f"per 1,000 over 5 min or {least} payments; dashed: budget")
        )
        st.vega_lite_chart(minutes, charts.alert_rate(budget), key="alert-rate")
    with two.container(border=True, height="stretch"):
        st.html(panels.title("Decisions per minute"))
        st.vega_lite_chart(minutes, charts.decisions_per_minute(), key="pace")
    with three.container(border=True, height="stretch"):
        st.html(panels.title("Top reasons", "what weighed heaviest in alerts"))
        if reasons:
            st.vega_lite_chart(reasons, charts.top_reasons(), key="reasons")
        else:
            st.caption("No alert in this time.")


def _decisions(settings: Settings, snapshot: Snapshot) -> None:
    shown = _choice("Show", "shown", list(_EMPTY))
    rows = snapshot.alerts if shown == "Alerts" else snapshot.rows
    frame.decision_table(
        "decisions",
        shape.table_rows(rows[:_TABLE_ROWS], settings.money),
        open_sequence=st.session_state.get("open"),
        empty=_EMPTY[shown],
        on_pick=_open,
    )


def _choice(label: str, key: str, options: list[str]) -> str:
    """One of some options, the first one to begin with."""
    chosen = st.segmented_control(
        label, options, default=options[0], required=True, key=key, label_visibility="collapsed"
    )
    return chosen or options[0]


def _open() -> None:
    """Show the payment that was clicked, or close it if it was open."""
    sequence = st.session_state["decisions"].picked
    st.session_state["open"] = None if st.session_state.get("open") == sequence else sequence


def _close() -> None:
    st.session_state["open"] = None
