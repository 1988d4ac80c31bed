"""Makes the files of ``tests/golden/files``: one of everything that outlives a version.

    python -m tests.golden.make FOLDER

They are made once by the version that brought a format, and never again: `test_golden.py` reads
them with the code of today. A format that changes gets a new number, a reader for the old one, and
new files beside the old ones; these here are of format 1 of everything.

    plan.json               the plan that the definitions of ``feature_store/`` compile to
    decisions.msgpack       payload of a DECISIONS group, and of
    labels.msgpack          a LABELS group, and of
    import.arrows           an IMPORT group; the log is: import, decisions, labels
    groups.json             what these three hold, written from what they were made of
    snapshots/              the state after the log, as a scorer leaves it behind
    reading.json            features of some entities after the log
    models/                 a champion, in the folder that serving reads
    predict.json            a payment that comes after the log, and the answer of ``POST /predict``
    historical.json         questions to Feast's ``get_historical_features``, and its answers
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import lightgbm
import numpy as np
import pyarrow as pa

from sentinel.domain import Label, Transaction, Verdict
from sentinel.feast_plugin.compile import compile_definitions
from sentinel.features.plan.plan import DAY_US, HOUR_US, MINUTE_US, Plan
from sentinel.features.plan.program import compile_program
from sentinel.ledger.sqlite import SqliteLedger
from sentinel.log.entries import DecisionGroup, GroupKind, LabelGroup, encode_group
from sentinel.models.artifact import TrainingWindow, save_artifact
from sentinel.models.calibration import Calibration
from sentinel.models.thresholds import Thresholds
from sentinel.scoring.recovery import recover
from sentinel.settings import Settings
from tests.features.logs import batch_of

HERE = Path(__file__).parent
FILES = HERE / "files"
NOON_US = 1_709_294_400_000_000
"""2024-03-01 12:00 UTC, the time of the log's first entry."""
ROWS = [
    {"customer_id": "c1", "card_id": "k1", "merchant_id": "m1"},
    {"customer_id": "c2", "card_id": "k2", "merchant_id": "m1"},
    {"customer_id": "nobody", "card_id": "k1", "merchant_id": "m2"},
]
PAYMENT = {
    "transaction_id": "golden-after",
    "amount_minor": 12_345,
    "event_time": "2024-03-02T13:30:00Z",
    "customer_id": "c1",
    "card_id": "k1",
    "merchant_id": "m1",
    "attributes": {"channel": "online", "risk": 0.25},
}


def payment(number: int, minute: int, **changes: Any) -> Transaction:
    time_us = NOON_US + minute * MINUTE_US
    fields: dict[str, Any] = {
        "transaction_id": f"golden-{number}",
        "event_time_us": time_us - 1_000,
        "received_at_us": time_us,
        "amount_minor": 1_000 + 137 * number,
        "customer_id": f"c{1 + number % 2}",
        "card_id": f"k{1 + number % 2}",
        "merchant_id": f"m{1 + number % 3}",
        "device_id": None,
        "ip_address": "10.0.0.1",
        "attributes": {"channel": "pos" if number % 2 else "online", "risk": number / 8},
    }
    return Transaction(**(fields | changes))


def label(name: str, about: int, minute: int, verdict: Verdict) -> Label:
    return Label(
        label_id=name,
        transaction_id=f"golden-{about}",
        verdict=verdict,
        received_at_us=NOON_US + minute * MINUTE_US,
        origin="investigation" if verdict == Verdict.LEGITIMATE else "chargeback",
    )


HISTORY: list[Transaction | Label] = [
    *(payment(number, 7 * number) for number in range(8)),
    label("l1", 3, 60, Verdict.FRAUD),
    payment(8, 61, event_time_us=NOON_US - DAY_US, attributes={"channel": "pos"}),
]
DECIDED = [
    payment(10, 70),
    payment(11, 71, amount_minor=-500, card_id=None, attributes={}),
    payment(12, 90, customer_id="ü-日本", attributes={"channel": "online", "risk": None}),
    payment(13, 91, amount_minor=10**12),
]
LABELS = [
    label("l2", 12, 100, Verdict.FRAUD),
    label("l3", 3, 101, Verdict.LEGITIMATE),
    label("l4", 999, 102, Verdict.FRAUD),
]
FIGURES: dict[str, list[float]] = {
    "score": [-3.25, 0.1, 2.5, -(2.0**-40)],
    "probability": [0.0125, 0.5, 0.875, 1 / 3],
}
FLAGS = [0, 1 | 16, 2 | 4, 8 | 32]
REASONS = [[0, 3, -1, -1], [1, 0, 2, 3], [-1, -1, -1, -1], [5, 4, 3, 2]]
WEIGHTS = [[0.5, -0.25, 0, 0], [1.5, 1.25, -1.0, 0.125], [0, 0, 0, 0], [3.5, 2, 1, 0.0625]]
LATENCIES_US = [900, 1_234, 4_000_000_000, 0]


