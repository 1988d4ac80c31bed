"""The simulated world: the same for a seed, like life in its habits, and it goes on for ever."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import islice, takewhile

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.domain import ConfigurationError, Label, Transaction, Verdict
from sentinel.ingest.cards import holds_card_number
from sentinel.log.schema import ATTRIBUTE_PREFIX, KIND_LABEL, KIND_TRANSACTION
from sentinel.sources import SimulatorConfig, SimulatorSource, log_batches, open_source
from sentinel.sources.simulator.events import Events, concat
from sentinel.sources.simulator.world import CAMPAIGN_DAYS, LABEL_DAYS, World

DAY_US = 86_400_000_000
SMALL = SimulatorConfig(customers=120, merchants=80, days=40, fraud_rate=0.03, seed=3)


def history(source: SimulatorSource, kind: int, chunk_rows: int = 50_000) -> pa.Table:
    chunks = source.raw_batches(chunk_rows)
    return pa.Table.from_batches(
        [chunk.rows for chunk in chunks if chunk.kind == kind]
    ).combine_chunks()


@pytest.fixture(scope="module")
def world() -> tuple[World, Events]:
    """The platform's first run: half a year, 300,000 payments."""
    world = World(SimulatorConfig())
    return world, concat([world.day(day) for day in range(180)])


@settings(max_examples=6)
@given(st.integers(40, 900))
def test_chunks_of_any_size_hold_the_same_payments_and_labels(chunk_rows: int) -> None:
    chunks = list(SimulatorSource(SMALL).raw_batches(chunk_rows))
    for kind in (KIND_TRANSACTION, KIND_LABEL):
        rows = pa.Table.from_batches([chunk.rows for chunk in chunks if chunk.kind == kind])
        assert rows.combine_chunks().equals(history(SimulatorSource(SMALL), kind))
    sizes = [chunk.rows.num_rows for chunk in chunks if chunk.kind == KIND_TRANSACTION]
    assert set(sizes[:-1]) <= {chunk_rows}


def test_a_seed_is_a_world() -> None:
    one = history(SimulatorSource(SMALL), KIND_TRANSACTION)
    other = history(
        SimulatorSource(SimulatorConfig(customers=120, merchants=80, days=40, seed=4)),
        KIND_TRANSACTION,
    )
    assert not one.equals(other)


def test_worlds_of_one_calendar_are_the_same_moved_in_time() -> None:
    weeks = 61  # a year and some weeks later, at another season
    autumn = replace(SMALL, start="2026-10-05", calendar="2026-10-05")
    winter = replace(SMALL, start="2027-12-06", calendar="2026-10-05")
    assert winter.start_us - autumn.start_us == weeks * 7 * DAY_US
    for day in range(35):
        one, other = World(autumn).day(day), World(winter).day(day)
        moved = replace(one, time_us=one.time_us + weeks * 7 * DAY_US)
        for column in fields(Events):
            if column.name not in ("device", "address", "claimed_us", "corrected_us"):
                assert np.array_equal(getattr(moved, column.name), getattr(other, column.name)), (
                    column.name
                )
        assert np.array_equal(one.claimed_us > 0, other.claimed_us > 0)


def test_ids_of_devices_are_no_numbers_unless_an_older_world_goes_on() -> None:
    newer, older = (
        history(SimulatorSource(replace(SMALL, device_ids=kind)), KIND_TRANSACTION)
        for kind in ("hex", "number")
    )
    for row, before in zip(
        newer["device_id"].to_pylist(), older["device_id"].to_pylist(), strict=True
    ):
        assert (row is None) == (before is None)
        assert row is None or not holds_card_number(row)
    names = set(zip(newer["device_id"].to_pylist(), older["device_id"].to_pylist(), strict=True))
    assert len(names) == len({name for name, _ in names}) == len({name for _, name in names})


def test_a_longer_history_begins_with_the_shorter_one() -> None:
    """Days are made one by one: how many there are changes none of them."""
    longer = SimulatorConfig(customers=120, merchants=80, days=60.5, fraud_rate=0.03, seed=3)
    short = history(SimulatorSource(SMALL), KIND_TRANSACTION)
    long = history(SimulatorSource(longer), KIND_TRANSACTION)
    assert long.slice(0, short.num_rows).equals(short)
    assert max(long["event_time_us"].to_pylist()) < longer.end_us


