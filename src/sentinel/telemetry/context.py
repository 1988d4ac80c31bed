"""Ids that tie log lines together: of a request, and of a run of a job.

They are bound for a block of code, and every line that is logged in it has them. Tasks and
`asyncio.to_thread` take them along; a thread of a pool does not.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

from sentinel.telemetry.request_ids import LONGEST_ID, is_request_id

RUN_VARIABLE: Final = "SENTINEL_RUN_ID"
"""The environment variable by which a process that starts another hands its run on."""

_NO_ID: Final = re.compile("[^A-Za-z0-9._-]")
_bound: ContextVar[dict[str, str] | None] = ContextVar("_bound", default=None)
_process: Final[dict[str, str]] = {}


def bound_ids() -> dict[str, str]:
    """What is bound here: ``request_id``, ``run_id`` or both. Not to be changed."""
    return _bound.get() or _process


@contextmanager
def bound(**ids: str) -> Iterator[None]:
    """Lines of the block have these ids, besides those that are bound already.

    >>> with bound(request_id="r1"):
    ...     bound_ids()["request_id"]
    'r1'
    """
    token = _bound.set({**bound_ids(), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def handed_on() -> dict[str, str]:
    """The environment of a process that works on what is bound here: a request, or a run."""
    ids = bound_ids()
    run = ids.get("request_id") or ids.get("run_id")
    return {RUN_VARIABLE: run} if run else {}


def begin_run(named: str = "") -> str:
    """The run of this process's job: that of the process that started it, else a new one.

    From now on all lines of this process have it as ``run_id``, and so have the processes that it
    starts.

    Args:
        named: What a scheduler calls the run. Characters that an id cannot have become dashes.
    """
    given = _NO_ID.sub("-", named)[:LONGEST_ID] or os.environ.get(RUN_VARIABLE, "")
    run = given if is_request_id(given) else secrets.token_hex(8)
    os.environ[RUN_VARIABLE] = _process["run_id"] = run
    return run
