"""Alerts posted as JSON to an address, signed so that whoever gets them knows where they are from.

    Sentinel-Signature: t=SECONDS,v1=HEX

`HEX` is HMAC-SHA256 with the secret over the seconds since 1970, a full stop, and the body.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

import httpx
import msgspec

from sentinel.alerts.catalogue import ALERTS
from sentinel.alerts.mail import TIMEOUT_SECONDS
from sentinel.alerts.notices import Notice, taken_on
from sentinel.alerts.states import Held
from sentinel.domain import Unavailable
from sentinel.settings import AlertSettings

SIGNATURE: Final = "Sentinel-Signature"
FORMAT_VERSION: Final = 1
_OK: Final = range(200, 300)


def body_of(notice: Notice, *, deployment: str) -> bytes:
    """The JSON of a notice."""
    alerts = [
        {
            "name": one.name,
            "subject": one.subject,
            "severity": one.severity,
            "state": one.state,
            "summary": one.summary,
            "action": ALERTS[one.name].action if one.name in ALERTS else "",
            "runbook": f"docs/runbooks/{one.name}.md",
            "fired_at_us": one.fired_at_us,
            "resolved_at_us": one.resolved_at_us or None,
            "acknowledged": _taken_on(notice, one),
        }
        for one in notice.alerts
    ]
    whole = {
        "version": FORMAT_VERSION,
        "deployment": deployment,
        "at_us": notice.at_us,
        "repeated": notice.repeated,
        "alerts": alerts,
    }
    return msgspec.json.encode(whole)


def signature(secret: str, body: bytes, seconds: int) -> str:
    """What the header says.

    >>> signature("secret", b"{}", 1_700_000_000)[:16]
    't=1700000000,v1='
    """
    signed = hmac.new(secret.encode(), b"%d.%b" % (seconds, body), hashlib.sha256)
    return f"t={seconds},v1={signed.hexdigest()}"


def post(settings: AlertSettings, body: bytes, now_us: int) -> str:
    """Post a body; returns what was answered.

    Raises:
        Unavailable: The address did not answer, or not with a 2xx. Redirections are not followed.
    """
    headers = {"content-type": "application/json"}
    secret = settings.webhook_secret.get_secret_value()
    if secret:
        headers[SIGNATURE] = signature(secret, body, now_us // 1_000_000)
    url = settings.webhook_url.get_secret_value()
    host = httpx.URL(url).host  # paths and queries may hold a token
    try:
        with (
            httpx.Client(timeout=TIMEOUT_SECONDS, follow_redirects=False) as client,
            client.stream("POST", url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except httpx.HTTPError as error:
        raise Unavailable(
            f"The webhook at {host} does not answer: {type(error).__name__}"
        ) from error
    if status not in _OK:
        raise Unavailable(f"The webhook at {host} answered {status}, a 2xx is expected")
    return f"the webhook at {host} answered {status}"


def _taken_on(notice: Notice, one: Held) -> dict[str, Any] | None:
    known = taken_on(one, notice.acknowledged)
    return None if known is None else msgspec.to_builtins(known)
