"""`python -m sentinel.pipeline.policy_job`: a job of a policy for the scoring API.

It reads weeks of the log, which is nothing for the process that decides on payments. The request
comes on standard input as JSON, the answer goes to standard output: ``{"ok": ...}``, or
``{"error": ..., "code": ...}`` where it was refused.
"""

from __future__ import annotations

import sys
from typing import Literal

import msgspec

from sentinel.documents.store import restored
from sentinel.domain import SentinelError
from sentinel.pipeline.policies import apply, preview
from sentinel.pipeline.workspace import ledger_reader
from sentinel.policy.store import open_policies
from sentinel.policy.terms_file import terms_of
from sentinel.policy.versions import Terms
from sentinel.settings import Settings, load_settings
from sentinel.telemetry.log_setup import set_up_as_child


class PolicyJob(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked.

    Attributes:
        do: Which job.
        terms: The policy, as its file would say it; None if a version is named, or, of a preview,
            for the one that holds.
        version: An older version.
        by, why: Of a change.
    """

    do: Literal["preview", "apply"]
    terms: dict[str, object] | None = None
    version: int | None = None
    by: str = ""
    why: str = ""


def run(settings: Settings, job: PolicyJob) -> object:
    """Do it, and return what is answered."""
    terms = None if job.terms is None else terms_of(job.terms, "terms")
    with ledger_reader(settings):
        pass  # says so if there is none
    if job.do == "apply":
        made, workings = apply(settings, terms, by=job.by, why=job.why, version=job.version)
        return {"version": made, "workings": workings}
    return preview(settings, terms or _stored(settings, job.version))


def _stored(settings: Settings, version: int | None) -> Terms:
    store = open_policies(settings)
    try:
        if version is not None:
            return restored(store, version).terms
        present = store.read()
        return Terms() if present is None else present.terms
    finally:
        store.close()


def main() -> int:
    """Entry point; returns the exit status."""
    set_up_as_child("policy-job")
    job = msgspec.json.decode(sys.stdin.buffer.read(), type=PolicyJob)
    answer: dict[str, object]
    try:
        answer = {"ok": run(load_settings(), job)}
    except SentinelError as error:
        answer = {"error": str(error), "code": error.code}
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
