"""Backfill, serving, recovery and the plain definition agree bit for bit, on every row.

A log is imported and backfilled. The same log is then served one event at a time, recovered in a
fresh process from a snapshot and the log behind it, and, for a sample of entities, answered by
the plain definition. Payments are also sent to a real server by several clients at once, some
late, some tied, with labels among them; what it recorded is computed again in a fresh process.
The log is also run through state in a real Redis, and its records are compared word by word.
Exits with 0 if not one bit differs, with 1 if any does.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.parity_breaks import BREAKS
from benchmarks.parity_http import CLIENTS, TIED, Served, over_http
from benchmarks.parity_log import LEAST_ROWS, open_by_name, write_ledger
from benchmarks.parity_replay import ENGINES as REPLAYED
from benchmarks.parity_replay import Replay, replay
from benchmarks.parity_tally import Tally
from sentinel.domain import ConfigurationError
from sentinel.features.plan.plan import Plan
from testkit.scratch import default_plan

ENGINES: Final = (*REPLAYED, "http")
EMBEDDED: Final = ("online", "recovered")
_ROWS_OF_A_BREAK: Final = 200_000


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    started = time.monotonic()
    plan = default_plan()
    rows = arguments.rows
    if rows is None and arguments.broken:
        rows = _ROWS_OF_A_BREAK
    try:
        source = open_by_name(arguments.source, rows)
    except ConfigurationError as error:
        print(error, file=sys.stderr)
        return 2
    engines = [e for e in ENGINES if e in arguments.engines]
    if arguments.broken and "http" in engines:
        engines.remove("http")  # what a server does is not broken by breaking the backfill
    served: Served | None = None
    with tempfile.TemporaryDirectory(prefix="sentinel-parity-") as scratch:
        ledger = Path(scratch) / "ledger.db"
        tied = TIED if arguments.broken == "tie" else 0.0
        write_ledger(source, ledger, rows, tied=tied)
        found = replay(
            plan,
            ledger,
            engines,
            oracle_rows=arguments.oracle_rows,
            broken=arguments.broken,
        )
        ledger.unlink()
        if "http" in engines:
            served = over_http(plan, Path(scratch) / "served", arguments.http_payments)
    result = _result(arguments, plan, found, served)
    result["seconds"] = round(time.monotonic() - started, 1)
    _print(result)
    idle = [name for name, figures in result["by_engine"].items() if not figures["rows"]]
    if idle:
        print(f"Nothing was compared with {', '.join(idle)}: use more rows.", file=sys.stderr)
    if arguments.broken and not result["mismatches"]:
        print(f"The break {arguments.broken!r} does not show: use more rows.", file=sys.stderr)
    if arguments.json:
        print(json.dumps(result))
    if idle or (arguments.broken and not result["mismatches"]):
        return 2
    return 1 if result["mismatches"] else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks parity",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--source", choices=("handbook", "simulator"), default="handbook")
    parser.add_argument("--rows", type=int, help="transactions of the log (default: all)")
    parser.add_argument(
        "--engines",
        nargs="+",
        type=_engines,
        default=[list(ENGINES)],
        metavar="ENGINE",
        help=f"of {', '.join(ENGINES)}; embedded means {' and '.join(EMBEDDED)}",
    )
    parser.add_argument("--oracle-rows", type=int, default=20_000, help="sample of each view")
    parser.add_argument(
        "--http-payments", type=int, default=20_000, help=f"sent by {CLIENTS} clients at once"
    )
    parser.add_argument(
        "--break",
        dest="broken",
        choices=tuple(BREAKS),
        help="break the backfill, which must show as mismatches ("
        + "; ".join(f"{name}: {what}" for name, what in BREAKS.items())
        + f"); {_ROWS_OF_A_BREAK:,} rows unless --rows says otherwise, without the server",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object as the last line")
    arguments = parser.parse_args(argv)
    arguments.engines = [name for names in arguments.engines for name in names]
    if arguments.rows is not None and arguments.rows < LEAST_ROWS:
        parser.error(f"--rows must be at least {LEAST_ROWS:,}")
    if arguments.http_payments < 1:
        parser.error("--http-payments must be at least 1; leave http out of --engines instead")
    return arguments


def _engines(text: str) -> list[str]:
    """Engines by name, with commas between them."""
    names: list[str] = []
    for name in text.split(","):
        names += EMBEDDED if name == "embedded" else [name]
    unknown = sorted(set(names) - set(ENGINES))
    if unknown:
        raise argparse.ArgumentTypeError(f"no such engine: {', '.join(unknown)}")
    return names


def _result(
    arguments: argparse.Namespace, plan: Plan, found: Replay, served: Served | None
) -> dict[str, Any]:
    tallies = dict(found.tallies)
    if served is not None:
        tallies["http"] = served.tally
    http_rows = 0 if served is None else served.tally.rows
    result: dict[str, Any] = {
        "source": arguments.source,
        "plan": plan.hash,
        "rows": found.rows + http_rows,
        "log_rows": found.rows,
        "log_labels": found.labels,
        "features": len(plan.feature_names),
        "values": sum(tally.values for tally in tallies.values()),
        "state_words": sum(tally.words for tally in tallies.values()),
        "mismatches": sum(tally.mismatches for tally in tallies.values()),
        "broken": arguments.broken,
        "engines": ["backfill", *tallies],
        "by_engine": {name: _figures(tally) for name, tally in tallies.items()},
        "backfill_seconds": round(found.backfill_seconds, 1),
    }
    if served is not None:
        result["http"] = {
            "clients": CLIENTS,
            "payments": http_rows,
            "late": served.late,
            "tied": served.tied,
            "labels": served.labels,
            "commits": served.groups,
        }
    return result


def _figures(tally: Tally) -> dict[str, Any]:
    return {
        "rows": tally.rows,
        "values": tally.values,
        "values_not_null": tally.known,
        "state_words": tally.words,
        "mismatches": tally.mismatches,
        "differing": dict(sorted(tally.features.items(), key=lambda item: -item[1])[:10]),
        "seconds": round(tally.seconds, 1),
    }


def _print(result: dict[str, Any]) -> None:
    print(
        f"{result['source']}: {result['log_rows']:,} transactions, {result['log_labels']:,} "
        f"labels, {result['features']} features; backfill in {result['backfill_seconds']} s"
    )
    if "http" in result:
        http = result["http"]
        print(
            f"http: {http['payments']:,} payments by {http['clients']} clients at once in "
            f"{http['commits']:,} commits; {http['late']:,} late, {http['tied']:,} tied, "
            f"{http['labels']:,} labels"
        )
    if result["broken"]:
        print(f"The backfill is broken: {BREAKS[result['broken']]}. Mismatches are expected.")
    print(
        f"\n{'engine':10} {'rows':>12} {'values':>14} {'not null':>14} {'state words':>14} "
        f"{'mismatches':>12}"
    )
    for name, figures in result["by_engine"].items():
        print(
            f"{name:10} {figures['rows']:12,} {figures['values']:14,} "
            f"{figures['values_not_null']:14,} {figures['state_words']:14,} "
            f"{figures['mismatches']:12,}  {figures['seconds']:7.1f} s"
        )
        for feature, count in list(figures["differing"].items())[:5]:
            print(f"{'':12}{feature}: {count:,}")
    print(f"{'all':10} {'':12} {result['values']:14,} {'':14} {result['state_words']:14,} "
          f"{result['mismatches']:12,}  {result['seconds']:7.1f} s")  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
