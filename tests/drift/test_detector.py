"""The detector names what has moved, once, and goes on where it stopped."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import ModelFormatError
from sentinel.drift.bins import Bins, ColumnBins
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
