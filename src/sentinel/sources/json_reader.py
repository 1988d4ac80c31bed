"""JSON tables: one object a line, or one array of objects, read as text in bounded memory.

Numbers keep their digits: ids of 19 digits and amounts such as 1.10 are never floats on the way.
Objects inside objects become columns with dotted names; lists are kept as lists, which nothing
uses. True and false are the words "true" and "false".
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.json as pajson

from sentinel.domain import ConfigurationError
from sentinel.sources.byte_streams import check_utf8, utf8_blocks
from sentinel.sources.layout import CsvLayout, column_names
from sentinel.sources.raw_block import MalformedLine, RawBlock, cut

_FIRST_BYTES: Final = 256 << 10
_BLOCK_BYTES: Final = 4 << 20
_LONGEST_RECORD: Final = 64 << 20
_SAMPLE_RECORDS: Final = 10_000
_MOST_KEYS: Final = 1000
_LIST: Final = pa.list_(pa.string())


class _KeyTwiceError(Exception):
    """A key stands in one object twice."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _KeyTwiceError(next(key for key in keys if keys.count(key) > 1))
    return found


_DECODER: Final = json.JSONDecoder(
    parse_float=str, parse_int=str, parse_constant=lambda _: None, object_pairs_hook=_object
)
_LENIENT: Final = json.JSONDecoder()

_Item = tuple[int, "dict[str, Any] | str", str]
"""Line, then the object or the text that is none, and what is wrong with it."""


