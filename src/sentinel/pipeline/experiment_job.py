"""`python -m sentinel.pipeline.experiment_job`: judge or promote an experiment for a scorer.

A scorer runs it to answer over HTTP: judging reads the log from the start of an experiment on, and
a promotion needs the registry and scores the history. The request comes on standard input as JSON,
the answer goes to standard output: ``{"ok": ...}``, or ``{"error": ..., "code": ...}`` where it was
refused. Whatever a library prints goes to standard error, so that it is no part of the answer.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Literal

import msgspec

from sentinel.domain import SentinelError
from sentinel.pipeline.experiment_judging import promote_judged, status
from sentinel.settings import Settings, load_settings
from sentinel.spare_time import lower_priority
from sentinel.telemetry.log_setup import set_up_as_child


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for.

    Attributes:
        do: "status" judges, "promote" makes the challenger champion and ends its experiment.
        name: Of the experiment.
        by, why: Of a promotion: who does it, and why.
        force: Whether to promote although the challenger was not shown to be better.
    """

    do: Literal["status", "promote"]
    name: str
    by: str = ""
    why: str = ""
    force: bool = False


def run(settings: Settings, wanted: Wanted) -> Any:
    """Do it.

    Returns:
        An `ExperimentState`, or ``version`` and ``replaced`` of a promotion.

    Raises:
        GateWaits: The challenger was not shown to be better.
        SentinelError: See `sentinel.pipeline.experiment_judging`.
    """
    if wanted.do == "status":
        return status(settings, wanted.name)
    promoted = promote_judged(
        settings, wanted.name, by=wanted.by, why=wanted.why, force=wanted.force
    )
    return {"version": promoted.version, "replaced": promoted.replaced}


def main() -> int:
    """Entry point; returns the exit status."""
    set_up_as_child("experiment-job")
    lower_priority()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    wanted = msgspec.json.decode(sys.stdin.buffer.read(), type=Wanted)
    answer: dict[str, Any]
    try:
        answer = {"ok": run(load_settings(), wanted)}
    except SentinelError as error:
        answer = {"error": str(error), "code": error.code}
    with answers:
        answers.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
