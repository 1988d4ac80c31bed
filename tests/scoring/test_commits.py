"""Every group on its way into the log is told what became of it, whichever way it takes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import SentinelError
from sentinel.ledger.base import Appended
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import LABEL_FORMAT, GroupKind, LabelGroup, encode_group
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.scoring.commit import Commits

PAYLOAD = encode_group(LabelGroup(LABEL_FORMAT, []))


class OnLoop(SqliteLedger):
    """A ledger that says it can begin on the loop; ``begin`` says what becomes of it."""

    begin: Callable[[Callable[[Appended | None, SentinelError | None], None]], bool]

    @property
    def appends_on_loop(self) -> bool:
        return True

    def begin_append(self, *_: Any, **given: Any) -> bool:
        return self.begin(given["done"])


def fails(_: object) -> bool:
    raise OSError("no room for another reader")


def refuses(_: object) -> bool:
    return False


def gets_no_answer(done: Callable[[None, None], None]) -> bool:
    asyncio.get_running_loop().call_soon(done, None, None)
    return True


@pytest.mark.parametrize("begin", [fails, refuses, gets_no_answer])
def test_what_the_loop_cannot_do_a_thread_does(tmp_path: Path, begin: Callable[..., bool]) -> None:
    async def run() -> list[tuple[Appended | None, SentinelError | None]]:
        ledger = OnLoop.open_writer(tmp_path / "ledger.db")
        ledger.begin = begin
        loop = asyncio.get_running_loop()
        commits = Commits(ledger, ScoringMetrics(), lambda _: None, loop)
        told: list[tuple[Appended | None, SentinelError | None]] = []
        for n in range(5):
            commits.append(GroupKind.LABELS, 1, n + 1, PAYLOAD, lambda *said: told.append(said))
        while len(told) < 5:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(commits.close)
        return told

    told = asyncio.run(asyncio.wait_for(run(), 30))
    assert [error for _, error in told] == [None] * 5
    assert [said.first_sequence for said, _ in told if said is not None] == [1, 2, 3, 4, 5]


def test_a_caller_that_fails_holds_up_nobody(tmp_path: Path) -> None:
    async def run() -> int:
        ledger = OnLoop.open_writer(tmp_path / "ledger.db")
        ledger.begin = gets_no_answer
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda *_: None)
        commits = Commits(ledger, ScoringMetrics(), lambda _: None, loop)
        told: list[Appended | None] = []

        def raises(*_: object) -> None:
            raise ValueError("a fault of the caller")

        commits.append(GroupKind.LABELS, 1, 1, PAYLOAD, raises)
        commits.append(GroupKind.LABELS, 1, 2, PAYLOAD, lambda said, _: told.append(said))
        while not told:
            await asyncio.sleep(0.001)
        await asyncio.to_thread(commits.close)
        assert told[0] is not None
        return told[0].first_sequence

    assert asyncio.run(asyncio.wait_for(run(), 30)) == 2
