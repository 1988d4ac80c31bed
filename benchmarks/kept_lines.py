"""Results in a file, a line of JSON each, which is whole or not read: a run can be cut anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def keep(path: Path | None, result: dict[str, Any]) -> None:
    """Append a result.

    Args:
        path: The file; None if nothing is kept.
        result: What JSON can say.
    """
    if path is None:
        return
    with path.open("a+b") as file:
        if file.tell():
            file.seek(-1, 2)
            if file.read(1) != b"\n":
                file.write(b"\n")  # ends a line that was cut
        file.write(json.dumps(result).encode() + b"\n")


def kept(path: Path | None, about: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The results of a file that say a given thing of themselves; a line that was cut is skipped.

    Args:
        path: The file; None, or one that is not there, has none.
        about: Keys with the values that a result must have.
    """
    if path is None or not path.exists():
        return
    for text in path.read_text().splitlines():
        try:
            result = json.loads(text)
        except json.JSONDecodeError:
            continue
        if isinstance(result, dict) and {key: result.get(key) for key in about} == about:
            yield result
