"""The IEEE-CIS files are read as downloaded."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sentinel.domain import ConfigurationError
from sentinel.sources import open_source, preview
from sentinel.sources.ieee_cis import IDENTITY_COLUMNS, TRANSACTION_COLUMNS
from tests.sources.ieee_cis_fixture import write_ieee_cis
from tests.sources.tables import DAY_US, NOW_US, log_of, rejects

ORIGIN_US = 1_512_086_400_000_000  # 2017-12-01


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ieee-cis")
    write_ieee_cis(folder)
    return folder


@pytest.fixture(scope="module")
def joined(folder: Path) -> pd.DataFrame:
    """The two files as the public notebooks join them."""
    transactions = pd.read_csv(folder / "train_transaction.csv")
    identities = pd.read_csv(folder / "train_identity.csv")
    return transactions.merge(identities, on="TransactionID", how="left").set_index("TransactionID")


@pytest.fixture(scope="module")
def payments(folder: Path) -> pd.DataFrame:
    entries, _ = log_of(open_source("ieee-cis", path=folder))
    frame = pd.DataFrame([row for row in entries if row["kind"] == 0])
    return frame.set_index(frame.transaction_id.astype(int))


def test_the_fixture_has_the_form_of_the_real_files(folder: Path) -> None:
    transactions = pd.read_csv(folder / "train_transaction.csv", nrows=5)
    identities = pd.read_csv(folder / "train_identity.csv", nrows=5)
    assert transactions.shape[1] == len(TRANSACTION_COLUMNS) == 394
    assert identities.shape[1] == len(IDENTITY_COLUMNS) == 41


def test_every_row_is_accepted_and_frauds_are_known_after_the_declared_delay(
    folder: Path, joined: pd.DataFrame
) -> None:
    entries, report = log_of(open_source("ieee-cis", path=folder, label_delay_days=10), scale=3)
    assert report.read == report.accepted == len(joined)
    labels = {row["transaction_id"]: row for row in entries if row["kind"] == 1}
    assert set(labels) == set(joined.index[joined.isFraud == 1].astype(str))
    for name, label in labels.items():
        seconds = int(joined.TransactionDT[int(name)])
        assert label["received_at_us"] == ORIGIN_US + seconds * 1_000_000 + 10 * DAY_US
        assert label["verdict"] == "fraud"


def test_amounts_have_three_decimals_and_times_count_from_december_2017(
    payments: pd.DataFrame, joined: pd.DataFrame
) -> None:
    expected = (joined.TransactionAmt * 1_000).round().astype(int)
    assert payments.amount_minor.equals(expected.reindex(payments.index))
    times = ORIGIN_US + joined.TransactionDT * 1_000_000
    assert payments.event_time_us.equals(times.reindex(payments.index).astype("int64"))


def test_a_client_is_card1_addr1_and_the_day_it_began(
    payments: pd.DataFrame, joined: pd.DataFrame
) -> None:
    clients = payments.customer_id.to_dict()
    for row in joined.reset_index().to_dict("records"):
        client = clients[row["TransactionID"]]
        if pd.isna(row["D1"]):
            assert client is None
        else:
            address = "-" if pd.isna(row["addr1"]) else f"{row['addr1']:.0f}"
            begun = np.floor(row["TransactionDT"] / 86_400 - row["D1"])
            assert client == f"{row['card1']:.0f}|{address}|{begun:.0f}"
    shared = payments.customer_id.value_counts()
    assert shared.max() > 3
    assert payments.merchant_id.isna().all()
    assert payments.ip_address.isna().all()


def test_counts_deltas_matches_and_the_identity_block_are_attributes(
    payments: pd.DataFrame, joined: pd.DataFrame
) -> None:
    aligned = joined.reindex(payments.index)
    for name in ("C1", "C14", "D1", "D15", "dist1", "id_01", "id_11"):
        ours = payments[f"attributes.{name}"].astype(float)
        pd.testing.assert_series_equal(ours, aligned[name].astype(float), check_names=False)
    for name in ("M4", "ProductCD", "P_emaildomain", "id_31", "id_38", "DeviceInfo"):
        ours = payments[f"attributes.{name}"]
        assert ours.fillna("-").tolist() == aligned[name].fillna("-").tolist()
    codes = payments["attributes.id_13"].dropna()
    assert codes.tolist() == aligned.id_13.dropna().astype(int).astype(str).tolist()
    assert not any(name.startswith("attributes.V") for name in payments.columns)


def test_the_day_that_a_count_of_days_starts_at_is_an_attribute_and_stays_the_same(
    payments: pd.DataFrame, joined: pd.DataFrame
) -> None:
    aligned = joined.reindex(payments.index)
    for name in ("D1", "D4", "D15"):
        began = (aligned.TransactionDT / 86_400 - aligned[name]).apply(np.floor)
        ours = payments[f"attributes.{name}_day"].astype(float)
        pd.testing.assert_series_equal(ours, began, check_names=False)
    of_a_client = payments.groupby("customer_id")["attributes.D1_day"]
    assert (of_a_client.nunique() == 1).all()
    assert of_a_client.size().max() > 3
    assert not {"attributes.D3_day", "attributes.D9_day"} & set(payments.columns)


def test_a_device_is_known_only_where_the_identity_block_is(
    payments: pd.DataFrame, joined: pd.DataFrame
) -> None:
    block = joined[["DeviceInfo", "id_30", "id_31", "id_33"]].notna().any(axis=1)
    assert payments.device_id.notna().equals(block.reindex(payments.index))


@pytest.mark.parametrize(("wanted", "kept"), [("all", 339), ("V1,V339", 2), (["V7"], 1)])
def test_v_columns_are_kept_on_demand(folder: Path, wanted: str | list[str], kept: int) -> None:
    source = open_source("ieee-cis", path=folder, v_columns=wanted)
    assert sum(name.startswith("V") for name in source.attributes) == kept
    entries, _ = log_of(source)
    assert len([name for name in entries[0] if name.startswith("attributes.V")]) == kept


def test_chunks_of_any_size_join_the_same(folder: Path) -> None:
    whole, _ = log_of(open_source("ieee-cis", path=folder))
    pieces, _ = log_of(open_source("ieee-cis", path=folder), chunk_rows=701)
    assert pieces == whole


def test_the_downloaded_archive_needs_no_unpacking(folder: Path, tmp_path: Path) -> None:
    archive = tmp_path / "ieee-fraud-detection.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        for name in ("train_transaction.csv", "train_identity.csv"):
            content.write(folder / name, name)
    expected, _ = log_of(open_source("ieee-cis", path=folder))
    for path in (archive, tmp_path):
        entries, _ = log_of(open_source("ieee-cis", path=path))
        assert entries == expected


def test_a_bad_row_of_the_files_is_rejected_with_its_line(folder: Path, tmp_path: Path) -> None:
    lines = (folder / "train_transaction.csv").read_text().splitlines()
    second = lines[2].split(",")
    second[3] = "1.2345"
    (tmp_path / "train_transaction.csv").write_text(
        "\n".join([lines[0], lines[1], ",".join(second), "2,3", lines[1]]) + "\n"
    )
    (tmp_path / "train_identity.csv").write_bytes((folder / "train_identity.csv").read_bytes())
    source = open_source("ieee-cis", path=tmp_path)
    _, report = log_of(source, rejects_path=tmp_path / "rejects.parquet")
    assert (report.read, report.accepted) == (4, 1)
    found = {row["row"]: row["code"] for row in rejects(tmp_path / "rejects.parquet")}
    assert found == {2: "amount_precision", 3: "malformed_row", 4: "duplicate_id"}


def test_missing_files_and_the_files_without_labels_are_explained(
    folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="kaggle"):
        open_source("ieee-cis", path=tmp_path)
    frame = pd.read_csv(folder / "train_transaction.csv").drop(columns="isFraud")
    frame.to_csv(tmp_path / "train_transaction.csv", index=False)
    (tmp_path / "train_identity.csv").write_bytes((folder / "train_identity.csv").read_bytes())
    with pytest.raises(ConfigurationError, match="test files of the competition"):
        open_source("ieee-cis", path=tmp_path)
    with pytest.raises(ConfigurationError, match=r"V1 \.\.\. V339"):
        open_source("ieee-cis", path=folder, v_columns=["V340"])


def test_the_preview_says_what_became_of_all_columns(folder: Path) -> None:
    seen = preview(open_source("ieee-cis", path=folder), 5, now_us=NOW_US)
    uses = {use.column: use.becomes for use in seen.description.columns}
    assert len(uses) == 394 + 41 - 1
    assert uses["card1"] == "card_id, customer_id"
    assert uses["V1"] == ""
    assert uses["D1"] == "customer_id, attributes.D1, attributes.D1_day"
    assert seen.rows.num_rows == 5
    assert seen.scale == 3
