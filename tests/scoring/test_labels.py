"""Labels beside payments: they hold up none, and what is durable is answered as recorded."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from sentinel.domain import InvalidLabel, LedgerUnavailable, Overloaded, SentinelError, Verdict
from sentinel.ledger.base import Appended, Standing
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import GroupKind
from sentinel.scoring.commit import CommitDone
from sentinel.scoring.labels import AT_ONCE, SHARED_AT_ONCE
from sentinel.scoring.runtime import ScoringRuntime
from sentinel.settings import Settings
from tests.scoring.one_scorer import (
    assert_parity,
    both_threads_busy,
    decide,
    history,
    label,
    made,
    payment,
    settings,
    within,
)

__all__ = ["made", "settings"]  # fixtures


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
        assert runtime.writer.recent.recorded("t") is not None
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
