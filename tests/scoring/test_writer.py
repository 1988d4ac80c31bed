"""The writer at work: what waits holds up nobody else, and the log's order is that of effects."""

from __future__ import annotations

import asyncio
import logging
import shutil
import threading
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import ClockJumped, LedgerUnavailable, PlanMismatch, Transaction, Verdict
from sentinel.features.plan.plan import DAY_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.index import LedgerIndex
from sentinel.ledger.lookup import TransactionLookup
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import LABEL_FORMAT, Group, GroupKind, LabelGroup, encode_group
from sentinel.models.serving import serving_of, write_serving
from sentinel.scoring import hot_swaps
from sentinel.scoring import runtime as runtime_module
from sentinel.scoring.clock import ReceiptClock
from sentinel.scoring.panel import Panel
from sentinel.scoring.pending import FutureReceiver
from sentinel.scoring.queue import MAX_GROUP
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.scoring.scorer import Scorer
from sentinel.scoring.served import Served
from sentinel.scoring.told_groups import GroupLog
from sentinel.settings import LogSettings, Settings
from sentinel.state.base import FeatureState, SnapshotWritten
from sentinel.state.embedded import EmbeddedState
from sentinel.state.snapshot_file import sequence_of, snapshots_of
from tests.features.plans import every_function
from tests.scoring.one_scorer import (
    PLAN,
    START_US,
    assert_parity,
    both_threads_busy,
    decide,
    decisions,
    history,
    label,
    made,
    payment,
    settings,
    within,
)

__all__ = ["PLAN", "decide", "label", "made", "payment", "settings", "within"]


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
        reserved = runtime.writer.reserve(len(sent))
        receivers = [FutureReceiver() for _ in sent]
        for transaction, receiver in zip(sent, receivers, strict=True):
            runtime.writer.enqueue(transaction, receiver, batch=reserved)
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
        await writer.turn.in_order(lambda: writer.take_over(writer.scorer.with_state(state)))
        go_on.set()
        while writer.unavailable is not None:
            await asyncio.sleep(0.01)
        assert writer.scorer.program.plan == other
        assert writer.scorer.state.sequence == 1

    within(settings, claim)


