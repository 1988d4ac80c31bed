"""What comes after the history, sent to a scorer payment by payment and label by label."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import httpx
import pyarrow as pa

from sentinel.domain import ENTITY_COLUMNS, Transaction
from sentinel.log.schema import KIND_LABEL
from sentinel.pipeline.verify import transactions_of
from sentinel.settings import Settings
from testkit.scratch import serving

_BATCH: Final = 200
"""Payments of a request; labels that arrived meanwhile follow it."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def scores_served(settings: Settings, log: Sequence[pa.RecordBatch]) -> dict[str, float]:
    """Send a log's entries in order to a scorer of the workspace.

    Returns:
        The probability that it answered, by payment.

    Raises:
        RuntimeError: It refused something.
    """
    scores: dict[str, float] = {}
    payments: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    with serving(settings) as server, httpx.Client(base_url=server.url, timeout=60) as client:

        def flush() -> None:
            if payments:
                answer = _post(client, "/predict/batch", {"transactions": payments})
                for sent, item in zip(payments, answer["results"], strict=True):
                    if item["status"] != "Success":
                        raise RuntimeError(f"{sent} was answered {item}")
                    scores[sent["transaction_id"]] = item["answer"]["fraud_probability"]
                payments.clear()
            if labels:
                _post(client, "/labels", {"labels": labels})
                labels.clear()

        for kind, entry in _entries(log):
            (labels if kind == KIND_LABEL else payments).append(entry)
            if len(payments) >= _BATCH or len(labels) >= _BATCH:
                flush()
        flush()
        server.stop()
    return scores


def _entries(log: Sequence[pa.RecordBatch]) -> list[tuple[int, dict[str, Any]]]:
    """Bodies with their kind, in the order of the log."""
    found: list[tuple[int, dict[str, Any]]] = []
    for batch in log:
        payments = iter(list(transactions_of(batch)))
        kinds = batch.column("kind").to_pylist()
        said = (
            batch.column(name).to_pylist() for name in ("transaction_id", "verdict", "label_id")
        )
        for kind, identifier, verdict, label in zip(kinds, *said, strict=True):
            if kind == KIND_LABEL:
                body = {"transaction_id": identifier, "verdict": verdict, "label_id": label}
                found.append((kind, body))
            else:
                found.append((kind, _body(next(payments))))
    return found


def _body(payment: Transaction) -> dict[str, Any]:
    moment = _EPOCH + timedelta(microseconds=payment.event_time_us)
    return {
        "transaction_id": payment.transaction_id,
        "amount_minor": payment.amount_minor,
        "event_time": moment.isoformat(),
        **{
            name: getattr(payment, name)
            for name in ENTITY_COLUMNS
            if getattr(payment, name) is not None
        },
        "attributes": dict(payment.attributes),
    }


def _post(client: httpx.Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    answer = client.post(path, json=body)
    if answer.status_code != 200:
        raise RuntimeError(f"{path} answered {answer.status_code}: {answer.text[:2000]}")
    result: dict[str, Any] = answer.json()
    return result


_FOLD: Final = """
import json, sys
from pathlib import Path
from sentinel.cli.console import settings_for
from sentinel.pipeline.backfill import backfill
from sentinel.pipeline.verify import verify
settings = settings_for(Path(sys.argv[1]))
backfill(settings)
found = verify(settings)
print(json.dumps({
    "rows": found.rows, "mismatches": found.mismatches, "recorded": found.recorded,
    "recorded_mismatches": found.recorded_mismatches,
    "examples": [repr(example) for example in found.examples],
}))
"""


def refolded(workspace: Path) -> dict[str, Any]:
    """Fold the log in a fresh process and compare what was served with it, bit for bit.

    Returns:
        Of `sentinel.pipeline.verify.Verified`: rows, mismatches, recorded, recorded_mismatches
        and examples.
    """
    done = subprocess.run(
        [sys.executable, "-c", _FOLD, str(workspace)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"The fold in a fresh process failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result
