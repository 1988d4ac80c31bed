"""Log records without personal data, made safe as they are made, whoever writes them out.

Errors among a record's arguments and its traceback are shown as `safe_errors` shows them. Card
numbers and e-mail addresses in the finished text are masked by `without_numbers`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any, Final

from sentinel.ingest.cards import masked
from sentinel.telemetry.safe_errors import shown, traced

_MAIL: Final = re.compile(r"(?<![\w.+/:@-])[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_NOT_HERE: Final = "[e-mail]"


def safe_record(*args: Any, **kwargs: Any) -> logging.LogRecord:
    """A record as `logging.LogRecord` makes it, with errors that show no values."""
    record = logging.LogRecord(*args, **kwargs)
    given = record.args
    if isinstance(given, tuple):
        if any(isinstance(value, BaseException) for value in given):
            record.args = tuple(map(_safe, given))
    elif isinstance(given, Mapping):
        record.args = {key: _safe(value) for key, value in given.items()}
    if isinstance(record.msg, BaseException):
        record.msg, record.args = shown(record.msg), None
    elif record.name == "asyncio" and isinstance(record.msg, str):
        # The lines below the first describe tasks, with what they hold.
        record.msg = record.msg.partition("\n")[0]
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = traced(record.exc_info[1])
        record.exc_info = None
    return record


def make_records_safe() -> None:
    """Have all records of this process made by `safe_record`."""
    logging.setLogRecordFactory(safe_record)


def without_numbers(text: str) -> str:
    """A text with masks in the place of card numbers and e-mail addresses.

    >>> without_numbers("4111111111111111 of ann@example.com at postgresql://ann@db.local/x")
    '411111******1111 of [e-mail] at postgresql://ann@db.local/x'
    """
    text = masked(text)
    return _MAIL.sub(_NOT_HERE, text) if "@" in text else text


def _safe(value: object) -> object:
    return shown(value) if isinstance(value, BaseException) else value
