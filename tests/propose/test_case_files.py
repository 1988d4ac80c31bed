"""Payments with a file of cases beside them: few frauds, reported later, some not decided yet."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from sentinel.propose.column_profile import ColumnProfile
from sentinel.propose.deciding import decide
from sentinel.propose.labels import taken_for_good, verdicts
from sentinel.propose.proposing import examine, propose, settle
from sentinel.propose.roles import Answers, Roles
from sentinel.sources.registry import open_source
from tests.propose.tables import Columns, payments, profile, write
from tests.sources.tables import log_of

ROWS = 4_000
START = datetime(2026, 6, 1, tzinfo=UTC)


def _grouped(amounts: np.ndarray) -> list[str]:
    return [f"{amount:,.2f}" for amount in amounts.tolist()]


def _later(text: str, days: int) -> str:
    """A time of a case, so many days later."""
    time = datetime.strptime(text, "%d/%m/%Y %H:%M").replace(tzinfo=UTC)
    return f"{time + timedelta(days=days):%d/%m/%Y %H:%M}"


@cache
def world() -> tuple[Columns, Columns]:
    """Mobile money: transfers as a bank exports them, and the cases that came of some of them."""
    rng = np.random.default_rng(8)
    seconds = np.sort(rng.integers(0, 90 * 86_400, ROWS))
    times = [START + timedelta(seconds=s) for s in seconds.tolist()]
    amount = np.round(rng.lognormal(7, 1, ROWS), 2)
    before = np.round(amount * rng.uniform(1, 9, ROWS), 2)
    fraud = np.sort(rng.choice(ROWS, 60, replace=False))
    transfers = {
        "Receipt": [f"T{n:05d}X" for n in range(ROWS)],
        "InitiatedAt": [f"{t:%d/%m/%Y %H:%M:%S}" for t in times],
        "AmountKES": _grouped(amount),
        "Sender": [f"2547{n:08d}" for n in rng.integers(0, 300, ROWS)],
        "BalBefore": _grouped(before),
        "BalAfter": _grouped(before - amount),
        "County": rng.choice(["Nairobi", "Kisumu", "Kiambu"], ROWS).tolist(),
        "Status": rng.choice(
            ["COMPLETED", "FAILED", "REVERSED"], ROWS, p=[0.95, 0.04, 0.01]
        ).tolist(),
        "ReversalCode": rng.choice(["", "R1", "R2"], ROWS, p=[0.98, 0.01, 0.01]).tolist(),
    }
    reported = [times[n] + timedelta(days=9, minutes=int(n)) for n in fraud.tolist()]
    cases = {
        "CaseNo": [f"FR-{n:05d}" for n in range(60)],
        "Receipt": [f"T{n:05d}X" for n in fraud.tolist()],
        "ReportedAt": [f"{t:%d/%m/%Y %H:%M}" for t in reported],
        "Finding": ["CONFIRMED_FRAUD"] * 45 + ["NOT_FRAUD"] * 8 + ["UNDER_INVESTIGATION"] * 7,
    }
    return transfers, cases


def settled(folder: Path, cases: Columns | None = None, **columns: list[str]) -> Roles:
    """What is proposed for the transfers, some columns changed, and the cases beside them."""
    paths = [
        write(folder / "transfers.csv", {**world()[0], **columns}),
        write(folder / "cases.csv", cases or world()[1]),
    ]
    return settle(examine(paths), Answers())


@pytest.fixture(scope="module")
def roles(tmp_path_factory: pytest.TempPathFactory) -> Roles:
    return settled(tmp_path_factory.mktemp("cases"))


def test_what_is_not_decided_yet_is_no_verdict(roles: Roles) -> None:
    assert roles.label is not None
    assert roles.label.fraud_values == ("CONFIRMED_FRAUD",)
    assert roles.label.legitimate_values == ("NOT_FRAUD",)
    assert roles.label.undecided_values == ("UNDER_INVESTIGATION",)


@pytest.mark.parametrize(
    ("value", "place"),
    [
        *(("FRAUD - CONFIRMED", 0), ("fraudulent", 0), ("Scam", 0), ("charged back", 0), ("1", 0)),
        *(("not a fraud", 1), ("No fraud found", 1), ("false fraud alert", 1), ("cleared", 1)),
        *(("UNDER_INVESTIGATION", 2), ("suspected fraud", 2), ("fraud (unconfirmed)", 2)),
        *(("in progress", 2), ("awaiting customer", 2), ("TBD", 2)),
    ],
)
def test_verdicts_are_understood_by_their_words(value: str, place: int) -> None:
    column = ColumnProfile("v", 0, "text", 10, values=((value, 10),))
    found = verdicts(column)
    assert found[place] == (value,)


def test_a_word_that_is_not_known_is_taken_for_good_and_named(tmp_path: Path) -> None:
    cases = dict(world()[1])
    cases["Finding"] = [*cases["Finding"][:-2], "ESCALATED", "ESCALATED"]
    found = settled(tmp_path, cases)
    assert found.label is not None
    assert found.label.legitimate_values == ("NOT_FRAUD", "ESCALATED")
    (note,) = [note for note in found.notes if "ESCALATED" in note]
    assert note.startswith("'ESCALATED' (2) of 'Finding' count as legitimate")
    known = ColumnProfile("v", 0, "text", 10, values=(("fraud", 5), ("genuine", 5)))
    assert not taken_for_good(known, ("genuine",))


def test_labels_arrive_when_their_own_file_says(roles: Roles, tmp_path: Path) -> None:
    label = roles.label
    assert label is not None
    assert label.arrival is not None
    assert (label.arrival.columns, label.delay_days) == (("ReportedAt",), None)
    assert label.arrival.format == "%d/%m/%Y %H:%M"
    assert roles.label_days == pytest.approx(10.5, abs=1.5)

    transfers, cases = world()
    paths = [write(tmp_path / "transfers.csv", transfers), write(tmp_path / "cases.csv", cases)]
    proposal = propose(paths, tmp_path / "w")
    entries, report = log_of(open_source(proposal.mapping), now_us=2**60)
    labels = [entry for entry in entries if entry["kind"] == 1]
    assert (report.labels_read, report.labels_undecided, len(labels)) == (60, 7, 53)
    assert not report.rejected
    assert not report.labels_rejected
    paid = {e["transaction_id"]: e["received_at_us"] for e in entries if e["kind"] == 0}
    delays = [label["received_at_us"] - paid[label["transaction_id"]] for label in labels]
    assert min(delays) > 8.9 * 86_400 * 1e6


def test_of_several_times_of_a_case_the_latest_counts(tmp_path: Path) -> None:
    cases = dict(world()[1])
    cases["ClosedAt"] = [_later(text, days=4) for text in cases["ReportedAt"]]
    cases["ClosedAt"][-7:] = [""] * 7  # of those that are open
    cases["ExportedAt"] = ["01/12/2026 00:00"] * 60
    label = settled(tmp_path, cases).label
    assert label is not None
    assert label.arrival is not None
    assert label.arrival.columns == ("ClosedAt",)
    assert label.delay_days is not None, "for the cases without that time"


def test_without_such_a_time_a_delay_is_assumed(tmp_path: Path) -> None:
    cases = {name: values for name, values in world()[1].items() if name != "ReportedAt"}
    label = settled(tmp_path, cases).label
    assert label is not None
    assert label.arrival is None
    assert label.delay_days is not None


def test_a_payment_without_a_case_is_a_good_one(roles: Roles) -> None:
    # 45 of 60 cases are frauds: among them alone any column would tell the frauds apart.
    assert [leak.column for leak in roles.leaks] == ["ReversalCode", "BalAfter"]
    assert not [note for note in roles.notes if "Hardly any good payment" in note]
    assert "County" in {attribute.column for attribute in roles.attributes}


def test_balances_as_banks_write_them_are_numbers_and_the_later_one_a_leak(roles: Roles) -> None:
    assert roles.thousands == ","
    assert roles.left_out["BalAfter"].startswith("known too late: differs from 'BalBefore'")
    kinds = {attribute.column: attribute.kind for attribute in roles.attributes}
    assert kinds["BalBefore"] == "number"


def test_the_currency_may_stand_in_the_name_of_the_amount(roles: Roles) -> None:
    assert roles.amount is not None
    assert roles.amount.currency == "KES"


def test_an_outcome_that_is_not_known_is_named(roles: Roles) -> None:
    assert roles.outcome is not None
    assert roles.outcome.decline_values == ("FAILED",)
    assert any("'REVERSED' of 'Status'" in note for note in roles.notes)


def test_times_without_a_zone_are_told_of() -> None:
    def noted(times: list[str], answers: Answers | None = None) -> bool:
        transfers = {**world()[0], "InitiatedAt": times}
        notes = decide(profile(transfers), answers or Answers()).notes
        return any("name no zone and are read as UTC" in note for note in notes)

    local = world()[0]["InitiatedAt"]
    iso = [f"{text[6:10]}-{text[3:5]}-{text[:2]}T{text[11:]}" for text in local]
    assert noted(local)
    assert noted(iso)
    assert not noted(local, Answers(timezone="Africa/Nairobi"))
    assert not noted([f"{text}Z" for text in iso])
    assert not noted([f"{text}+03:00" for text in iso])
    assert not noted([text[:10] for text in iso]), "days have no hour to go wrong"


def test_no_column_has_more_values_than_rows() -> None:
    many = profile({"id": [f"{n:x}-{n * 7919 % 104_729}" for n in range(40_000)]}).columns["id"]
    assert many.distinct <= 40_000


def test_a_table_that_names_payments_by_two_columns_hears_how_it_becomes_the_labels(
    tmp_path: Path,
) -> None:
    columns = {name: list(values) for name, values in payments().items() if name != "case_opened"}
    columns["order_id"] = [f"o-{n // 2:05}" for n in range(3_000)]
    columns["attempt"] = [str(1 + n % 2) for n in range(3_000)]
    del columns["payment_ref"], columns["reference_text"], columns["is_fraud"]
    cases = {"order": columns["order_id"][::40], "try": columns["attempt"][::40]}
    paths = [write(tmp_path / "orders.csv", columns), write(tmp_path / "cases.csv", cases)]
    answers = Answers(id=("order_id", "attempt"), label="none")
    notes = settle(examine(paths), answers).notes
    assert notes[0].startswith("cases.csv is another table and not used")
    assert "under [labels] of the mapping" in notes[0]


def test_a_delay_that_was_told_is_not_called_assumed(tmp_path: Path) -> None:
    cases = {name: values for name, values in world()[1].items() if name != "ReportedAt"}
    paths = [write(tmp_path / "transfers.csv", world()[0]), write(tmp_path / "cases.csv", cases)]
    for answers, word in ((Answers(delay_days=15), "as you said"), (Answers(), "assumed")):
        proposal = propose(paths, tmp_path / word, answers)
        (said,) = [row for row in proposal.mapping.read_text().splitlines() if "delay_days" in row]
        assert word in said
