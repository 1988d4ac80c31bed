"""Every engine over one log, held against the backfill batch by batch, in bounded memory."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.parity_breaks import Break, backfill_of
from benchmarks.parity_log import REPOSITORY, batches
from benchmarks.parity_redis import SharedReplay
from benchmarks.parity_sample import sample
from benchmarks.parity_tally import Tally, Vectors
from sentinel.domain import Transaction
from sentinel.features.offline import LabelBook
from sentinel.features.plan.plan import Plan
from sentinel.features.plan.program import compile_program
from sentinel.state.embedded import EmbeddedState, restore
from testkit.entry_fold import EntryFold, entries_of, labelled_in

ENGINES = ("online", "recovered", "oracle", "redis")
_SEED = 11


@dataclass
class Replay:
    """What a replay found.

    Attributes:
        rows: Transactions of the log.
        labels: Labels of the log.
        tallies: By engine.
        backfill_seconds: What the backfill took.
    """

    rows: int = 0
    labels: int = 0
    tallies: dict[str, Tally] = field(default_factory=dict)
    backfill_seconds: float = 0.0


def replay(
    plan: Plan, ledger: Path, engines: Iterable[str], *, oracle_rows: int, broken: Break | None
) -> Replay:
    """Run the engines over the log in a ledger and compare every value with the backfill's.

    The online engine serves one event at a time. Its snapshot of the first half is recovered in
    a fresh process with the log of the next quarter; the last quarter is served from there. The
    shared state is a Redis server's; in the end its records are compared word by word as well.
    """
    engines = set(engines)
    result = Replay(tallies={name: Tally() for name in ENGINES if name in engines})
    names = list(plan.feature_names)
    labelled = labelled_in(batch for _, batch in batches(ledger))
    starts = [first for first, _ in batches(ledger)]
    half, until = starts[len(starts) // 2] - 1, starts[len(starts) * 3 // 4] - 1
    sampled = (
        sample(plan, (batch for _, batch in batches(ledger)), oracle_rows, _SEED)
        if "oracle" in engines
        else []
    )
    book = LabelBook()
    book.scan(batch for _, batch in batches(ledger))
    backfill = backfill_of(plan, book, broken, dropped=_middle_transaction(ledger, half))
    state = EmbeddedState.empty(compile_program(plan))
    online = EntryFold(state.program, state.arena, 1, LabelBook(fraud=state.fraud), labelled)
    serve = bool(engines & {"online", "recovered"})
    with (
        tempfile.TemporaryDirectory(prefix="sentinel-parity-") as scratch,
        contextlib.ExitStack() as stack,
    ):
        folder = Path(scratch)
        shared: SharedReplay | None = None
        if "redis" in engines:
            shared = SharedReplay(state.program, folder / "redis", labelled)
            stack.enter_context(shared)
        reached: EmbeddedState | None = None
        with (folder / "backfill").open("wb") as kept:
            for first, batch in batches(ledger):
                started = time.perf_counter()
                backfilled = backfill.step(batch)
                result.backfill_seconds += time.perf_counter() - started
                result.rows += len(backfilled)
                result.labels += batch.num_rows - len(backfilled)
                if serve and ("online" in engines or first <= until):
                    _serve(online, state, batch, names, backfilled, result.tallies.get("online"))
                    state.sequence = first + batch.num_rows - 1
                    if state.sequence == half:
                        state.freeze().write(folder / "snapshots")
                    if state.sequence == until:
                        state.freeze().write(folder / "reached")
                        reached = restore(state.program, folder / "reached")
                if first > until and "recovered" in engines:
                    kept.write(backfilled.tobytes())
                if shared is not None:
                    shared.step(batch, backfilled, result.tallies["redis"])
                for view in sampled:
                    started = time.perf_counter()
                    view.step(batch, backfilled, result.tallies["oracle"])
                    result.tallies["oracle"].seconds += time.perf_counter() - started
        if shared is not None:
            shared.compare_records(backfill.arena, result.tallies["redis"])
        if "recovered" in engines and reached is not None:
            plan.save(folder / "plan.json")
            _recovered(plan, ledger, folder, until, reached, result.tallies["recovered"])
    return result


def _serve(
    online: EntryFold,
    state: EmbeddedState,
    batch: pa.RecordBatch,
    names: list[str],
    backfilled: Vectors,
    tally: Tally | None,
) -> None:
    started = time.perf_counter()
    entries = list(entries_of(batch))
    vectors = online.run(entries)
    state.known.add(e.transaction_id for e in entries if isinstance(e, Transaction))
    if tally is not None:
        tally.seconds += time.perf_counter() - started
        tally.compare(names, backfilled, vectors)


def _recovered(
    plan: Plan, ledger: Path, folder: Path, until: int, reached: EmbeddedState, tally: Tally
) -> None:
    task = {
        "plan": str(folder / "plan.json"),
        "ledger": str(ledger),
        "snapshots": str(folder / "snapshots"),
        "until": until,
        "vectors": str(folder / "recovered"),
        "recovered": str(folder / "after"),
    }
    started = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "benchmarks.parity_recovered", json.dumps(task)],
        check=True,
        cwd=REPOSITORY,
    )
    tally.seconds = time.perf_counter() - started
    width = len(plan.feature_names)
    expected, found = (
        np.memmap(folder / name, dtype=np.float32, mode="r").reshape(-1, width)
        for name in ("backfill", "recovered")
    )
    for start in range(0, len(expected), 100_000):
        rows = slice(start, start + 100_000)
        tally.compare(list(plan.feature_names), np.array(expected[rows]), np.array(found[rows]))
    after = restore(compile_program(plan), folder / "after")
    tally.add_state(*differing_words(reached, after))


def differing_words(a: EmbeddedState, b: EmbeddedState) -> tuple[int, int]:
    """How many words of state there are, and how many of them differ, record by record."""
    words = differing = 0
    for view in range(len(a.program.record_words)):
        for key in a.arena.keys[view].keys() | b.arena.keys[view].keys():
            one, other = a.arena.record(view, key), b.arena.record(view, key)
            words += len(one)
            differing += int(np.count_nonzero(one != other))
    return words, differing


def _middle_transaction(ledger: Path, half: int) -> str:
    for _, batch in batches(ledger, after=half):
        for entry in entries_of(batch):
            if isinstance(entry, Transaction):
                return entry.transaction_id
    return ""
