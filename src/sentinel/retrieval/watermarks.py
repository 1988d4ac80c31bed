"""How far an online store holds a view's table. Kept in the online store itself.

So the two cannot disagree: an online store that was emptied has no watermarks either, and the
next materialization fills it again.
"""

from __future__ import annotations

import msgspec


class Watermark(msgspec.Struct, frozen=True):
    """What of a table has been written to the online store.

    Attributes:
        generation: Of the table, see `TableManifest`.
        sequence: The last log entry of the last part that is there wholly.
        rows: How many rows of the part behind it are there.
        complete: Whether all of the table has been there once; from then on runs are incremental.
    """

    generation: str = ""
    sequence: int = 0
    rows: int = 0
    complete: bool = False


def encode_watermark(watermark: Watermark) -> bytes:
    """As online stores keep it."""
    return msgspec.json.encode(watermark)


def decode_watermark(content: bytes | None) -> Watermark:
    """From an online store; nothing where there is none, or none that can be read."""
    if content is None:
        return Watermark()
    try:
        return msgspec.json.decode(content, type=Watermark)
    except msgspec.DecodeError:
        return Watermark()
