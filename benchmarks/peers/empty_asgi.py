"""A raw ASGI route that reads the body and answers a fixed decision: what HTTP alone costs."""

from __future__ import annotations

import argparse
import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from benchmarks.peers.payment import serve

_REASON = {
    "feature": "customer_amount_to_mean_30d",
    "value": 14.25,
    "contribution": 0.8125,
    "words": "14.2 times what is usual",
}
ANSWER = json.dumps(
    {
        "transaction_id": "payment-1",
        "is_fraud": False,
        "fraud_probability": 0.0123,
        "decision": "approve",
        "reasons": [_REASON] * 4,
        "model_name": "sentinel-fraud",
        "model_version": "1",
        "latency_ms": 1.234,
        "degraded": False,
        "status": "Success",
    }
).encode()

_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(ANSWER)),
    ],
}
_BODY = {"type": "http.response.body", "body": ANSWER}


async def application(
    _scope: MutableMapping[str, Any],
    receive: Callable[[], Awaitable[MutableMapping[str, Any]]],
    send: Callable[[MutableMapping[str, Any]], Awaitable[None]],
) -> None:
    while (await receive()).get("more_body"):
        pass
    await send(_START)
    await send(_BODY)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    serve(application, parser.parse_args().port)
