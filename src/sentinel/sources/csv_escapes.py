r"""Escaped characters of a text file, such as ``\"``, hidden from the parser while rows are found.

With ``files.escape`` set, an escaped quote, delimiter or escape character is text. Each gets a
control character in its place before the rows are found, so that no rule of quotes sees it, and
gets its own place back in the values. Anything else behind an escape character stays as it is.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from sentinel.domain import ConfigurationError

_QUOTE: Final = "\x1e"
_ESCAPE: Final = "\x1d"
_DELIMITER: Final = "\x1c"


class Escapes:
    r"""Hides escaped characters, and restores them.

    Args:
        escape: In front of an escaped character.
        quote: "" = none.
        delimiter: One ASCII character, or another text that is never escaped.
        name: Of the file, for messages.

    >>> escapes = Escapes("\\", '"', ",", "x.csv")
    >>> hidden = b"".join(escapes.hidden(iter([b'"a \\', b'"b\\", c\\\\",5'])))
    >>> hidden, escapes.restored(hidden.decode())
    (b'"a \x1eb\x1e, c\x1d",5', '"a "b", c\\",5')
    """

    def __init__(self, escape: str, quote: str, delimiter: str, name: str) -> None:
        self._name = name
        self._escape = escape.encode()
        self._stand_ins = {escape: _ESCAPE}
        if quote:
            self._stand_ins[quote] = _QUOTE
        if len(delimiter) == 1 and delimiter.isascii():
            self._stand_ins[delimiter] = _DELIMITER
        self._bytes = {old.encode(): new.encode() for old, new in self._stand_ins.items()}
        escaped = b"|".join(re.escape(old) for old in self._bytes)
        # Any other character behind an escape is taken along, so that it begins no pair itself.
        self._pairs = re.compile(re.escape(self._escape) + b"(?:(" + escaped + b")|.)", re.DOTALL)

    def hidden(self, stream: Iterable[bytes]) -> Generator[bytes]:
        """The blocks of a file with stand-ins for its escaped characters.

        Raises:
            ConfigurationError: The file holds one of the control characters itself.
        """
        held = b""
        for piece in stream:
            self._check(piece)
            whole = held + piece
            run = len(whole) - len(whole.rstrip(self._escape))
            held = self._escape if run % 2 else b""
            yield self._pairs.sub(self._stand_in, whole[: len(whole) - len(held)])
        if held:
            yield held

    def restored(self, text: str) -> str:
        """A text with the characters that were escaped."""
        for old, new in self._stand_ins.items():
            text = text.replace(new, old)
        return text

    def restored_rows(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Rows of text with the characters that were escaped."""
        columns = rows.columns
        for old, new in self._stand_ins.items():
            columns = [pc.replace_substring(column, new, old) for column in columns]
        return pa.RecordBatch.from_arrays(columns, names=rows.schema.names)

    def _stand_in(self, found: re.Match[bytes]) -> bytes:
        return self._bytes[found[1]] if found[1] is not None else found[0]

    def _check(self, piece: bytes) -> None:
        for stand_in in self._bytes.values():
            if stand_in in piece:
                raise ConfigurationError(
                    f"{self._name} holds the control character U+{ord(stand_in):04X}, which cannot "
                    "stand in a file whose files.escape is set; remove it, or write a quote twice "
                    "inside quoted fields and leave files.escape out."
                )
