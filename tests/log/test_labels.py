"""A record counts each fraud once, whatever labels say and in whatever order they come."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentinel.domain import Label, Verdict
from sentinel.features.plan import program
from sentinel.log.labels import (
    KIND_FRAUD,
    KIND_RETRACT,
    LabelChange,
    changes_of,
    take_arrival,
    take_label,
)

STEP = {KIND_FRAUD: 1, KIND_RETRACT: -1, None: 0}


def label(number: int, about: str, verdict: Verdict) -> Label:
    return Label(
        label_id=f"l{number}", transaction_id=about, verdict=verdict, received_at_us=number
    )


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(Verdict)), max_size=20))
def test_what_is_counted_is_what_the_newest_labels_say(said: list[tuple[str, Verdict]]) -> None:
    fraud: set[str] = set()
    counted = dict.fromkeys("abc", 0)
    for about, verdict in said:
        counted[about] += STEP[take_label(fraud, about, verdict)]
    newest = dict(said)
    assert counted == {about: int(newest.get(about) == Verdict.FRAUD) for about in "abc"}
    assert fraud == {about for about, count in counted.items() if count}


@given(
    st.lists(st.sampled_from(Verdict), max_size=6),
    st.integers(0, 6),
)
def test_a_transaction_may_come_before_or_after_its_labels(
    verdicts: list[Verdict], arrives: int
) -> None:
    fraud: set[str] = set()
    counted: int | None = None
    for place, verdict in enumerate([*verdicts, None]):
        if place == min(arrives, len(verdicts)):
            counted = STEP[take_arrival(fraud, "t")]
        if verdict is not None:
            step = STEP[take_label(fraud, "t", verdict)]
            counted = None if counted is None else counted + step  # waits until it is there
    assert counted == int(bool(verdicts) and verdicts[-1] == Verdict.FRAUD)


def test_labels_that_came_together_name_their_places() -> None:
    fraud = {"known"}
    labels = [
        label(1, "new", Verdict.FRAUD),
        label(2, "new", Verdict.FRAUD),
        label(3, "known", Verdict.LEGITIMATE),
        label(4, "other", Verdict.LEGITIMATE),
        label(5, "new", Verdict.LEGITIMATE),
    ]
    assert changes_of(labels, 100, fraud) == [
        LabelChange("new", KIND_FRAUD, 100),
        LabelChange("known", KIND_RETRACT, 102),
        LabelChange("new", KIND_RETRACT, 104),
    ]
    assert fraud == set()


def test_kernels_and_the_rule_speak_of_the_same_kinds() -> None:
    assert (program.KIND_FRAUD, program.KIND_RETRACT) == (KIND_FRAUD, KIND_RETRACT)
    assert len({program.KIND_ADD, program.KIND_PEEK, program.KIND_READ, 3, 4}) == 5
