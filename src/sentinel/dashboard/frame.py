"""What pages share: the scorer, who looks, links between pages, a table of decisions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import streamlit as st

from sentinel.access.own_key import OwnKey
from sentinel.dashboard import waterfall, words
from sentinel.dashboard.api_types import Decision
from sentinel.dashboard.client import ScoringApi, api_url
from sentinel.dashboard.login.door import USER_HEADER, name_in
from sentinel.domain import Unavailable
from sentinel.settings import load_settings

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_HERE: Final = Path(__file__).parent
_STYLE: Final = _HERE / "panels.css"

_table = st.components.v2.component(
    "sentinel_decision_table",
    css=(_HERE / "decision_table.css").read_text(encoding="utf-8"),
    js=(_HERE / "decision_table.js").read_text(encoding="utf-8"),
)


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
    return name_in(st.context.headers.get(USER_HEADER) or "")


def clock(us: int) -> str:
    """Time of day with its zone."""
    return f"{words.clock(us)} UTC"


def decision_table(
    key: str,
    rows: list[dict[str, object]],
    *,
    open_sequence: int | None,
    empty: str,
    on_pick: Callable[[], None],
) -> None:
    """A table of decisions; ``picked`` of its state is the place in the log of what was clicked.

    Args:
        key: Of its state in the session.
        rows: What `shape.table_rows` makes.
        open_sequence: Place in the log of the row that is open; None if none is.
        empty: What it says without rows.
        on_pick: Called when one is clicked.
    """
    data = {"rows": rows, "open": open_sequence, "empty": empty}
    _table(key=key, data=data, on_picked_change=on_pick)


def explanation(api: ScoringApi, opened: Decision) -> str:
    """The picture of a decision's explanation, asked for once while it is open."""
    known: tuple[int, str] | None = st.session_state.get("why")
    if known is not None and known[0] == opened.sequence:
        return known[1]
    try:
        picture = waterfall.explanation(api.explanation(opened.transaction_id))
    except Unavailable as error:
        picture = waterfall.missing(str(error))
    st.session_state["why"] = (opened.sequence, picture)
    return picture
