"""The door: who comes in and who does not, how soon a change acts, and what a flood does.

Every route is tried with every scope over real HTTP, forged and ended keys are tried by the
thousand, keys are rotated and revoked under load with two scorers, and the CPU that keys add to a
payment is measured in turns with payments without one. Models that no gate signed are put in charge
in every way of `benchmarks signatures`. The figures stand beside what they must
be; the command ends with 1 where one is missed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks import door_cost, door_keys, signatures


class Must(NamedTuple):
    """What a figure has to be.

    Attributes:
        part, name: Which figure.
        words: In words.
        holds: Whether a value is so.
    """

    part: str
    name: str
    words: str
    holds: Callable[[Any], bool]


MUSTS: Final = (
    Must("routes", "wrong", "0", lambda value: value == 0),
    Must("forged", "accepted", "0", lambda value: value == 0),
    Must("under_load", "answered", "at least 100", lambda value: value >= 100),
    Must("under_load", "errors", "0", lambda value: value == 0),
    Must("under_load", "seconds_to_effect", "at most 1", lambda value: value <= 1.0),
    Must("speed", "cpu_added_us", "at most 2", lambda value: value <= 2.0),
    Must("models", "tried", "at least 100", lambda value: value >= 100),
    Must("models", "served", "0", lambda value: value == 0),
    Must("models", "displaced", "0", lambda value: value == 0),
)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="door", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    parser.add_argument("--forged", type=int, default=10_000, help="keys that are no good")
    parser.add_argument("--blocks", type=int, default=600, help="turns with keys and without")
    parser.add_argument("--only", action="append", help="a part; repeat it for several")
    options = parser.parse_args(argv)
    parts: dict[str, Callable[[Path], Mapping[str, Any]]] = {
        "routes": door_keys.routes,
        "forged": lambda folder: door_keys.forged(folder, options.forged),
        "under_load": door_keys.under_load,
        "speed": lambda folder: door_cost.speed(folder, options.blocks),
        "models": signatures.totals,
    }
    musts = list(MUSTS)
    if importlib.util.find_spec("benchmarks.door_flood") is not None:
        flood: Any = importlib.import_module("benchmarks.door_flood")
        parts |= flood.PARTS
        musts += [Must(*row) for row in flood.MUSTS]
    unknown = [name for name in options.only or () if name not in parts]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(parts)}")
    found: dict[str, dict[str, Any]] = {}
    for name, measure in parts.items():
        if not options.only or name in options.only:
            with tempfile.TemporaryDirectory(prefix=f"door-{name}-") as folder:
                found[name] = dict(measure(Path(folder)))
    missed = [
        must
        for must in musts
        if must.part in found and not must.holds(found[must.part].get(must.name))
    ]
    if options.json:
        print(json.dumps(found | {"missed": [f"{m.part}.{m.name}" for m in missed]}, indent=2))
    else:
        _print(found, musts)
    return 1 if missed else 0


def _print(found: Mapping[str, Mapping[str, Any]], musts: list[Must]) -> None:
    table = Table("part", "figure", "value", "must be", "")
    wanted = {(must.part, must.name): must for must in musts}
    for part, figures in found.items():
        for name, value in figures.items():
            must = wanted.get((part, name))
            verdict = "" if must is None else ("ok" if must.holds(value) else "missed")
            words = "" if must is None else must.words
            shown = f"{value:,.3g}" if isinstance(value, float) else str(value)
            table.add_row(part, name, shown, words, verdict)
    Console().print(table)
