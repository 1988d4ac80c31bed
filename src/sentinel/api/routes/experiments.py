"""`/experiments`: which versions score beside the champion, and changing that."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query, Request, Response

from sentinel.access.principals import Principal
from sentinel.api.body import parse
from sentinel.api.large import LargeBodies
from sentinel.api.problems import problem_responses
from sentinel.api.routes.raw import PRINCIPAL, RawRoute
from sentinel.documents.store import MOST_VERSIONS
from sentinel.domain import ConfigurationError, InvalidQuery, LedgerUnavailable, NotFound
from sentinel.experiments.lineup import (
    MOST_TEXT,
    Canary,
    Experiment,
    Kind,
    LineUp,
    started,
    stopped,
    with_share,
)
from sentinel.experiments.store import change_line_up, open_line_ups
from sentinel.models.registry_view import retirement_of
from sentinel.models.signature import MAY_SERVE
from sentinel.scoring.runtime import ScoringRuntime

MOST_LISTED: Final = 200
"""Most versions of one answer."""

MOST_PERSON: Final = 128
"""Characters of the name of whoever a key's holder acts for."""

_DONE: Final[dict[int | str, dict[str, Any]]] = {200: {"description": "Done"}}
_Text = Annotated[str, msgspec.Meta(max_length=MOST_TEXT)]
_Person = Annotated[str, msgspec.Meta(max_length=MOST_PERSON)]
OnBehalfOf = Annotated[
    str,
    Query(
        max_length=MOST_PERSON,
        description="The person for whom the key's holder does it; kept beside the key's id.",
    ),
]


class ExperimentRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """An experiment to start.

    Attributes:
        name: Names it in the log, and draws its cards.
        kind: `challenger`, `shadow` or `segment`.
        version: Of the registry. One that is to decide must have passed the gate.
        share: Of a challenger: the share of cards that it decides on, up to 0.95.
        canary: Whether a challenger begins with a hundredth for an hour, and grows.
        sample: Of a shadow: the share of cards whose payments it scores.
        condition: Of a segment model: it decides where this holds.
        why: Why it is started.
        on_behalf_of: The person for whom the key's holder does it; kept beside the key's id.
    """

    name: _Text
    kind: Kind
    version: _Text
    share: float = 0.0
    canary: bool = False
    sample: float = 1.0
    condition: _Text = ""
    why: _Text
    on_behalf_of: _Person = ""


