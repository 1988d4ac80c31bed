"""Errors as logs show them: what they are and where they came from, never a caller's values.

The text of an error may quote what came in, as that of ``KeyError('C42')`` does. A log line
therefore has the text of those errors alone whose words are the project's or the system's own. Of
any other it has the type and the places in the code. With ``SENTINEL_DEBUG`` in the environment it
has all texts, for deployments with made-up data.
"""

from __future__ import annotations

import os
import sys
import traceback
from pathlib import PurePath
from types import TracebackType
from typing import Final

from sentinel.domain import AccessDenied, InputError, NotFound, SentinelError

_QUOTING: Final = (InputError, NotFound, AccessDenied)
"""Errors of ours that are about what a caller sent; the caller gets their text."""
_OF_THE_SYSTEM: Final = frozenset(
    (
        "ConnectError",
        "ConnectTimeout",
        "ConnectionError",
        "ModuleNotFoundError",
        "OperationalError",
        "PoolTimeout",
        "ReadError",
        "ReadTimeout",
        "RemoteProtocolError",
        "TimeoutError",
    )
)
"""Names of errors that say how another process is reached, such as that of a database."""
_MOST_FRAMES: Final = 40

ErrorInfo = tuple[type[BaseException], BaseException, TracebackType | None]


def shown(error: BaseException) -> str:
    """An error in a line.

    >>> shown(KeyError("C42")), shown(ConnectionRefusedError(111, "Connection refused"))
    ('KeyError', 'ConnectionRefusedError: [Errno 111] Connection refused')
    """
    name = type(error).__name__
    if os.environ.get("SENTINEL_DEBUG"):
        return f"{name}: {error}"
    if isinstance(error, SentinelError):
        return error.code if isinstance(error, _QUOTING) else str(error)
    if isinstance(error, OSError) or name in _OF_THE_SYSTEM:
        text = str(error).partition("\n")[0].strip()
        return f"{name}: {text}" if text else name
    return name


def traced(error: BaseException) -> str:
    """An error with the places in the code that it went through, and its causes.

    >>> try:
    ...     {}["C42"]
    ... except KeyError as error:
    ...     print(traced(error).partition("  ")[0])
    KeyError
    """
    parts: list[str] = []
    seen: set[int] = set()
    found: BaseException | None = error
    while found is not None and id(found) not in seen:
        seen.add(id(found))
        parts.append("\n".join([shown(found), *_frames(found.__traceback__)]))
        hidden = found.__suppress_context__
        found = found.__cause__ or (None if hidden else found.__context__)
    return "\nbecause of ".join(parts)


def _frames(trace: TracebackType | None) -> list[str]:
    frames = traceback.extract_tb(trace, limit=-_MOST_FRAMES)
    return [f"  {_place(frame.filename)}:{frame.lineno} in {frame.name}" for frame in frames]


def _place(filename: str) -> str:
    """A file by its module path, without where the installation lies."""
    path = PurePath(filename)
    for root in sorted((PurePath(p) for p in sys.path if p), key=lambda p: -len(p.parts)):
        if path.is_relative_to(root):
            return str(path.relative_to(root))
    return path.name if path.is_absolute() else filename
