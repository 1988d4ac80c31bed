"""Everything that the log holds reaches shared state, whoever put it there and whoever died."""

from __future__ import annotations

import pytest

from sentinel.domain import Label, Transaction, Verdict
from sentinel.features.arena import Arena
from sentinel.ledger.base import StateRebuild
from sentinel.ledger.log import append_import
from sentinel.pipeline.verify_shared import verify_shared
from sentinel.scoring import follower as follower_module
from sentinel.scoring.follower import LogFollower
from sentinel.settings import LedgerSettings, Settings, StateSettings
from sentinel.state.redis.layout import EPOCHS_OF_A_LOAD, state_name
from sentinel.state.redis.records import Loaded
from tests.features.logs import batch_of
from tests.features.worlds import START_US
from tests.scoring.followed_log import (
    LOADED,
    PLAN,
    Log,
    fill,
    log,
    postgres,
    some,
)
from tests.state.test_shared_records import payment, words_of

__all__ = ["log", "postgres"]  # fixtures


def test_every_kind_of_entry_reaches_the_records(log: Log) -> None:
    fill(log)
    follower = log.follow()
    assert follower.through == log.ledger.last_sequence()
    assert words_of(log.shared) == log.expected()
    assert any(words for words in log.expected().values())
    noted = [effect.kind for effect in log.ledger.label_effects(state_name(PLAN.hash))]
    assert noted.count(0) == 3 + 3, "decisions of other plans and without state"
    pieces = list(log.ledger.piece_effects(state_name(PLAN.hash)))
    assert [(p.first_sequence, len(p.positions)) for p in pieces] == [(10, 13 * len(PLAN.views))]
    assert [p > 0 for p in pieces[0].positions[:: len(PLAN.views)]] == [True] * 10 + [False] * 3


def test_two_followers_and_one_that_went_back_change_nothing(log: Log) -> None:
    fill(log)
    log.follow()
    for back in (0, 7, 13, 20):
        log.features.records.set_followed(back)
        log.follow()
    assert words_of(log.shared) == log.expected()


def test_a_watermark_that_is_moved_back_meanwhile_stays_there(log: Log) -> None:
    fill(log)
    log.follow()
    records = log.features.records
    log.label((1, Verdict.FRAUD))

    def find(transaction_id: str) -> Transaction | None:
        records.set_followed(3)  # as whoever looks at a restarted server does
        return log.find(transaction_id)

    LogFollower(log.shared.effects(), log.ledger, log.ledger, find).step(LOADED)
    assert records.followed() == 3
    log.follow()
    assert records.followed() == log.ledger.last_sequence()
    assert words_of(log.shared) == log.expected()


def test_an_import_comes_in_in_pieces_between_decisions(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "MOST_ENTRIES", 130)
    log.label((150, Verdict.FRAUD), (40, Verdict.FRAUD))
    log.decide(some(0, 5))
    entries: list[Transaction | Label] = []
    for n in range(5, 300):
        entries.append(payment(n, 1_000_000 * n, n, customer=f"c{n % 3}", merchant=f"m{n % 50}"))
        if n % 9 == 0:  # about an earlier piece, this one, and one that is still to come
            about = f"t{(n - 80, n - 2, n + 60)[n % 3] % 290}"
            label_id, verdict = f"i{n}", Verdict.FRAUD if n % 2 else Verdict.LEGITIMATE
            entries.append(
                Label(
                    label_id=label_id,
                    transaction_id=about,
                    verdict=verdict,
                    received_at_us=START_US + n,
                )
            )
    append_import(log.ledger, batch_of(entries))
    follower = log.follower()
    decided, steps = 300, 0
    while follower.step(LOADED):
        # Scorers go on, and read what they need between two pieces.
        group = some(decided, decided + 2)
        log.decide(group)
        decided, steps = decided + 2, steps + 1
        if steps == 3:
            log.features.records.set_followed(40)  # back into a piece
        if steps > 12:
            break
    log.follow()
    assert log.features.records.followed() == log.ledger.last_sequence()
    assert words_of(log.shared) == log.expected()
    hot = log.features.records.stored([(0, "c1")])[0]
    assert hot is not None
    assert len(hot.base), "what was brought in is folded at once"
    log.ledger.record_rebuild(StateRebuild(state_name(PLAN.hash), "", "", LOADED.epoch, 0))
    shared = Settings(
        ledger=LedgerSettings(url=log.ledger.database.url),
        state=StateSettings(backend="redis", redis_url=log.shared.url),
    )
    replay = verify_shared(shared, PLAN)
    assert replay is not None
    assert replay.decisions == decided - 300 + 5
    assert (replay.mismatches, replay.unverifiable) == (0, 0), replay.examples


def test_decisions_by_records_that_were_lost_are_added_again(log: Log) -> None:
    fill(log)
    later = Loaded(2 * EPOCHS_OF_A_LOAD, 0)
    log.features.records.load(Arena(log.shared.program), later, 0)
    log.follow(later)
    assert words_of(log.shared) == log.expected()
