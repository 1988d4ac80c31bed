"""Records of older versions and of plans that serve no more go away once nobody asks for them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentinel.domain import ConfigurationError
from sentinel.features.arena import Arena
from sentinel.features.plan.plan import DAY_US, MINUTE_US
from sentinel.pipeline.old_records import drop_old_records
from sentinel.settings import Settings, StateSettings
from sentinel.state.redis.layout import epoch_start
from sentinel.state.redis.records import Loaded
from testkit.shared_records import SharedRecords, shared_records
from tests.features.plans import every_function
from tests.state.shared_redis import shared_redis
from tests.state.test_shared_records import Embedded, payment, words_in, words_of

PLAN = every_function((10 * MINUTE_US, DAY_US))
OTHER_PLAN = every_function((10 * MINUTE_US,))
LOADED = Loaded(64, 0)


@pytest.fixture
def both() -> Iterator[tuple[SharedRecords, SharedRecords]]:
    """Records of two plans in one deployment."""
    with (
        shared_records(PLAN, shared_redis().url) as first,
        shared_records(OTHER_PLAN, shared_redis().url) as second,
    ):
        second.prefix = first.prefix
        yield first, second


@pytest.fixture
def settings(both: tuple[SharedRecords, SharedRecords], tmp_path: Path) -> Settings:
    made = Settings(
        workspace=tmp_path,
        state=StateSettings(
            backend="redis", redis_url=shared_redis().url, redis_prefix=both[0].prefix
        ),
    )
    PLAN.save(made.plan_path)
    return made


def load(shared: SharedRecords) -> None:
    features = shared.features()
    features.records.load(Arena(shared.program), LOADED, 0)
    features.add([payment(n, n) for n in range(5)], features.next_ticket())


def test_scorers_with_different_plans_read_their_own_records(
    both: tuple[SharedRecords, SharedRecords],
) -> None:
    # As while a new plan is rolled out: each payment is decided by one of them.
    scorers = [shared.features() for shared in both]
    embedded = [Embedded(shared) for shared in both]
    for at in range(0, 60, 3):
        group = [payment(n, 1000 * n, customer=f"c{n % 4}") for n in range(at, at + 3)]
        which = at // 3 % 2
        added = scorers[which].add(group, scorers[which].next_ticket())
        expected = embedded[which].run(group)
        assert added.vectors.tobytes() == expected.tobytes()
        assert (added.positions > epoch_start(64)).all()
    for shared, one in zip(both, embedded, strict=True):
        assert words_of(shared) == words_in(one.fold.arena)


def test_what_nobody_asks_for_is_dropped_and_nothing_else(
    both: tuple[SharedRecords, SharedRecords], settings: Settings
) -> None:
    current, other = both
    load(current)
    load(other)
    wire = current.records().wire
    # What a scorer of the version before leaves behind: keys of format 1.
    old = f"{current.prefix}:1:{PLAN.hash}"
    for name in (":loaded", ":customer:c1", ":customer:loaded"):
        wire.call(b"x", "SET", old + name, "1")
    wire.call(b"x", "HSET", f"{{{old}}}:intents", "t", "1")
    before = words_of(current)

    found = drop_old_records(settings, unused_seconds=3600)
    assert found.dropped == ()
    assert {(s.value_format, s.plan_hash) for s in found.in_use} == {
        (1, PLAN.hash),
        (2, OTHER_PLAN.hash),
    }
    time.sleep(3.2)
    # A scorer of the other plan still asks, several times a second.
    other.records().loaded()
    found = drop_old_records(settings, unused_seconds=2, dry_run=True)
    assert [(s.value_format, s.keys) for s in found.dropped] == [(1, 4)]
    found = drop_old_records(settings, unused_seconds=2)
    assert [(s.value_format, s.plan_hash) for s in found.dropped] == [(1, PLAN.hash)]
    assert [s.plan_hash for s in found.in_use] == [OTHER_PLAN.hash]
    left = [key for some in wire.scan(f"*{current.prefix}:*".encode()) for key in some]
    assert not any(f"{current.prefix}:1:".encode() in key for key in left)
    assert words_of(current) == before
    assert words_of(other)
    time.sleep(3.2)
    found = drop_old_records(settings, unused_seconds=2)
    assert [s.plan_hash for s in found.dropped] == [OTHER_PLAN.hash]
    assert not words_of(other)
    assert words_of(current) == before


def test_without_shared_state_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="nothing in Redis to drop"):
        drop_old_records(Settings(workspace=tmp_path))
