"""What `sentinel void` does: it asks the scorer that serves the workspace."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import httpx

from sentinel.access.own_key import OwnKey
from sentinel.cli.console import out
from sentinel.domain import InputError, StateUnavailable, WorkspaceError
from sentinel.settings import Settings

_TIMEOUT_SECONDS: Final = 600.0
"""The log is read once."""


def void(settings: Settings, transaction_ids: Sequence[str], reason: str) -> None:
    """Declare payments void and say what became of each.

    Raises:
        WorkspaceError: No scorer answers.
        InputError: It refuses, and says why.
        StateUnavailable: It cannot do it right now.
    """
    address = f"http://{settings.api.host}:{settings.api.port}"
    try:
        answer = httpx.post(
            f"{address}/voids",
            json={"transaction_ids": list(transaction_ids), "reason": reason},
            headers=OwnKey(settings).headers(),
            timeout=_TIMEOUT_SECONDS,
        )
    except httpx.HTTPError as error:
        raise WorkspaceError(
            f"No scorer answers at {address} ({error}). A void is recorded by the scorer that "
            "serves: start it with `sentinel up` or `sentinel serve`, or name its address in "
            "api.host and api.port."
        ) from error
    if answer.status_code != httpx.codes.OK:
        message = f"The scorer refused ({answer.status_code}): {_detail(answer)}"
        if answer.status_code in (401, 403):
            raise InputError(
                f"{message} It takes a key with the scope admin, in SENTINEL_ACCESS__KEY or in "
                "the file that SENTINEL_ACCESS__KEY_FILE names: `sentinel keys create NAME "
                "--scope admin`."
            )
        if answer.status_code >= 500 or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise StateUnavailable(message)
        raise InputError(message)
    for receipt in answer.json()["voids"]:
        said = "was void already" if receipt["repeated"] else "is void"
        out.print(
            f"{receipt['transaction_id']} {said}, from entry {receipt['sequence']:,} on.",
            markup=False,
            soft_wrap=True,
        )


def _detail(answer: httpx.Response) -> str:
    try:
        problem: dict[str, Any] = answer.json()
    except ValueError:
        return answer.text[:200]
    return str(problem.get("detail") or problem.get("title") or problem)