@pytest.mark.parametrize("gap_days", [0.0, 3.3])
def test_live_traffic_is_what_a_longer_history_would_have_held(gap_days: float) -> None:
    source = SimulatorSource(SMALL)
    t0 = SMALL.end_us + round(gap_days * DAY_US)
    until = t0 + 5 * DAY_US
    live = list(takewhile(lambda event: event.due_us < until, source.stream_from(t0)))
    longer = SimulatorSource(
        SimulatorConfig(customers=120, merchants=80, days=50, fraud_rate=0.03, seed=3)
    )

    payments = [event.entry for event in live if isinstance(event.entry, Transaction)]
    expected = history(longer, KIND_TRANSACTION)
    times = expected["event_time_us"]
    expected = expected.filter(pc.and_(pc.greater_equal(times, t0), pc.less(times, until)))
    assert [payment.transaction_id for payment in payments] == expected[
        "transaction_id"
    ].to_pylist()
    for payment, row in zip(payments, expected.to_pylist(), strict=True):
        assert payment.amount_minor == row["amount_minor"]
        assert payment.device_id == row["device_id"]
        for name in source.attributes:
            assert payment.attributes.get(name) == row[ATTRIBUTE_PREFIX + name]

    labels = {event.entry.label_id for event in live if isinstance(event.entry, Label)}
    told = history(longer, KIND_LABEL)
    due = told.filter(
        pc.and_(
            pc.greater_equal(told["received_at_us"], t0), pc.less(told["received_at_us"], until)
        )
    )
    assert labels == set(due["label_id"].to_pylist())
    assert labels
    dues = [event.due_us for event in live]
    assert dues == sorted(dues)


def test_history_and_live_labels_together_leave_none_out() -> None:
    """What had not arrived by the end of the history arrives in live traffic."""
    source = SimulatorSource(SMALL)
    log = log_batches(source, now_us=SMALL.end_us)
    known = {
        row["label_id"] for batch in log for row in batch.to_pylist() if row["label_id"] is not None
    }
    assert log.report.labels_not_arrived > 0
    everything = set(history(source, KIND_LABEL)["label_id"].to_pylist())
    last = SMALL.end_us + LABEL_DAYS * DAY_US
    live = takewhile(lambda event: event.due_us < last, source.stream_from(SMALL.end_us))
    later = {event.entry.label_id for event in live if isinstance(event.entry, Label)}
    assert everything - known <= later
    assert not known & later


def test_live_traffic_has_fraud_at_the_same_rate() -> None:
    config = SimulatorConfig(customers=2_000, days=1)
    live = SimulatorSource(config).stream_from(config.end_us)
    payments = [event for event in islice(live, 60_000) if isinstance(event.entry, Transaction)]
    share = np.mean([event.is_fraud for event in payments])
    assert 0.003 <= share <= 0.01


def test_fraud_is_three_to_ten_in_a_thousand_and_of_all_five_kinds(
    world: tuple[World, Events],
) -> None:
    _, events = world
    assert 285_000 < len(events) < 315_000
    assert 0.003 <= np.mean(events.scenario > 0) <= 0.01
    kinds = np.bincount(events.scenario, minlength=6)[1:]
    assert kinds.min() >= 80
    assert kinds.max() < 0.6 * kinds.sum()


def test_labels_come_days_to_weeks_later_and_some_never(world: tuple[World, Events]) -> None:
    _, events = world
    fraud = events.take(events.scenario > 0)
    reported = fraud.claimed_us > 0
    assert 0.08 <= 1 - reported.mean() <= 0.18
    days = (fraud.claimed_us - fraud.time_us)[reported] / DAY_US
    assert days.min() > 0
    assert 4 < np.median(days) < 15
    assert days.max() < LABEL_DAYS
    honest = events.take(events.scenario == 0)
    mistaken = honest.claimed_us > 0
    assert 0.0001 < mistaken.mean() < 0.001
    assert (honest.corrected_us[mistaken] > honest.claimed_us[mistaken]).all()
    assert (honest.corrected_us[~mistaken] == 0).all()


def test_mistaken_claims_are_corrected_in_the_log() -> None:
    labels = history(SimulatorSource(SimulatorConfig(days=30)), KIND_LABEL).to_pandas()
    corrected = labels[labels.verdict == Verdict.LEGITIMATE.value]
    assert len(corrected) > 3
    for _, row in corrected.iterrows():
        claim = labels[(labels.transaction_id == row.transaction_id) & (labels.verdict == "fraud")]
        assert claim.received_at_us.item() < row.received_at_us


def test_customers_have_habits(world: tuple[World, Events]) -> None:
    """A customer's own amounts, hours and merchants are closer together than everybody's."""
    _, events = world
    honest = events.take((events.scenario == 0) & (events.amount_minor > 0))
    order = np.argsort(honest.customer, kind="stable")
    who, merchant = honest.customer[order], honest.merchant[order]
    size = np.log(honest.amount_minor[order])
    borders = np.flatnonzero(np.diff(who)) + 1
    spread = np.mean([part.std() for part in np.split(size, borders) if len(part) > 30])
    assert spread < 0.95 * size.std()
    most = [
        np.bincount(part).max() / len(part)
        for part in np.split(merchant, borders)
        if len(part) > 30
    ]
    assert np.mean(most) > 0.1


