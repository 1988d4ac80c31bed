"""What a preview says of a sample holds for the sample."""

from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console

from sentinel.sources.preview import preview
from sentinel.sources.preview_text import render_preview
from sentinel.sources.registry import open_source
from sentinel.sources.report import ImportReport

MAPPING = """
id = "ref"
[files]
path = "payments.csv"
[time]
column = "created"
[amount]
column = "amount"
[entities]
customer_id = "customer"
[labels]
path = "labels.csv"
transaction_id = "ref"
column = "said"
fraud_values = ["fraud"]
delay_days = 7
"""


def test_the_share_of_frauds_is_that_of_the_rows_that_were_looked_at(tmp_path: Path) -> None:
    rows = [f"p{n},2026-01-01T{n // 60:02}:{n % 60:02}:00Z,12.50,c{n % 9}" for n in range(1_000)]
    (tmp_path / "payments.csv").write_text("ref,created,amount,customer\n" + "\n".join(rows))
    frauds = [f"p{n},fraud" for n in range(0, 1_000, 10)]
    (tmp_path / "labels.csv").write_text("ref,said\n" + "\n".join(frauds))
    (tmp_path / "mapping.toml").write_text(MAPPING)
    seen = preview(
        open_source(tmp_path / "mapping.toml"), 3, now_us=1_770_000_000_000_000, sample_rows=200
    )
    sample = seen.sample
    assert 200 <= sample.accepted < 1_000
    assert sample.frauds == 100
    assert sample.frauds_accepted == sum(n % 10 == 0 for n in range(sample.accepted))
    console = Console(record=True, width=80)
    console.print(render_preview(seen))
    lines = [" ".join(line.split()) for line in console.export_text().splitlines()]
    # Each count with the share of the rows that it is of.
    known = sample.frauds_accepted
    assert f"called fraud {known} {known / sample.accepted:.3%} of the accepted rows" in lines
    assert f"saying fraud 100 {100 / sample.labels:.3%} of the labels" in lines


@pytest.mark.parametrize(
    ("known", "said"), [(0, "known to be fraud"), (40, "fraud by the new labels")]
)
def test_an_import_counts_the_frauds_of_labels_that_it_read(known: int, said: str) -> None:
    report = ImportReport(source="s", read=9, accepted=9, labels_known=known, labels_read=known)
    console = Console(record=True, width=80)
    console.print(report.render())
    assert said in console.export_text()


@pytest.mark.parametrize(("rejected", "said"), [(4, False), (9, True)])
def test_an_import_that_rejected_many_rows_says_so(rejected: int, said: bool) -> None:
    report = ImportReport(
        source="s", read=100, accepted=100 - rejected, rejected={"invalid_time": rejected}
    )
    assert any("of the rows were rejected" in one for one in report.warnings()) == said
