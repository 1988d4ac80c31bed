"""Labels as one JSON object of transaction ids and verdicts, read piece by piece."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import numpy as np
import pyarrow as pa

from sentinel.domain import ConfigurationError
from sentinel.sources.readers import RawBlock

ID: Final = "transaction_id"
VERDICT: Final = "verdict"

_PIECE_CHARACTERS: Final = 1 << 20
_LONGEST_ENTRY: Final = 1 << 16
_STRING: Final = r'"(?:[^"\\]|\\.)*"'
_ENTRY: Final = re.compile(
    rf"\s*({_STRING})\s*:\s*({_STRING}|true|false|null|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*([,}}])"
)
_KEY: Final = re.compile(rf"\s*({_STRING})\s*:\s*(.)", re.DOTALL)
_OPENERS: Final = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class JsonMapFile:
    """A file such as ``{"target": {"10649266": "No", "23410063": "Yes"}}``.

    Args:
        path: The file; it may be packed (.gz, .bz2, .xz).
        key: Where in the file the object is; None = the file is the object.
    """

    path: Path
    key: str | None = None

    @property
    def name(self) -> str:
        """Name for people."""
        return self.path.name

    def schema(self) -> pa.Schema:
        """The columns that entries become."""
        return pa.schema([(ID, pa.string()), (VERDICT, pa.string())])

    def blocks(self, chunk_rows: int, columns: Sequence[str] | None = None) -> Iterator[RawBlock]:
        """The entries in their order, at most ``chunk_rows`` at a time.

        Raises:
            ConfigurationError: The file is not such an object.
        """
        ids: list[str] = []
        verdicts: list[str | None] = []
        row = 1
        for identifier, verdict in self._entries():
            ids.append(identifier)
            verdicts.append(verdict)
            if len(ids) == chunk_rows:
                yield _block(ids, verdicts, row, columns)
                row += len(ids)
                ids, verdicts = [], []
        if ids:
            yield _block(ids, verdicts, row, columns)

    def _entries(self) -> Iterator[tuple[str, str | None]]:
        try:
            with self._open() as file:
                yield from self._entries_of(file)
        except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
            raise ConfigurationError(f"{self.path} cannot be read: {error}.") from None

    def _open(self) -> IO[str]:
        opener = _OPENERS.get(self.path.suffix, open)
        return opener(self.path, "rt", encoding="utf-8-sig")  # type: ignore[operator,no-any-return]

    def _entries_of(self, file: IO[str]) -> Iterator[tuple[str, str | None]]:
        text = file.read(_PIECE_CHARACTERS)
        place = self._begin(text)
        if text[place : place + 200].lstrip().startswith("}"):
            return
        before = 0  # characters of the pieces that are done with
        while True:
            entry = _ENTRY.match(text, place)
            if entry is None:
                more = file.read(_PIECE_CHARACTERS) if len(text) - place < _LONGEST_ENTRY else ""
                if not more:
                    raise self._error(f"character {before + place + 1} begins no id with a verdict")
                before, text, place = before + place, text[place:] + more, 0
                continue
            key, value, end = entry.groups()
            yield json.loads(key), _verdict(value)
            place = entry.end()
            if end == "}":
                return

    def _begin(self, text: str) -> int:
        """Where the entries of the object begin."""
        place = len(text) - len(text.lstrip())
        if not text.startswith("{", place):
            raise self._error("it does not begin with {")
        first = _KEY.match(text, place + 1)
        nested = first is not None and first.group(2) == "{"
        if self.key is None:
            if nested and first is not None:
                raise self._error(f"its entries are objects; set labels.key = {first.group(1)}")
            return place + 1
        found = re.search(rf"{re.escape(json.dumps(self.key))}\s*:\s*\{{", text)
        if found is None:
            there = f"; its first key is {first.group(1)}" if first is not None else ""
            raise self._error(f"there is no object under the key {self.key!r}{there}")
        return found.end()

    def _error(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self.path} is no json_map: {what}. It must be an object of ids and verdicts such as "
            '{"t1": "Yes"}, or hold one under labels.key.'
        )


def _verdict(value: str) -> str | None:
    if value == "null":
        return None
    return str(json.loads(value)) if value.startswith('"') else value


def _block(
    ids: list[str], verdicts: list[str | None], row: int, columns: Sequence[str] | None
) -> RawBlock:
    batch = pa.RecordBatch.from_pydict(
        {ID: pa.array(ids, pa.string()), VERDICT: pa.array(verdicts, pa.string())}
    )
    return RawBlock(
        batch if columns is None else batch.select(list(columns)),
        np.arange(row, row + len(ids), dtype=np.int64),
    )
