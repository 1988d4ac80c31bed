"""What a server recorded of payments sent by several clients at once, computed again."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

import numpy as np

from benchmarks.parity_clients import request, send_all
from benchmarks.parity_log import REPOSITORY, batches, transactions_in
from benchmarks.parity_replay import differing_words
from benchmarks.parity_tally import Tally
from sentinel.domain import Transaction, Verdict
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.features.plan.program import Program, compile_program
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import FLAG_LATE_EVENT, GroupKind, decode_decisions, decode_labels
from sentinel.scoring.recovery import recover
from sentinel.settings import Settings
from sentinel.state.embedded import EmbeddedState, restore
from testkit.entry_fold import labelled_in
from testkit.payments import payments
from testkit.scratch import make_workspace, serving

CLIENTS: Final = 8
LATE: Final = 0.05
TIED: Final = 0.01
LABELLED: Final = 0.03
_TIED_FIELDS: Final = (
    "event_time", "customer_id", "card_id", "merchant_id", "device_id", "ip_address",
)  # fmt: skip
_PAYMENTS_OF_A_CUSTOMER: Final = 50
_SPAN_US: Final = 5 * DAY_US
_SECONDS_PER_REQUEST: Final = 0.05


@dataclass
class Served:
    """What the comparison found.

    Attributes:
        tally: The comparison.
        late: Decisions on payments that came after a newer one of the same card, customer, ...
        tied: Decisions on payments at the very time of an earlier one of the same card.
        labels: Labels that were recorded.
        groups: Commits that the decisions shared.
    """

    tally: Tally = field(default_factory=Tally)
    late: int = 0
    tied: int = 0
    labels: int = 0
    groups: int = 0


def over_http(plan: Plan, folder: Path, payments_sent: int, *, clients: int = CLIENTS) -> Served:
    """Serve payments and labels, then compare every recorded vector with a backfill's.

    The state that a server recovers from its snapshots and the log is compared as well.

    Args:
        plan: What to serve.
        folder: For the workspace.
        payments_sent: How many payments; some labels come besides.
        clients: How many send at once.

    Raises:
        RuntimeError: The server refused something, or recorded more or less than was sent.
    """
    started = time.perf_counter()
    settings = make_workspace(folder / "workspace", plan=plan, trees=5, leaves=7)
    requests = _requests(payments_sent, random.Random(3))
    with serving(settings, environment={"SENTINEL_STATE__SNAPSHOT_SECONDS": "1"}) as server:
        seconds = 60 + len(requests) * _SECONDS_PER_REQUEST
        send_all(server.port, requests, clients, seconds)
        server.stop()
    task = {name: str(folder / name) for name in ("vectors", "recomputed")}
    task |= {"plan": str(settings.plan_path), "ledger": str(settings.ledger_path)}
    subprocess.run(
        [sys.executable, "-m", "benchmarks.parity_recomputed", json.dumps(task)],
        check=True,
        cwd=REPOSITORY,
    )
    served = _compare(plan, settings, folder / "vectors")
    if served.tally.rows != payments_sent:
        raise RuntimeError(f"{served.tally.rows} decisions are recorded, {payments_sent} were sent")
    program = compile_program(plan)
    after = restore(program, folder / "recomputed")
    served.tally.add_state(*differing_words(_recovered(program, settings), after))
    served.tally.seconds = time.perf_counter() - started
    return served


def _requests(n: int, rng: random.Random) -> list[bytes]:
    """Payments and labels, whole requests in the order they are sent in.

    Of the labels some come before their payment, some are corrected later.
    """
    placed: list[tuple[float, bytes]] = []
    customers = max(20, n // _PAYMENTS_OF_A_CUSTOMER)
    gap_us = max(20_000_000, _SPAN_US // n)
    stream = payments(
        3, customers=customers, merchants=customers // 5, gap_us=gap_us, late=LATE, tied=0.0
    )
    before: dict[str, Any] | None = None
    for number, body in enumerate(islice(stream, n)):
        if before is not None and rng.random() < TIED:
            for name in _TIED_FIELDS:
                if name in before:
                    body[name] = before[name]
        before = body
        placed.append((number, request("/predict", json.dumps(body).encode())))
        if rng.random() < LABELLED:
            at = number + rng.uniform(-20, 400)
            placed.append((at, _label(body, Verdict.FRAUD)))
            if rng.random() < 0.3:
                placed.append((at + rng.uniform(0, 300), _label(body, Verdict.LEGITIMATE)))
    placed.sort(key=lambda item: item[0])
    return [message for _, message in placed]


def _label(body: dict[str, Any], verdict: Verdict) -> bytes:
    label = {"transaction_id": body["transaction_id"], "verdict": verdict}
    return request("/labels", json.dumps(label).encode())


def _recovered(program: Program, settings: Settings) -> EmbeddedState:
    """The state that the next start of the server would begin with."""
    labelled = labelled_in(batch for _, batch in batches(settings.ledger_path))
    known = transactions_in(settings.ledger_path, labelled)

    def find(transaction_id: str) -> Transaction | None:
        return known.get(transaction_id)

    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        return recover(program, ledger, settings.state_dir, find)


def _compare(plan: Plan, settings: Settings, vectors: Path) -> Served:
    served = Served()
    names = list(plan.feature_names)
    recomputed = np.memmap(vectors, dtype=np.float32, mode="r").reshape(-1, len(names))
    seen: set[tuple[str | None, int]] = set()
    recorded = []
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        for group in ledger.groups():
            if group.kind == GroupKind.LABELS:
                served.labels += len(decode_labels(group.payload).labels)
            if group.kind != GroupKind.DECISIONS:
                continue
            decided = decode_decisions(group.payload)
            if decided.plan_hash != plan.hash:
                raise RuntimeError(f"decided with plan {decided.plan_hash}, not {plan.hash}")
            served.groups += 1
            recorded.append(decided.vector_array())
            flags = decided.flag_array()
            served.late += int(np.count_nonzero(flags & FLAG_LATE_EVENT))
            for transaction in decided.transactions:
                moment = (transaction.card_id, transaction.event_time_us)
                served.tied += moment in seen
                seen.add(moment)
    served.tally.compare(names, np.array(recomputed), np.concatenate(recorded))
    return served
