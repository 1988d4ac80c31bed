"""The fenced blocks of a page, and the commands in them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

_FENCE = re.compile(r"^ {0,3}```(.*)$")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        kind: The word after the fence: a block of commands has none, ``console`` or ``sh``.
        title: The further words: a file's name, for a block that is a file.
        text: What stands in it, dedented as it is read.
        line: Where it begins in the page.
    """

    kind: str
    title: str
    text: str
    line: int

    @property
    def is_commands(self) -> bool:
        return self.kind in {"", "console", "sh"}


def blocks_of(page: str) -> Iterator[Block]:
    r"""The blocks of a page, in order.

    >>> list(blocks_of("Say\n\n```toml m.toml\nid = 1\n```\n"))
    [Block(kind='toml', title='m.toml', text='id = 1\n', line=3)]
    """
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        opened = _FENCE.match(line)
        if opened:
            kind, _, title = opened[1].strip().partition(" ")
            inside = []
            for _, text in lines:
                if _FENCE.match(text):
                    break
                inside.append(text + "\n")
            yield Block(kind, title.strip(), "".join(inside), number)


def commands_of(text: str) -> Iterator[str]:
    r"""The commands of a block, each as it is written, over as many lines as it takes.

    >>> list(commands_of("make up   # first\nfor n in 1 2; do\n  echo $n\ndone\nls \\\n  -l\n"))
    ['make up   # first', 'for n in 1 2; do\n  echo $n\ndone', 'ls \\\n  -l']
    """
    command = ""
    for line in text.splitlines():
        command += line if not command else f"\n{line}"
        if command.strip() and not line.endswith("\\") and _is_whole(command):
            yield command
            command = ""
    if command.strip():
        raise ValueError(f"This command does not end: {command}")


def _is_whole(command: str) -> bool:
    looked = subprocess.run(["bash", "-n"], input=command, text=True, stderr=-3, check=False)
    return looked.returncode == 0
