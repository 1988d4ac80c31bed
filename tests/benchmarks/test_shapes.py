"""The files that the benchmark of data sets makes have the shapes and the fraud they promise."""

from __future__ import annotations

import time
from pathlib import Path

import lightgbm as lgb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from sentinel.pipeline.importing import import_history
from sentinel.settings import MoneySettings, Settings
from sentinel.sources import open_source
from testkit.shapes import SHAPES
from testkit.shapes.base import Drawing, Shape, unknown_names
from testkit.shapes.streams import Windows, average_precision

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "mappings"
FULL_ROWS = 80_000

HEADERS = {
    "sparkov": ",trans_date_trans_time,cc_num,merchant,category,amt,first,last,gender,street,city,"
    "state,zip,lat,long,city_pop,job,dob,trans_num,unix_time,merch_lat,merch_long,is_fraud",
    "paysim": "step,type,amount,nameOrig,oldbalanceOrg,newbalanceOrig,nameDest,oldbalanceDest,"
    "newbalanceDest,isFraud,isFlaggedFraud",
    "banksim": "step,customer,age,gender,zipcodeOri,merchant,zipMerchant,category,amount,fraud",
    "tabformer": "User,Card,Year,Month,Day,Time,Amount,Use Chip,Merchant Name,Merchant City,"
    "Merchant State,Zip,MCC,Errors?,Is Fraud?",
    "kaggle_financial": "id,date,client_id,card_id,amount,use_chip,merchant_id,merchant_city,"
    "merchant_state,zip,mcc,errors",
    "fraudecom": "user_id,signup_time,purchase_time,purchase_value,device_id,source,browser,sex,"
    "age,ip_address,class",
}
HEADERS["ulb"] = ",".join(f'"{name}"' for name in ("Time", *(f"V{n}" for n in range(1, 29))))
HEADERS["ulb"] += ',"Amount","Class"'

every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)


@every_shape
def test_a_seed_always_makes_the_same_files(shape: Shape, tmp_path: Path) -> None:
    texts = []
    for name in ("once", "again"):
        paths = shape.write(shape.draw(2_000, 5), tmp_path / name, shape.stem)
        texts.append([path.read_bytes() for path in paths])
    other = shape.write(shape.draw(2_000, 6), tmp_path / "other", shape.stem)
    assert texts[0] == texts[1]
    assert texts[0][0] != other[0].read_bytes()


@pytest.mark.parametrize("name", HEADERS)
def test_the_header_is_that_of_the_public_file(name: str, tmp_path: Path) -> None:
    shape = SHAPES[name]
    (path, *_) = shape.write(shape.draw(1_000, 5), tmp_path, shape.stem)
    assert path.read_text().partition("\n")[0] == HEADERS[name]


def test_the_competitions_files_have_all_their_columns(tmp_path: Path) -> None:
    shape = SHAPES["ieee_cis"]
    paths = shape.write(shape.draw(1_000, 5), tmp_path, shape.stem)
    headers = [path.read_text().partition("\n")[0].split(",") for path in paths]
    assert [len(header) for header in headers] == [394, 41]
    assert headers[0][-1] == "V339"
    assert headers[1][-1] == "DeviceInfo"


@every_shape
def test_there_is_enough_fraud_to_test_on_and_it_can_be_found(shape: Shape) -> None:
    started = time.process_time()
    drawing = shape.draw(FULL_ROWS // 4, 5)
    assert time.process_time() - started < 10
    _, fresh = drawing.split()
    assert fresh.fraud.sum() >= 1_000 / 4
    assert 0.5 <= average_precision(fresh.fraud, fresh.chance) <= 0.9


@pytest.mark.parametrize(
    "shape", [s for s in SHAPES.values() if not s.windowless], ids=lambda s: s.name
)
def test_a_model_without_windows_misses_much_of_the_fraud(shape: Shape) -> None:
    drawing = shape.draw(12_000, 5)
    history, fresh = drawing.split()
    X = _attributes(drawing, shape)
    model = lgb.train(
        {"objective": "binary", "learning_rate": 0.1, "verbose": -1, "num_threads": 1},
        lgb.Dataset(X[: len(history)], history.fraud),
        40,
    )
    found = average_precision(fresh.fraud, np.asarray(model.predict(X[len(history) :])))
    assert found <= 0.7 * average_precision(fresh.fraud, fresh.chance)


def _attributes(drawing: Drawing, shape: Shape) -> np.ndarray:
    """Columns as numbers, but for the verdict, what is known too late and Vesta's own columns."""
    found = [drawing.seconds % 86_400]
    for name, values in drawing.columns.items():
        if name == shape.label or name in shape.leaks or name.startswith(("V", "Chargeback")):
            continue
        text = values.cast(pa.string())
        if pc.all(pc.match_substring_regex(text, r"^\$?-?\d*\.?\d*$")).as_py():
            text = pc.replace_substring(text, "$", "")
            found.append(text.cast(pa.float64()).to_numpy(zero_copy_only=False))
        else:
            found.append(text.dictionary_encode().indices.to_numpy(zero_copy_only=False))
    return np.column_stack(found)


def test_windows_count_what_came_before() -> None:
    key = np.array([1, 1, 2, 1, 1])
    windows = Windows(key, np.array([0, 10, 10, 10, 25]))
    assert windows.count(10).tolist() == [0, 1, 0, 2, 0]
    assert windows.count(15).tolist() == [0, 1, 0, 2, 2]
    mean = windows.mean(np.array([4.0, 2.0, 9.0, 6.0, 1.0]), 15)
    np.testing.assert_array_equal(mean, [np.nan, 4.0, np.nan, 3.0, 4.0])


def test_average_precision_takes_equal_scores_in_any_order() -> None:
    fraud = np.array([True, False, True, False])
    assert average_precision(fraud, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx(5 / 6)
    rng = np.random.default_rng(5)
    fraud = rng.random(4_000) < np.repeat([0.9, 0.3], 2_000)
    blocks, split = (
        np.repeat([0.9, 0.3], 2_000),
        np.repeat([0.9, 0.3], 2_000) + rng.random(4_000) / 9,
    )
    assert average_precision(fraud, blocks) == pytest.approx(
        average_precision(fraud, split), abs=0.02
    )
    assert average_precision(fraud, np.ones(4_000)) == pytest.approx(fraud.mean(), abs=0.02)


def test_unknown_names_are_all_different() -> None:
    names = unknown_names([f"c{n}" for n in range(435)])
    assert len(set(names.values())) == 435


@every_shape
def test_the_example_reads_a_file_of_its_shape(shape: Shape, tmp_path: Path) -> None:
    drawing = shape.draw(1_500, 5)
    shape.write(drawing, tmp_path, shape.stem)
    mapping = tmp_path / shape.example
    mapping.write_bytes((EXAMPLES / shape.example).read_bytes())
    settings = Settings(
        workspace=tmp_path / "w", money=MoneySettings(scale=open_source(mapping).scale)
    )
    report = import_history(settings, open_source(mapping)).report
    assert report.read == len(drawing)
    assert report.accepted >= 0.99 * report.read, report.rejected
    known = drawing.keep.get("labelled", np.ones(len(drawing), dtype=bool))
    assert report.frauds == int((drawing.fraud & known).sum())


def test_every_example_has_a_shape_and_a_page() -> None:
    pages = EXAMPLES.parents[1] / "docs" / "datasets"
    assert {path.name for path in EXAMPLES.glob("*.toml")} == {s.example for s in SHAPES.values()}
    index = (pages / "README.md").read_text()
    for name in SHAPES:
        assert (pages / f"{name}.md").exists()
        assert f"({name}.md)" in index
