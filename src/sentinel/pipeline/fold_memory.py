"""Whether this machine has the memory for the records of a log, asked before they are made.

An import is history that somebody chose, so that no budget bounds its records. A plan whose records
do not fit is told of while there is memory left: a kernel that runs out of it ends processes
without a word, and not only this one.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import DefinitionError
from sentinel.features.arena import KEY_SEPARATOR, Arena
from sentinel.state.budget import process_memory

KEPT_FREE: Final = 0.05
"""Of the memory that a process may use: what is left to everything else on the machine."""

_MEMINFO: Final = Path("/proc/meminfo")
_CGROUP: Final = Path("/sys/fs/cgroup")
_WORD_BYTES: Final = 8


def free_memory() -> int:
    """Bytes that this process can still take: of the machine's, or of its container's.

    Where the system does not tell what is free, it is all that the process may use.
    """
    free = most = process_memory()
    try:
        lines = _MEMINFO.read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        name, _, rest = line.partition(":")
        if name == "MemAvailable":
            free = min(free, int(rest.split()[0]) << 10)
    try:
        used = int((_CGROUP / "memory.current").read_text())
        bound = (_CGROUP / "memory.max").read_text().strip()
        cached = [
            int(line.split()[1])
            for line in (_CGROUP / "memory.stat").read_text().splitlines()
            if line.startswith("inactive_file ")
        ]
    except (OSError, ValueError):
        return free
    if bound.isdigit():
        free = min(free, most - used + sum(cached))
    return max(free, 0)


def check_memory(arena: Arena, batch: pa.RecordBatch, free_bytes: int) -> None:
    """Refuse a batch whose new records do not fit into memory.

    Args:
        arena: The records that there are.
        batch: The log's next batch.
        free_bytes: What the process can still take, see `free_memory`.

    Raises:
        DefinitionError: Naming the view that takes the most, and what to do.
    """
    room = free_bytes - int(KEPT_FREE * process_memory())
    views = arena.program.plan.views
    sizes = [words * _WORD_BYTES for words in arena.program.record_words]
    if batch.num_rows * sum(sizes) <= room:
        return
    new = [_new_keys(arena, number, batch) for number in range(len(views))]
    need = sum(count * size for count, size in zip(new, sizes, strict=True))
    if need <= room:
        return
    counts = [len(arena.keys[number]) + new[number] for number in range(len(views))]
    worst = max(range(len(views)), key=lambda number: counts[number] * sizes[number])
    raise DefinitionError(
        f"The records of features need more memory than there is: {arena.used_bytes / 1e9:.1f} GB "
        f"are taken, the next {batch.num_rows:,} entries of the log need {need / 1e9:.1f} GB more, "
        f"and {max(room, 0) / 1e9:.1f} GB are free. The view {views[worst].name!r} takes the most: "
        f"{counts[worst]:,} entities so far, {sizes[worst]:,} bytes each. Give it fewer windows or "
        "longer hops in the feature definitions, or leave it out if its entities hardly recur; "
        "then run `sentinel features apply`. Or use a machine with more memory."
    )


def _new_keys(arena: Arena, view: int, batch: pa.RecordBatch) -> int:
    """How many entities of a view a batch names for the first time, or a few more."""
    keys = [batch.column(key) for key in arena.program.plan.views[view].keys]
    joined = keys[0] if len(keys) == 1 else pc.binary_join_element_wise(*keys, KEY_SEPARATOR)
    known = arena.keys[view]
    return sum(key not in known for key in pc.drop_null(pc.unique(joined)).to_pylist())
