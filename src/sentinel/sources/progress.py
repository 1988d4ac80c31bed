"""How far an import is: as a bar on a terminal, as lines elsewhere, or in a log of JSON."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from sentinel.telemetry.log_setup import logs_json

log = logging.getLogger(__name__)

ProgressCallback = Callable[[str, int, int | None], None]
"""Called with the stage, how much is done, and how much there is (None = unknown)."""

STAGE_WORDS: Final = {
    "read": "Reading and checking rows",
    "sort": "Bringing the log in order",
    "log": "Writing the log",
    "known": "Reading which payments are known",
    "compile": "Compiling the feature definitions",
    "dictionaries": "Learning the values of categories",
    "register": "Registering the features",
    "backfill": "Computing features of the history",
    "labels": "Reading labels",
    "vectors": "Collecting vectors to train on",
    "fit": "Training the model",
    "refit": "Fitting on what was held out, too",
    "track": "Recording the training",
    "lengths": "Comparing lengths of history",
    "search": "Searching for parameters",
    "baselines": "Training baselines",
    "reference": "Fitting the reference's procedure to newer payments",
    "gate": "Judging the candidate",
    "report": "Making the report",
    "history": "Scoring the history",
    "begin": "Teaching River's learner what was known before",
    "days": "Learning day by day",
    "figures": "Measuring the learners",
    "replay": "Replaying the log",
    "export": "Exporting",
    "upload": "Sending files",
    "download": "Fetching files",
}

_UNCOUNTED: Final = frozenset(
    {"compile", "register", "fit", "refit", "track", "gate", "report", "figures"}
)
"""Stages that begin and end, with nothing to count in between."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Says nothing."""


@contextmanager
def progress_bar(console: Console | None = None) -> Iterator[ProgressCallback]:
    """A callback that shows progress while the block runs.

    On a terminal, one bar per stage; elsewhere one line when a stage begins and, if it counts
    something, one that says how much there was. A process that logs JSON has these lines in its
    log. A stage that goes on after another one is not announced again.

    Args:
        console: Where to show it; default: standard error.

    >>> with progress_bar(Console(force_terminal=False, width=60)) as progress:
    ...     progress("read", 0, 10)
    ...     progress("read", 10, 10)
    Reading and checking rows ...
    Reading and checking rows: 10 done
    """
    console = console or Console(stderr=True)
    if console.is_terminal:
        with _bars(console) as bars:
            yield bars
    else:
        with _lines(console) as lines:
            yield lines


@contextmanager
def _lines(console: Console) -> Iterator[ProgressCallback]:
    counted: dict[str, int] = {}
    announced: set[str] = set()

    def say(text: str) -> None:
        if logs_json():
            log.info("%s", text)
        else:
            console.print(text, highlight=False)

    def finish() -> None:
        for stage, done in counted.items():
            say(f"{STAGE_WORDS.get(stage, stage)}: {done:,} done")
        counted.clear()

    def show(stage: str, done: int, _total: int | None) -> None:
        if stage not in counted:
            finish()
        if stage not in announced:
            say(f"{STAGE_WORDS.get(stage, stage)} ...")
            announced.add(stage)
        if stage not in _UNCOUNTED:
            counted[stage] = done

    yield show
    finish()


@contextmanager
def _bars(console: Console) -> Iterator[ProgressCallback]:
    progress = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}

    def show(stage: str, done: int, total: int | None) -> None:
        if stage not in tasks:
            tasks[stage] = progress.add_task(STAGE_WORDS.get(stage, stage), total=total)
        # An estimate that proves too small must not show more than there is.
        progress.update(
            tasks[stage], completed=done, total=None if total is None else max(total, done)
        )

    with progress:
        yield show
