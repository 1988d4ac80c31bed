"""The writer at work: what waits holds up nobody else, and the log's order is that of effects."""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import pytest

from sentinel.api.routes.decision_json import render, render_recorded
from sentinel.domain import (
    ClockJumped,
    InvalidLabel,
    Label,
    LedgerUnavailable,
    Overloaded,
    PlanMismatch,
    SentinelError,
    Transaction,
    Verdict,
)
from sentinel.features.offline import LabelBook, OfflineFold
from sentinel.features.plan.plan import DAY_US, HOUR_US
from sentinel.features.plan.program import compile_program
from sentinel.ledger.base import Appended, Standing
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.log import append_import, read_log
from sentinel.ledger.lookup import TransactionLookup
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import (
    LABEL_FORMAT,
    Group,
    GroupKind,
    LabelGroup,
    decode_decisions,
    encode_group,
)
from sentinel.models.serving import serving_of, write_serving
from sentinel.scoring.clock import ReceiptClock
from sentinel.scoring.commit import CommitDone
from sentinel.scoring.labels import AT_ONCE, SHARED_AT_ONCE
from sentinel.scoring.pending import FutureReceiver
from sentinel.scoring.queue import MAX_GROUP
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from sentinel.state.base import FeatureState
from sentinel.state.embedded import EmbeddedState
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


class CountingIndex(LedgerIndex):
    """Counts how often a group is read from the log."""

    read = 0

    def group_of(self, sequence: int) -> Group:
        self.read += 1
        return super().group_of(sequence)


def test_each_group_is_decoded_once_however_many_entries_are_looked_up(settings: Settings) -> None:
    ids = history(settings, groups=3, rows=400)
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        index = CountingIndex(settings.index_path, ledger)
        index.catch_up()
        found = TransactionLookup(index).transactions([*ids[::2], "unknown"])
        assert index.read == 3
        assert list(found) == ids[::2]
        one = found["old-1-100"]
        assert one == index.transaction("old-1-100")
        assert (one.amount_minor, one.attributes) == (200, {"channel": "web", "risk": 100.0})
        recorded = TransactionLookup(index).recorded(["old-0-3"])
        assert recorded["old-0-3"].decision is None
        index.close()


def both_threads_busy(runtime: ScoringRuntime) -> threading.Event:
    """Keep the threads that look things up at work until the event is set."""
    go_on = threading.Event()
    for _ in range(2):
        runtime.writer.lookups.run(lambda _: go_on.wait(60), lambda *_: None)
    return go_on


def test_a_repeat_that_is_looked_up_holds_up_no_other_payment(settings: Settings) -> None:
    async def first(runtime: ScoringRuntime) -> tuple[Transaction, bytes]:
        transaction = payment(runtime, "again")
        return transaction, await decide(runtime, transaction)

    recorded, answer = within(settings, first)

    async def claim(runtime: ScoringRuntime) -> None:
        go_on = both_threads_busy(runtime)
        repeat = asyncio.ensure_future(decide(runtime, recorded))
        other = msgspec.structs.replace(recorded, amount_minor=7)
        for n in range(20):
            await decide(runtime, payment(runtime, f"new{n}", n))
        assert not repeat.done()
        # Another payment under that id, meanwhile: as wrong as ever.
        with pytest.raises(Exception, match="already recorded with other content"):
            await decide(runtime, other)
        go_on.set()
        assert await repeat == answer
        with pytest.raises(Exception, match="already recorded with other content"):
            await decide(runtime, other)
        assert runtime.metrics.repeats == 1

    within(settings, claim)


def test_batches_that_come_again_leave_room_for_single_payments(settings: Settings) -> None:
    few = settings.scoring.model_copy(update={"waiting_payments": 100})
    settings = settings.model_copy(update={"scoring": few})

    async def batch(runtime: ScoringRuntime, sent: list[Transaction]) -> list[FutureReceiver]:
        runtime.writer.reserve(len(sent))
        receivers = [FutureReceiver() for _ in sent]
        for transaction, receiver in zip(sent, receivers, strict=True):
            runtime.writer.enqueue(transaction, receiver, batched=True)
        return receivers

    async def first(runtime: ScoringRuntime) -> tuple[list[Transaction], list[bytes]]:
        sent = [payment(runtime, f"b{n}", n) for n in range(500)]
        receivers = await batch(runtime, sent)
        return sent, list(await asyncio.gather(*(one.future for one in receivers)))

    sent, answers = within(settings, first)

    async def again(runtime: ScoringRuntime) -> None:
        go_on = both_threads_busy(runtime)
        repeats = await batch(runtime, sent)
        for n in range(3):
            await decide(runtime, payment(runtime, f"new{n}", n))
        assert not any(one.future.done() for one in repeats)
        go_on.set()
        assert await asyncio.gather(*(one.future for one in repeats)) == answers

    within(settings, again)


