"""`POST /features/read`: the features of entities without a payment."""

from __future__ import annotations

import time
from functools import partial
from itertools import islice
from typing import Annotated, Final

import msgspec
import numpy as np

from sentinel.access.principals import Principal
from sentinel.api.body import MOST_NAMED, parse
from sentinel.api.large import LargeBodies
from sentinel.api.problems import invalid
from sentinel.api.routes.raw import RawRoute
from sentinel.domain import ENTITY_COLUMNS, InvalidQuery
from sentinel.features.plan.plan import Plan
from sentinel.ingest.guard import Guard
from sentinel.ingest.values import BadValue
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.state.base import Vectors

MAX_ROWS: Final = 10_000
"""Most rows of one request."""
MAX_FEATURES: Final = 1_000
"""Most features that one request may name."""
SLICE_ROWS: Final = 64
"""Rows that are read in one turn of the event loop; payments have theirs in between."""


class FeaturesRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A question for the features of entities, without a payment.

    Attributes:
        rows: Entity column to key; null where it is unknown.
        now_us: The time of the question, microseconds UTC; default: now.
        features: Names to return; default: all of the plan.
    """

    rows: Annotated[list[dict[str, str | int | None]], msgspec.Meta(max_length=MAX_ROWS)]
    now_us: Annotated[int, msgspec.Meta(ge=0, le=2**62)] | None = None
    features: Annotated[list[str], msgspec.Meta(max_length=MAX_FEATURES)] | None = None


class FeaturesAnswer(msgspec.Struct, kw_only=True):
    """Feature values of entities; null = unknown."""

    plan_hash: str
    now_us: int
    features: list[str]
    rows: list[list[float | None]]


class _RenderedAnswer(msgspec.Struct, kw_only=True):
    """`FeaturesAnswer` with rows that are JSON already."""

    plan_hash: str
    now_us: int
    features: list[str]
    rows: msgspec.Raw


def keys_of(request: FeaturesRequest, guard: Guard) -> list[dict[str, str]]:
    """The rows of a question for features: entity to id, without those that are unknown.

    Raises:
        InvalidTransaction: Naming the offending fields.
    """
    problems: dict[str, str] = {}
    rows: list[dict[str, str]] = []
    for i, row in enumerate(request.rows):
        keys: dict[str, str] = {}
        for name, value in row.items():
            if name not in ENTITY_COLUMNS:
                problems[f"rows[{i}].{name}"] = (
                    f"is not an entity; the entities are {', '.join(ENTITY_COLUMNS)}"
                )
                continue
            try:
                key = guard.id(name, value)
            except BadValue as error:
                problems[f"rows[{i}].{name}"] = str(error)
                continue
            if key is not None:
                keys[name] = key
        rows.append(keys)
    if problems:
        raise invalid(dict(islice(problems.items(), MOST_NAMED)))
    return rows


class FeaturesRoute:
    """Reads features.

    Args:
        runtime: The scoring process.
        guard: What the deployment does with ids.
        large: Reads and writes large bodies.
    """

    def __init__(self, runtime: ScoringRuntime, guard: Guard, large: LargeBodies) -> None:
        self._large = large
        self._runtime = runtime
        self._guard = guard
        self._decoder = msgspec.json.Decoder(FeaturesRequest)
        self.routes = (
            RawRoute(
                path="/features/read",
                summary="Read features of now",
                text="The features of entities without a payment, as of now or a given time.",
                requests=(FeaturesRequest,),
                answer=FeaturesAnswer,
                statuses=(400, 413, 422, 503),
                handle=self.read,
            ),
        )

    async def read(self, body: bytes, _query: bytes, principal: Principal) -> bytes:
        """Read the features that a body asks for; a sender those of its own entities alone.

        A long question is read slice by slice. Each row is as of `now_us`, and a payment that comes
        in between two slices is seen by the later one.
        """
        request, keys = await self._large.read(body, partial(self._question, body, principal))
        now_us = request.now_us if request.now_us is not None else time.time_ns() // 1000
        plan = self._plan()
        pieces: list[bytes] = []
        at = 0
        while at < len(keys) or not pieces:
            part = keys[at : at + SLICE_ROWS]
            running, vectors = await self._runtime.read_features(part, now_us)
            if running is not plan:  # another model took over in between
                plan, pieces, at = running, [], 0
                continue
            pieces.append(_rows_json(running, vectors, request.features))
            at += SLICE_ROWS
        names = list(plan.feature_names) if request.features is None else request.features
        joined = b"[%b]" % b",".join(filter(None, pieces))
        return msgspec.json.encode(
            _RenderedAnswer(
                plan_hash=plan.hash, now_us=now_us, features=names, rows=msgspec.Raw(joined)
            )
        )

    def _question(
        self, body: bytes, who: Principal
    ) -> tuple[FeaturesRequest, list[dict[str, str]]]:
        request = parse(self._decoder, body)
        keys = keys_of(request, self._guard)
        if who.sender:  # ids as they were sent, before they become tokens
            for i, row in enumerate(request.rows):
                for name, value in row.items():
                    if value is not None:
                        who.require_own(str(value), f"rows[{i}].{name}")
        return request, keys

    def _plan(self) -> Plan:
        return self._runtime.writer.scorer.program.plan


def _rows_json(plan: Plan, values: Vectors, features: list[str] | None) -> bytes:
    """Rows of values as JSON without the brackets around them; null = unknown.

    Raises:
        InvalidQuery: The plan has no such feature.
    """
    if features is not None:
        places = {name: i for i, name in enumerate(plan.feature_names)}
        unknown = [name for name in features if name not in places]
        if unknown:
            raise InvalidQuery(
                f"The running plan {plan.hash} has no feature {', '.join(unknown[:5])}. "
                "GET /health names the plan.",
                fields={"features": f"unknown: {', '.join(unknown[:5])}"},
            )
        values = values[:, [places[name] for name in features]]
    return msgspec.json.encode(values.astype(np.float64).tolist())[1:-1]