class JsonReader:
    """One JSON file.

    Args:
        path: The file.
        member: Of a zip archive, if it is one.
        layout: Encoding, and texts that mean "not given".
        name: For messages.
    """

    def __init__(self, path: Path, member: str | None, layout: CsvLayout, name: str) -> None:
        self._path = path
        self._member = member
        self._layout = layout
        self._name = name

    def schema(self) -> pa.Schema:
        """Columns of all objects, in the order in which they appear."""
        kinds: dict[str, pa.DataType] = {}
        items = self._items()
        try:
            for _, item, _ in islice(items, _SAMPLE_RECORDS):
                _note_kinds(item, kinds)
            if next(items, None) is not None:
                self._note_later_keys(kinds)
        finally:
            items.close()
        names = column_names(list(kinds), self._layout, self._name)
        return pa.schema(
            [
                pa.field(name, kind, metadata={"key": key})
                for name, (key, kind) in zip(names, kinds.items(), strict=True)
            ]
        )

    def blocks(
        self, chunk_rows: int, columns: Sequence[str] | None, schema: pa.Schema
    ) -> Iterator[RawBlock]:
        """The objects in order.

        Args:
            chunk_rows: Most rows of a block.
            columns: Names; None = all.
            schema: As ``schema`` says.
        """
        wanted = schema.names if columns is None else list(columns)
        kinds = [schema.field(name).type for name in wanted]
        key_of = {item.name: (item.metadata or {})[b"key"].decode() for item in schema}
        nothing = frozenset(self._layout.null_values)
        items = self._items()
        row = 0
        while True:
            taken = list(islice(items, chunk_rows))
            if not taken:
                return
            good: list[dict[str, Any]] = []
            numbers: list[int] = []
            malformed = []
            for line, item, reason in taken:
                row += 1
                if isinstance(item, dict):
                    good.append(item)
                    numbers.append(row)
                else:
                    malformed.append(MalformedLine.of(row, line, item, reason))
            arrays = [
                _column(good, key_of[name], kind, nothing)
                for name, kind in zip(wanted, kinds, strict=True)
            ]
            batch = pa.RecordBatch.from_arrays(
                arrays, schema=pa.schema(list(zip(wanted, kinds, strict=True)))
            )
            yield from cut(batch, np.array(numbers, np.int64), tuple(malformed), chunk_rows)

    def _note_later_keys(self, kinds: dict[str, pa.DataType]) -> None:
        """Add the keys that only later objects have."""
        stream = self._stream()
        rest = b""
        try:
            first = next(stream, b"")
            if not self._is_lines(first):
                raise pa.ArrowInvalid("no lines")
            for piece in chain((first,), stream):
                whole, newline, tail = (rest + piece).rpartition(b"\n")
                rest = tail
                if newline and whole.strip() and not _keys(whole) <= kinds.keys():
                    for line in whole.split(b"\n"):
                        _note_kinds(self._one(line, 0)[1] if line.strip() else "", kinds)
        except pa.ArrowException:  # one value of several types, or no line by line file
            items = self._items()
            for _, item, _ in items:
                _note_kinds(item, kinds)
        else:
            if rest.strip():
                _note_kinds(self._one(rest, 0)[1], kinds)
        finally:
            stream.close()

    def _stream(self) -> Generator[bytes]:
        return utf8_blocks(
            self._path, self._member, self._layout.encoding, _FIRST_BYTES, _BLOCK_BYTES
        )

    def _is_lines(self, first: bytes) -> bool:
        return not first.lstrip().startswith(b"[") and _begins_with_a_whole_line(first)

    def _items(self) -> Generator[_Item]:
        """Every record of the file: its line, and what it says."""
        stream = self._stream()
        try:
            first = next(stream, b"")
            read = self._lines if self._is_lines(first) else self._sequence
            yield from read(first, stream)
        finally:
            stream.close()

    def _lines(self, buffer: bytes, stream: Iterator[bytes]) -> Iterator[_Item]:
        line = 0
        while True:
            *whole, buffer = buffer.split(b"\n")
            for text in whole:
                line += 1
                if text.strip():
                    yield self._one(text, line)
            piece = next(stream, None)
            if piece is None:
                break
            buffer += piece
            self._check_length(buffer, line)
        if buffer.strip():
            yield self._one(buffer, line + 1)

    def _one(self, text: bytes, line: int) -> _Item:
        check_utf8(text, self._name, line)
        try:
            found = _DECODER.decode(text.decode("utf8"))
        except _KeyTwiceError as twice:
            raise self._twice(twice, line) from None
        except (ValueError, RecursionError) as error:
            return line, text.decode("utf8"), f"line {line} is no JSON object: {error}"
        if not isinstance(found, dict):
            return line, text.decode("utf8"), f"line {line} is no JSON object, {{...}}"
        if line == 1:
            self._check_wrapped(found, line)
        return line, _flattened(found), ""

    def _sequence(self, buffer: bytes, stream: Iterator[bytes]) -> Iterator[_Item]:
        """Objects of an array, or one after the other over several lines."""
        held, text, line = b"", "", 1
        final = False
        begun = array = False
        buffer_next: bytes | None = buffer
        while True:
            if buffer_next is None:
                final = True
            else:
                held += buffer_next
                size = _whole_characters(held)
                check_utf8(held[:size], self._name, line)
                text += held[:size].decode("utf8")
                held = held[size:]
            at = 0
            while True:
                at = _skip(text, at, " \t\r\n," if begun else " \t\r\n")
                if at == len(text):
                    break
                if not begun:
                    begun, array = True, text[at] == "["
                    at += array
                    continue
                if array and text[at] == "]":
                    at += 1
                    array = False
                    continue
                try:
                    found, end = _DECODER.raw_decode(text, at)
                except _KeyTwiceError as twice:
                    raise self._twice(twice, line + text.count("\n", 0, at)) from None
                except (ValueError, RecursionError) as error:
                    if final or len(text) - at > _LONGEST_RECORD:
                        where = line + text.count("\n", 0, at)
                        raise ConfigurationError(
                            f"{self._name}: the JSON object at line {where} cannot be read "
                            f"({getattr(error, 'msg', error)}). Write one object a line, or "
                            "one array of objects."
                        ) from None
                    break
                if end == len(text) and not final:
                    break  # a number might go on
                where = line + text.count("\n", 0, at)
                self._check_wrapped(found, where)
                if isinstance(found, dict):
                    yield where, _flattened(found), ""
                else:
                    yield where, text[at:end], f"line {where} is no JSON object, {{...}}"
                line += text.count("\n", 0, end)
                text, at = text[end:], 0
            line += text.count("\n", 0, at)
            text = text[at:]
            if final:
                if array:
                    raise ConfigurationError(
                        f"{self._name}: the array is never closed; the file was cut off at "
                        f"line {line}."
                    )
                return
            buffer_next = next(stream, None)

    def _twice(self, key: _KeyTwiceError, line: int) -> ConfigurationError:
        return ConfigurationError(
            f"{self._name}: the key {str(key)!r} stands twice in the object at line {line}, and "
            "nobody can know which value is meant; write it under two names, or once."
        )

    def _check_wrapped(self, found: Any, line: int) -> None:
        if isinstance(found, dict) and line == 1:
            lists = [
                key
                for key, value in found.items()
                if isinstance(value, list) and value and isinstance(value[0], dict)
            ]
            if any(isinstance(value, dict) and len(value) > _MOST_KEYS for value in found.values()):
                raise ConfigurationError(
                    f"{self._name} is one JSON object of many keys, not a table; if it maps the "
                    'ids of payments to verdicts, set labels.format = "json_map".'
                )
            if len(lists) == 1 and len(found) <= 5:
                raise ConfigurationError(
                    f"{self._name} is one JSON object whose key {lists[0]!r} holds the rows; "
                    f"write that array alone, e.g. with jq '.{lists[0]}'."
                )

    def _check_length(self, buffer: bytes, line: int) -> None:
        if len(buffer) > _LONGEST_RECORD:
            raise ConfigurationError(
                f"{self._name}: line {line + 1} is longer than {_LONGEST_RECORD >> 20} MB; "
                "write one JSON object a line, or one array of objects."
            )


