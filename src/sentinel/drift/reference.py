"""The reference: what a model's payments looked like, frozen beside the model.

It is the file ``drift_reference.npz`` of the model's folder, listed in the manifest with the
others' hashes and signed with them. Models of before this file was made have none: nothing says
then that their payments have changed, and the next training makes one.
"""

from __future__ import annotations

import hashlib
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import msgspec
import numpy as np
import numpy.typing as npt

from sentinel.domain import ModelFormatError
from sentinel.drift.bins import Bins
from sentinel.drift.questions import Questions, questions_of
from sentinel.drift.rhythm import (
    Spread,
    by_hour_of_week,
    expected_answers,
    expected_shares,
    spread_of,
)
from sentinel.drift.segments import Segment

REFERENCE_FILE: Final = "drift_reference.npz"
REFERENCE_FORMAT: Final = 1

LEAST_DAYS: Final = 14
"""With fewer days nothing says how far days stray."""

_UNREADABLE: Final = (
    ValueError,
    KeyError,
    EOFError,
    OSError,
    BadZipFile,
    zlib.error,
    msgspec.MsgspecError,
)

Counts = npt.NDArray[np.uint32]


class _Heading(msgspec.Struct, frozen=True):
    bins: Bins
    segments: tuple[Segment, ...]
    first_hour: int
    last_hour: int
    days: int
    format: int = REFERENCE_FORMAT


@dataclass(frozen=True, eq=False)
class DriftReference:
    """Counts of a model's own payments, and how far their days stray.

    Attributes:
        bins: Cells of each column.
        segments: Parts of the payments.
        weekly: uint32 (168, segments, cells), by hour of the week; hour 0 of 1970 is hour 0.
        spread: For each segment and question.
        first_hour, last_hour: Of its payments, since 1970.
        days: That held payments.
    """

    bins: Bins
    segments: tuple[Segment, ...]
    weekly: Counts
    spread: Spread
    first_hour: int
    last_hour: int
    days: int

    @cached_property
    def asked(self) -> Questions:
        """The questions that its cells allow."""
        return questions_of(self.bins)

    @cached_property
    def counts(self) -> npt.NDArray[np.int64]:
        """int64 (segments, cells): all of it."""
        return np.asarray(self.weekly.sum(axis=0, dtype=np.int64))

    @cached_property
    def expected(self) -> npt.NDArray[np.float32]:
        """float32 (168, segments, cells): shares that each hour of the week is held against."""
        return expected_shares(self.weekly, self.bins.starts)

    @cached_property
    def expected_answers(self) -> npt.NDArray[np.float32]:
        """float32 (168, segments, questions), each in (0, 1)."""
        return expected_answers(self.expected, self.asked)

    @cached_property
    def digest(self) -> str:
        """Sixteen hex digits that name the reference."""
        digest = hashlib.sha256(msgspec.json.encode(self._heading))
        for part in (self.weekly, *self.spread):
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()[:16]

    @property
    def too_short(self) -> str:
        """Why nothing can be tested against it; empty if it can."""
        if self.days >= LEAST_DAYS:
            return ""
        return (
            f"The reference holds {self.days} days. How far days stray by chance takes at least "
            f"{LEAST_DAYS}; a model that is trained on more brings them."
        )

    @property
    def _heading(self) -> _Heading:
        return _Heading(self.bins, self.segments, self.first_hour, self.last_hour, self.days)

    def save(self, folder: Path) -> Path:
        """Write it into a model's folder; give the file."""
        target = folder / REFERENCE_FILE
        with target.open("wb") as file:
            np.savez_compressed(
                file,
                heading=np.frombuffer(msgspec.json.encode(self._heading), np.uint8),
                weekly=self.weekly,
                phi=self.spread.phi,
                tau2=self.spread.tau2,
            )
        return target

    @classmethod
    def load(cls, folder: Path) -> DriftReference | None:
        """Read that of a model's folder; None if the model has none.

        Raises:
            ModelFormatError: If it cannot be read, or is of another format.
        """
        path = folder / REFERENCE_FILE
        if not path.exists():
            return None
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
                heading = msgspec.json.decode(parts["heading"].tobytes(), type=_Heading)
                found = cls(
                    bins=heading.bins,
                    segments=heading.segments,
                    weekly=parts["weekly"],
                    spread=Spread(parts["phi"], parts["tau2"]),
                    first_hour=heading.first_hour,
                    last_hour=heading.last_hour,
                    days=heading.days,
                )
        except _UNREADABLE as error:
            raise ModelFormatError(
                f"{path} is not a drift reference that this version can read: {error}. Train the "
                "model anew; until then it is served without its drift being looked at."
            ) from error
        if heading.format != REFERENCE_FORMAT:
            raise ModelFormatError(
                f"{path} has format {heading.format}, this version reads {REFERENCE_FORMAT}. "
                "Train the model anew, or use the version that wrote it."
            )
        return found


def freeze_reference(
    bins: Bins, segments: tuple[Segment, ...], hours: npt.NDArray[np.int64], counts: Counts
) -> DriftReference:
    """Make a reference of the counts of hours.

    Args:
        bins: Cells of each column.
        segments: In the order of the counts.
        hours: int64 (n,), rising, since 1970; those without payments may be missing.
        counts: uint32 (n, segments, cells).
    """
    weekly = by_hour_of_week(hours, counts)
    asked = questions_of(bins)
    return DriftReference(
        bins=bins,
        segments=segments,
        weekly=weekly,
        spread=spread_of(hours, counts, asked, bins.starts),
        first_hour=int(hours[0]) if len(hours) else 0,
        last_hour=int(hours[-1]) if len(hours) else 0,
        days=len(np.unique(hours // 24)),
    )
