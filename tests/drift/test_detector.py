"""The detector names what has moved, once, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import ModelFormatError
from sentinel.drift.bins import Bins, ColumnBins, freeze_bins
from sentinel.drift.detector import DriftDetector, HourCounts
from sentinel.drift.figures import Change
from sentinel.drift.reference import REFERENCE_FILE, DriftReference, freeze_reference
from sentinel.drift.segments import ALL, Segment
from sentinel.settings import DriftSettings

FIRST = 168 * 2900
SETTINGS = DriftSettings()
BINS = Bins(
    (
        ColumnBins("amount", "number", (5.0, 20.0, 80.0, 300.0)),
        ColumnBins("country", "category", (1.0, 2.0, 3.0)),
        ColumnBins("score", "number", (0.1, 0.5)),
    )
)
SHARES = (
    np.array([0.02, 0.2, 0.3, 0.25, 0.15, 0.08]),
    np.array([0.001, 0.009, 0.6, 0.3, 0.09]),
    np.array([0.0, 0.9, 0.08, 0.02]),
)


class Payments:
    """Hours of payments of two segments: the second is every second payment."""

    def __init__(self, seed: int, an_hour: float = 200.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.an_hour = an_hour
        self.shares = [[share.copy() for share in SHARES] for _ in range(2)]

    def hour(self, hour: int) -> HourCounts:
        busy = 1.0 + 0.7 * np.sin(2 * np.pi * hour / 24)
        counts = np.zeros((2, BINS.cells), np.uint32)
        events = self.rng.poisson(self.an_hour * busy, 2)
        for part, number in enumerate(events):
            tilt = 0.3 * np.sin(2 * np.pi * hour / 24)
            for at, share in enumerate(self.shares[part]):
                moved = share * np.exp(tilt * np.linspace(-1, 1, len(share)))
                drawn = self.rng.multinomial(number, moved / moved.sum())
                counts[:, BINS.starts[at] : BINS.starts[at + 1]] += np.array(
                    [[1], [part]], np.uint32
                ) * drawn.astype(np.uint32)
        return HourCounts(hour, counts, np.array([events.sum(), events[1]]))


@pytest.fixture(scope="module")
def reference() -> DriftReference:
    payments, hours = Payments(1), np.arange(FIRST, FIRST + 42 * 24)
    counts = np.stack([payments.hour(int(hour)).counts for hour in hours])
    return freeze_reference(BINS, (Segment(ALL), Segment("online", "online")), hours, counts)


def run(detector: DriftDetector, payments: Payments, hours: range) -> list[Change]:
    return [change for hour in hours for change in detector.advance(payments.hour(hour))]


LIVE = FIRST + 42 * 24


def test_payments_like_those_of_the_reference_raise_no_alarm(reference: DriftReference) -> None:
    detector = DriftDetector(reference, SETTINGS)
    assert run(detector, Payments(2), range(LIVE, LIVE + 30 * 24)) == []
    assert detector.average < detector.threshold


def test_a_change_is_named_once_with_its_start_and_its_size(reference: DriftReference) -> None:
    detector, payments = DriftDetector(reference, SETTINGS), Payments(3)
    assert run(detector, payments, range(LIVE, LIVE + 100)) == []
    payments.shares[1][1][2:4] = 0.45, 0.45  # 0.15 of country 1 went to country 2
    named = run(detector, payments, range(LIVE + 100, LIVE + 150))
    first = named[0]
    assert (first.feature, first.segment) == ("country", "online")
    assert abs(first.since_hour - (LIVE + 100)) <= 2
    assert first.at_hour - (LIVE + 100) <= 5
    assert first.total_variation == pytest.approx(0.15, abs=0.06)
    assert first.question in ("country: code 1", "country: code 2")
    assert {change.feature for change in named} == {"country"}
    assert len(named) <= 2, "once for each segment that it moved"
    assert detector.named == tuple(named)


@pytest.mark.parametrize(
    ("column", "becomes", "says"),
    [
        (0, [1.0, 0, 0, 0, 0, 0], "unknown"),
        (0, [0, 0, 0, 0, 0, 1.0], "and above"),  # cents for euros
        (0, [0, 0, 1.0, 0, 0, 0], "5 to 20"),
        (1, [0, 1.0, 0, 0, 0], "other values"),
    ],
    ids=["nulls", "another unit", "a constant", "a new category"],
)
def test_a_broken_feed_is_found_within_two_hours(
    reference: DriftReference, column: int, becomes: list[float], says: str
) -> None:
    detector, payments = DriftDetector(reference, SETTINGS), Payments(4)
    assert run(detector, payments, range(LIVE, LIVE + 48)) == []
    for part in range(2):
        payments.shares[part][column] = np.array(becomes)
    named = run(detector, payments, range(LIVE + 48, LIVE + 51))
    assert {change.feature for change in named} == {BINS.names[column]}
    assert named[0].at_hour <= LIVE + 50
    assert says in named[0].question or named[0].now < named[0].was
    if says == "unknown":
        assert named[0].missing_now > 0.9
    if says == "other values":
        assert named[0].new_now > 0.9


def test_a_change_that_has_gone_ends_and_its_stream_is_tested_again(
    reference: DriftReference,
) -> None:
    detector, payments = DriftDetector(reference, SETTINGS), Payments(5)
    payments.shares[1][1][2:4] = 0.3, 0.6
    assert run(detector, payments, range(LIVE, LIVE + 48))
    payments.shares[1][1] = SHARES[1].copy()
    ended = []
    for hour in range(LIVE + 48, LIVE + 48 + 6 * 24):
        assert detector.advance(payments.hour(hour)) == []
        ended += detector.ended
    assert {change.feature for change in ended} == {"country"}
    assert all(change.ended_hour is not None for change in ended)
    assert detector.named == ()
    payments.shares[1][1][2:4] = 0.3, 0.6
    assert run(detector, payments, range(LIVE + 192, LIVE + 240))


def test_a_detector_goes_on_from_its_bytes_as_if_nothing_had_happened(
    reference: DriftReference,
) -> None:
    whole, parted = DriftDetector(reference, SETTINGS), DriftDetector(reference, SETTINGS)
    ours, theirs = Payments(6), Payments(6)
    for hour in range(LIVE, LIVE + 120):
        for payments in (ours, theirs):
            if hour == LIVE + 60:
                payments.shares[1][0] = np.array([0.02, 0.05, 0.45, 0.25, 0.15, 0.08])
        expected = whole.advance(ours.hour(hour))
        if hour % 7 == 0:
            parted = DriftDetector.from_bytes(reference, SETTINGS, parted.to_bytes())
        assert parted.advance(theirs.hour(hour)) == expected
    assert whole.named
    assert parted.to_bytes() == whole.to_bytes()


def test_a_state_of_another_reference_is_refused(reference: DriftReference) -> None:
    payments, hours = Payments(7), np.arange(FIRST, FIRST + 20 * 24)
    counts = np.stack([payments.hour(int(hour)).counts for hour in hours])
    other = freeze_reference(BINS, reference.segments, hours, counts)
    data = DriftDetector(reference, SETTINGS).to_bytes()
    with pytest.raises(ModelFormatError, match="Start anew"):
        DriftDetector.from_bytes(other, SETTINGS, data)


def test_an_hour_is_tested_once(reference: DriftReference) -> None:
    detector, payments = DriftDetector(reference, SETTINGS), Payments(8)
    detector.advance(payments.hour(LIVE + 5))
    with pytest.raises(ValueError, match="was tested"):
        detector.advance(payments.hour(LIVE + 5))


def test_a_reference_is_the_same_after_it_was_kept(
    reference: DriftReference, tmp_path: Path
) -> None:
    assert DriftReference.load(tmp_path) is None, "models of before there was one"
    reference.save(tmp_path)
    kept = DriftReference.load(tmp_path)
    assert kept is not None
    assert kept.digest == reference.digest
    assert kept.bins == reference.bins
    assert np.array_equal(kept.expected_answers, reference.expected_answers)
    whole = (tmp_path / REFERENCE_FILE).read_bytes()
    middle = len(whole) // 2
    spoilt = whole[:middle] + bytes(64) + whole[middle + 64 :]
    for broken in (b"PK\x03\x04 cut off", spoilt, whole[:middle]):
        (tmp_path / REFERENCE_FILE).write_bytes(broken)
        with pytest.raises(ModelFormatError, match="Train the model anew"):
            DriftReference.load(tmp_path)


def test_a_short_reference_says_that_nothing_can_be_tested() -> None:
    payments, hours = Payments(9), np.arange(FIRST, FIRST + 5 * 24)
    counts = np.stack([payments.hour(int(hour)).counts for hour in hours])
    short = freeze_reference(BINS, (Segment(ALL), Segment("online", "online")), hours, counts)
    assert "5 days" in short.too_short
    with pytest.raises(ModelFormatError, match="5 days"):
        DriftDetector(short, SETTINGS)


def test_a_change_in_a_segment_that_gets_no_payments_any_more_ends(
    reference: DriftReference,
) -> None:
    detector, payments = DriftDetector(reference, SETTINGS), Payments(9)
    payments.shares[1][1][2:4] = 0.3, 0.6
    named = run(detector, payments, range(LIVE, LIVE + 48))
    assert "online" in {change.segment for change in named}
    payments.shares[1] = [share.copy() for share in SHARES]
    ended: dict[str, tuple[int, str]] = {}
    for hour in range(LIVE + 48, LIVE + 48 + 10 * 24):
        here = payments.hour(hour)
        here.counts[1], here.events[1] = 0, 0
        detector.advance(here)
        ended |= {change.segment: (hour, change.ended_by) for change in detector.ended}
    assert ended["online"] == (LIVE + 48 + 7 * 24, "no payments")
    assert detector.named == ()
    assert DriftDetector.from_bytes(reference, SETTINGS, detector.to_bytes()).named == ()


class Constants:
    """Hours of payments whose version is 3 and whose coupon is unknown; what becomes of them."""

    bins = Bins(
        (
            freeze_bins(np.full((2, 1), 3, np.float32), ["version"]).columns[0],
            ColumnBins("coupon", "number", ()),
            ColumnBins("country", "category", (1.0,)),
            ColumnBins("score", "number", (0.1,)),
        )
    )

    def __init__(self, seed: int, an_hour: float = 100.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.an_hour = an_hour
        self.shares = {"version": [0, 0, 1.0, 0], "coupon": [1.0, 0], "country": [0, 0, 1.0]}

    def hour(self, hour: int) -> HourCounts:
        events = int(self.rng.poisson(self.an_hour))
        columns = [self.rng.multinomial(events, share) for share in self.shares.values()]
        columns.append(self.rng.multinomial(events, [0.0, 0.9, 0.1]))
        counts = np.concatenate(columns)[None].astype(np.uint32)
        return HourCounts(hour, counts, np.array([events]))

    @classmethod
    def reference(cls, days: int = 28) -> DriftReference:
        payments, hours = cls(1), np.arange(FIRST, FIRST + days * 24)
        counts = np.stack([payments.hour(int(hour)).counts for hour in hours])
        return freeze_reference(cls.bins, (Segment(ALL),), hours, counts)


@pytest.mark.parametrize(
    ("feature", "becomes", "says"),
    [
        ("version", [0, 0, 0.9, 0.1], "version: above 3"),
        ("version", [0, 0.1, 0.9, 0], "version: below 3"),
        ("version", [0.1, 0, 0.9, 0], "version: unknown"),
        ("coupon", [0.9, 0.1], "coupon: known"),
        ("country", [0, 0.1, 0.9], "country: other values"),
    ],
)
def test_what_never_varied_is_named_when_it_does_and_again_after_it_came_back(
    feature: str, becomes: list[float], says: str
) -> None:
    detector, payments = DriftDetector(Constants.reference(), SETTINGS), Constants(2)
    usual = payments.shares[feature]

    def live(first: int, last: int) -> list[Change]:
        hours = range(LIVE + first, LIVE + last)
        return [change for hour in hours for change in detector.advance(payments.hour(hour))]

    assert live(0, 72) == []
    payments.shares[feature] = becomes
    (found,) = live(72, 96)
    assert (found.feature, found.question) == (feature, says)
    assert abs(found.since_hour - (LIVE + 72)) <= 1
    assert found.was < 0.001
    assert found.now == pytest.approx(0.1, abs=0.04)
    assert live(96, 240) == [], "one change is one alarm"
    payments.shares[feature] = usual
    assert live(240, 360) == []
    assert detector.named == ()
    payments.shares[feature] = becomes
    assert [change.question for change in live(360, 400)] == [says]


def test_a_few_payments_that_stray_from_what_never_varied_are_no_change() -> None:
    detector, payments = DriftDetector(Constants.reference(), SETTINGS), Constants(3)
    payments.shares |= {"version": [0.0001, 0, 0.9998, 0.0001], "coupon": [0.9998, 0.0002]}
    hours = range(LIVE, LIVE + 60 * 24)
    assert [change for hour in hours for change in detector.advance(payments.hour(hour))] == []
    # One customer with twenty payments of a new version in an hour.
    burst = payments.hour(LIVE + 60 * 24).counts
    burst[0, 2] -= 20
    burst[0, 3] += 20
    assert detector.advance(HourCounts(LIVE + 60 * 24, burst, np.array([burst[0, :4].sum()]))) == []


def test_a_short_reference_of_few_payments_bets_on_nothing_that_it_never_saw() -> None:
    hours = np.arange(FIRST, FIRST + 14 * 24)
    payments = Constants(4, an_hour=0.5)
    counts = np.stack([payments.hour(int(hour)).counts for hour in hours])
    reference = freeze_reference(Constants.bins, (Segment(ALL),), hours, counts)
    detector = DriftDetector(reference, SETTINGS)
    payments.shares["version"] = [0, 0, 0, 1.0]
    assert [
        change
        for hour in range(LIVE, LIVE + 240)
        for change in detector.advance(payments.hour(hour))
    ] == []