def _note_kinds(item: dict[str, Any] | str, kinds: dict[str, pa.DataType]) -> None:
    """Note the columns of an object: lists, or text wherever a value was anything else."""
    for key, value in item.items() if isinstance(item, dict) else ():
        if isinstance(value, list):
            kinds.setdefault(key, _LIST)
        elif value is not None or key not in kinds:
            kinds[key] = pa.string()


def _keys(lines: bytes) -> set[str]:
    """The keys of all objects in some lines, dotted; raises ``ArrowException`` if they differ."""
    schema = pajson.read_json(
        pa.BufferReader(lines), read_options=pajson.ReadOptions(block_size=len(lines) + 1)
    ).schema

    def names(fields: Iterable[pa.Field], prefix: str) -> Iterator[str]:
        for item in fields:
            if pa.types.is_struct(item.type) and item.type.num_fields:
                yield from names(item.type, f"{prefix}{item.name}.")
            else:
                yield prefix + item.name

    return set(names(schema, ""))


def _begins_with_a_whole_line(start: bytes) -> bool:
    """Whether the first line that says something is an object on its own (or is none at all)."""
    for line in start.splitlines():
        if line.strip():
            try:
                _LENIENT.decode(line.decode("utf8", "replace"))
            except (ValueError, RecursionError):
                return line.strip() != b"{" and not _unfinished(line)
            return True
    return True


def _unfinished(line: bytes) -> bool:
    """Whether a line opens more brackets than it closes, as in indented JSON."""
    return line.count(b"{") > line.count(b"}") and line.rstrip().endswith((b"{", b",", b"["))


def _flattened(found: dict[str, Any]) -> dict[str, Any]:
    """Objects inside objects as dotted names."""
    if not any(isinstance(value, dict) for value in found.values()):
        return found
    flat: dict[str, Any] = {}
    stack = [("", found)]
    while stack:
        prefix, part = stack.pop()
        inner = []
        for key, value in part.items():
            if isinstance(value, dict):
                inner.append((f"{prefix}{key}.", value))
            else:
                if prefix + key in flat:
                    raise ConfigurationError(
                        f"The key {prefix + key!r} stands in a JSON object twice, once as an "
                        "object inside it; rename one."
                    )
                flat[prefix + key] = value
        stack.extend(reversed(inner))
    return flat


def _column(
    rows: list[dict[str, Any]], name: str, kind: pa.DataType, nothing: frozenset[str]
) -> pa.Array:
    if kind == _LIST:
        return pa.array([_texts(row.get(name)) for row in rows], _LIST)
    values = [row.get(name) for row in rows]
    return pa.array([_text(value, nothing) for value in values], pa.string())


def _text(value: Any, nothing: frozenset[str]) -> str | None:
    if isinstance(value, str):
        return None if value in nothing else value
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _texts(value: Any) -> list[str | None] | None:
    if value is None:
        return None
    nothing: frozenset[str] = frozenset()
    return [_text(item, nothing) for item in (value if isinstance(value, list) else [value])]


def _skip(text: str, at: int, characters: str) -> int:
    while at < len(text) and text[at] in characters:
        at += 1
    return at


def _whole_characters(data: bytes) -> int:
    """Bytes that end with a whole UTF-8 character."""
    for back in range(1, min(4, len(data)) + 1):
        byte = data[-back]
        if byte < 0x80:
            return len(data)
        if byte >= 0xC0:
            length = 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
            return len(data) if back >= length else len(data) - back
    return len(data)
