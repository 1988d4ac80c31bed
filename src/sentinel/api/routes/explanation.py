"""`GET /decisions/{transaction_id}/explanation`: why a decision was what it was, whole and exact.

Looking for the decision is a look-up in the index like any other. The model that decided attributes
it again in a thread of its own, and a model that is not here any more is fetched by a process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, NamedTuple, TypeVar

from fastapi import APIRouter, Request, Response

from sentinel.api.problems import problem_responses
from sentinel.api.routes.decision_detail import (
    FoundDecision,
    RecordedVoid,
    detail_json,
    find_decision,
    own_id,
    void_of,
)
from sentinel.api.routes.explanation_json import explanation_json
from sentinel.api.routes.raw import PRINCIPAL
from sentinel.domain import ModelGone, NotDecided, Overloaded, UnknownTransaction
from sentinel.ingest.cards import masked
from sentinel.ingest.guard import Guard
from sentinel.ledger.index_readers import IndexReader, IndexReaders
from sentinel.scoring.attribution import decider_of
from sentinel.scoring.fetching import ModelFetcher
from sentinel.scoring.past_models import Found, PastModels
from sentinel.scoring.past_policies import PastPolicies
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.spare_time import lower_thread_priority

T = TypeVar("T")

MOST_WAITING: Final = 32
"""Explanations that are made or wait for it."""
_BEHIND: Final = "/explanation"
_EXPLAINED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "Done",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Explanation"}}},
    }
}


class _Asked(NamedTuple):
    """What the index has for a question."""

    found: FoundDecision
    void: RecordedVoid | None


class ExplanationRoute:
    """Explains decisions of the log.

    Args:
        runtime: The scoring process.
        guard: What the deployment does with ids.
        readers: Ask the queryable tables.
    """

    def __init__(self, runtime: ScoringRuntime, guard: Guard, readers: IndexReaders) -> None:
        self._runtime = runtime
        self._guard = guard
        self._readers = readers
        self._models = PastModels(runtime.settings, lambda: runtime.writer.scorer.panel.models)
        self._policies = PastPolicies(runtime.settings)
        self._fetcher = ModelFetcher(runtime.settings)
        self._thread = ThreadPoolExecutor(
            1, thread_name_prefix="explanations", initializer=lower_thread_priority
        )
        self._asked = 0

    def router(self) -> APIRouter:
        """The route. It stands before that of decisions, whose ids may have slashes."""
        router = APIRouter(tags=["ledger"])

        @router.get(
            "/decisions/{transaction_id:path}/explanation",
            summary="Why a decision was what it was: every feature's contribution",
            description=(
                "The model that decided attributes the recorded vector again. `reproduced` says "
                "whether score, probability and reasons have the bits that the log has of them. "
                "The decision of a payment whose own id ends in `/explanation` is here, too, as "
                "long as no other payment has the id before that."
            ),
            response_class=Response,
            responses={**_EXPLAINED, **problem_responses(404, 410, 422, 429, 503)},
        )
        async def explanation(request: Request, transaction_id: str) -> Response:
            principal = request.scope[PRINCIPAL]
            identifier = own_id(self._guard, principal, transaction_id)
            sequence = self._recent(identifier)
            asked = await self._readers.ask(
                lambda reader: self._find(reader, (identifier, transaction_id), sequence)
            )
            if isinstance(asked, _Asked):
                body = await self._explain(asked)
            else:
                whole = transaction_id + _BEHIND
                spellings = (own_id(self._guard, principal, whole), whole)
                sequence = self._recent(spellings[0])
                detail = await self._readers.ask(
                    lambda reader: detail_json(self._runtime, reader, spellings, sequence)
                )
                if detail is None:
                    raise _unknown(transaction_id, imported=asked)
                body = detail
            return Response(body, media_type="application/json")

        return router

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(cancel_futures=True)

    def _recent(self, identifier: str) -> int | None:
        """The place in the log of a decision that the index may not have yet."""
        known = self._runtime.writer.recent.recorded(identifier)
        return None if known is None else known.sequence

    def _find(
        self, reader: IndexReader, spellings: tuple[str, ...], sequence: int | None
    ) -> _Asked | bool:
        """The decision; where there is none, whether the transaction was imported."""
        found = find_decision(self._runtime, reader, spellings, sequence)
        if found is None:
            return any(reader.find(spelling) is not None for spelling in spellings)
        return _Asked(found, void_of(self._runtime, reader, found.transaction.transaction_id))

    async def _explain(self, asked: _Asked) -> bytes:
        if self._asked >= MOST_WAITING:
            raise Overloaded(
                f"{self._asked} explanations are being made or wait for it, as many as may. Ask "
                "again in a moment, and fewer at once.",
                retry_after_seconds=2.0,
            )
        self._asked += 1
        try:
            return await self._explain_in_turn(asked)
        finally:
            self._asked -= 1

    async def _explain_in_turn(self, asked: _Asked) -> bytes:
        decider = decider_of(asked.found.decided, asked.found.row)

        def find() -> Found:
            return self._models.find(decider.name, decider.version)

        models = await self._in_thread(find)
        fetched = False
        if models.model is None:
            await self._fetcher.fetch(decider.name, decider.version, models.problem)
            models = await self._in_thread(find)
            fetched = True
        if models.model is None:
            raise ModelGone(
                f"What the registry has as version {decider.version} of {decider.name} cannot be "
                f"used here. {models.problem}"
            )
        used = Found(models.model, "registry" if fetched else models.where)
        return await self._in_thread(lambda: self._json(asked, used))

    def _json(self, asked: _Asked, used: Found) -> bytes:
        decided = asked.found.decided
        champion = self._models.find(decided.model_name, decided.model_version).model
        champions = () if champion is None else (champion,)
        return explanation_json(
            self._runtime, self._policies, asked.found, asked.void, used, champions
        )

    async def _in_thread(self, do: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, do)


def _unknown(transaction_id: str, *, imported: bool) -> Exception:
    shown = masked(transaction_id)
    if imported:
        return NotDecided(
            f"Transaction {shown!r} was imported: nothing was decided on it here, so there is "
            "nothing to explain. GET /predict/{id} has the score that the history was given."
        )
    return UnknownTransaction(
        f"No decision is recorded for transaction {shown!r}. Have it decided with POST /predict; "
        "GET /decisions lists what there is."
    )
