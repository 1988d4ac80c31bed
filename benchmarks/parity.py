"""Backfill, serving, recovery and the plain definition agree bit for bit, on every row."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.parity_breaks import BREAKS
from benchmarks.parity_log import open_by_name, write_ledger
from benchmarks.parity_replay import ENGINES, replay
from benchmarks.parity_tally import Tally
from benchmarks.scratch import default_plan
from sentinel.domain import ConfigurationError


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    started = time.monotonic()
    plan = default_plan()
    try:
        source = open_by_name(arguments.source, arguments.rows)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    tallies: dict[str, Tally] = {}
    with tempfile.TemporaryDirectory(prefix="sentinel-parity-") as scratch:
        ledger = Path(scratch) / "ledger.db"
        rows = write_ledger(source, ledger, arguments.rows)
        found = replay(
            plan,
            ledger,
            arguments.engines,
            oracle_rows=arguments.oracle_rows,
            broken=arguments.broken,
        )
    tallies.update(found.tallies)
    result: dict[str, Any] = {
        "source": arguments.source,
        "plan": plan.hash,
        "rows": rows,
        "labels": found.labels,
        "features": len(plan.feature_names),
        "values": sum(tally.values for tally in tallies.values()),
        "mismatches": sum(tally.mismatches for tally in tallies.values()),
        "broken": arguments.broken,
        "engines": {name: _figures(tally) for name, tally in tallies.items()},
        "backfill_seconds": round(found.backfill_seconds, 1),
        "seconds": round(time.monotonic() - started, 1),
    }
    _print(result, tallies)
    if arguments.json:
        print(json.dumps(result))
    return 0 if bool(result["mismatches"]) == bool(arguments.broken) else 1


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks parity", description=__doc__)
    parser.add_argument("--source", choices=("handbook", "simulator"), default="handbook")
    parser.add_argument("--rows", type=int, help="transactions of the log (default: all)")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--oracle-rows", type=int, default=20_000, help="sample of each view")
    parser.add_argument(
        "--break",
        dest="broken",
        choices=tuple(BREAKS),
        help="break the backfill; succeeds if that shows: "
        + "; ".join(f"{name}: {what}" for name, what in BREAKS.items()),
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    return parser.parse_args(argv)


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "rows": tally.rows,
        "values": tally.values,
        "values_not_null": tally.known,
        "state_words": tally.words,
        "mismatches": tally.mismatches,
        "seconds": round(tally.seconds, 1),
    }


def _print(result: dict[str, Any], tallies: dict[str, Tally]) -> None:
    print(
        f"{result['source']}: {result['rows']:,} transactions, {result['labels']:,} labels, "
        f"{result['features']} features; backfill in {result['backfill_seconds']} s"
    )
    if result["broken"]:
        print(f"The backfill is broken: {BREAKS[result['broken']]}. Mismatches are expected.")
    print(f"\n{'engine':10} {'rows':>12} {'values':>14} {'not null':>14} {'mismatches':>12}")
    for name, tally in tallies.items():
        print(
            f"{name:10} {tally.rows:12,} {tally.values:14,} {tally.known:14,} "
            f"{tally.mismatches:12,}  {tally.seconds:7.1f} s"
        )
        worst = sorted(tally.features.items(), key=lambda item: -item[1])[:5]
        for feature, count in worst:
            print(f"{'':12}{feature}: {count:,}")


if __name__ == "__main__":
    sys.exit(main())