def vectors_of(plan: Plan) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    """Made-up vectors: what a group keeps need not be what the engine computes."""
    width = len(plan.feature_names)
    vectors = np.arange(len(DECIDED) * width).reshape(len(DECIDED), width) / 3
    vectors[1, ::2] = np.nan
    return vectors.astype(np.float32)


def positions_of(plan: Plan) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    shape = (len(DECIDED), len(plan.views))
    return np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape) * (1 << 40)


def payloads(plan: Plan) -> dict[str, bytes]:
    """The three groups as they are stored."""
    batch = batch_of(HISTORY)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    decisions = DecisionGroup(
        format=1,
        plan_hash=plan.hash,
        model_name="golden",
        model_version="7",
        transactions=DECIDED,
        vectors=vectors_of(plan).tobytes(),
        scores=np.array(FIGURES["score"]).tobytes(),
        probabilities=np.array(FIGURES["probability"]).tobytes(),
        flags=np.array(FLAGS, dtype="<u4").tobytes(),
        reason_features=np.array(REASONS, dtype="<i2").tobytes(),
        reason_contributions=np.array(WEIGHTS, dtype="<f4").tobytes(),
        latencies_us=np.array(LATENCIES_US, dtype="<u4").tobytes(),
        positions=positions_of(plan).tobytes(),
    )
    return {
        "import.arrows": sink.getvalue().to_pybytes(),
        "decisions.msgpack": encode_group(decisions),
        "labels.msgpack": encode_group(LabelGroup(format=1, labels=LABELS)),
    }


def content(plan: Plan) -> dict[str, Any]:
    """What the groups hold, in plain values."""

    def plain(entry: Transaction | Label) -> dict[str, Any]:
        return {name: getattr(entry, name) for name in entry.__struct_fields__}

    return {
        "import.arrows": [plain(entry) for entry in HISTORY],
        "decisions.msgpack": {
            "plan_hash": plan.hash,
            "model": ["golden", "7"],
            "transactions": [plain(entry) for entry in DECIDED],
            "vectors": numbers(vectors_of(plan)),
            "positions": positions_of(plan).tolist(),
            "flags": FLAGS,
            "reason_features": REASONS,
            "reason_contributions": WEIGHTS,
            "latencies_us": LATENCIES_US,
            **FIGURES,
        },
        "labels.msgpack": [plain(entry) for entry in LABELS],
    }


def numbers(values: Any) -> list[list[float | None]]:
    """Rows of floats as JSON has them, NaN = null; a float32 survives as a float."""
    return [[None if v != v else float(v) for v in row] for row in values]


def golden_ledger(path: Path, files: Path = FILES) -> SqliteLedger:
    """A ledger of the three groups, open for appending."""
    ledger = SqliteLedger.open_writer(path)
    for kind, name, entries in (
        (GroupKind.IMPORT, "import.arrows", HISTORY),
        (GroupKind.DECISIONS, "decisions.msgpack", DECIDED),
        (GroupKind.LABELS, "labels.msgpack", LABELS),
    ):
        received = entries[-1].received_at_us
        ledger.append(kind, len(entries), received, (files / name).read_bytes())
    return ledger


def find(transaction_id: str) -> Transaction | None:
    """A transaction of the log."""
    everything = (*HISTORY, *DECIDED)
    return next(
        (
            t
            for t in everything
            if isinstance(t, Transaction) and t.transaction_id == transaction_id
        ),
        None,
    )