def test_a_state_that_is_rebuilt_meanwhile_does_not_replace_that_of_another_plan(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        writer, states = runtime.writer, runtime._states
        await decide(runtime, payment(runtime, "before"))
        before = writer.scorer
        state = await asyncio.to_thread(states.open, PLAN)
        held, rebuilt, taken_over = threading.Event(), threading.Event(), threading.Event()
        catch_up, with_state, take_over = states.catch_up, Scorer.with_state, writer.take_over

        def slow(state: FeatureState) -> int:
            found = catch_up(state)
            if writer.turn._held:
                held.set()
                rebuilt.wait(60)
            return found

        def beside(scorer: Scorer, state: FeatureState) -> Scorer:
            rebuilt.set()
            taken_over.wait(0.5)  # a thread would take over now; nobody does while this runs
            return with_state(scorer, state)

        def noted(scorer: Scorer) -> None:
            take_over(scorer)
            if scorer.state is state:
                taken_over.set()

        monkeypatch.setattr(states, "catch_up", slow)
        monkeypatch.setattr(Scorer, "with_state", beside)
        monkeypatch.setattr(writer, "take_over", noted)
        changed = Scorer(state, before.panel, before.policy, before.key)
        changing = asyncio.create_task(runtime._plans.take_over_state(changed))
        await asyncio.to_thread(held.wait, 60)
        writer._fail(LedgerUnavailable("The disk is full."))
        await changing
        while writer.unavailable is not None:
            await asyncio.sleep(0.01)
        assert writer.scorer is changed

    within(settings, claim)


def test_whatever_fails_as_state_is_looked_after_is_said_once_and_tried_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(runtime_module, "_WATCH_SECONDS", 0.01)
    looks: list[None] = []

    def look_after(_: EmbeddedState) -> None:
        looks.append(None)
        if len(looks) <= 3:
            raise RuntimeError("a fault")

    monkeypatch.setattr(EmbeddedState, "look_after", look_after)

    async def claim(_: ScoringRuntime) -> None:
        async with asyncio.timeout(30):
            while len(looks) < 5:
                await asyncio.sleep(0.01)

    within(settings, claim)
    assert caplog.text.count("are not looked after; trying again") == 1


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


def test_a_batch_holds_up_a_single_payment_for_one_group(settings: Settings) -> None:
    async def claim(runtime: ScoringRuntime) -> None:
        writer = runtime.writer
        reserved = writer.reserve(3_000)
        batch = [FutureReceiver() for _ in range(3_000)]
        for n, receiver in enumerate(batch):
            writer.enqueue(payment(runtime, f"b{n}", n), receiver, batch=reserved)
        while not batch[0].future.done():
            await asyncio.sleep(0)
        await decide(runtime, payment(runtime, "single"))
        pending = writer.recent.recorded("single")
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


def test_a_snapshot_that_a_change_of_plan_overtakes_stands_for_no_other_state(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = every_function((DAY_US,))

    async def claim(runtime: ScoringRuntime) -> None:
        writer = runtime.writer
        await decide(runtime, payment(runtime, "before"))
        begun, go_on = threading.Event(), threading.Event()
        begin = EmbeddedState.begin_snapshot

        def slow(state: EmbeddedState, folder: Path, *, leisurely: bool = False) -> SnapshotWritten:
            written = begin(state, folder, leisurely=leisurely)

            def later() -> Path:
                begun.set()
                go_on.wait(60)
                return written()

            return later

        with monkeypatch.context() as patched:
            patched.setattr(EmbeddedState, "begin_snapshot", slow)
            snapshot = asyncio.create_task(runtime.snapshot())
            await asyncio.to_thread(begun.wait, 60)
        before = writer.scorer
        state = await asyncio.to_thread(runtime._states.open, other)
        changed = Scorer(state, Panel())
        await runtime._plans.take_over_state(changed)
        go_on.set()
        file = await snapshot
        assert file is not None
        assert file.parent.name == before.program.plan.hash

    within(settings, claim)
    assert [sequence_of(file) for file in snapshots_of(settings.state_dir, other.hash)] == [1]


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


def test_a_champion_that_a_store_kept_from_serving_is_tried_again(
    settings: Settings, made: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hot_swaps, "_RETRY_SECONDS", 0.1)
    settings.models_dir.unlink()
    shutil.copytree(made.models_dir, settings.models_dir)
    champion = serving_of(settings)
    assert champion is not None
    problems = []

    async def claim(runtime: ScoringRuntime) -> None:
        load = runtime._loader.load

        def away(running: Plan | None = None) -> Served | None:
            served = load(running)
            problems.append(runtime.problem_with_model())
            if len(problems) == 1:
                raise LedgerUnavailable("The store is away.")
            if len(problems) == 2:
                raise OSError("The disk is slow.")
            return served

        monkeypatch.setattr(runtime._loader, "load", away)
        await asyncio.to_thread(write_serving, settings, champion)
        async with asyncio.timeout(30):
            while not runtime.metrics.model_swaps:
                await asyncio.sleep(0.01)
        assert problems == [
            None,
            "The store is away.",
            "unexpected error: OSError: The disk is slow.",
        ]
        assert runtime.problem_with_model() is None

    within(settings, claim)


@pytest.mark.parametrize("part", ["choose", "told"])
def test_an_error_of_telemetry_changes_no_answer_and_keeps_no_turn(
    settings: Settings, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no line for you")

    monkeypatch.setattr(GroupLog, part, fail)
    settings = settings.model_copy(update={"logs": LogSettings(requests=1.0)})

    async def claim(runtime: ScoringRuntime) -> None:
        for n in range(3):
            body = await asyncio.wait_for(decide(runtime, payment(runtime, f"p{n}", n)), 20)
            assert f"p{n}".encode() in body
        assert runtime.writer.turn.is_idle
        assert runtime.metrics.telemetry_failures == 3

    within(settings, claim)
    assert caplog.text.count("could not be told of") == 1
    assert_parity(settings, decisions=3)


def test_a_log_that_fails_altogether_changes_no_answer(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: logging.LogRecord) -> bool:
        raise OSError("the log is gone")

    settings = settings.model_copy(update={"logs": LogSettings(requests=1.0)})
    log = logging.getLogger(GroupLog.__module__)
    caplog.set_level(logging.INFO, log.name)

    async def claim(runtime: ScoringRuntime) -> None:
        log.addFilter(fail)
        try:
            for n in range(2):
                await asyncio.wait_for(decide(runtime, payment(runtime, f"p{n}", n)), 20)
        finally:
            log.removeFilter(fail)
        assert runtime.metrics.telemetry_failures == 2

    within(settings, claim)
