"""One scorer over a ledger in SQLite, its payments and labels, and what its log must agree with."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest

from sentinel.api.routes.decision_json import render, render_recorded
from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import DAY_US, HOUR_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.log import append_import, read_log
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind, decode_decisions
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from testkit.scratch import make_workspace
from testkit.signed_models import trusting
from tests.features.logs import batch_of
from tests.features.plans import every_function

T = TypeVar("T")

PLAN = every_function((HOUR_US, DAY_US))
START_US = 1_700_000_000_000_000


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A workspace to copy."""
    return make_workspace(tmp_path_factory.mktemp("made"), plan=PLAN, trees=3, leaves=4)


@pytest.fixture
def settings(made: Settings, tmp_path: Path) -> Settings:
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "models").symlink_to(made.models_dir)
    PLAN.save(folder / "plan.json")
    return made.model_copy(update={"workspace": folder, "signing": trusting(made)})


@asynccontextmanager
async def opened(settings: Settings) -> AsyncIterator[ScoringRuntime]:
    runtime = await ScoringRuntime.open(settings, render=render, render_recorded=render_recorded)
    try:
        yield runtime
    finally:
        await runtime.close()


def within(settings: Settings, claim: Callable[[ScoringRuntime], Awaitable[T]]) -> T:
    """Run a claim about a scorer on its event loop."""

    async def run() -> T:
        async with opened(settings) as runtime:
            return await asyncio.wait_for(claim(runtime), 120)

    return asyncio.run(run())


def payment(runtime: ScoringRuntime, name: str, n: int = 0, amount: int = 100) -> Transaction:
    now = runtime.writer.receive_time_us()
    return Transaction(
        transaction_id=name,
        event_time_us=now,
        received_at_us=now,
        amount_minor=amount,
        customer_id=f"c{n % 7}",
        merchant_id=f"m{n % 3}",
        attributes={"channel": "pos"},
    )


async def decide(runtime: ScoringRuntime, transaction: Transaction) -> bytes:
    answer = runtime.writer.submit(transaction)
    return answer if isinstance(answer, bytes) else await answer


def label(runtime: ScoringRuntime, number: object, about: str, verdict: Verdict) -> Label:
    now = runtime.writer.receive_time_us()
    return Label(label_id=f"l{number}", transaction_id=about, verdict=verdict, received_at_us=now)


def history(settings: Settings, groups: int, rows: int) -> list[str]:
    """Import payments in some groups; their ids."""
    ids = []
    with SqliteLedger.open_writer(settings.ledger_path) as ledger:
        for g in range(groups):
            some = [
                Transaction(
                    transaction_id=f"old-{g}-{n}",
                    event_time_us=START_US + g * HOUR_US + n,
                    received_at_us=START_US + g * HOUR_US + n,
                    amount_minor=100 + n,
                    customer_id=f"c{n % 7}",
                    merchant_id=f"m{n % 3}",
                    attributes={"channel": "web", "risk": float(n)},
                )
                for n in range(rows)
            ]
            append_import(ledger, batch_of(some))
            ids += [transaction.transaction_id for transaction in some]
    return ids


def both_threads_busy(runtime: ScoringRuntime) -> threading.Event:
    """Keep the threads that look things up at work until the event is set."""
    go_on = threading.Event()
    for _ in range(2):
        runtime.writer.lookups.run(lambda _: go_on.wait(60), lambda *_: None)
    return go_on


def decisions(ledger: SqliteLedger) -> Iterator[Sequence[Transaction]]:
    for group in ledger.groups():
        if group.kind == GroupKind.DECISIONS:
            yield decode_decisions(group.payload).transactions


def assert_parity(settings: Settings, *, decisions: int, plan: Plan = PLAN) -> None:
    """What was served is what a fold over the log gives, bit by bit."""
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        served = [
            decode_decisions(group.payload).vector_array()
            for group in ledger.groups()
            if group.kind == GroupKind.DECISIONS
        ]
        book = LabelBook()
        book.scan(batch for _, batch in read_log(ledger))
        folding = OfflineFold(compile_program(plan), book=book)
        computed = np.concatenate([folding.step(batch) for _, batch in read_log(ledger)])
    recorded = np.concatenate(served)
    assert len(recorded) == decisions
    expected = computed[-decisions:]
    assert np.array_equal(recorded.view(np.int32), expected.view(np.int32))