def test_days_weeks_and_years_have_their_rhythm(world: tuple[World, Events]) -> None:
    _, events = world
    hour = events.time_us // 3_600_000_000 % 24
    counts = np.bincount(hour, minlength=24)
    assert counts[17] > 3 * counts[2]
    day = events.time_us // DAY_US
    weekday = np.bincount((day + 3) % 7, minlength=7)
    assert weekday[4] > 1.2 * weekday[6]
    year = World(SimulatorConfig(customers=400))
    december = sum(len(year.day(day)) for day in range(334, 364))
    february = sum(len(year.day(day)) for day in range(31, 60)) * 30 / 29
    assert december > 1.1 * february


def test_the_world_drifts(world: tuple[World, Events]) -> None:
    young = World(SimulatorConfig(customers=3_000, seed=2))
    first = concat([young.day(day) for day in range(10)])
    later = concat([young.day(day) for day in range(700, 710)])
    new = np.flatnonzero(young.population.merchants.opens > 10)
    assert not np.isin(first.merchant, new).any()
    assert np.isin(later.merchant, new).mean() > 0.05
    assert np.mean(later.channel == 1) > np.mean(first.channel == 1) + 0.01


def test_households_share_addresses_and_strangers_share_carriers(
    world: tuple[World, Events],
) -> None:
    _, events = world
    online = events.take((events.channel == 1) & (events.scenario == 0))
    pairs = np.unique(np.stack([online.address, online.customer]), axis=1)
    sharing = np.bincount(np.unique(pairs[0], return_inverse=True)[1])
    assert (sharing == 2).sum() > 500
    assert sharing.max() > 5


def test_card_present_payments_have_neither_device_nor_address() -> None:
    rows = history(SimulatorSource(SMALL), KIND_TRANSACTION)
    online = pc.equal(rows["attributes.channel"], "online")
    for name in ("device_id", "ip_address", "attributes.device_system"):
        assert pc.is_valid(rows[name]).equals(online)
    assert rows["card_id"].null_count == rows["merchant_id"].null_count == 0


def test_every_payment_is_acceptable() -> None:
    log = log_batches(SimulatorSource(SMALL), now_us=SMALL.end_us)
    assert sum(batch.num_rows for batch in log) > 2_500
    assert log.report.rejected == {}
    amounts = history(SimulatorSource(SMALL), KIND_TRANSACTION)["amount_minor"].to_numpy()
    assert (amounts == 0).any()
    assert (amounts < 0).any()


def test_no_campaign_outlives_what_the_world_looks_back_on() -> None:
    world = World(SimulatorConfig(customers=500, fraud_rate=0.05))
    longest = 0
    for day in range(60):
        campaign = world._campaigns_of(day)
        if len(campaign):
            start = (world.config.first_day + day) * DAY_US
            longest = max(longest, int((campaign.time_us - start).max()) // DAY_US)
    assert 20 < longest < CAMPAIGN_DAYS


def test_the_truth_says_what_is_behind_every_payment() -> None:
    source = SimulatorSource(SMALL)
    truth = pa.Table.from_batches(source.truth_batches(700))
    rows = history(source, KIND_TRANSACTION)
    assert truth["transaction_id"].combine_chunks().equals(rows["transaction_id"].combine_chunks())
    claimed = set(history(source, KIND_LABEL)["transaction_id"].to_pylist())
    guilty = {row["transaction_id"] for row in truth.to_pylist() if row["scenario"] != "legitimate"}
    assert len(guilty & claimed) > 0.7 * len(guilty)
    assert not any("fraud" in name or "scenario" in name for name in rows.schema.names)


def test_a_history_can_end_at_any_moment() -> None:
    now_us = 1_709_290_800_000_123
    config = SimulatorConfig.ending(now_us, days=3, customers=200)
    assert config.end_us == now_us
    times = history(SimulatorSource(config), KIND_TRANSACTION)["event_time_us"].to_numpy()
    assert times.max() < now_us
    assert times.min() >= config.start_us
    assert now_us - config.start_us >= 3 * DAY_US


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"customers": 3}, "customers"),
        ({"start": "yesterday"}, "2024-01-31"),
        ({"days": 0}, "days"),
        ({"customers": 10_000_000, "daily_rate": 2}, "payments a day"),
    ],
)
def test_an_impossible_world_is_refused(options: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        open_source("simulator", **options)


def test_live_traffic_cannot_begin_before_the_history() -> None:
    with pytest.raises(ConfigurationError, match="before the simulated history"):
        SimulatorSource(SMALL).stream_from(SMALL.start_us - 1)
