"""The scoring routes as raw ASGI: no framework between the socket and the scorer."""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
import numpy as np

from sentinel.api.intake import Intake, read_dry_run, too_large
from sentinel.api.messages import (
    FeaturesRequest,
    LabelRequest,
    LabelsRequest,
    keys_of,
    labels_of,
    parse,
)
from sentinel.api.problems import (
    PROBLEM_TYPE,
    RETRY_AFTER,
    ProblemError,
    problem_body,
    problem_of,
)
from sentinel.domain import (
    InvalidQuery,
    InvalidTransaction,
    Verdict,
    id_for_display,
)
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.service import FutureReceiver

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

log = logging.getLogger(__name__)

_JSON: Final = (b"content-type", b"application/json")
_PROBLEM: Final = (b"content-type", PROBLEM_TYPE.encode())


class LabelReceiptItem(msgspec.Struct, kw_only=True):
    """What became of a label.

    Attributes:
        label_id: Given or made up.
        transaction_id: What it is about.
        verdict: As recorded.
        repeated: It was recorded before.
        known_transaction: False: it waits for its transaction.
    """

    label_id: str | int
    transaction_id: str | int
    verdict: Verdict
    repeated: bool
    known_transaction: bool


class LabelsAnswer(msgspec.Struct, kw_only=True):
    """Receipts in the order of the request."""

    labels: list[LabelReceiptItem]
    status: str = "Success"


class FeaturesAnswer(msgspec.Struct, kw_only=True):
    """Feature values of entities; null = unknown."""

    plan_hash: str
    now_us: int
    features: list[str]
    rows: list[list[float | None]]


class ScoringRoutes:
    """Handlers by path and method.

    Args:
        runtime: The scoring process.
        intake: Takes payments.
    """

    def __init__(self, runtime: ScoringRuntime, intake: Intake) -> None:
        self._runtime = runtime
        self._service = runtime.service
        self._intake = intake
        self._label_decoder = msgspec.json.Decoder(LabelRequest)
        self._labels_decoder = msgspec.json.Decoder(LabelsRequest)
        self._features_decoder = msgspec.json.Decoder(FeaturesRequest)
        self.handlers: dict[str, Callable[[Scope, Receive], Awaitable[bytes]]] = {
            "/predict": self._predict,
            "/predict/batch": self._predict_batch,
            "/labels": self._labels,
            "/features/read": self._read_features,
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request whose path is one of `handlers`."""
        path = scope["path"]
        headers: list[tuple[bytes, bytes]]
        try:
            if scope["method"] != "POST":
                raise ProblemError(
                    405, "method_not_allowed", "Method not allowed", f"Use POST for {path}."
                )
            body = await self.handlers[path](scope, receive)
            status, kind = 200, _JSON
        except Exception as error:
            problem = problem_of(error)
            status, kind = problem.status, _PROBLEM
            body = problem_body(problem)
            self._runtime.metrics.problem(path, status)
            if status == 500:
                log.exception("%s %s failed", scope["method"], path)
        headers = [kind, (b"content-length", b"%d" % len(body))]
        if status == 405:
            headers.append((b"allow", b"POST"))
        elif status == 503:
            headers.append(RETRY_AFTER)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def _body(self, scope: Scope, receive: Receive, limit: int) -> bytes:
        message = await receive()
        body: bytes = message.get("body", b"")
        if message.get("more_body"):
            pieces = [body]
            size = len(body)
            while message.get("more_body") and size <= limit:
                message = await receive()
                pieces.append(message.get("body", b""))
                size += len(pieces[-1])
            body = b"".join(pieces)
        if len(body) > limit:
            raise too_large(limit)
        return body

    async def _predict(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._intake.max_body)
        receiver = FutureReceiver()
        answer = self._intake.predict(body, read_dry_run(scope["query_string"]), receiver)
        return await receiver.future if answer is None else answer

    async def _predict_batch(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._intake.max_batch_body)
        receiver = FutureReceiver()
        self._intake.predict_batch(body, read_dry_run(scope["query_string"]), receiver)
        return await receiver.future

    async def _labels(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._intake.max_batch_body)
        try:
            requests, at = [parse(self._label_decoder, body)], ""
        except InvalidTransaction:
            if b'"labels"' not in body:
                raise
            requests, at = parse(self._labels_decoder, body).labels, "labels[{}]."
        labels = labels_of(requests, self._service.receive_time_us(), self._intake.guard, at)
        receipts = await self._runtime.labels.submit(labels)
        return msgspec.json.encode(
            LabelsAnswer(
                labels=[
                    LabelReceiptItem(
                        label_id=id_for_display(receipt.label.label_id),
                        transaction_id=id_for_display(receipt.label.transaction_id),
                        verdict=receipt.label.verdict,
                        repeated=receipt.repeated,
                        known_transaction=receipt.known_transaction,
                    )
                    for receipt in receipts
                ]
            )
        )

    async def _read_features(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._intake.max_batch_body)
        request = parse(self._features_decoder, body)
        now_us = request.now_us if request.now_us is not None else time.time_ns() // 1000
        keys = keys_of(request, self._intake.guard)

        def read() -> tuple[str, list[str], list[list[float | None]]]:
            engine = self._service.engine
            plan = engine.program.plan
            places = {name: i for i, name in enumerate(plan.feature_names)}
            names = list(plan.feature_names) if request.features is None else request.features
            unknown = [name for name in names if name not in places]
            if unknown:
                raise InvalidQuery(
                    f"The running plan {plan.hash} has no feature {', '.join(unknown[:5])}. "
                    "GET /health names the plan.",
                    fields={"features": f"unknown: {', '.join(unknown[:5])}"},
                )
            values = engine.read(keys, now_us)[:, [places[name] for name in names]]
            cells = values.astype(np.float64).astype(object)
            cells[np.isnan(values)] = None
            return plan.hash, names, cells.tolist()

        plan_hash, names, rows = await self._runtime.in_order(read)
        return msgspec.json.encode(
            FeaturesAnswer(plan_hash=plan_hash, now_us=now_us, features=names, rows=rows)
        )
