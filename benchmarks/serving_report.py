"""From the measurements of `serving` to its figures: medians, ratios, a table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.serving_load import Load
from benchmarks.serving_measure import (
    BATCH,
    EMPTY,
    FEW,
    MANY,
    ONE,
    SENTINEL,
    Measurements,
    Window,
)
from benchmarks.serving_stacks import SHADOWS

_COMPARISONS: tuple[tuple[str, Callable[[Window, Window], float], str, str, int], ...] = (
    ("cpu_vs_empty_asgi", lambda a, b: a.cpu_us / b.cpu_us, "sentinel_no_reasons", EMPTY, MANY),
    ("cpu_reasons_200x31_vs_empty_asgi", lambda a, b: a.cpu_us / b.cpu_us, SENTINEL, EMPTY, MANY),
    (
        "cpu_reasons_300x64_vs_empty_asgi",
        lambda a, b: a.cpu_us / b.cpu_us,
        "sentinel_300x64",
        EMPTY,
        MANY,
    ),
    ("rps_vs_empty_fastapi", lambda a, b: a.rate / b.rate, SENTINEL, "empty_fastapi", MANY),
    ("rps_vs_textbook", lambda a, b: a.rate / b.rate, SENTINEL, "textbook", FEW),
    ("rps_vs_strong", lambda a, b: a.rate / b.rate, SENTINEL, "strong", FEW),
)
"""Key, what is compared, ours, theirs, connections."""


def ratios(results: Measurements) -> dict[str, float]:
    """Medians of the rounds' ratios; what was not measured is left out."""
    found: dict[str, float] = {}
    for key, compare, ours, theirs, connections in _COMPARISONS:
        our_windows = results.full.get((ours, connections), [])
        their_windows = results.full.get((theirs, connections), [])
        if our_windows and their_windows:
            found[key] = median(map(compare, our_windows, their_windows))
    if results.half:
        p99s = ([load.p99_us for load in results.half[name]] for name in (SENTINEL, EMPTY))
        found["p99_half_load_vs_empty"] = median(a / b for a, b in zip(*p99s, strict=True))
        both = zip(results.light, results.light_dry, strict=True)
        found["durable_added_p50_ms"] = median((a.p50_us - b.p50_us) / 1000 for a, b in both)
    if results.batch:
        # The more clients send at once, the more the server groups their requests by itself.
        for key, connections in (
            ("batch_vs_single", MANY),
            ("batch_vs_single_8_connections", FEW),
            ("batch_vs_single_1_connection", ONE),
        ):
            found[key] = median(
                single.cpu_us / batch.cpu_us
                for single, batch in zip(
                    results.full[SENTINEL, connections], results.batch, strict=True
                )
            )
    return found


def of_shadows(results: Measurements, shadows: int) -> dict[str, float]:
    """µs of CPU that each of some further models in shadow adds to a request.

    Args:
        results: With a Sentinel that has them and one that has none.
        shadows: How many there are; nothing is said of none.
    """
    found: dict[str, float] = {}
    for connections in (MANY, FEW) if shadows else ():
        alone = results.full.get((SENTINEL, connections), [])
        beside = results.full.get((SHADOWS, connections), [])
        if alone and beside:
            found[f"shadow_cpu_us_{connections}_connections"] = median(
                (b.cpu_us - a.cpu_us) / shadows for a, b in zip(alone, beside, strict=True)
            )
    return found


def raw(results: Measurements) -> dict[str, dict[str, float]]:
    """Medians over the rounds, by stack and kind of load."""
    found = {
        f"{name}, {connections} connection{'s' * (connections > 1)}": _of_windows(windows)
        for (name, connections), windows in results.full.items()
    }
    if results.batch:
        found[f"{SENTINEL}, batches of {BATCH}"] = _of_windows(results.batch)
    if results.light:
        found[f"{SENTINEL}, 1 connection, at light load"] = _of_loads(results.light)
        found[f"{SENTINEL}, 1 connection, dry run"] = _of_loads(results.light_dry)
    for name, loads in results.half.items():
        found[f"{name}, half load"] = _of_loads(loads)
    return found


def print_report(result: dict[str, Any]) -> None:
    """Tables for people."""
    console = Console(soft_wrap=True)
    table = Table(title="Under load", title_justify="left")
    columns = ("cpu_us", "payments_per_second", "p50_us", "p99_us", "p999_us")
    for title in ("", "CPU µs", "payments/s", "p50 µs", "p99 µs", "p99.9 µs"):
        table.add_column(title, justify="right" if title else "left", no_wrap=True)
    for name, figures in result["raw"].items():
        table.add_row(name, *(f"{figures[c]:,.0f}" if c in figures else "" for c in columns))
    Console(width=100).print(table)
    for key, value in result["ratios"].items():
        console.print(f"{key:34}{value:9.2f}")
    for part in ("checks", "settings", "machine"):
        console.print(f"{part}: " + ", ".join(f"{k}={v}" for k, v in result[part].items()))


def _of_windows(windows: Sequence[Window]) -> dict[str, float]:
    return {
        "cpu_us": median(window.cpu_us for window in windows),
        **_of_loads([window.load for window in windows]),
        "payments_per_second": median(window.rate for window in windows),
    }


def _of_loads(loads: Iterable[Load]) -> dict[str, float]:
    rows = [asdict(load) for load in loads]
    fields = ("p50_us", "p99_us", "p999_us", "max_us")
    return {
        "payments_per_second": median(row["requests"] / row["seconds"] for row in rows),
        **{name: median(row[name] for row in rows) for name in fields},
    }
