"""`sentinel propose`: what a file's columns are, written into a workspace."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from sentinel.cli.console import err, out
from sentinel.propose.answering import flags_of, with_flags
from sentinel.propose.files import is_proposed
from sentinel.propose.names import slug
from sentinel.propose.proposing import (
    Examined,
    Proposal,
    examine,
    name_of,
    settle,
    write_down,
)
from sentinel.propose.roles import Answers, Question, Roles
from sentinel.propose.summary import questions_text, report, summary
from sentinel.sources.progress import progress_bar

UNANSWERED = 2
"""Exit code where something has to be answered first."""


def workspace_of(data: Path) -> Path | None:
    """The workspace of a file that was named without one; None if the environment says it.

    A mapping that was proposed stands in its workspace, with the definitions and settings for it.
    """
    if "SENTINEL_WORKSPACE" in os.environ:
        return None
    if data.suffix == ".toml" and is_proposed(data.parent):
        return data.parent
    name = data.stem if data.suffix == ".toml" else slug(name_of(data)).replace("_", "-")
    return Path(f".sentinel-{name}")


def run(
    paths: Sequence[Path],
    workspace: Path,
    answers: Answers,
    *,
    as_json: bool = False,
    goes_on: bool = False,
) -> Proposal:
    """Propose, show the summary, and end with code 2 if something has to be answered.

    Args:
        paths: Files, folders, globs or archives.
        workspace: Where the proposal goes.
        answers: What the flags said.
        as_json: Print the proposal for programs instead.
        goes_on: Whether `sentinel up` goes on by itself.
    """
    with progress_bar(err) as progress:
        examined = examine(paths, progress, answers.encoding)
    roles = settle(examined, answers)
    while roles.questions and not as_json and sys.stdin.isatty() and sys.stdout.isatty():
        out.print(summary(roles), markup=False)
        answers = _asked(roles.questions[0], answers)
        roles = settle(examined, answers)
    proposal = write_down(examined, roles, workspace)
    if as_json:
        _print_json(proposal)
    else:
        out.print(
            summary(proposal.roles, _endings(proposal, paths, goes_on)),
            markup=False,
            soft_wrap=True,
        )
    if not proposal.complete:
        if not as_json:
            _print_questions(examined, roles, answers, workspace, goes_on)
        raise SystemExit(UNANSWERED)
    return proposal


def _asked(question: Question, answers: Answers) -> Answers:
    """Ask at the terminal."""
    out.print(question.text, markup=False)
    for number, (flag, means) in enumerate(question.flags, 1):
        out.print(f"  {number}  {flag}   {means}", markup=False)
    while True:
        said = input("Number: ").strip()
        if said.isdigit() and 1 <= int(said) <= len(question.flags):
            return with_flags(answers, question.flags[int(said) - 1][0])
        out.print(f"A number from 1 to {len(question.flags)}, or Ctrl-C to stop.")


def _endings(proposal: Proposal, paths: Sequence[Path], goes_on: bool) -> list[str]:
    if not proposal.written:
        return []
    lines = [
        f"{written.kept} was edited and is kept; see {written.path.name} beside it"
        for written in proposal.written
        if written.kept is not None
    ]
    folder = proposal.mapping.parent
    lines.append(f"written    {folder}: mapping.toml, feature_store, proposal.md")
    if goes_on:
        return lines
    named = " ".join(shlex.quote(str(path)) for path in paths)
    if len(paths) == 1:
        lines.append(
            f"next       sentinel up --data {named} --workspace {shlex.quote(str(folder))}"
        )
    else:
        lines.append(f"next       sentinel up --data {shlex.quote(str(proposal.mapping))}")
    return lines


def _print_questions(
    examined: Examined, roles: Roles, answers: Answers, workspace: Path, goes_on: bool
) -> None:
    err.print(questions_text(roles.questions), markup=False, soft_wrap=True)
    words = ("sentinel", "propose", *map(str, examined.paths))
    asked = [question.flags[0][0] for question in roles.questions if question.flags]
    flags = flags_of(with_flags(answers, " ".join(asked)))
    named = f"{shlex.join(words)} --workspace {shlex.quote(str(workspace))}"
    then = ", and run this command again" if goes_on else ""
    said = f"Nothing is written yet. Answer, for example{then}:\n  {named} {flags}"
    err.print(said, markup=False, soft_wrap=True)


def _print_json(proposal: Proposal) -> None:
    found = report(proposal.roles)
    found["proposed"] = proposal.complete
    found["written"] = [str(written.path) for written in proposal.written]
    found["mapping"] = str(proposal.mapping) if proposal.complete else None
    sys.stdout.write(msgspec.json.format(msgspec.json.encode(found), indent=2).decode() + "\n")
