"""Whoever is woken up types what a runbook or a mail says, and it exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer.main

from sentinel.alerts.catalogue import ALERTS
from sentinel.cli.main import app

ROOT = Path(__file__).parents[2]
COMMAND = re.compile(r"`sentinel ([^`]+)`")
TEXTS = {
    "catalogue": " ".join(alert.action for alert in ALERTS.values()),
    "alerts.md": (ROOT / "docs" / "alerts.md").read_text(encoding="utf-8"),
    **{
        page.name: page.read_text(encoding="utf-8")
        for page in sorted((ROOT / "docs" / "runbooks").glob("*.md"))
    },
}


@pytest.mark.parametrize("name", TEXTS)
def test_commands_that_are_named_exist_with_their_options(name: str) -> None:
    for found in COMMAND.findall(" ".join(TEXTS[name].split())):
        command = typer.main.get_command(app)
        context = command.make_context("sentinel", ["status"])
        options = []
        for word in shlex.split(found):
            if hasattr(command, "get_command"):
                known = command.get_command(context, word)
                assert known is not None, f"sentinel {found}"
                command = known
            elif word.startswith("--"):
                options.append(word)
        if "|" in found or not options:
            continue
        takes = [p for p in command.params if p.param_type_name == "option"]
        assert set(options) <= {way for p in takes for way in p.opts}, f"sentinel {found}"
        needed = [p.opts[0] for p in takes if p.required]
        assert set(needed) <= set(options), f"sentinel {found} needs {needed}"
