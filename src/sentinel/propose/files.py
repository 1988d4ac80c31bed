"""Files that a proposal writes: never over what a person has edited."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import msgspec

_RECORD = "proposal.json"


class Record(msgspec.Struct, kw_only=True):
    """What was written, to tell later whether it was edited.

    Attributes:
        sources: The paths that were proposed for.
        written: File name to the SHA-256 of what was written.
        report: The proposal itself, for programs.
    """

    sources: list[str] = []
    written: dict[str, str] = {}
    report: dict[str, object] = {}


@dataclass(frozen=True)
class Written:
    """What became of one file.

    Attributes:
        path: Where the text is now.
        kept: The file that was left as it is, since a person had edited it; None if none was.
    """

    path: Path
    kept: Path | None = None


def record_path(workspace: Path) -> Path:
    """Where a workspace keeps what was proposed."""
    return workspace / _RECORD


def is_proposed(folder: Path) -> bool:
    """Whether a folder is a workspace that a proposal was written into."""
    return record_path(folder).is_file()


def load_record(workspace: Path) -> Record:
    """What was proposed before; empty if nothing was."""
    try:
        return msgspec.json.decode(record_path(workspace).read_bytes(), type=Record)
    except (FileNotFoundError, msgspec.DecodeError):
        return Record()


def save_record(workspace: Path, record: Record) -> None:
    """Keep what was proposed."""
    text = msgspec.json.format(msgspec.json.encode(record), indent=2)
    _put(record_path(workspace), text.decode() + "\n")


def write(workspace: Path, name: str, text: str, record: Record) -> Written:
    """Write a file, or a second one beside it if a person has edited the first.

    Args:
        workspace: The folder.
        name: The file's, relative to it.
        text: What to write.
        record: What was written before; the new text is noted in it.
    """
    path = workspace / name
    if path.exists():
        there = path.read_bytes()
        if there == text.encode():
            record.written[name] = _digest(there)
            return Written(path)
        if record.written.get(name) != _digest(there):
            # definitions.py.proposed: Feast reads every .py file of the folder.
            ending = path.suffix if path.suffix == ".toml" else f"{path.suffix}.txt"
            beside = path.with_name(f"{path.stem}.proposed{ending}")
            _put(beside, text)
            return Written(beside, kept=path)
    _put(path, text)
    record.written[name] = _digest(text.encode())
    return Written(path)


def _put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf8", newline="\n")
    partial.replace(path)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
