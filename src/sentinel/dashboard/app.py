"""What `streamlit run` runs: the frame around the pages."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from sentinel.dashboard import drift, experiments, frame, live, reviews

# A file of ours: Streamlit would fetch an emoji or a material icon from elsewhere.
_ICON = Path(__file__).with_name("shield.svg").read_text(encoding="utf-8")

st.set_page_config(page_title="Sentinel", page_icon=_ICON, layout="wide")
_PAGES = [
    st.Page(live.page, title="Live", default=True),
    st.Page(reviews.page, title="Reviews", url_path="reviews"),
    st.Page(experiments.page, title="Experiments", url_path="experiments"),
    st.Page(drift.page, title="Drift", url_path="drift"),
]
_chosen = st.navigation(_PAGES, position="hidden")
frame.begin(_PAGES)
_chosen.run()
