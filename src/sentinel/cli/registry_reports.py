"""Versions of the registry for people. Tables fit 80 columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from sentinel.models.lineage import Lineage, noted_lineage
from sentinel.models.registry_view import KnownVersion, RegistryView, retirement_of
from sentinel.pipeline.approvals import request_of


def versions_report(console: Console, view: RegistryView, versions: Sequence[KnownVersion]) -> None:
    """Versions, newest first."""
    table = Table(title=f"Versions of {view.name}", title_justify="left")
    for name in ("version", "used as", "signed", "registered (UTC)", "parent"):
        table.add_column(name, overflow="fold")
    for one in versions:
        lineage = noted_lineage(one.tags)
        table.add_row(
            one.version,
            _used_as(one),
            one.signed or "by no trusted key",
            _time(one.created_at_us),
            lineage.parent if lineage is not None else "",
        )
    console.print(table, markup=False)


def _used_as(known: KnownVersion) -> str:
    if retirement_of(known.tags) is not None:
        return "retired"
    awaits = () if request_of(known.tags) is None else ("awaiting approval",)
    return ", ".join((*known.aliases, *awaits))


def version_report(console: Console, known: KnownVersion, lineage: Lineage | None) -> None:
    """One version."""
    facts = {
        "version": known.version,
        "aliases": ", ".join(known.aliases) or "none",
        "signed": f"{known.signed} by key {known.signed_by}"
        if known.signed
        else "by no trusted key",
        "registered": f"{_time(known.created_at_us)} UTC, run {known.run_id}",
        "gate": known.tags.get("gate", "has not judged it"),
    }
    if known.approved:
        facts["approved by"] = known.approved
    request = request_of(known.tags)
    if request is not None:
        facts["awaits approval"] = (
            f"since {_time(request.at_us)} UTC, asked for by {request.by or 'nobody named'}: "
            f"{request.why}"
        )
    retired = retirement_of(known.tags)
    if retired is not None:
        facts["retired"] = f"{_time(retired.at_us)} UTC by {retired.by}: {retired.why}"
    facts |= lineage.words if lineage is not None else {"comes from": "not noted"}
    table = Table(show_header=False, box=None)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, words in facts.items():
        table.add_row(name, words)
    console.print(table, markup=False)


def _time(at_us: int) -> str:
    return f"{datetime.fromtimestamp(at_us / 1e6, UTC):%Y-%m-%d %H:%M}"
