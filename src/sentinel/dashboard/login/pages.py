"""The pages in front of the dashboard: logging in, and the step behind it. Without JavaScript."""

from __future__ import annotations

import base64
import hashlib
from html import escape
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).parent
_STYLE: Final = (_HERE / "login.css").read_text(encoding="utf-8")
_SHIELD: Final = (_HERE.parent / "shield.svg").read_text(encoding="utf-8")
_STYLE_HASH: Final = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

POLICY: Final = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
"""Content security policy of these pages: nothing but their own style."""


def login(*, problem: str = "", name: str = "", password: bool = True, oidc: str = "") -> str:
    """The page that asks who somebody is.

    Args:
        problem: Why the last try was in vain; empty if there was none.
        name: What was typed as the user's name.
        password: Whether there are users with passwords.
        oidc: What the button of the identity provider says; empty if there is none.
    """
    told = f'<p class="problem" role="alert">{escape(problem)}</p>' if problem else ""
    focus = ("", " autofocus") if name else (" autofocus", "")
    form = (
        '<form method="post" action="/login">'
        '<label for="name">User</label>'
        f'<input id="name" name="name" autocomplete="username" autocapitalize="none" '
        f'spellcheck="false" required maxlength="64" value="{escape(name)}"{focus[0]}>'
        '<label for="password">Password</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" '
        f'required maxlength="256"{focus[1]}>'
        '<button type="submit">Log in</button></form>'
        if password
        else ""
    )
    provider = f'<a class="provider" href="/login/oidc">{escape(oidc)}</a>' if oidc else ""
    between = '<p class="or"><span>or</span></p>' if form and provider else ""
    return _page("Log in", f"{told}{form}{between}{provider}")


def onward() -> str:
    """A step of our own after one that began elsewhere: the browser sends our cookies with it."""
    head = '<meta http-equiv="refresh" content="0; url=/">'
    return _page("Sentinel", '<p><a href="/">Go on to the dashboard</a></p>', head)


def told(title: str, text: str) -> str:
    """A page that says something."""
    return _page(title, f'<p class="problem" role="alert">{escape(text)}</p>')


def _page(title: str, content: str, head: str = "") -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"{head}<title>{escape(title)} · Sentinel</title><style>{_STYLE}</style></head>"
        f"<body><main><header>{_SHIELD}<h1>Sentinel</h1></header>{content}</main></body></html>"
    )