def _make_model(folder: Path, plan: Plan) -> None:
    random = np.random.default_rng(5)
    X = random.lognormal(4, 3, size=(3_000, len(plan.feature_names))).astype(np.float32)
    pull = np.log(X) @ random.normal(size=X.shape[1])
    fraud = pull + random.normal(size=len(X)) > np.quantile(pull, 0.6)
    options = {"objective": "binary", "num_leaves": 7, "verbose": -1, "num_threads": 1}
    data = lightgbm.Dataset(X, fraud, feature_name=list(plan.feature_names))
    booster = lightgbm.train({**options, "deterministic": True}, data, num_boost_round=8)
    save_artifact(
        folder / "golden-1",
        name="golden",
        plan=plan,
        model=booster.model_to_string(),
        calibration=Calibration(x=np.array([-3.0, 0.0, 3.0]), y=np.array([0.01, 0.3, 0.95])),
        thresholds=Thresholds(fraud=0.5, review=0.05, decline=0.9),
        metrics={},
        training=TrainingWindow(start_us=0, end_us=1, cutoff_us=1, rows=3_000, frauds=9),
        data_hash="golden",
        created_at_us=1,
        version="1",
    )
    (folder / "champion.json").write_text('{"version":"1","folder":"golden-1"}')


def _predict(workspace: Path) -> dict[str, Any]:
    from sentinel.pipeline.signing import adopt_what_serves
    from testkit.scratch import serving

    settings = Settings(workspace=workspace, feature_store=HERE / "feature_store")
    adopt_what_serves(settings)
    with serving(settings) as server:
        answer = httpx.post(f"{server.url}/predict", json=PAYMENT, timeout=60)
    assert answer.status_code == 200, answer.text
    return {"payment": PAYMENT, "answer": answer.json()}


def questions() -> list[dict[str, Any]]:
    """What is asked of Feast: before, in, between and after the log's entries."""
    return [
        {**entity, "event_timestamp_us": NOON_US + minute * MINUTE_US + 1}
        for minute in (-10, 0, 7, 60, 61, 75, 103, 60 * 30)
        for entity in ROWS
    ]


def historical(workspace: Path, repo: Path, plan: Plan) -> list[list[float | None]]:
    """What Feast answers to `questions`, all features of the vector."""
    import pandas as pd
    from feast import FeatureStore

    from tests.feast_plugin.conftest import feast_apply

    feast_apply(repo)
    store = FeatureStore(repo_path=str(repo))
    frame = pd.DataFrame(questions())
    times = frame.pop("event_timestamp_us")
    frame["event_timestamp"] = pd.to_datetime(times, unit="us", utc=True)
    service = store.get_feature_service("fraud_detection_v1")
    found = store.get_historical_features(frame, service).to_df()
    return numbers(found[list(plan.feature_names)].to_numpy(dtype=np.float32))


def main(folder: Path) -> None:
    """Write all files."""
    folder.mkdir(parents=True)
    plan = compile_definitions(HERE / "feature_store", {"channel": ("online", "pos")})
    plan.save(folder / "plan.json")
    for name, payload in payloads(plan).items():
        (folder / name).write_bytes(payload)
    _write(folder / "groups.json", content(plan))
    _make_model(folder / "models", plan)
    with tempfile.TemporaryDirectory() as temporary:
        workspace, repo = Path(temporary) / ".sentinel", Path(temporary) / "feature_store"
        shutil.copytree(HERE / "feature_store", repo)
        ledger = golden_ledger(workspace / "ledger.db", folder)
        state = recover(compile_program(plan), ledger, workspace / "none", find)
        state.freeze().write(folder / "snapshots")
        ledger.close()
        plan.save(workspace / "plan.json")
        shutil.copytree(folder / "models", workspace / "models")
        shutil.copytree(folder / "snapshots", workspace / "state")
        _write(folder / "predict.json", _predict(workspace))
        (workspace / "plan.json").write_bytes((folder / "plan.json").read_bytes())
        _write(folder / "historical.json", {"answers": historical(workspace, repo, plan)})
        _write(folder / "reading.json", {"vectors": numbers(reading(state))})


def reading(state: Any) -> Any:
    """Features of ROWS an hour after the log."""
    from sentinel.features.online import OnlineFold

    return OnlineFold(state.program, state.arena).read(ROWS, NOON_US + 2 * HOUR_US)


def _write(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
