"""Log lines: the same set-up for every process, JSON that parses, and errors without values."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest

from sentinel.api.request_log import RequestLog
from sentinel.domain import InvalidTransaction, LedgerUnavailable
from sentinel.monitoring.metrics import ScoringMetrics
from sentinel.telemetry.safe_errors import shown, traced

PROCESS = """
import asyncio, logging, os, subprocess, sys, threading
from sentinel.settings import LogSettings
from sentinel.telemetry.context import begin_run, bound
from sentinel.telemetry.log_setup import set_up_as_child, set_up_logs

log = logging.getLogger("sentinel.somewhere")
if sys.argv[1] == "child":
    set_up_as_child("child")
    log.warning("a child")
    sys.exit()
set_up_logs(LogSettings(format=sys.argv[1]), "parent")
begin_run()
log.debug("too little")
log.info("sound", extra={"sequence": 17, "card_id": "MARKER-extra"})
with bound(request_id="r-1"):
    try:
        raise KeyError("MARKER-key")
    except KeyError as error:
        log.exception("It failed: %s", error)
logging.getLogger("vendor").info("vendors are quiet")
logging.getLogger("vendor").warning("card 4111 1111 1111 1111 of MARKER@example.com")

def in_thread():
    raise ValueError("MARKER-thread")

thread = threading.Thread(target=in_thread)
thread.start()
thread.join()

async def in_task():
    async def fail():
        raise ValueError("MARKER-task")

    task = asyncio.ensure_future(fail())
    await asyncio.sleep(0.01)
    del task

asyncio.run(in_task())
sys.stderr.flush()
subprocess.run([sys.executable, __file__, "child"])
raise RuntimeError("MARKER-end")
"""


def said_by(form: str, folder: Path) -> list[str]:
    """What a process and its child log in a format."""
    script = folder / "process.py"
    script.write_text(PROCESS)
    done = subprocess.run(
        [sys.executable, str(script), form], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 1
    assert "MARKER" not in done.stdout + done.stderr
    assert "4111 1111 1111 1111" not in done.stderr
    return done.stderr.splitlines()


def test_each_line_is_an_object_that_says_who_spoke_and_in_which_run(tmp_path: Path) -> None:
    lines = [json.loads(line) for line in said_by("json", tmp_path)]
    assert [line["message"] for line in lines] == [
        "sound",
        "It failed: KeyError",
        "card 411111******1111 of [e-mail]",
        "A thread has ended.",
        "Task exception was never retrieved",
        "a child",
        "The process ends.",
    ]
    assert [line["service"] for line in lines] == ["parent"] * 5 + ["child", "parent"]
    (run,) = {line["run_id"] for line in lines}
    assert len(run) == 16
    first, failed = lines[:2]
    assert first["sequence"] == 17
    assert "card_id" not in first
    assert failed["request_id"] == "r-1"
    assert "request_id" not in first
    assert failed["traceback"].splitlines()[0] == "KeyError"
    assert "process.py" in failed["traceback"]
    assert lines[-1]["level"] == "critical"


SCHEDULED = """
import subprocess, sys
from sentinel.telemetry.context import begin_run

begin_run("scheduled__2026-11-26T03:00:00+00:00")
child = "import sys; from sentinel.telemetry.log_setup import set_up_as_child; "
child += "set_up_as_child('child'); import logging; logging.warning('here')"
subprocess.run([sys.executable, "-c", child])
"""


def test_what_a_scheduled_task_starts_has_the_schedulers_run(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCHEDULED], capture_output=True, text=True, timeout=60
    )
    assert done.stderr.endswith("here run_id=scheduled__2026-11-26T03-00-00-00-00\n")


def test_text_is_for_people_and_has_no_values_either(tmp_path: Path) -> None:
    lines = said_by("text", tmp_path)
    assert lines[0].partition(" INFO ")[2].startswith("sentinel.somewhere sound run_id=")
    assert "sequence=17" in lines[0]
    assert any("It failed: KeyError" in line and "request_id=r-1" in line for line in lines)


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (InvalidTransaction("amount_minor: 'MARKER'"), "invalid_transaction"),
        (LedgerUnavailable("The disk is full."), "The disk is full."),
        (ValueError("MARKER"), "ValueError"),
        (PermissionError(13, "Permission denied", "a"), "PermissionError: [Errno 13] Permi"),
    ],
)
def test_an_error_has_its_text_if_the_project_or_the_system_worded_it(
    error: Exception, text: str
) -> None:
    assert shown(error).startswith(text)
    assert "MARKER" not in shown(error)


def test_causes_are_named_without_their_texts() -> None:
    try:
        try:
            int("MARKER")
        except ValueError as cause:
            raise LedgerUnavailable("Out of reach.") from cause
    except LedgerUnavailable as error:
        text = traced(error)
    assert text.startswith("Out of reach.\n")
    assert "because of ValueError\n" in text
    assert "MARKER" not in text


SAYS_NOTHING = {
    "cli/ask.py",  # a health check: its exit status and one line are for the container's engine
    "object_store/mirror.py",  # its standard output is the backup
    "scoring/compile_kernels.py",  # part of building an image
}


def test_every_process_sets_its_log_up_in_the_one_way(root: Path) -> None:
    package = root / "src" / "sentinel"
    for path in package.rglob("*.py"):
        name, text = str(path.relative_to(package)), path.read_text()
        if name != "telemetry/log_setup.py":
            assert "basicConfig" not in text, name
        if 'if __name__ == "__main__":' in text and name not in SAYS_NOTHING:
            assert "set_up_logs(" in text or "set_up_as_child(" in text, name


def test_a_line_about_an_answer_that_cannot_be_written_stops_no_answer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(_: logging.LogRecord) -> bool:
        raise OSError("the log is gone")

    metrics = ScoringMetrics()
    requests = RequestLog(1.0, metrics)
    log = logging.getLogger(RequestLog.__module__)
    caplog.set_level(logging.INFO, log.name)
    log.addFilter(fail)
    try:
        for _ in range(2):
            requests.answered("r-1", "POST", "/predict", 200, 0.001, None)
    finally:
        log.removeFilter(fail)
    assert metrics.telemetry_failures == 2
    requests.answered("r-1", "POST", "/predict", 200, 0.001, None)
    assert (metrics.telemetry_failures, caplog.messages) == (2, ["Answered."])
