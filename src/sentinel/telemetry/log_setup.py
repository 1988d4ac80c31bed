"""How a process logs: one call as it starts, the same for every process of a deployment."""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, TextIO

from sentinel.telemetry.context import begin_run, bound_ids
from sentinel.telemetry.safe_records import make_records_safe, without_numbers

FIELDS: Final = (
    "sequence",
    "through",
    "entries",
    "request_ids",
    "method",
    "route",
    "status",
    "duration_us",
    "caller",
    "error",
)
"""What a line may say beside its message: ``log.info("...", extra={"sequence": 17})``."""

_OWN: Final = ("sentinel", "__main__")
_FORMAT_VARIABLE: Final = "SENTINEL_LOGS__FORMAT"
_LEVEL_VARIABLE: Final = "SENTINEL_LOGS__LEVEL"


class LogFormat(Protocol):
    """How to log, as `LogSettings` says it; light processes do without the settings tree."""

    @property
    def format(self) -> str:
        """``text`` or ``json``."""
        ...

    @property
    def level(self) -> str:
        """Least level of the project's own lines."""
        ...


class _AsItsParent(NamedTuple):
    format: str
    level: str


class TextFormatter(logging.Formatter):
    """Lines to read: time, level, logger, message, and what ties it to others."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record as one text, tracebacks included.

        >>> record = logging.LogRecord("n", 20, "p", 1, "id %s", ("4111111111111111",), None)
        >>> TextFormatter().format(record).partition("id ")[2]
        '411111******1111'
        """
        first, line_end, rest = super().format(record).partition("\n")
        for name, value in beside(record).items():
            first += f" {name}={value}"
        return without_numbers(first + line_end + rest)


class JsonFormatter(logging.Formatter):
    """A JSON object a line.

    Args:
        service: Which process this is, such as "serve".
    """

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line.

        >>> record = logging.LogRecord("n", 20, "p", 1, "sound", (), None)
        >>> line = json.loads(JsonFormatter("serve").format(record))
        >>> line["level"], line["service"], line["message"]
        ('info', 'serve', 'sound')
        """
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line: dict[str, Any] = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "logger": record.name,
            "message": without_numbers(record.getMessage()),
            **beside(record),
        }
        if record.exc_text:
            line["traceback"] = without_numbers(record.exc_text)
        return json.dumps(line, ensure_ascii=False, default=str)


def beside(record: logging.LogRecord) -> dict[str, Any]:
    """What a line has beside its message: ids that are bound, and fields of `FIELDS`."""
    said: dict[str, Any] = dict(bound_ids())
    said.update((name, record.__dict__[name]) for name in FIELDS if name in record.__dict__)
    return said


def set_up_logs(
    settings: LogFormat,
    service: str,
    *,
    stream: TextIO | None = None,
    at_least: int = logging.NOTSET,
) -> bool:
    """Have this process log; nothing is changed where something else has set logging up.

    Processes that it starts log in the same format.

    Args:
        settings: Format and level.
        service: Which process this is, such as "serve".
        stream: Where to; None: stderr.
        at_least: Lines below this level are left out in the format "text".

    Returns:
        Whether it was set up by this call.
    """
    if logging.getLogger().handlers:
        return False
    make_records_safe()
    os.environ[_FORMAT_VARIABLE], os.environ[_LEVEL_VARIABLE] = settings.format, settings.level
    handler = logging.StreamHandler(stream)
    as_json = settings.format == "json"
    handler.setFormatter(JsonFormatter(service) if as_json else TextFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    level = logging.getLevelNamesMapping()[settings.level.upper()]
    for name in _OWN:
        logging.getLogger(name).setLevel(level if as_json else max(level, at_least))
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread
    return True


def logs_json() -> bool:
    """Whether this process writes its log as JSON."""
    return any(isinstance(h.formatter, JsonFormatter) for h in logging.getLogger().handlers)


def set_up_as_child(service: str) -> None:
    """Have a process log as the one that started it, by what that one left in the environment."""
    form = os.environ.get(_FORMAT_VARIABLE) or "text"
    level = os.environ.get(_LEVEL_VARIABLE) or "info"
    if set_up_logs(_AsItsParent(form, level), service):
        begin_run()


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("sentinel").critical("The process ends.", exc_info=(kind, error, trace))


def _uncaught_in_thread(said: threading.ExceptHookArgs) -> None:
    if said.exc_value is not None and not issubclass(said.exc_type, SystemExit):
        error = (said.exc_type, said.exc_value, said.exc_traceback)
        logging.getLogger("sentinel").error("A thread has ended.", exc_info=error)
