"""The payments that the README tells its reader to send, and the decisions that it promises."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from testkit.pages import blocks_of
from testkit.scratch import REPOSITORY

_DECISION: Final = re.compile(r'"decision": "(approve|review|decline)"')
_CURL: Final = 'curl() { printf "%s\\0" "$@" "$end"; }; end="$1"\n'
_END: Final = "-- end of a request --"


@dataclass(frozen=True)
class Promise:
    """What the README says of some payments.

    Attributes:
        payments: Bodies of `POST /predict`, in the order in which they are sent.
        decision: That of the last of them.
    """

    payments: Sequence[dict[str, Any]]
    decision: str


def readme_promises() -> list[Promise]:
    """Payments and decisions, in the order of the page.

    >>> [len(promise.payments) for promise in readme_promises()]
    [1, 4]
    """
    page = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    lines = page.splitlines()
    sent = [
        (block.line, payments)
        for block in blocks_of(page)
        if block.is_commands and (payments := list(_payments(block.text)))
    ]
    promises = []
    for (line, payments), (until, _) in zip(sent, [*sent[1:], (len(lines), [])], strict=True):
        said = _DECISION.search("\n".join(lines[line:until]))
        if said is None:
            raise ValueError(f"README.md:{line} sends payments, and says no decision.")
        promises.append(Promise(payments, said[1]))
    return promises


def _payments(commands: str) -> Iterator[dict[str, Any]]:
    """The bodies that commands send to be decided on, with no server asked."""
    if "/predict -H" not in commands:
        return
    shown = subprocess.run(
        ["bash", "-c", _CURL + commands, "bash", _END],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for request in shown.split(_END + "\0"):
        arguments = request.split("\0")
        if "-d" in arguments:
            yield json.loads(arguments[arguments.index("-d") + 1])
