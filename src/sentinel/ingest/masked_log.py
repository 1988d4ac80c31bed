"""Logs without card numbers: what a process says of itself is masked as it is written."""

from __future__ import annotations

import logging
from typing import Final, TextIO

from sentinel.ingest.cards import masked

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s %(message)s"


class MaskedFormatter(logging.Formatter):
    """Formats records, tracebacks included, with masks in the place of card numbers."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one text.

        >>> record = logging.LogRecord("n", 20, "p", 1, "id %s", ("4111111111111111",), None)
        >>> MaskedFormatter("%(message)s").format(record)
        'id 411111******1111'
        """
        return masked(super().format(record))


def log_with_masks(
    form: str = FORMAT, level: int = logging.INFO, stream: TextIO | None = None
) -> None:
    """Have a process log to a stream, once, as ``logging.basicConfig`` does.

    Args:
        form: Of a record, in the style of ``%``.
        level: Least level that is written.
        stream: Where to; None: stderr.
    """
    handler = logging.StreamHandler(stream)
    handler.setFormatter(MaskedFormatter(form))
    logging.basicConfig(level=level, handlers=[handler])
