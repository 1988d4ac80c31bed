"""What a training tells MLflow arrives, whoever trains at the same time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

from sentinel.pipeline.tracking import TrackedRun, tracked_run
from sentinel.settings import Settings


def test_trainings_at_once_may_learn_from_the_same_rows(settings: Settings) -> None:
    at_once, rounds = 6, 8
    with ExitStack() as stack:
        runs = [
            stack.enter_context(tracked_run(settings, f"run {i}", tags={})) for i in range(at_once)
        ]
        barrier = Barrier(at_once)

        def note(run: TrackedRun) -> None:
            for round_ in range(rounds):
                barrier.wait(60)
                run.data(name="transaction-log", digest=f"{round_:036}", source={}, rows=round_)

        with ThreadPoolExecutor(at_once) as pool:
            list(pool.map(note, runs))
