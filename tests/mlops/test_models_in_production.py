"""A model from training to serving and back, while what carries it fails: step by step."""

from __future__ import annotations

import itertools
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import pytest

from sentinel.domain import GateWaits, ModelError, ModelFormatError, SentinelError, Unavailable
from sentinel.experiments.lineup import Experiment
from sentinel.models.artifact import load_manifest
from sentinel.models.champion import champion_of
from sentinel.models.code_version import this_code
from sentinel.models.registry import CANDIDATE, CHAMPION, PREVIOUS_CHAMPION, Registry
from sentinel.models.signing_keys import SigningKey
from sentinel.object_store.store import ObjectStore
from sentinel.pipeline.approved_promotion import approve_and_promote
from sentinel.pipeline.experiment_judging import promote_experiment
from sentinel.pipeline.experiments import line_up_of, start
from sentinel.pipeline.follow import follow
from sentinel.pipeline.promotion import promote, rollback
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.served import folder_of
from sentinel.pipeline.tracking import register_candidate, tracked_run
from sentinel.pipeline.training import train
from sentinel.settings import Settings
from testkit.payments import payments
from testkit.scratch import Server, serving
from testkit.signed_models import let_through, trusting
from tests.mlops.conftest import BUCKET, Stack

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Skipping features without any observed values"),
]

LOADS = itertools.count()

QUICK = {"rounds": 40, "learning_rate": 0.1}


def register_again(settings: Settings) -> str:
    """The first version's files under a new run and a new number."""
    manifest = load_manifest(folder_of(settings, "1"))
    with TemporaryDirectory() as name, tracked_run(settings, "again", tags={}) as run:
        copy = Path(name) / "model"
        shutil.copytree(folder_of(settings, "1"), copy)
        return register_candidate(settings, run, run.model(copy, manifest), manifest).version


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 300) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def champion(stack: Stack) -> str:
    """The first version, trained and promoted."""
    trained = train(stack.settings, baselines=False, threads=1, parameters=QUICK)
    return promote(stack.settings, trained.version).version


@pytest.fixture(scope="module")
def scorer(stack: Stack, champion: str) -> Iterator[Server]:
    """A scorer and the follower that feeds it."""
    stop = threading.Event()
    following = threading.Thread(target=follow, args=(stack.settings, stop))
    following.start()
    try:
        name = {"SENTINEL_MLFLOW__MODEL_NAME": stack.settings.mlflow.model_name}
        with serving(stack.settings, environment=name) as server:
            wait_for(lambda: models(server)["serving"] == champion, "the scorer")
            yield server
    finally:
        stop.set()
        following.join(300)
        assert not following.is_alive()


def models(server: Server) -> dict[str, Any]:
    page: dict[str, Any] = httpx.get(f"{server.url}/models", timeout=30).json()
    return page


def health(server: Server) -> dict[str, Any]:
    page: dict[str, Any] = httpx.get(f"{server.url}/health", timeout=30).json()
    return page


def metric(server: Server, name: str) -> float:
    lines = httpx.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    (line,) = [line for line in lines if line.startswith(f"{name} ")]
    return float(line.rsplit(" ", 1)[1])


def standing_still(scorer: Server, name: str) -> float:
    """A metric that has not changed for two seconds: a swap of before may be under way."""
    while True:
        before = metric(scorer, name)
        time.sleep(2.0)
        if metric(scorer, name) == before:
            return before


