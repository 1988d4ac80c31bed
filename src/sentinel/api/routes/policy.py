"""`/policy`: the policy that holds, its history, what another would do, and changing it.

What reads weeks of the log is done by a process beside the one that decides, one at a time.
"""

from __future__ import annotations

import asyncio
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Response

from sentinel.access.principals import Principal
from sentinel.api.body import parse
from sentinel.api.large import LargeBodies
from sentinel.api.problems import problem_responses
from sentinel.api.routes.raw import RawRoute
from sentinel.documents.store import MOST_VERSIONS
from sentinel.domain import (
    ConfigurationError,
    InvalidQuery,
    LedgerUnavailable,
    LookupTooSlow,
    NotFound,
    Overloaded,
    Unavailable,
)
from sentinel.policy.previewed import Preview
from sentinel.policy.store import open_policies
from sentinel.policy.versions import PolicyVersion
from sentinel.policy.working_out import Workings
from sentinel.scoring.jobs import run_job
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.telemetry.safe_errors import shown

JOB_SECONDS: Final = 300.0
"""A job that takes longer is ended with 503."""
MOST_JOBS: Final = 1
"""Jobs at once; more get 429."""
MOST_LISTED: Final = 200
"""Most versions of one answer."""

_JOB: Final = "sentinel.pipeline.policy_job"
_REFUSED: Final = {
    NotFound.code: NotFound,
    LedgerUnavailable.code: LedgerUnavailable,
}
_VERSION: Final[dict[int | str, dict[str, Any]]] = {200: {"description": "Done"}}


class PolicyRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A policy to look at, or to apply.

    Attributes:
        terms: Costs, segments, reviews a day and what may be explored, as the file of `sentinel
            policy apply` says them; null if a version is named.
        version: An older version; null if terms are given.
        why: Why it is applied.
    """

    terms: dict[str, Any] | None = None
    version: Annotated[int, msgspec.Meta(ge=1, le=MOST_VERSIONS)] | None = None
    why: Annotated[str, msgspec.Meta(max_length=1_000)] = ""


class PolicyInForce(msgspec.Struct, kw_only=True):
    """The policy that this scorer rules by.

    Attributes:
        version: As it was stored; null if nobody ever set one, so that the model's lines hold.
        policy_hash: Names the policy in decisions; null without a model.
        exploring: Whether a control group is let through here and now.
        problem: Why the version is not followed to the letter; null if it is.
    """

    version: PolicyVersion | None
    policy_hash: str | None
    exploring: bool
    problem: str | None


class PolicyHistory(msgspec.Struct, kw_only=True):
    """Versions of the policy, newest first."""

    versions: list[PolicyVersion]


class PolicyApplied(msgspec.Struct, kw_only=True):
    """A version that was made just now, and what was worked out for it."""

    version: PolicyVersion
    workings: Workings


class PolicyRoutes:
    """Shows, previews and changes the policy.

    Args:
        runtime: The scoring process.
        large: Reads large bodies.
    """

    def __init__(self, runtime: ScoringRuntime, large: LargeBodies) -> None:
        self._runtime = runtime
        self._large = large
        self._decoder = msgspec.json.Decoder(PolicyRequest)
        self._jobs = 0
        self.routes = (
            RawRoute(
                path="/policy/preview",
                summary="What a policy would do to the payments of the last weeks",
                text="Alerts a day, money, precision and recall at the lines with 95 % intervals "
                "on mature truth, and what nobody can know. Changes nothing.",
                requests=(PolicyRequest,),
                answer=Preview,
                statuses=(400, 404, 413, 422, 429, 503),
                handle=self.preview,
            ),
            RawRoute(
                path="/policy",
                summary="Make a policy the one that holds",
                text="Every scorer takes it within a second. The key's id is kept as who did it.",
                requests=(PolicyRequest,),
                answer=PolicyApplied,
                statuses=(400, 404, 413, 422, 429, 503),
                handle=self.apply,
            ),
        )

    def router(self) -> APIRouter:
        """The routes that read."""
        router = APIRouter(tags=["service"])

        @router.get("/policy", summary="The policy that holds", responses=_VERSION)
        async def policy() -> Response:
            runtime = self._runtime
            ruling = runtime.writer.scorer.policy
            answer = PolicyInForce(
                version=runtime.policies.version,
                policy_hash=None if ruling is None else ruling.hash,
                exploring=runtime.writer.scorer.key is not None,
                problem=runtime.policies.problem,
            )
            return _json(answer)

        @router.get(
            "/policy/history",
            summary="Versions of the policy, newest first",
            responses={**_VERSION, **problem_responses(422, 503)},
        )
        async def history(
            most: Annotated[int, Query(ge=1, le=MOST_LISTED, description="So many.")] = 20,
            before: Annotated[
                int | None,
                Query(ge=1, le=MOST_VERSIONS, description="Only versions below this one."),
            ] = None,
        ) -> Response:
            return _json(PolicyHistory(versions=await asyncio.to_thread(self._read, most, before)))

        return router

    async def preview(self, body: bytes, _query: bytes, _principal: Principal) -> bytes:
        """What a policy would do."""
        request = await self._asked(body)
        return await self._do({"do": "preview"}, request)

    async def apply(self, body: bytes, _query: bytes, principal: Principal) -> bytes:
        """Make it the one that holds."""
        request = await self._asked(body)
        if (request.terms is None) == (request.version is None):
            raise InvalidQuery(
                "A policy is its terms or an older version.",
                fields={"terms": "give this or version", "version": "give this or terms"},
            )
        if not request.why.strip():
            raise InvalidQuery("Say why it is changed.", fields={"why": "must say why"})
        by = principal.key_id or "anyone on this machine"
        return await self._do({"do": "apply", "by": by, "why": request.why}, request)

    async def _asked(self, body: bytes) -> PolicyRequest:
        return await self._large.read(body, lambda: parse(self._decoder, body))

    def _read(self, most: int, before: int | None) -> list[PolicyVersion]:
        store = open_policies(self._runtime.settings)
        try:
            return store.history(most, before)
        except ConfigurationError as error:  # a version that this Sentinel cannot read
            raise LedgerUnavailable(str(error)) from None
        finally:
            store.close()

    async def _do(self, job: dict[str, Any], request: PolicyRequest) -> bytes:
        """The answer of a job."""
        if self._jobs >= MOST_JOBS:
            raise Overloaded(
                "A policy is looked at already, and one at a time is. Try again in a moment.",
                retry_after_seconds=5.0,
            )
        self._jobs += 1
        try:
            return await self._run(job | {"terms": request.terms, "version": request.version})
        finally:
            self._jobs -= 1

    async def _run(self, job: dict[str, Any]) -> bytes:
        settings = self._runtime.settings
        try:
            said = await run_job(
                _JOB,
                msgspec.json.encode(job),
                settings,
                JOB_SECONDS,
                {"SENTINEL_FEATURE_STORE": str(settings.definitions_dir.resolve())},
            )
        except TimeoutError:
            raise LookupTooSlow(
                f"The job took longer than {JOB_SECONDS:.0f} s and was ended. `sentinel policy "
                "preview --days N` looks at less."
            ) from None
        except (Unavailable, OSError) as error:
            raise LedgerUnavailable(f"The policy cannot be looked at: {shown(error)}.") from None
        answer = msgspec.json.decode(said, type=dict[str, msgspec.Raw])
        if "ok" in answer:
            return bytes(answer["ok"])
        words, code = (msgspec.json.decode(answer[name], type=str) for name in ("error", "code"))
        refused = _REFUSED.get(code)
        if refused is not None:
            raise refused(words)
        if code == ConfigurationError.code:
            raise InvalidQuery(words, fields={"terms": words})
        raise LedgerUnavailable(words)


def _json(answer: msgspec.Struct) -> Response:
    return Response(msgspec.json.encode(answer), media_type="application/json")
