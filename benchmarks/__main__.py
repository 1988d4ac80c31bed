"""``python -m benchmarks NAME [arguments]``: what the documentation claims, measured anew."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.endings import nothing_left_behind


def benchmarks() -> dict[str, str]:
    """The first line of each benchmark's docstring by name: the modules that have a ``main``."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text())
        functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)]
        if not path.name.startswith("_") and "main" in functions:
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found


def main(argv: Sequence[str]) -> int:
    known = benchmarks()
    if not argv or argv[0] in ("-h", "--help"):
        print("usage: python -m benchmarks NAME [--json] [arguments]\n")
        width = max(map(len, known))
        for name, line in known.items():
            print(f"  {name:{width}}  {line}")
        print("\n`python -m benchmarks NAME --help` says more about one.")
        return 0 if argv else 2
    if argv[0] not in known:
        print(f"There is no benchmark {argv[0]!r}; there are {', '.join(known)}.", file=sys.stderr)
        return 2
    with nothing_left_behind():
        status: int = importlib.import_module(f"benchmarks.{argv[0]}").main(list(argv[1:]))
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
