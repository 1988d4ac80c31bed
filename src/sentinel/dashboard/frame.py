"""What all pages share: the scorer that they ask, who looks, and the links between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from sentinel.access.own_key import OwnKey
from sentinel.dashboard import words
from sentinel.dashboard.client import ScoringApi, api_url
from sentinel.dashboard.login.door import USER_HEADER
from sentinel.settings import load_settings

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_STYLE = Path(__file__).with_name("panels.css")


@st.cache_resource(show_spinner=False)
def scoring_api(url: str) -> ScoringApi:
    """One connection for everybody who looks."""
    settings = load_settings()
    counters = settings.dashboard.metrics_url or api_url(settings.api, settings.api.admin_port)
    return ScoringApi(url, own_key=OwnKey(settings), metrics_url=counters)


def begin(pages: Sequence[StreamlitPage]) -> None:
    """Draw what stands above every page."""
    st.html(_STYLE)
    with st.container(horizontal=True, key="pages"):
        for page in pages:
            st.page_link(page, width="content")


def user() -> str:
    """Who is logged in; empty where nobody has to be."""
    return st.context.headers.get(USER_HEADER) or ""


def clock(us: int) -> str:
    """Time of day with its zone."""
    return f"{words.clock(us)} UTC"
