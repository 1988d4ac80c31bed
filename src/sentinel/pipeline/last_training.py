"""What the workspace remembers of trainings: the last one, the last answer, and who asked for one.

    last_training.json                 `LastTraining`
    retraining.json                    `Due`, the last answer to "is a retraining due" since then
    retraining_requests/KIND-ID.json   `RetrainingRequest`, until a training has begun after it

A request is how another part of the platform, such as a drift detector, has a model trained: the
next run of the pipeline finds it, trains, and writes its words to the run. Each has a file of its
own that is written once: whoever deletes one deletes what it has read, and nothing newer.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal, TypeVar

import msgspec

from sentinel.settings import Settings

ASKED_FOR: Final = "asked for by hand"
"""Why a training was made that nobody gave a reason for."""

Kind = Literal["first", "schedule", "labels", "gate", "drift", "hand"]
RequestKind = Literal["drift"]

_Kept = TypeVar("_Kept", bound=msgspec.Struct)


class LastTraining(msgspec.Struct, frozen=True, kw_only=True):
    """The last training that registered a candidate.

    Attributes:
        version: The candidate.
        known_until_us: Its moment of knowledge, microseconds UTC by the log's clock.
        at_us: When it began, microseconds UTC by this machine's clock.
        why: What made it due.
    """

    version: str
    known_until_us: int
    at_us: int
    why: str


class RetrainingRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody wants a new model.

    Attributes:
        kind: What it is about. A later request of a kind takes the place of an earlier one.
        why: What was seen, in a sentence.
        at_us: When, microseconds UTC by this machine's clock.
    """

    kind: RequestKind
    why: str
    at_us: int


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a retraining is due.

    Attributes:
        kind: Of the reason.
        words: A sentence.
    """

    kind: Kind
    words: str


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a retraining is due, and why.

    Attributes:
        reasons: All that hold; empty if it is not due.
        words: One line: the reasons, or when it will be due.
        asked_at_us: The moment of knowledge, microseconds UTC by the log's clock.
    """

    reasons: tuple[Reason, ...]
    words: str
    asked_at_us: int

    @property
    def due(self) -> bool:
        """Whether there is a reason."""
        return bool(self.reasons)

    @property
    def why(self) -> str:
        """The reasons with their kinds, as a tracked run has them."""
        return "; ".join(f"{one.kind}: {one.words}" for one in self.reasons)


def keep_training(settings: Settings, training: LastTraining) -> None:
    """Remember a training, and drop the requests that it answers and the answer from before it."""
    _write(settings.workspace / "last_training.json", training)
    (settings.workspace / "retraining.json").unlink(missing_ok=True)
    for path, request in _requests(settings):
        if request.at_us < training.at_us:
            path.unlink(missing_ok=True)


def last_training(settings: Settings) -> LastTraining | None:
    """The last training; None if there was none, or it is not known here."""
    return _read(settings.workspace / "last_training.json", LastTraining)


def keep_answer(settings: Settings, answer: Due) -> None:
    """Remember what was answered, for `sentinel status`."""
    _write(settings.workspace / "retraining.json", answer)


def last_answer(settings: Settings) -> Due | None:
    """What was answered last; None if nobody has asked since the last training."""
    return _read(settings.workspace / "retraining.json", Due)


def request_retraining(settings: Settings, request: RetrainingRequest) -> None:
    """Have a model trained by the next run of the pipeline."""
    place = settings.workspace / "retraining_requests" / f"{request.kind}-{uuid.uuid4().hex}.json"
    _write(place, request)
    for path, earlier in _requests(settings, request.kind):
        if earlier.at_us < request.at_us:
            path.unlink(missing_ok=True)


def requests_of(settings: Settings) -> list[RetrainingRequest]:
    """Requests that no training has answered yet, the latest of each kind, oldest first."""
    latest: dict[str, RetrainingRequest] = {}
    for _, request in _requests(settings):
        known = latest.get(request.kind)
        if known is None or known.at_us < request.at_us:
            latest[request.kind] = request
    return sorted(latest.values(), key=lambda one: one.at_us)


def _requests(settings: Settings, kind: str = "") -> Iterator[tuple[Path, RetrainingRequest]]:
    """Every request, or those of a kind, with its file."""
    for path in sorted((settings.workspace / "retraining_requests").glob(f"{kind}*.json")):
        request = _read(path, RetrainingRequest)
        if request is not None:
            yield path, request


def _write(path: Path, what: msgspec.Struct) -> None:
    """Whoever reads sees the old or the new one, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.write_bytes(msgspec.json.format(msgspec.json.encode(what), indent=2))
    partial.replace(path)


def _read(path: Path, kind: type[_Kept]) -> _Kept | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.DecodeError):
        return None
