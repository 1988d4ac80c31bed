"""Champion and challenger, judged on matured labels: how soon, how often wrongly, how safely?

Simulated experiments, each looked at after every day of labelled traffic by the rule that judges
real ones (`sentinel.experiments.judging`): a better challenger, which is to be promoted by itself
soon, and one that is worth the same, which is to be promoted never. Each fraud that only one of
the two catches is seen if the other one decided. A second part has models replaced through
experiments for a year in worlds whose fraud changes (`benchmarks.lifecycle_money`). A third part
switches experiments while clients send payments over HTTP (`benchmarks.lifecycle_live`).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.lifecycle_live import GUARDRAIL_AT_MOST, live
from benchmarks.lifecycle_money import money
from sentinel.experiments.judging import Counts, Rules, Verdict, kinds_of, verdicts

EXPERIMENTS: Final = 1_000
DAYS: Final = 365
LABEL_DELAY_DAYS: Final = 30
RULES: Final = Rules(most_days=DAYS)

ONLY_CHAMPION: Final = 0.04
ONLY_CHALLENGER: Final = 0.07
EQUAL: Final = 0.055
"""Parts of the frauds that only one of the two catches, in an experiment of two equals."""

MEDIAN_DAYS_AT_MOST: Final = 35.0
EQUAL_PROMOTED_AT_MOST: Final = 0.025
EXPLAINED_AT_LEAST: Final = 10_000


def frauds_seen(
    frauds_a_day: int,
    only_champion: float,
    only_challenger: float,
    share: float,
    seed: int,
    shape: tuple[int, int] = (EXPERIMENTS, DAYS),
) -> Counts:
    """int64 (experiments, days, 2): frauds that were seen until each day, by `kinds_of`."""
    random = np.random.default_rng(seed)
    parts = [only_champion, only_challenger, 1.0 - only_champion - only_challenger]
    caught = random.multinomial(frauds_a_day, parts, size=shape)
    seen = random.binomial(caught[..., :2], [share, 1.0 - share])
    return np.asarray(seen.cumsum(axis=1), np.int64)


def decided(counts: Counts, share: float) -> dict[str, Any]:
    """What daily looks make of experiments: the first verdict of each, and its day."""
    days = np.arange(1.0, counts.shape[1] + 1)
    found = verdicts(kinds_of(share), counts, days, RULES)
    ended = found != Verdict.WAIT
    last = np.where(ended.any(axis=1), ended.argmax(axis=1), counts.shape[1] - 1)
    first = found[np.arange(len(found)), last]
    promoted = first == Verdict.PROMOTE
    day = np.where(promoted, last + 1.0, np.inf)
    median = float(np.partition(day, len(day) // 2)[len(day) // 2])
    return {
        "median_days": median if np.isfinite(median) else None,
        "promoted": float(promoted.mean()),
        "kept": float((first == Verdict.KEEP).mean()),
        "futile": float((first == Verdict.STOP).mean()),
        "waiting": float((first == Verdict.WAIT).mean()),
    }


def simulated() -> dict[str, Any]:
    """Experiments by share and traffic, better challengers and equal ones."""
    better, equal = {}, {}
    for frauds in (80, 20):
        for share in (0.5, 0.1):
            name = f"share {share}, {frauds} frauds a day"
            seen = frauds_seen(frauds, ONLY_CHAMPION, ONLY_CHALLENGER, share, seed=1)
            better[name] = decided(seen, share)
            seen = frauds_seen(frauds, EQUAL, EQUAL, share, seed=2)
            equal[name] = decided(seen, share)
    return {"better": better, "equal": equal}


def measured(*, over_http: bool = True) -> dict[str, Any]:
    """All figures of this benchmark."""
    began = time.perf_counter()
    found = simulated()
    return {
        "experiments": EXPERIMENTS,
        "days": DAYS,
        "label_delay_days": LABEL_DELAY_DAYS,
        "median_days": found["better"]["share 0.5, 80 frauds a day"]["median_days"],
        "equal_promoted": {
            str(share): found["equal"][f"share {share}, 80 frauds a day"]["promoted"]
            for share in (0.1, 0.5)
        },
        **found,
        "simulation_seconds": round(time.perf_counter() - began, 1),
        **money(),
        **(live() if over_http else {}),
    }


def missed(found: dict[str, Any]) -> list[str]:
    """What is not as it should be, in words."""
    wrong = []
    days = found["median_days"]
    if days is None or days > MEDIAN_DAYS_AT_MOST:
        wrong.append(f"A better challenger takes {days} days, not {MEDIAN_DAYS_AT_MOST:g}.")
    for share, rate in found["equal_promoted"].items():
        if rate > EQUAL_PROMOTED_AT_MOST:
            wrong.append(f"At share {share}, {rate:.1%} of equal challengers were promoted.")
    for figure, what in (
        ("dropped", "payments had no answer"),
        ("wrong_version", "answers were of another model than the line-up's"),
        ("unsticky", "cards changed their model without a change of the line-up"),
        ("explanation_mismatches", "explanations were not what was recorded"),
    ):
        if found.get(figure):
            wrong.append(f"{found[figure]} {what}.")
    if "guardrail_seconds" in found and found["guardrail_seconds"] is None:
        wrong.append(f"No guardrail stopped the canary within {GUARDRAIL_AT_MOST:g} s.")
    low = found.get("money", {}).get("low", 1.0)
    if low <= 0.0:
        wrong.append(f"Replacing the champion by experiments may save nothing: {low} a day.")
    explained = found.get("explanations", {}).get("in_log", EXPLAINED_AT_LEAST)
    if explained < EXPLAINED_AT_LEAST:
        wrong.append(f"Only {explained} decisions were explained again.")
    return wrong


def report(found: dict[str, Any], console: Console) -> None:
    """Prints the figures for people."""
    for kind, title in (
        ("better", "A challenger that catches 7 % alone, against 4 %"),
        ("equal", "One that is worth the same: 5.5 % against 5.5 %"),
    ):
        table = Table(title=title, title_justify="left")
        for column in ("", "promoted", "median days", "champion kept", "futile"):
            table.add_column(column, justify="left" if not column else "right")
        for name, row in found[kind].items():
            days = row["median_days"]
            table.add_row(
                name,
                f"{row['promoted']:.1%}",
                "-" if days is None else f"{days:.0f}",
                f"{row['kept']:.1%}",
                f"{row['futile']:.1%}",
            )
        console.print(table)
    console.print(
        f"Days of labelled traffic; labels come {found['label_delay_days']} days later. "
        f"{found['experiments']} experiments each, looked at daily for {found['days']} days "
        f"at most, in {found['simulation_seconds']} s."
    )
    if "money" in found:
        worth = found["money"]
        console.print(
            f"Against a first champion that stays, experiments save "
            f"{found['money_saved_against_static']} a day ({worth['low']} to {worth['high']}) of "
            f"{worth['fraud_a_day']} of fraud: {worth['stopped_with_experiments']:.0%} is stopped, "
            f"not {worth['stopped_by_first_champion']:.0%}. {worth['worlds']} worlds of "
            f"{worth['days']} days, {worth['promoted']} promotions, {worth['seconds']} s."
        )
    if "payments" in found:
        console.print(
            f"Over HTTP: {found['payments']} payments, {found['switches']} switches; "
            f"{found['dropped']} dropped, {found['wrong_version']} of a wrong version, "
            f"{found['unsticky']} cards changed their model. A canary that declines everything "
            f"was stopped after {found['guardrail_seconds']} s: {found['guardrail_why']}"
        )
        explained = found["explanations"]
        console.print(
            f"Explained again: {explained['in_log']} decisions from the log, "
            f"{explained['over_http']} over HTTP; {found['explanation_mismatches']} were not what "
            "was recorded."
        )


def main(argv: Sequence[str]) -> int:
    """Measures and prints; 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks lifecycle", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print JSON alone")
    parser.add_argument("--simulated-only", action="store_true", help="leave out HTTP")
    arguments = parser.parse_args(argv)
    found = measured(over_http=not arguments.simulated_only)
    wrong = missed(found)
    console = Console()
    if arguments.json:
        print(json.dumps(found | {"missed": wrong}, indent=1))
    else:
        report(found, console)
        for line in wrong:
            console.print(f"[bold red]missed[/] {line}")
    return 1 if wrong else 0
