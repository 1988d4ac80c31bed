"""The model card of a version, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sentinel.models.artifact import ModelManifest
from sentinel.models.lineage import lineage_of
from sentinel.models.report_facts import ReportFacts
from sentinel.models.report_words import NONE_KNOWN, day, word


def model_card(facts: ReportFacts, manifest: ModelManifest) -> str:
    """The model card: what it is for, what it learnt from, how good it is, and its limits."""
    lines = [
        f"# Model card: {manifest.name} {facts.version}",
        "",
        "## What it is",
        "",
        (
            f"A {manifest.kind.replace('_', ' ')} over {len(manifest.feature_names)} features "
            f"(plan `{manifest.plan_hash}`) that gives the probability that a payment is fraud. "
            "It is meant for ranking and deciding on payments of the kind that it learnt from, "
            "with an analyst behind its reviews; not for judging persons."
        ),
        "",
        "## What it learnt from",
        "",
        (
            f"{manifest.training.rows:,} payments from {day(manifest.training.start_us)} to "
            f"{day(manifest.training.end_us)}, {manifest.training.frauds:,} of them known frauds; "
            f"labels up to {day(manifest.training.cutoff_us)}. Data hash `{manifest.data_hash}`."
        ),
        "",
        *([] if manifest.refit is None else [manifest.refit.words, ""]),
        *_origin(manifest),
        *(_procedure(manifest)),
        "## How good it is",
        "",
        *_how_good(facts),
    ]
    weakest = sorted(
        (one for one in facts.segments if one.average_precision is not None),
        key=lambda one: one.average_precision.value if one.average_precision else 0.0,
    )[:3]
    of_time = "payments of the same time" if facts.payments else "later payments"
    lines += [
        "## Where it is weakest",
        "",
        *(
            f"- {one.what} {one.name}: average precision {one.average_precision} on "
            f"{one.payments:,} payments with {one.frauds:,} frauds"
            for one in weakest
        ),
        *([] if weakest else ["No segment has enough known frauds to say."]),
        "",
        "## What it uses most",
        "",
        *(f"- `{name}`: {share:.1%} of what moves the score" for name, share in _top(facts.shap)),
        "",
        "## Limits",
        "",
        (
            f"- Of {sum(facts.unknown.unknown.values()):,} {of_time} nobody knows "
            "whether they were fraud; no figure speaks of them."
        ),
        "- Figures hold for the time they were measured in. Frauds of a new kind are not in it.",
        *(f"- {note}" for note in manifest.notes),
        *([f"- Provisional: {manifest.provisional}"] if manifest.provisional else []),
        "",
    ]
    return "\n".join(lines)


def _origin(manifest: ModelManifest) -> Sequence[str]:
    """Code and parent, where they are noted."""
    if manifest.code is None:
        return ()
    words = lineage_of(manifest).words
    return (f"Trained by {words['code']}. Champion at that time: {words['parent']}.", "")


def _how_good(facts: ReportFacts) -> Sequence[str]:
    if not facts.payments:
        return (NONE_KNOWN, "")
    own = next(iter(facts.metrics.values()), {})
    return (
        (
            f"On {facts.payments:,} later payments ({day(facts.start_us)} to "
            f"{day(facts.end_us)}) with {facts.frauds:,} known frauds, none of which the judged "
            "model has seen:"
        ),
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *(
            f"| {word(name)} | {one.value:.4g} | {one.low:.4g} to {one.high:.4g} |"
            for name, one in own.items()
        ),
        *(f"| {word(name)} | {why} | |" for name, why in facts.not_measured.items()),
        "",
    )


def _procedure(manifest: ModelManifest) -> Sequence[str]:
    if manifest.procedure is None:
        return ()
    given = manifest.procedure.parameters
    named = ", ".join(f"{name} {value}" for name, value in given.items())
    return (f"Parameters: {named or 'the family’s own'}.", "")


def _top(shares: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])[:8]
