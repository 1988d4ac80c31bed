"""The parts of the benchmark of drift that take long, kept in a file as they end.

A piece is one deployment, named by what is done with it and by its seed. A run that was cut goes on
with the pieces that are missing; results of another procedure are passed over.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

Piece = tuple[str, int]
"""What is done, and the seed."""
Work = Callable[[str, int], Any]


def find_pieces(
    work: Work,
    pieces: Sequence[Piece],
    *,
    procedures: Mapping[str, int],
    processes: int,
    resume: Path | None,
) -> dict[Piece, Any]:
    """The results of all pieces: those that the file holds, and those that are worked out now.

    Args:
        work: Works one out; a function of a module, so that other processes find it. Its result
            can be written as JSON.
        pieces: What is wanted.
        procedures: By what is done, the number of the procedure that results must come from.
        processes: At once; 1: this process.
        resume: A file that each result is added to; None keeps none.
    """
    done = _kept(resume, procedures)
    missing = [piece for piece in pieces if piece not in done]
    for at, (piece, found) in enumerate(_worked_out(work, missing, processes), 1):
        done[piece] = found
        if resume:
            line = {"piece": piece, "procedure": procedures[piece[0]], "found": found}
            # On a line of its own, also after a line that a kill cut short.
            with resume.open("a") as file:
                file.write("\n" * (file.tell() > 0) + json.dumps(line))
        if at % max(1, len(missing) // 50) == 0:
            print(f"{time.strftime('%H:%M:%S')} {at} of {len(missing)} pieces", file=sys.stderr)
    return {piece: done[piece] for piece in pieces}


def _kept(path: Path | None, procedures: Mapping[str, int]) -> dict[Piece, Any]:
    if path is None or not path.exists():
        return {}
    lines = [one for line in path.read_text().splitlines() if (one := _line(line)) is not None]
    return {
        (line["piece"][0], line["piece"][1]): line["found"]
        for line in lines
        if procedures.get(line["piece"][0]) == line["procedure"]
    }


def _line(text: str) -> dict[str, Any] | None:
    """A line of the file; None if a kill cut it short."""
    try:
        found: dict[str, Any] = json.loads(text)
    except json.JSONDecodeError:
        return None
    return found


def _worked_out(work: Work, pieces: Sequence[Piece], processes: int) -> Iterator[tuple[Piece, Any]]:
    if processes <= 1 or len(pieces) <= 1:
        yield from ((piece, work(*piece)) for piece in pieces)
        return
    # Each process has a core; libraries that start threads read this when they are loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(work, *piece): piece for piece in pieces}
        for ready in as_completed(running):
            yield running[ready], ready.result()
