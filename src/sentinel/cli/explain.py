"""What `sentinel explain` does: it asks the scorer that serves the workspace."""

from __future__ import annotations

import textwrap
import urllib.parse
from typing import Any, Final

import httpx
from rich.console import Console

from sentinel.access.own_key import OwnKey
from sentinel.domain import InputError, StateUnavailable, WorkspaceError
from sentinel.settings import MoneySettings, Settings

MOST_SHOWN: Final = 10
"""Features that have a line of their own, unless all are asked for."""

_TIMEOUT_SECONDS: Final = 120.0
_COLUMNS: Final = 80
_BAR: Final = 14


def explanation_of(settings: Settings, transaction_id: str) -> dict[str, Any]:
    """The explanation of a decision, as `GET /decisions/{id}/explanation` has it.

    Raises:
        WorkspaceError: No scorer answers.
        InputError: It refuses, and says why.
        StateUnavailable: It cannot do it right now.
    """
    address = f"http://{settings.api.host}:{settings.api.port}"
    path = f"/decisions/{urllib.parse.quote(transaction_id)}/explanation"
    try:
        answer = httpx.get(
            f"{address}{path}", headers=OwnKey(settings).headers(), timeout=_TIMEOUT_SECONDS
        )
    except httpx.HTTPError as error:
        raise WorkspaceError(
            f"No scorer answers at {address} ({error}). Decisions are explained by the scorer that "
            "serves: start it with `sentinel up` or `sentinel serve`, or name its address in "
            "api.host and api.port."
        ) from error
    if answer.status_code == httpx.codes.OK:
        found: dict[str, Any] = answer.json()
        return found
    try:
        detail = str(answer.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = answer.text[:200]
    if answer.status_code in (401, 403):
        raise InputError(
            f"The scorer refused ({answer.status_code}): {detail} It takes a key with the scope "
            "decisions, in SENTINEL_ACCESS__KEY or in the file that SENTINEL_ACCESS__KEY_FILE "
            "names: `sentinel keys create NAME --scope decisions`."
        )
    if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
        raise StateUnavailable(detail)
    raise InputError(detail)


def explanation_report(
    console: Console, said: dict[str, Any], money: MoneySettings, *, most: int = MOST_SHOWN
) -> None:
    """The decision, then a line for each of the strongest features, and one for all others.

    Args:
        console: Where to.
        said: From `explanation_of`.
        money: Of amounts.
        most: Features with a line of their own.
    """

    def line(text: str, indent: str = "") -> None:
        wrapped = textwrap.wrap(text, _COLUMNS, subsequent_indent=indent) or [""]
        for one in wrapped:
            console.print(one, markup=False, soft_wrap=True)

    amount = f"{said['amount_minor'] / 10**money.scale:,.{money.scale}f} {money.currency}"
    line(
        f"{said['transaction_id']}: {said['decision']}, {100 * said['fraud_probability']:.2f} % "
        f"fraud probability, {amount}"
    )
    who = "" if said["role"] == "champion" else f" as {said['role']}"
    line(f"Decided by {said['model_name']} version {said['model_version']}{who}.")
    line(policy_words(said["policy"]))
    if not said["reproduced"]["exact"]:
        line(said["reproduced"]["problem"])
    for note in said["notes"]:
        line(note)
    line("")
    line(f"Contributions in {said['unit']}, + towards fraud:")
    features = said["features"]
    shown = [one for one in features[:most] if one["contribution"] or most >= len(features)]
    others = features[len(shown) :]
    rest = sum(one["contribution"] for one in others)
    largest = max([abs(one["contribution"]) for one in shown] + [abs(rest)], default=0.0)
    line(f"{said['base_value']:>+9.4f} {'':{_BAR}} expected of any payment")
    for one in shown:
        _bar(line, one["contribution"], largest, one["words"])
    if others:
        _bar(line, rest, largest, f"all {len(others)} others together")
    line(f"{said['score']:>+9.4f} {'':{_BAR}} score")


def policy_words(policy: dict[str, Any]) -> str:
    """What the probability was held against, in a sentence."""
    if policy["by"] is None:
        return "The policy that ruled is not known here any more."
    by = {
        "bands": "",
        "costs": ", where costs cross for this payment",
        "degraded": ", for decisions without state",
    }
    review = _line_words("reviewed", policy["review"])
    decline = _line_words("declined", policy["decline"])
    return f"{review.capitalize()}, {decline}{by[policy['by']]}."


def _line_words(what: str, line: float) -> str:
    return f"never {what}" if line >= 1 else f"{what} from {100 * line:.2f} % on"


def _bar(line: Any, contribution: float, largest: float, words: str) -> None:
    filled = round(_BAR * abs(contribution) / largest) if largest else 0
    mark = "+" if contribution > 0 else "-"
    line(f"{contribution:>+9.4f} {mark * filled:{_BAR}} {words}", indent=" " * (11 + _BAR))
