"""Who comes first, how much may wait, and times that never go back."""

from __future__ import annotations

import time

import pytest

from sentinel.domain import Overloaded, Transaction
from sentinel.scoring.pending import Pending
from sentinel.scoring.queue import MAX_GROUP, SHARED_GROUP, PaymentQueue, QueueLimits
from sentinel.telemetry.request_ids import NO_IDS


class Client:
    ids = NO_IDS

    def answered(self, body: bytes) -> None:
        raise AssertionError("nothing is answered here")

    def failed(self, error: Exception) -> None:
        raise AssertionError("nothing is answered here")


def waiting(
    name: str, received_at_us: int = 1, *, dry_run: bool = False, batched: bool = False
) -> Pending:
    transaction = Transaction(
        transaction_id=name,
        event_time_us=received_at_us,
        received_at_us=received_at_us,
        amount_minor=1,
    )
    return Pending(transaction, Client(), 0, dry_run, batched)


def names(group: list[Pending]) -> list[str]:
    return [pending.transaction.transaction_id for pending in group]


def test_a_single_payment_overtakes_a_batch_after_one_group() -> None:
    queue = PaymentQueue(QueueLimits())
    for n in range(10_000):
        queue.add(waiting(f"b{n}"), batched=True)
    assert names(queue.take()) == [f"b{n}" for n in range(MAX_GROUP)]
    queue.add(waiting("single", 2), batched=False)
    assert names(queue.take()) == ["single"]
    assert names(queue.take())[0] == f"b{MAX_GROUP}"
    assert len(queue) == 10_000 - 2 * MAX_GROUP


def test_a_batch_takes_short_turns_while_single_payments_come_in() -> None:
    queue = PaymentQueue(QueueLimits())
    for n in range(1_000):
        queue.add(waiting(f"b{n}"), batched=True)
    single = waiting("single", 2)
    single.arrived_ns = time.perf_counter_ns()
    queue.add(single, batched=False)
    assert names(queue.take()) == ["single"]
    assert names(queue.take()) == [f"b{n}" for n in range(SHARED_GROUP)]
    queue.add(waiting("long ago", 3), batched=False)
    assert names(queue.take()) == ["long ago"]
    assert len(queue.take()) == MAX_GROUP


def test_single_payments_without_end_do_not_starve_a_batch() -> None:
    queue = PaymentQueue(QueueLimits())
    queue.add(waiting("batch"), batched=True)
    groups = []
    while "batch" not in groups:
        queue.add(waiting("single"), batched=False)
        groups += names(queue.take())
    assert groups == ["single"] * 8 + ["batch"]


def test_times_never_go_back_whoever_goes_first() -> None:
    queue = PaymentQueue(QueueLimits())
    queue.add(waiting("batch", 10), batched=True)
    own_time = waiting("with a time of its own", 11)
    own_time.transaction = Transaction(
        transaction_id="with a time of its own", event_time_us=5, received_at_us=11, amount_minor=1
    )
    queue.add(own_time, batched=True)
    queue.add(waiting("single", 20), batched=False)
    taken = [one.transaction for _ in range(2) for one in queue.take()]
    assert [t.received_at_us for t in taken] == [20, 20, 20]
    # Without a time of its own, a payment happens when it is received.
    assert [t.event_time_us for t in taken] == [20, 20, 5]
    assert queue.raise_floor(15) == 20
    back = waiting("looked up", 12)
    queue.put_back(back)
    assert [one.transaction.received_at_us for one in queue.take()] == [20]


def test_dry_runs_are_groups_of_their_own() -> None:
    queue = PaymentQueue(QueueLimits())
    for n, dry_run in enumerate((False, False, True, False)):
        queue.add(waiting(str(n), dry_run=dry_run), batched=False)
    assert [names(queue.take()) for _ in range(3)] == [["0", "1"], ["2"], ["3"]]


def test_what_exceeds_the_queue_is_told_when_to_come_again() -> None:
    queue = PaymentQueue(QueueLimits(singles=2, batched=100))
    queue.check_room(1_000, batched=True)  # a batch alone may be larger than what may wait
    for n in range(90):
        queue.add(waiting(f"b{n}"), batched=True)
    queue.check_room(10, batched=True)
    queue.seconds_each = 0.5
    with pytest.raises(Overloaded, match=r"90 payments of batches wait.* 100 may") as refused:
        queue.check_room(11, batched=True)
    assert refused.value.retry_after_seconds == 45
    queue.check_room(1, batched=False)  # batches take no room from single payments
    for n in range(2):
        queue.add(waiting(f"s{n}"), batched=False)
    with pytest.raises(Overloaded, match=r"2 single payments .*scoring.waiting_payments"):
        queue.check_room(1, batched=False)
    taken = queue.take()
    queue.check_room(1, batched=False)
    for pending in taken:
        queue.leave(pending)  # what is looked up in the log waits, too
    with pytest.raises(Overloaded):
        queue.check_room(1, batched=False)
    queue.come_back(taken[0])
    queue.check_room(1, batched=False)


def test_a_batch_that_is_looked_up_takes_no_room_from_single_payments() -> None:
    queue = PaymentQueue(QueueLimits(singles=2, batched=100))
    for n in range(90):
        queue.add(waiting(f"b{n}", batched=True), batched=True)
    for pending in queue.take():
        queue.leave(pending)
    assert (len(queue), queue.away) == (0, 90)
    queue.check_room(2, batched=False)
    with pytest.raises(Overloaded, match="90 payments of batches wait"):
        queue.check_room(11, batched=True)


def test_times_never_go_back_where_a_batch_comes_between_look_ups() -> None:
    queue = PaymentQueue(QueueLimits())
    for n in range(8):
        queue.add(waiting(f"s{n}", 10), batched=False)
        queue.take()
    queue.add(waiting("batch", 11), batched=True)
    for name, at in (("later", 15), ("earlier", 13)):
        queue.put_back(waiting(name, at))
    queue.add(waiting("last", 16), batched=False)
    queue.put_back(waiting("latest", 17))
    assert names(queue.take()) == ["batch"]
    group = queue.take()
    assert names(group) == ["latest", "earlier", "later", "last"]
    assert [one.transaction.received_at_us for one in group] == [17, 17, 17, 17]
