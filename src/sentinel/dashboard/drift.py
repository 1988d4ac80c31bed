"""The page of drift: what moved since the model was made, and what was said in advance."""

from __future__ import annotations

from typing import Final

import streamlit as st

from sentinel.dashboard import drift_panels, frame, panels, words
from sentinel.dashboard.client import api_url
from sentinel.domain import Unavailable
from sentinel.drift.figures import DriftOverview
from sentinel.settings import load_settings

REFRESH_SECONDS: Final = 30.0


def page() -> None:
    """Draw the page; its figures renew themselves."""
    settings = load_settings()
    api = frame.scoring_api(api_url(settings.api))
    try:
        health, found = api.health(), api.drift()
    except Unavailable as error:
        st.html(panels.top("away", "", frame.user()), width="stretch")
        st.warning(words.literal(str(error)), icon=":material/cloud_off:")
        return
    about = f"model version {found.model_version}" if found.model_version else ""
    st.html(panels.top(health.status, about, frame.user()), width="stretch")
    _figures()
    if found.features:
        _one(found)


@st.fragment(run_every=REFRESH_SECONDS)
def _figures() -> None:
    settings = load_settings()
    try:
        found = frame.scoring_api(api_url(settings.api)).drift()
    except Unavailable as error:
        st.warning(words.literal(str(error)), icon=":material/cloud_off:")
        return
    if found.missing:
        st.info(found.missing)
    if found.left_out:
        st.info(found.left_out_words)
    with st.container(border=True, key="drift-changes"):
        st.html(drift_panels.changes(found))
    with st.container(border=True, key="drift-labels"):
        st.html(drift_panels.labels(found))
    if found.features:
        with st.container(border=True, key="drift-features"):
            st.html(drift_panels.features(found))
    with st.container(border=True, key="drift-notices"):
        st.html(drift_panels.notices(found))


def _one(found: DriftOverview) -> None:
    """The histogram of a feature beside that of the reference."""
    names = [one.feature for one in found.features]
    with st.container(border=True, key="drift-one"):
        chosen = st.selectbox("Feature", names, key="drift-feature")
        try:
            detail = frame.scoring_api(api_url(load_settings().api)).drift_of(chosen or names[0])
        except Unavailable as error:
            st.warning(words.literal(str(error)), icon=":material/cloud_off:")
            return
        st.html(drift_panels.histogram(detail))
