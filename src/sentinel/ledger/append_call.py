"""The one statement of an append, prepared once and called in PostgreSQL's binary form.

A general way from Python values to a statement looks each value's type up, builds the query's text
and counts how often it was sent: 400 us of CPU for each append, which are as many as groups of
payments. The types here never change, so values are written as the server wants them.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any, Final

import psycopg
from psycopg import errors, pq, sql

_STATEMENT: Final = b"sentinel_append"
_TEXT: Final = (
    "SELECT * FROM {ns}.append_group("
    "$1::smallint, $2::integer, $3::bigint, $4::bytea, $5::bytea[], $6::integer[], "
    "$7::bytea[], $8::integer[], $9::bytea[], $10::boolean[], $11::bytea, $12::bigint)"
)
_BOOLEAN, _BYTES, _INT8, _INT2, _INT4 = 16, 17, 20, 21, 23
_ARRAY_OF_BYTES, _ARRAY_OF_INT4, _ARRAY_OF_BOOLEAN = 1001, 1007, 1000
_TYPES: Final = (
    _INT2, _INT4, _INT8, _BYTES, _ARRAY_OF_BYTES, _ARRAY_OF_INT4,
    _ARRAY_OF_BYTES, _ARRAY_OF_INT4, _ARRAY_OF_BYTES, _ARRAY_OF_BOOLEAN, _BYTES, _INT8,
)  # fmt: skip
_BINARY: Final = [pq.Format.BINARY] * len(_TYPES)
_HEAD: Final = struct.Struct("!iiIii")
_EMPTY: Final = struct.Struct("!iiI")
_LENGTH: Final = struct.Struct("!i")
_LONG: Final = struct.Struct("!q")
_INT4_ELEMENT: Final = struct.Struct("!ii")
_FALSE, _TRUE = b"\x00\x00\x00\x01\x00", b"\x00\x00\x00\x01\x01"

Row = tuple[str, int, int, Any, Any, Any, Any, Any]
"""(status, sequence, received_at_us, recorded, ids, sequences, is_fraud, label_sequences); see the
migration."""


def prepare_append(connection: psycopg.Connection[Any], namespace: sql.Identifier) -> None:
    """Make a connection ready for `call_append`.

    Raises:
        psycopg.Error: The server refuses it.
    """
    text = sql.SQL(_TEXT).format(ns=namespace).as_bytes(connection)
    _checked(connection.pgconn, connection.pgconn.prepare(_STATEMENT, text, _TYPES))


def append_values(
    kind: int,
    entries: int,
    received_at_us: int,
    payload: bytes,
    transaction_ids: Sequence[bytes],
    transaction_rows: Sequence[int],
    label_ids: Sequence[bytes],
    label_rows: Sequence[int],
    labelled: Sequence[bytes],
    is_fraud: Sequence[bool],
    token: bytes,
    *,
    expected: int | None,
) -> Any:
    """The arguments of an append; see the function ``append_group`` of the migrations."""
    return [
        kind.to_bytes(2, "big"),
        _LENGTH.pack(entries),
        _LONG.pack(received_at_us),
        payload,
        _bytes_array(transaction_ids),
        _int4_array(transaction_rows),
        _bytes_array(label_ids),
        _int4_array(label_rows),
        _bytes_array(labelled),
        _boolean_array(is_fraud),
        token,
        None if expected is None else _LONG.pack(expected),
    ]


def call_append(connection: psycopg.Connection[Any], values: Any) -> Row:
    """Append a group, and wait.

    Args:
        connection: Made ready by `prepare_append`.
        values: Of `append_values`.

    Raises:
        psycopg.Error: The server refuses it, or is gone.
    """
    connected = connection.pgconn
    result = connected.exec_prepared(_STATEMENT, values, _BINARY, pq.Format.BINARY)
    return row_of(connection, result)


def send_append(connection: psycopg.Connection[Any], values: Any) -> None:
    """Begin to append a group; `row_of` tells what the answer says.

    Raises:
        psycopg.Error: The connection is lost.
    """
    connection.pgconn.send_query_prepared(_STATEMENT, values, _BINARY, pq.Format.BINARY)


def row_of(connection: psycopg.Connection[Any], result: pq.abc.PGresult | None) -> Row:
    """What an append returned.

    Raises:
        psycopg.Error: The server refused it, or is gone.
    """
    if result is None:
        raise psycopg.OperationalError("the connection is lost")
    value = _checked(connection.pgconn, result).get_value
    status, sequence, received = value(0, 0), value(0, 1), value(0, 2)
    assert status is not None
    return (
        status.decode(),
        0 if sequence is None else _LONG.unpack(sequence)[0],
        0 if received is None else _LONG.unpack(received)[0],
        *(_elements(value(0, column)) for column in range(3, 8)),
    )  # type: ignore[return-value]


def _checked(connected: pq.abc.PGconn, result: pq.abc.PGresult) -> pq.abc.PGresult:
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        return result
    if connected.status == pq.ConnStatus.BAD:
        raise psycopg.OperationalError(result.get_error_message() or "the connection is lost")
    raise errors.error_from_result(result)


def _bytes_array(items: Sequence[bytes]) -> bytes:
    if not items:
        return _EMPTY.pack(0, 0, _BYTES)
    length = _LENGTH.pack
    parts = [_HEAD.pack(1, 0, _BYTES, len(items), 1)]
    for item in items:
        parts += (length(len(item)), item)
    return b"".join(parts)


def _int4_array(items: Sequence[int]) -> bytes:
    if not items:
        return _EMPTY.pack(0, 0, _INT4)
    element = _INT4_ELEMENT.pack
    return _HEAD.pack(1, 0, _INT4, len(items), 1) + b"".join([element(4, i) for i in items])


def _boolean_array(items: Sequence[bool]) -> bytes:
    if not items:
        return _EMPTY.pack(0, 0, _BOOLEAN)
    head = _HEAD.pack(1, 0, _BOOLEAN, len(items), 1)
    return head + b"".join([_TRUE if item else _FALSE for item in items])


def _elements(array: bytes | None) -> list[Any] | None:
    """The elements of a one-dimensional array; None if there is no array."""
    if array is None:
        return None
    dimensions, _, kind = _EMPTY.unpack_from(array)
    if not dimensions:
        return []
    number, at = _LENGTH.unpack_from(array, _EMPTY.size)[0], _HEAD.size
    found: list[Any] = []
    for _ in range(number):
        size = _LENGTH.unpack_from(array, at)[0]
        at += _LENGTH.size
        if size < 0:
            found.append(None)
            continue
        element = array[at : at + size]
        at += size
        if kind == _BYTES:
            found.append(element)
        else:
            found.append(element != b"\x00" if kind == _BOOLEAN else _LONG.unpack(element)[0])
    return found