class ShareRequest(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Another share for a challenger, or another sample for a shadow, that runs.

    Attributes:
        name: Of the experiment.
        share: From now on. A share that grows keeps the cards that it had.
        why: Why it is changed.
        on_behalf_of: The person for whom the key's holder does it; kept beside the key's id.
    """

    name: _Text
    share: float
    why: _Text
    on_behalf_of: _Person = ""


class RunningExperiment(msgspec.Struct, kw_only=True):
    """An experiment as this scorer runs it.

    Attributes:
        experiment: As it was started.
        share: Of a challenger, right now: that of a canary grows.
        running: Whether its model scores here.
        problem: Why it does not; null if it does.
    """

    experiment: Experiment
    share: float
    running: bool
    problem: str | None


class Experiments(msgspec.Struct, kw_only=True):
    """The line-up that this scorer follows.

    Attributes:
        version: Of the line-up; 0 if there never was an experiment.
        experiments: In the order in which they are asked.
    """

    version: int
    experiments: list[RunningExperiment]


class LineUpHistory(msgspec.Struct, kw_only=True):
    """Versions of the line-up, newest first."""

    versions: list[LineUp]


def experiments_of(runtime: ScoringRuntime) -> Experiments:
    """What runs in this process."""
    panel, now_us = runtime.writer.scorer.panel, time.time_ns() // 1000
    shares = {other.name: other.share for other in panel.others}
    problems = {
        one.name: runtime.problem_with_experiment(one.name) for one in panel.line_up.experiments
    }
    return Experiments(
        version=panel.line_up.version,
        experiments=[
            RunningExperiment(
                experiment=one,
                share=shares.get(one.name, one.share_at(now_us)),
                running=one.name in shares and problems[one.name] is None,
                problem=problems[one.name],
            )
            for one in panel.line_up.experiments
        ],
    )


class ExperimentRoutes:
    """Shows, starts, changes and stops experiments.

    Args:
        runtime: The scoring process.
        large: Reads large bodies.
    """

    def __init__(self, runtime: ScoringRuntime, large: LargeBodies) -> None:
        self._runtime = runtime
        self._large = large
        self._experiments = msgspec.json.Decoder(ExperimentRequest)
        self._shares = msgspec.json.Decoder(ShareRequest)
        self.routes = (
            RawRoute(
                path="/experiments",
                summary="Have a version score beside the champion",
                text="Every scorer takes it within a second of having its files. The key's id is "
                "kept as who did it. A version that is to decide must have passed the gate: "
                "`sentinel experiment start` asks it.",
                requests=(ExperimentRequest,),
                answer=LineUp,
                statuses=(400, 404, 413, 422, 503),
                handle=self.start,
            ),
            RawRoute(
                path="/experiments/share",
                summary="Change the share of a challenger, or the sample of a shadow",
                text="While it runs; a share that grows keeps the cards that it had.",
                requests=(ShareRequest,),
                answer=LineUp,
                statuses=(400, 404, 413, 422, 503),
                handle=self.share,
            ),
        )

    def router(self) -> APIRouter:
        """The routes that read, and the one that stops."""
        router = APIRouter(tags=["service"])

        @router.get("/experiments", summary="The experiments that run", responses=_DONE)
        async def experiments() -> Response:
            return json_answer(experiments_of(self._runtime))

        @router.get(
            "/experiments/history",
            summary="Versions of the line-up, newest first",
            responses={**_DONE, **problem_responses(422, 503)},
        )
        async def history(
            most: Annotated[int, Query(ge=1, le=MOST_LISTED, description="So many.")] = 20,
            before: Annotated[
                int | None,
                Query(ge=1, le=MOST_VERSIONS, description="Only versions below this one."),
            ] = None,
        ) -> Response:
            return json_answer(
                LineUpHistory(versions=await asyncio.to_thread(self._read, most, before))
            )

        @router.delete(
            "/experiments/{name}",
            summary="Stop an experiment",
            description="The champion decides on its payments within a second.",
            responses={**_DONE, **problem_responses(404, 422, 503)},
        )
        async def stop(
            request: Request,
            name: str,
            why: Annotated[
                str, Query(min_length=1, max_length=MOST_TEXT, description="Why it is stopped.")
            ],
            on_behalf_of: OnBehalfOf = "",
        ) -> Response:
            by = who(request.scope[PRINCIPAL], on_behalf_of)
            return json_answer(await self._change(lambda line_up: stopped(line_up, name), by, why))

        return router

    async def start(self, body: bytes, _query: bytes, principal: Principal) -> bytes:
        """Start an experiment."""
        wanted = await self._large.read(body, lambda: parse(self._experiments, body))
        by = who(principal, wanted.on_behalf_of)
        experiment = Experiment(
            name=wanted.name,
            kind=wanted.kind,
            version=wanted.version,
            share=wanted.share,
            condition=wanted.condition,
            sample=wanted.sample,
            canary=Canary() if wanted.canary else None,
            started_at_us=time.time_ns() // 1000,
            by=by,
            why=wanted.why,
        )
        self._check(experiment)
        made = await self._change(partial(started, experiment=experiment), by, wanted.why)
        try:
            self._check(experiment)
        except (NotFound, InvalidQuery) as error:  # such as a retirement at the same time
            await self._change(lambda line_up: stopped(line_up, wanted.name), by, str(error))
            raise
        return msgspec.json.encode(made)

    async def share(self, body: bytes, _query: bytes, principal: Principal) -> bytes:
        """Change a share."""
        wanted = await self._large.read(body, lambda: parse(self._shares, body))
        change = partial(with_share, name=wanted.name, share=wanted.share)
        return msgspec.json.encode(
            await self._change(change, who(principal, wanted.on_behalf_of), wanted.why)
        )

    def _check(self, experiment: Experiment) -> None:
        """See that the version is known, and may do what it is to do.

        Raises:
            NotFound: Neither the registry, as its follower saw it, nor this process has it.
            InvalidQuery: It is to decide, and no gate has judged it, or it is retired.
        """
        runtime, version = self._runtime, experiment.version
        view = runtime.registry.look()
        known = None if view is None else view.find(version)
        signed = runtime.models.signed(version)
        if known is None and signed is None:
            raise NotFound(
                f"There is no version {version}, as far as this scorer knows; `GET /models` lists "
                "those that there are."
            )
        if known is not None and retirement_of(known.tags) is not None:
            raise InvalidQuery(
                f"Version {version} is retired. `GET /models` says of each version whether it is.",
                fields={"version": "must not be retired"},
            )
        verdicts = {"" if known is None else known.signed}  # a gate may have judged it since
        if signed is not None:
            verdicts.add(signed.statement.verdict)
        if experiment.decides and verdicts.isdisjoint(MAY_SERVE):
            raise InvalidQuery(
                f"Version {version} is to decide on payments, and no gate has judged it. Start it "
                f"with `sentinel experiment start`, which asks the gate, or as a shadow.",
                fields={"version": "must have passed the gate"},
            )

    async def _change(self, change: Callable[[LineUp], LineUp], by: str, why: str) -> LineUp:
        if not why.strip():
            raise InvalidQuery("Say why it is changed.", fields={"why": "must say why"})
        settings, now_us = self._runtime.settings, time.time_ns() // 1000
        try:
            return await asyncio.to_thread(
                partial(change_line_up, settings, change, by=by, why=why, at_us=now_us)
            )
        except ConfigurationError as error:
            raise InvalidQuery(str(error), fields={"experiment": str(error)}) from None
        except LedgerUnavailable as error:
            if not settings.ledger.url:
                raise
            raise LedgerUnavailable(
                f"{error} Where scorers may only read the line-up, change it with `sentinel "
                "experiment`, as the role that owns the ledger."
            ) from None

    def _read(self, most: int, before: int | None) -> list[LineUp]:
        store = open_line_ups(self._runtime.settings)
        try:
            return store.history(most, before)
        except ConfigurationError as error:  # a version that this Sentinel cannot read
            raise LedgerUnavailable(str(error)) from None
        finally:
            store.close()


def who(principal: Principal, on_behalf_of: str = "") -> str:
    """Who changes something: the key, and the person that its holder names.

    >>> from sentinel.access.principals import STRANGER
    >>> who(STRANGER), who(STRANGER, "ann")
    ('anyone on this machine', 'ann (by anyone on this machine)')
    """
    by = principal.key_id or "anyone on this machine"
    named = on_behalf_of.strip()
    return f"{named} (by {by})" if named else by


def json_answer(answer: msgspec.Struct, status: int = 200) -> Response:
    """An answer in JSON."""
    return Response(msgspec.json.encode(answer), status, media_type="application/json")
