"""How much a server may have lost, told by the server itself.

A server that restarts, or a replica that takes over, holds a beginning of what its records were
told, in order: the end may be missing, seconds of it or much more. So every primary is told a
checkpoint from time to time, after all that it is about: the log entry through which the log was
followed by then, and the number of the last record that the ledger noted as put in place anew or
mended. What a server holds when it comes back are all changes up to the checkpoint that it names.

A checkpoint also names the run of the server that it was written to. If another run has it, what
came after it is in doubt, also for scorers that started later. A scorer also remembers what it
wrote itself: another scorer may have looked at a server before a decision reached the log that had
read the records of the run before.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from functools import cache
from typing import Final, NamedTuple

from redis.crc import key_slot

from sentinel.state.redis.records import Records
from sentinel.state.redis.resp import pack

IN_A_CLUSTER: Final = 64
"""Checkpoints are spread evenly over the slots, and move with them: so many for all servers."""

_SLOTS: Final = 16384


class Lost(NamedTuple):
    """What came after this may be missing.

    Attributes:
        followed: An entry of the log.
        noted: The number of a rebuild of the ledger.
    """

    followed: int
    noted: int


EVERYTHING: Final = Lost(-1, -1)


class Checkpoints:
    """The checkpoints of one plan's records.

    Args:
        records: Of a connection that no other thread uses.
    """

    def __init__(self, records: Records) -> None:
        self._records = records
        self._marked = False
        self._told: dict[bytes, tuple[str, Lost]] = {}
        self._marked_key = records.layout.beside("checkpointed")

    def lost(self) -> Lost | None:
        """What servers may have lost since they were last looked at.

        Returns:
            None if nothing; EVERYTHING if nobody can tell.

        Raises:
            StateUnavailable: A server does not answer.
        """
        wire, keys = self._records.wire, self._keys()
        found = self._records.exchange([(key, pack("GET", key)) for key in keys])
        lost: Lost | None = None
        for key, text in zip(keys, found, strict=True):
            if text is None:
                if self._are_written():
                    return EVERYTHING
                continue
            run, followed, noted = text.decode().split()
            by_now = wire.run_at(key)
            written = [(run, Lost(int(followed), int(noted)))]
            if key in self._told:
                written.append(self._told[key])
            for told, here in written:
                if told != by_now:
                    lost = here if lost is None else Lost(*map(min, lost, here))
        return lost

    def write(self, followed: int, noted: int, sound: Container[str]) -> None:
        """Tell every server a checkpoint.

        Args:
            followed, noted: As they were before this call.
            sound: Runs that were looked at. No other server is told anything.

        Raises:
            StateUnavailable: A server does not answer.
        """
        keys = self._keys()
        runs = [(key, self._records.wire.run_at(key)) for key in keys]
        told = [(key, run) for key, run in runs if run in sound]
        written = self._tell(told, Lost(followed, noted))
        if written == len(keys) and not self._marked:
            self._records.wire.call(self._marked_key, "SET", self._marked_key, 1)
            self._marked = True

    def _tell(self, told: Sequence[tuple[bytes, str]], checkpoint: Lost) -> int:
        """Write checkpoints, each if the server that answers is still that run.

        Args:
            told: Their keys, and the run of the server that each is for.
            checkpoint: What they say.

        Returns:
            How many were written.
        """
        name = self._records.library.function("checkpoint")
        line = b"%d %d" % checkpoint
        replies = self._records.exchange(
            [(key, pack("FCALL", name, 1, key, run.encode(), line)) for key, run in told]
        )
        for (key, run), done in zip(told, replies, strict=True):
            if done:
                self._told[key] = (run, checkpoint)
        return sum(replies)

    def _are_written(self) -> bool:
        """Whether all checkpoints were written since the state was loaded."""
        return self._records.wire.call(self._marked_key, "GET", self._marked_key) is not None

    def _keys(self) -> list[bytes]:
        tags = _tags() if self._records.wire.is_cluster() else _tags()[:1]
        base = self._records.layout.base
        return [f"{{{tag}}}:{base}:checkpoint".encode() for tag in tags]


@cache
def _tags() -> list[int]:
    """Numbers whose slots are spread evenly."""
    found: dict[int, int] = {}
    number = 0
    while len(found) < IN_A_CLUSTER:
        found.setdefault(key_slot(str(number).encode()) * IN_A_CLUSTER // _SLOTS, number)
        number += 1
    return [found[place] for place in range(IN_A_CLUSTER)]