def test_a_plan_that_changes_during_a_rebuild_gets_a_state_of_its_own(settings: Settings) -> None:
    other = every_function((DAY_US,))

    async def claim(runtime: ScoringRuntime) -> None:
        writer = runtime.writer
        await decide(runtime, payment(runtime, "before"))
        begun, go_on = threading.Event(), threading.Event()
        rebuild = writer._rebuild

        def slow(state: FeatureState) -> FeatureState:
            begun.set()
            go_on.wait(60)
            return rebuild(state)

        writer._rebuild = slow
        writer._fail(LedgerUnavailable("The disk is full."))
        await asyncio.to_thread(begun.wait, 60)
        state = EmbeddedState.empty(compile_program(other))
        await writer.turn.holding(lambda: writer.take_over(writer.scorer.with_state(state)))
        go_on.set()
        while writer.unavailable is not None:
            await asyncio.sleep(0.01)
        assert writer.scorer.program.plan == other
        assert writer.scorer.state.sequence == 1

    within(settings, claim)


def test_an_effect_that_fails_stops_nobody(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        one = label(runtime, 1, "unknown", Verdict.FRAUD)
        payload = encode_group(LabelGroup(format=LABEL_FORMAT, labels=[one]))

        def commit() -> None:
            def done(*_: object) -> None:
                raise RuntimeError("a fault")

            runtime.writer.commit(GroupKind.LABELS, 1, one.received_at_us, payload, done)

        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        runtime.writer.turn.run_job(commit)
        await decide(runtime, payment(runtime, "afterwards"))

    within(settings, claim)


def test_labels_of_payments_that_never_come_are_bounded(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sentinel.scoring.labels.MOST_UNKNOWN", 2)

    async def claim(runtime: ScoringRuntime) -> None:
        async def send(number: int, about: str, verdict: Verdict = Verdict.FRAUD) -> None:
            await runtime.labels.submit([label(runtime, number, about, verdict)])

        state = runtime.writer.scorer.state
        await decide(runtime, payment(runtime, "here"))
        await send(1, "later")
        await send(2, "never")
        with pytest.raises(Overloaded, match="2 such payments are waited for already; 2 may be"):
            await send(3, "nowhere")
        await send(4, "here")  # on record
        await send(5, "nowhere", Verdict.LEGITIMATE)  # nothing to remember
        await send(2, "never")  # a repeat
        assert state.waiting_labels == 2
        await decide(runtime, payment(runtime, "later"))
        await send(6, "never", Verdict.LEGITIMATE)
        assert state.waiting_labels == 0
        await send(7, "nowhere")

    within(settings, claim)
    within(settings, waits_for(1))


def waits_for(expected: int) -> Callable[[ScoringRuntime], Awaitable[None]]:
    """A claim about a scorer that started anew."""

    async def claim(runtime: ScoringRuntime) -> None:
        assert runtime.writer.scorer.state.waiting_labels == expected

    return claim


def test_nothing_is_forgotten_that_the_look_up_of_a_label_may_have_missed(
    settings: Settings,
) -> None:
    """Else a label would be looked up again for as long as payments keep coming."""

    async def claim(runtime: ScoringRuntime) -> None:
        await decide(runtime, payment(runtime, "t"))
        through = runtime.writer.last_sequence
        assert runtime.labels.may_forget(through) == through
        recording = asyncio.ensure_future(
            runtime.labels.submit([label(runtime, 1, "t", Verdict.FRAUD)])
        )
        await asyncio.sleep(0)
        assert runtime.labels.may_forget(through) == 0
        assert runtime.writer.recorded("t") is not None
        (receipt,) = await recording
        assert receipt.known_transaction
        assert runtime.labels.may_forget(through) == through

    within(settings, claim)


def test_labels_on_history_hold_up_no_payment(settings: Settings) -> None:
    ids = history(settings, groups=2, rows=300)

    async def claim(runtime: ScoringRuntime) -> None:
        go_on = both_threads_busy(runtime)
        labels = [label(runtime, n, about, Verdict.FRAUD) for n, about in enumerate(ids)]
        recording = asyncio.ensure_future(runtime.labels.submit(labels))
        await decide(runtime, payment(runtime, "meanwhile"))
        assert not recording.done()
        go_on.set()
        receipts = await recording
        assert [receipt.label.label_id for receipt in receipts] == [f"l{n}" for n in range(600)]
        assert all(receipt.known_transaction and not receipt.repeated for receipt in receipts)
        again = await runtime.labels.submit(labels)
        assert all(receipt.repeated for receipt in again)
        await decide(runtime, payment(runtime, "afterwards"))

    within(settings, claim)
    assert_parity(settings, decisions=2)


def test_many_labels_are_recorded_in_small_portions_while_payments_come(
    settings: Settings,
) -> None:
    ids = history(settings, groups=1, rows=700)

    async def claim(runtime: ScoringRuntime) -> None:
        labels = [label(runtime, n, about, Verdict.FRAUD) for n, about in enumerate(ids)]
        await decide(runtime, payment(runtime, "before"))
        recording = asyncio.ensure_future(runtime.labels.submit(labels[:300]))
        n = 0
        while not recording.done():
            await decide(runtime, payment(runtime, f"meanwhile-{n}"))
            n += 1
        await recording

    async def alone(runtime: ScoringRuntime) -> None:
        labels = [label(runtime, n, about, Verdict.FRAUD) for n, about in enumerate(ids)]
        await runtime.labels.submit(labels[300:])

    within(settings, claim)
    within(settings, alone)
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        sizes = [group.entries for group in ledger.groups() if group.kind == GroupKind.LABELS]
    assert sum(sizes) == 700
    assert sizes[:9] == [SHARED_AT_ONCE] * 9
    assert AT_ONCE in sizes[9:]


def test_a_request_that_contradicts_the_log_records_nothing(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        await decide(runtime, payment(runtime, "t"))
        await runtime.labels.submit([label(runtime, 1, "t", Verdict.FRAUD)])
        before = runtime.writer.last_sequence
        many = [label(runtime, n, f"x{n}", Verdict.FRAUD) for n in range(2, 600)]
        with pytest.raises(InvalidLabel, match="'l1' is already recorded"):
            await runtime.labels.submit([*many, label(runtime, 1, "t", Verdict.LEGITIMATE)])
        twice = [label(runtime, 7, "t", Verdict.FRAUD), label(runtime, 7, "u", Verdict.FRAUD)]
        with pytest.raises(InvalidLabel, match="'l7'"):
            await runtime.labels.submit(twice)
        assert runtime.writer.last_sequence == before

    within(settings, claim)


def test_a_batch_holds_up_a_single_payment_for_one_group(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        writer = runtime.writer
        writer.reserve(3_000)
        batch = [FutureReceiver() for _ in range(3_000)]
        for n, receiver in enumerate(batch):
            writer.enqueue(payment(runtime, f"b{n}", n), receiver, batched=True)
        while not batch[0].future.done():
            await asyncio.sleep(0)
        await decide(runtime, payment(runtime, "single"))
        pending = writer.recorded("single")
        assert pending is not None
        assert pending.sequence <= 4 * MAX_GROUP
        assert not batch[-1].future.done()
        await asyncio.gather(*(receiver.future for receiver in batch))

    within(settings, claim)
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        times = [t.received_at_us for group in decisions(ledger) for t in group]
    assert len(times) == 3_001
    assert times == sorted(times)
    assert_parity(settings, decisions=3_001)


def test_payments_are_refused_while_the_clock_is_wrong(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        await decide(runtime, payment(runtime, "before"))
        ahead = 0
        runtime.writer._clock = ReceiptClock(0, lambda: START_US + ahead, lambda: 0)
        ahead = 365 * DAY_US
        with pytest.raises(ClockJumped, match="start the scorer anew"):
            payment(runtime, "poisoned")
        ahead = 0
        payment(runtime, "afterwards")

    within(settings, claim)


def test_a_snapshot_is_of_a_moment_between_two_groups(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        writer = runtime.writer
        receivers = [FutureReceiver() for _ in range(1_000)]
        for n, receiver in enumerate(receivers):
            writer.enqueue(payment(runtime, f"p{n}", n), receiver)
        while not receivers[0].future.done():
            await asyncio.sleep(0)
        file = await runtime.snapshot()
        assert file is not None
        assert 0 < int(file.stem) <= 1_000
        assert runtime.metrics.snapshot_sequence == int(file.stem)
        await asyncio.gather(*(receiver.future for receiver in receivers))

    within(settings, claim)

    async def go_on(runtime: ScoringRuntime) -> None:
        await decide(runtime, payment(runtime, "restored"))

    for later in sorted((settings.state_dir / PLAN.hash).glob("*.snapshot"))[1:]:
        later.unlink()  # the one of the way out; the first one is to do
    within(settings, go_on)
    assert_parity(settings, decisions=1_001)


def decisions(ledger: SqliteLedger) -> Iterator[Sequence[Transaction]]:
    for group in ledger.groups():
        if group.kind == GroupKind.DECISIONS:
            yield decode_decisions(group.payload).transactions


def assert_parity(settings: Settings, *, decisions: int) -> None:
    """What was served is what a fold over the log gives, bit by bit."""
    with SqliteLedger.open_reader(settings.ledger_path) as ledger:
        served = [
            decode_decisions(group.payload).vector_array()
            for group in ledger.groups()
            if group.kind == GroupKind.DECISIONS
        ]
        book = LabelBook()
        book.scan(batch for _, batch in read_log(ledger))
        folding = OfflineFold(compile_program(PLAN), book=book)
        computed = np.concatenate([folding.step(batch) for _, batch in read_log(ledger)])
    recorded = np.concatenate(served)
    assert len(recorded) == decisions
    expected = computed[-decisions:]
    assert np.array_equal(recorded.view(np.int32), expected.view(np.int32))


def test_a_label_that_is_durable_is_never_answered_with_an_error(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        commit, look_up = runtime.writer.commit, runtime.writer.lookups.run
        looks: list[int] = []

        def beside_others(
            kind: GroupKind, entries: int, at_us: int, payload: bytes, done: CommitDone
        ) -> None:
            def told(appended: Appended | None, error: SentinelError | None) -> None:
                assert appended is not None
                before = {"elsewhere": Standing(1, None, 0)}
                done(appended._replace(before=before), error)

            commit(kind, entries, at_us, payload, told)

        def unreadable_later(work: object, done: Callable[..., None]) -> None:
            looks.append(1)
            if len(looks) > 1:
                done(None, LedgerUnavailable("The queryable tables cannot be read."))
            else:
                look_up(work, done)  # type: ignore[arg-type]

        monkeypatch.setattr(runtime.writer, "commit", beside_others)
        monkeypatch.setattr(runtime.writer.lookups, "run", unreadable_later)
        one = label(runtime, 1, "elsewhere", Verdict.FRAUD)
        (receipt,) = await runtime.labels.submit([one])
        assert len(looks) == 2
        assert (receipt.repeated, receipt.known_transaction) == (False, True)
        assert runtime.reader.last_sequence() == 1

    within(settings, claim)


def test_what_is_recorded_of_a_request_that_fails_is_said(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        commit = runtime.writer.commit
        commits: list[int] = []

        def full_disk_later(
            kind: GroupKind, entries: int, at_us: int, payload: bytes, done: CommitDone
        ) -> None:
            commits.append(entries)
            if len(commits) > 1:
                done(None, LedgerUnavailable("The disk is full."))
            else:
                commit(kind, entries, at_us, payload, done)

        monkeypatch.setattr(runtime.writer, "commit", full_disk_later)
        many = [label(runtime, n, f"t{n}", Verdict.FRAUD) for n in range(300)]
        said = "The first 256 of 300 labels are recorded, the others are not.*disk is full"
        with pytest.raises(LedgerUnavailable, match=said):
            await runtime.labels.submit(many)
        assert runtime.reader.last_sequence() == 256

    within(settings, claim)


def test_a_champion_of_another_plan_than_the_one_that_is_named_does_not_serve(
    settings: Settings, made: Settings
) -> None:
    settings.models_dir.unlink()
    shutil.copytree(made.models_dir, settings.models_dir)
    champion = serving_of(settings)
    assert champion is not None
    write_serving(settings, msgspec.structs.replace(champion, plan_hash="0123456789abcdef"))

    async def claim(_: ScoringRuntime) -> None:
        raise AssertionError("it serves")

    with pytest.raises(PlanMismatch, match=r"names plan 0123456789abcdef.*sentinel promote"):
        within(settings, claim)
    write_serving(settings, msgspec.structs.replace(champion, plan_hash=PLAN.hash))

    async def decides(runtime: ScoringRuntime) -> None:
        await decide(runtime, payment(runtime, "t"))

    within(settings, decides)
