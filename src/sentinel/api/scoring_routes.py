"""The scoring routes as raw ASGI: no framework between the socket and the scorer."""

from __future__ import annotations

import asyncio
import logging
import time
import urllib.parse
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import msgspec
import numpy as np

from sentinel.api.answers import BatchAnswer, BatchItem
from sentinel.api.messages import (
    BatchRequest,
    FeaturesRequest,
    LabelRequest,
    LabelsRequest,
    PredictRequest,
    label_of,
    parse,
    transaction_of,
)
from sentinel.api.problems import PROBLEM_TYPE, ProblemError, invalid, problem_body, problem_of
from sentinel.domain import (
    ENTITY_COLUMNS,
    InvalidQuery,
    InvalidTransaction,
    NoModel,
    TransactionConflict,
    Verdict,
    id_for_display,
)
from sentinel.scoring.runtime import ScoringRuntime

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
    """

    def __init__(self, runtime: ScoringRuntime) -> None:
        self._runtime = runtime
        self._service = runtime.service
        self._max_body = runtime.settings.api.max_body_bytes
        self._max_batch_body = self._max_body * 20
        self._predict_decoder = msgspec.json.Decoder(PredictRequest)
        self._batch_decoder = msgspec.json.Decoder(BatchRequest)
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
            headers.append((b"retry-after", b"1"))
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
            raise ProblemError(
                413, "body_too_large", "Body too large", f"A body has at most {limit:,} bytes."
            )
        return body

    async def _predict(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._max_body)
        service = self._service
        engine = service.engine
        request = parse(self._predict_decoder, body)
        transaction = transaction_of(
            request, service.receive_time_us(), engine.program.plan.number_columns
        )
        if engine.model is None:
            raise _no_model()
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"])
        answer = service.submit(transaction, dry_run=dry_run)
        return answer if type(answer) is bytes else await answer  # type: ignore[misc]

    async def _predict_batch(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._max_batch_body)
        service = self._service
        request = parse(self._batch_decoder, body)
        limit = self._runtime.settings.api.max_batch
        if len(request.transactions) > limit:
            raise invalid({"transactions": f"more than {limit:,}"})
        dry_run = bool(scope["query_string"]) and _dry_run(scope["query_string"])
        received = service.receive_time_us()
        numbers = service.engine.program.plan.number_columns
        problems: dict[str, str] = {}
        transactions = []
        for i, row in enumerate(request.transactions):
            try:
                transactions.append(transaction_of(row, received, numbers, f"transactions[{i}]."))
            except InvalidTransaction as error:
                problems.update(error.fields)
        if problems:
            raise invalid(problems)
        if service.engine.model is None:
            raise _no_model()
        answers: list[bytes | asyncio.Future[bytes] | TransactionConflict] = []
        for transaction in transactions:
            try:
                answers.append(service.submit(transaction, dry_run=dry_run))
            except TransactionConflict as error:
                answers.append(error)
        results = []
        for transaction, answer in zip(transactions, answers, strict=True):
            shown = id_for_display(transaction.transaction_id)
            if isinstance(answer, TransactionConflict):
                results.append(
                    BatchItem(transaction_id=shown, status="Conflict", detail=str(answer))
                )
                continue
            text = answer if isinstance(answer, bytes) else await answer
            results.append(
                BatchItem(transaction_id=shown, status="Success", answer=msgspec.Raw(text))
            )
        return msgspec.json.encode(BatchAnswer(results=results))

    async def _labels(self, scope: Scope, receive: Receive) -> bytes:
        body = await self._body(scope, receive, self._max_batch_body)
        try:
            requests = [parse(self._label_decoder, body)]
        except InvalidTransaction:
            if b'"labels"' not in body:
                raise
            requests = parse(self._labels_decoder, body).labels
        received = self._service.receive_time_us()
        labels = [
            label_of(
                request,
                str(request.label_id) if request.label_id is not None else uuid.uuid4().hex,
                received,
            )
            for request in requests
        ]
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
        body = await self._body(scope, receive, self._max_batch_body)
        request = parse(self._features_decoder, body)
        now_us = request.now_us if request.now_us is not None else time.time_ns() // 1000
        problems = {
            f"rows[{i}].{name}": f"is not an entity; the entities are {', '.join(ENTITY_COLUMNS)}"
            for i, row in enumerate(request.rows)
            for name in row
            if name not in ENTITY_COLUMNS
        }
        if problems:
            raise invalid(dict(list(problems.items())[:20]))

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
            values = engine.read(request.rows, now_us)[:, [places[name] for name in names]]
            cells = values.astype(np.float64).astype(object)
            cells[np.isnan(values)] = None
            return plan.hash, names, cells.tolist()

        plan_hash, names, rows = await self._runtime.in_order(read)
        return msgspec.json.encode(
            FeaturesAnswer(plan_hash=plan_hash, now_us=now_us, features=names, rows=rows)
        )


def _no_model() -> NoModel:
    return NoModel(
        "No model has been promoted yet. Train one with `sentinel train`, then promote it with "
        "`sentinel promote`."
    )


def _dry_run(query: bytes) -> bool:
    values = urllib.parse.parse_qs(query.decode("latin-1"), keep_blank_values=True).get("dry_run")
    if values is None:
        return False
    value = values[-1].lower()
    if value in ("true", "1"):
        return True
    if value in ("false", "0"):
        return False
    raise InvalidQuery(
        f"dry_run is true or false, not {value!r}.", fields={"dry_run": "true or false"}
    )