@contextmanager
def load(server: Server) -> Iterator[list[tuple[int, str]]]:
    """Payments without pause while the block runs; status and version of each answer."""
    answers: list[tuple[int, str]] = []
    stop = threading.Event()
    turn = next(LOADS)

    def send(number: int) -> None:
        bodies = payments(number, prefix=f"load-{turn}-{number}-")
        with httpx.Client(base_url=server.url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/predict", json=next(bodies))
                answers.append((answer.status_code, answer.json().get("model_version", "")))

    senders = [threading.Thread(target=send, args=(number,)) for number in range(2)]
    for sender in senders:
        sender.start()
    try:
        yield answers
    finally:
        stop.set()
        for sender in senders:
            sender.join(300)


def another_machine(stack: Stack, folder: Path) -> Settings:
    """A workspace that shares nothing with the first but the registry."""
    return stack.settings.model_copy(
        update={"workspace": folder, "signing": trusting(stack.settings)}
    )


def objects(stack: Stack, version: str) -> dict[str, str]:
    """Keys of a version's files in S3, by their paths in its folder."""
    source = Registry.of(stack.settings).version(version).source
    prefix = "mlflow/" + source.removeprefix("mlflow-artifacts:/").lstrip("/")
    found = ObjectStore(stack.s3.settings()).objects(BUCKET, prefix)
    return {each.key.removeprefix(f"{prefix}/"): each.key for each in found}


@contextmanager
def flipped(stack: Stack, key: str, place: bytes) -> Iterator[None]:
    """One byte of an object is another one while the block runs."""
    store = ObjectStore(stack.s3.settings())
    found = store.read(BUCKET, key)
    assert found is not None
    content = bytearray(found[0])
    at = content.index(place) + len(place)
    content[at] = ord("7") if content[at] != ord("7") else ord("8")
    store.write(BUCKET, key, bytes(content))
    try:
        yield
    finally:
        store.write(BUCKET, key, found[0])


def test_a_trained_model_is_in_postgresql_and_s3(stack: Stack, champion: str) -> None:
    versions = Registry.of(stack.settings).versions()
    assert [(v.version, v.aliases) for v in versions] == [(champion, (CANDIDATE, CHAMPION))]
    files = {name for name in objects(stack, champion) if name.endswith("manifest.json")}
    assert files == {"manifest.json", "judged/manifest.json"}, "of the refit and of its twin"
    assert not (stack.mlflow.folder / "mlflow.db").exists()
    said = stack.mlflow.log.read_text()
    assert "Made database mlflow_db" in said
    assert f"Made bucket {BUCKET}" in said
    assert stack.s3.secret_key not in said


def test_a_promoted_model_takes_over_under_load(stack: Stack, scorer: Server) -> None:
    version = register_again(stack.settings)
    with load(scorer) as answers:
        promote(stack.settings, version)
        wait_for(lambda: models(scorer)["serving"] == version, "the new champion")
        time.sleep(0.5)
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {"1", "2"}
    page = models(scorer)
    assert page["champions"] == ["1", "2"]
    origin = httpx.get(f"{scorer.url}/models/1", timeout=30).json()["lineage"]
    assert origin["code"]["source_sha256"] == this_code().source_sha256
    known = {v["version"]: (v["serving"], v["in_memory"]) for v in page["versions"]}
    assert known == {"2": (True, True), "1": (False, True)}
    assert CHAMPION in next(v["aliases"] for v in page["versions"] if v["version"] == "2")


def test_s3_that_goes_away_mid_upload_registers_nothing(stack: Stack) -> None:
    registry = Registry.of(stack.settings)
    before = [version.version for version in registry.versions()]
    stack.between.cut_after(sent=20_000)
    try:
        with pytest.raises(Unavailable, match=r"failed when .*S3 server.*Nothing was registered"):
            register_again(stack.settings)
    finally:
        stack.between.mend()
    assert [version.version for version in registry.versions()] == before
    candidate = registry.by_alias(CANDIDATE)
    assert candidate is not None
    assert candidate.version == before[0]


@pytest.fixture(scope="module")
def third(stack: Stack, scorer: Server) -> str:
    """A version after the failed one: the second try works."""
    return register_again(stack.settings)


def test_the_second_try_works(stack: Stack, third: str, tmp_path: Path) -> None:
    assert third == "3"
    assert fetch_version(another_machine(stack, tmp_path), "3").is_dir()


def test_s3_that_goes_away_mid_download_leaves_no_folder(
    stack: Stack, third: str, tmp_path: Path
) -> None:
    elsewhere = another_machine(stack, tmp_path)
    stack.between.cut_after(received=6_000)
    try:
        with pytest.raises(Unavailable, match="S3 server or the folder behind it"):
            fetch_version(elsewhere, third)
    finally:
        stack.between.mend()
    assert list(elsewhere.models_dir.iterdir()) == []
    assert fetch_version(elsewhere, third).is_dir()


@pytest.mark.parametrize(
    ("file", "place"),
    [
        ("model.txt", b"leaf_value=-0."),
        ("plan.json", b'"window_us":'),
        ("manifest.json", b"0.0"),
        ("judged/model.txt", b"leaf_value=-0."),
    ],
)
def test_one_flipped_byte_is_refused(
    stack: Stack, third: str, tmp_path: Path, file: str, place: bytes
) -> None:
    elsewhere = another_machine(stack, tmp_path)
    said = rf"Version 3 .*damaged.*{file}.*rollback"
    with (
        flipped(stack, objects(stack, third)[file], place),
        pytest.raises(ModelFormatError, match=said),
    ):
        fetch_version(elsewhere, third)
    assert list(elsewhere.models_dir.iterdir()) == []


def test_a_damaged_champion_is_refused_and_the_old_one_stays(
    stack: Stack, scorer: Server, third: str
) -> None:
    registry = Registry.of(stack.settings)
    let_through(stack.settings, third)
    with flipped(stack, objects(stack, third)["model.txt"], b"leaf_value=-0."):
        registry.crown(["1", "2", "3"])
        wait_for(lambda: health(scorer)["status"] == "degraded", "the refusal")
        said = health(scorer)["model"]
        assert said["version"] == "2"
        assert "model.txt" in said["problem"]
        assert "sentinel rollback" in said["problem"]
        assert httpx.get(f"{scorer.url}/readyz", timeout=60).status_code == 200
        wait_for(lambda: metric(scorer, "sentinel_model_problem") == 1, "the metric")
        answer = httpx.post(
            f"{scorer.url}/predict", json=next(payments(9, prefix="damaged")), timeout=60
        )
        assert answer.json()["model_version"] == "2"
        assert rollback(stack.settings).version == "2"
        wait_for(lambda: health(scorer)["status"] == "ok", "all to be well again")
    assert registry.champions() == ["1", "2"]
    wait_for(lambda: metric(scorer, "sentinel_model_problem") == 0, "the metric")


def test_a_rollback_needs_nothing_but_the_folder(stack: Stack, scorer: Server) -> None:
    """MLflow, its database and S3 are down; the scorer goes back, and the registry hears of it."""
    swaps = standing_still(scorer, "sentinel_model_swaps_total")
    held = {v["version"] for v in models(scorer)["versions"] if v["in_memory"]}
    assert "1" in held, "it is in memory, so that going back loads nothing"
    stack.mlflow.stop()
    stack.s3.stop()
    stack.postgres.stop()
    try:
        with load(scorer) as answers:
            back = rollback(stack.settings)
            wait_for(lambda: models(scorer)["serving"] == "1", "the rollback")
            time.sleep(0.3)
        assert (back.version, back.replaced) == ("1", "2")
        assert "MLflow does not answer" in back.untold
        assert {status for status, _ in answers} == {200}
        assert answers[-1][1] == "1"
        assert metric(scorer, "sentinel_model_swaps_total") == swaps + 1
        assert metric(scorer, "sentinel_model_swap_seconds") > 0
        with pytest.raises(SentinelError, match="no earlier champion"):
            rollback(stack.settings)
    finally:
        stack.postgres.start()
        stack.s3.start()
        stack.mlflow.start()
    registry = Registry.of(stack.settings)
    wait_for(lambda: registry.champions() == ["1"], "the follower to tell the registry")
    assert registry.by_alias(PREVIOUS_CHAMPION) is None
    assert champion_of(stack.settings).version == "1"  # type: ignore[union-attr]
    assert models(scorer)["serving"] == "1"


def test_a_decision_made_meanwhile_counts_more_than_an_untold_rollback(
    stack: Stack, scorer: Server, tmp_path: Path
) -> None:
    registry = Registry.of(stack.settings)
    registry.crown(["1", "2"])
    elsewhere = another_machine(stack, tmp_path / "w")
    shutil.copytree(stack.settings.models_dir, elsewhere.models_dir)
    gone = elsewhere.model_copy(
        update={
            "mlflow": elsewhere.mlflow.model_copy(update={"tracking_uri": "http://127.0.0.1:1"})
        }
    )
    wait_for(lambda: models(scorer)["serving"] == "2", "the follower")
    wait_for(lambda: models(scorer)["champions"] == ["1", "2"], "the follower")
    shutil.copy(stack.settings.models_dir / "registry.json", elsewhere.models_dir / "registry.json")
    back = rollback(gone)
    assert back.version == "1"
    assert "no ledger" in back.unscored
    registry.crown(["1", "2", "3"])
    stop = threading.Event()
    following = threading.Thread(target=follow, args=(elsewhere, stop))
    following.start()
    try:
        wait_for(
            lambda: (serving := champion_of(elsewhere)) is not None and serving.version == "3",
            "the newer decision",
        )
    finally:
        stop.set()
        following.join(300)
    assert registry.champions() == ["1", "2", "3"]
    assert not (elsewhere.models_dir / "rollback.json").exists()


def test_a_challenger_is_promoted_under_load_and_the_aliases_follow(
    stack: Stack, scorer: Server, third: str
) -> None:
    """Where the settings name approvers, it waits for one of them."""
    registry, approver = Registry.of(stack.settings), SigningKey(bytes(range(32)))
    signing = stack.settings.signing.model_copy(update={"approvers": approver.public})
    asking = stack.settings.model_copy(update={"signing": signing})
    let_through(stack.settings, third)
    registry.crown(["1", "2"])
    wait_for(lambda: models(scorer)["serving"] == "2", "the champion")
    wanted = Experiment(name="ab", kind="challenger", version=third, share=0.5)
    start(stack.settings, wanted, by="ann", why="a test")
    challenger = registry.by_alias("challenger")
    assert challenger is not None
    assert challenger.version == third
    with load(scorer) as answers:
        wait_for(lambda: {"2", third} <= {version for _, version in answers}, "both to decide")
        with pytest.raises(GateWaits, match=f"Version {third} awaits approval by a second key"):
            promote_experiment(asking, "ab", by="ann", why="it is better", instead_of="2")
        assert registry.champions() == ["1", "2"]
        with pytest.raises(ModelError, match="cannot be approved by ann"):
            approve_and_promote(asking, third, approver, by="ann", why="I like it")
        promoted = approve_and_promote(asking, third, approver, by="bob", why="I looked at it")
        assert promoted is not None
        wait_for(lambda: models(scorer)["serving"] == third, "the new champion")
        time.sleep(0.3)
    assert (promoted.version, promoted.replaced) == (third, "2")
    assert promoted.scored > 0
    assert {status for status, _ in answers} == {200}
    assert {version for _, version in answers} == {"2", third}
    assert answers[-1][1] == third
    assert registry.champions() == ["1", "2", third]
    assert registry.by_alias("challenger") is None
    assert line_up_of(stack.settings).experiments == ()
