"""The page of experiments: what is known of each, and buttons to change, end or promote it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import streamlit as st

from sentinel.dashboard import charts, experiment_panels, frame, panels, words
from sentinel.dashboard.api_types import Experiments, JudgedExperiment, LineUps
from sentinel.dashboard.client import ScoringApi, api_url
from sentinel.domain import Unavailable
from sentinel.experiments.judgement import Judgement
from sentinel.experiments.lineup import MOST_SHARE, MOST_TEXT
from sentinel.settings import Settings, load_settings

REFRESH_SECONDS: Final = 3.0

_LOOKED_BACK: Final = 100
"""Versions of the line-up in which experiments that have ended are looked for."""
_START: Final = (
    "No experiment runs. Start one with `sentinel experiment start NAME --version VERSION "
    '--share 0.1 --canary --why "new features"`, or `POST /experiments`. Versions are those of '
    "`sentinel models list`."
)


def page() -> None:
    """Draw the page; its figures renew themselves."""
    settings = load_settings()
    api = frame.scoring_api(api_url(settings.api))
    try:
        health = api.health()
        running, past = api.experiments(), api.line_ups(_LOOKED_BACK)
    except Unavailable as error:
        _head("away")
        st.warning(words.literal(str(error)), icon=":material/cloud_off:")
        return
    _head(health.status)
    names = _names(running, past)
    runs = [one.experiment.name for one in running.experiments]
    if not runs:
        st.info(_START)
    if not names:
        return
    chosen = st.segmented_control(
        "Experiment",
        names,
        default=names[0],
        required=True,
        key="experiment",
        format_func=lambda name: name if name in runs else f"{name} (ended)",
        label_visibility="collapsed",
    )
    name = chosen or names[0]
    _figures(name)
    if name in runs:
        _controls(api, name, running)


def _head(status: str) -> None:
    st.html(panels.top(status, "", frame.user()), width="stretch")


def _names(running: Experiments, past: LineUps) -> list[str]:
    """Experiments that run, then those that ended, the latest first."""
    runs = [one.experiment.name for one in running.experiments]
    ended = (one.name for line_up in past.versions for one in line_up.experiments)
    return list(dict.fromkeys([*runs, *ended]))


@st.fragment(run_every=REFRESH_SECONDS)
def _figures(name: str) -> None:
    settings = load_settings()
    try:
        found = frame.scoring_api(api_url(settings.api)).experiment(name)
    except Unavailable as error:
        st.warning(words.literal(str(error)), icon=":material/cloud_off:")
        return
    st.html(experiment_panels.about(found))
    if found.problem:
        st.warning(
            words.literal(f"The log could not be judged: {found.problem}"),
            icon=":material/warning:",
        )
    if found.promotion is not None and found.promotion.state != "done":
        st.html(experiment_panels.promotion(found.promotion))
    said = None if found.status is None else found.status.judgement
    if said is not None:
        _headline(said, settings)
    wide, narrow = st.columns([1.9, 1], gap="medium")
    with wide.container(border=True, key="sequence"):
        _sequence(found, said)
    with narrow.container(border=True, key="guardrails"):
        st.html(experiment_panels.guardrails(found))
    if said is None:
        return
    one, two = st.columns(2, gap="medium")
    with one.container(border=True, key="estimates"):
        st.html(experiment_panels.estimates(said))
    with two.container(border=True, key="left-out"):
        st.html(experiment_panels.left_out(said))


def _headline(said: Judgement, settings: Settings) -> None:
    last = said.looks[-1] if said.looks else None
    one, two, three, four = st.columns(4, gap="small")
    decided = said.payments - said.decided
    metrics = (
        (
            one,
            "Decided by champion and challenger",
            f"{words.count(decided)} : {words.count(said.decided)}",
            f"{said.days:.1f} days are mature",
        ),
        (
            two,
            "Frauds that only one catches, seen",
            words.DASH if last is None else f"{last.champion} : {last.challenger}",
            f"younger, not counted: {said.immature_champion} : {said.immature_challenger}",
        ),
        (
            three,
            "Challenger's part of them",
            words.DASH if last is None or last.part is None else f"{last.part:.0%}",
            words.DASH if last is None else f"{last.low:.0%} to {last.high:.0%}",
        ),
        (
            four,
            "Estimate: more frauds caught",
            f"{said.extra_frauds:+,.0f}",
            words.money(round(said.extra_minor), settings.money),
        ),
    )
    for column, label, value, beside in metrics:
        column.metric(
            label,
            value,
            beside,
            delta_color="off",
            delta_arrow="off",
            border=True,
            height="stretch",
        )


def _sequence(found: JudgedExperiment, said: Judgement | None) -> None:
    if said is None and found.status is not None:
        st.html(panels.title("Which model is better", "not known of this one"))
        st.caption(
            "Only a challenger shares payments with the champion by chance, so nothing says which "
            "model is better. Start the version as a challenger to know."
        )
        return
    st.html(
        panels.title(
            "Challenger's part of the frauds that only one catches",
            "the interval holds however often one looks; dashed: both are worth the same",
        )
    )
    if said is not None and said.looks:
        rows = [
            {
                "day": look.day,
                "low": look.low,
                "high": look.high,
                "part": look.part,
                "champion": look.champion,
                "challenger": look.challenger,
            }
            for look in said.looks
        ]
        st.vega_lite_chart(rows, charts.confidence_sequence(), key="confidence-sequence")
    elif said is not None:
        st.caption(words.literal(said.why))
    else:
        st.caption("It is being judged: the log is read from its start on.")


def _controls(api: ScoringApi, name: str, running: Experiments) -> None:
    """Buttons; apart from the figures, so that renewing these does not disturb who types."""
    one = next(one for one in running.experiments if one.experiment.name == name)
    kind, user = one.experiment.kind, frame.user()
    with st.container(border=True, key="controls"):
        st.html(panels.title("Change it", f"as {user}" if user else "as anyone at this dashboard"))
        why = st.text_input(
            "Why (the line-up keeps it with who did it)", key=f"why-{name}", max_chars=MOST_TEXT
        ).strip()
        left, middle, right = st.columns(3, gap="medium", vertical_alignment="bottom")
        if kind != "segment":
            shadow = kind == "shadow"
            now = one.experiment.sample if shadow else one.share
            share = left.number_input(
                "Share that it scores, percent" if shadow else "Share of cards, percent",
                min_value=0.1,
                max_value=100.0 if shadow else 100.0 * MOST_SHARE,
                value=100.0 * now,
                step=1.0,
                key=f"share-{name}",
            )
            if left.button("Change share", key="change", disabled=not why, width="stretch"):
                _do(
                    lambda: api.change_share(name, share / 100.0, why=why, user=user),
                    f"{name} has {share:g} % from now on.",
                )
        if middle.button("Stop", key="stop", disabled=not why, width="stretch"):
            _do(lambda: api.stop_experiment(name, why=why, user=user), f"{name} has ended.")
        if kind == "challenger":
            force = right.checkbox("Although it was not shown to be better", key=f"force-{name}")
            if right.button(
                "Promote", key="promote", type="primary", disabled=not why, width="stretch"
            ):
                _do(
                    lambda: api.promote(name, why=why, user=user, force=force),
                    f"The promotion of version {one.experiment.version} is under way.",
                )
        if not why:
            st.caption("Say why, and the buttons can be pressed.")
        said = st.session_state.pop("experiment-said", None)
        if said is not None:
            (st.success if said[0] else st.error)(said[1])


def _do(change: Callable[[], object], done: str) -> None:
    """Ask the scorer, and draw the page anew with what it said."""
    try:
        change()
    except Unavailable as error:
        st.session_state["experiment-said"] = (False, str(error))
    else:
        st.session_state["experiment-said"] = (True, done)
        time.sleep(_FOLLOWED_SECONDS)
    st.rerun()


_FOLLOWED_SECONDS: Final = 0.6
"""A scorer has followed by then, so that the page shows what it does now."""
