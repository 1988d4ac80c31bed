from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from sentinel.domain import NoModel, Unavailable
from sentinel.experiments.lineup import Experiment
from sentinel.models.artifact import load_manifest
from sentinel.models.champion import champion_of
from sentinel.models.registry import Registry
from sentinel.monitoring.follower_metrics import FollowerMetrics
from sentinel.pipeline.follow import follow, show_metrics
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.settings import FollowerSettings, Settings
from testkit.experiments import run_experiments
from testkit.ports import free_port
from testkit.signed_models import let_through
from testkit.small_models import PLAN, register_small_model


def crown(settings: Settings, *versions: str) -> None:
    """As promotion does it, with the gate's signature."""
    for version in versions:
        let_through(settings, version)
    Registry.of(settings).crown(list(versions))


def folders(settings: Settings) -> list[str]:
    """What is in the models folder; an interrupted fetch would show here."""
    if not settings.models_dir.exists():
        return []
    beside = {"champion.lock", "registry.json"}
    return sorted(p.name for p in settings.models_dir.iterdir() if p.name not in beside)


def test_nothing_is_served_before_a_promotion(settings: Settings, tmp_path: Path) -> None:
    assert sync_champion(settings) is None
    register_small_model(settings, tmp_path / "a")
    assert sync_champion(settings) is None
    assert folders(settings) == []


def test_the_champion_is_fetched_verified_and_named(settings: Settings, tmp_path: Path) -> None:
    version = register_small_model(settings, tmp_path / "a")
    crown(settings, version.version)
    assert sync_champion(settings) == version.version
    name = f"{settings.mlflow.model_name}-{version.version}"
    assert folders(settings) == ["champion.json", name, "serving.json"]
    said = json.loads((settings.models_dir / "champion.json").read_text())
    assert said == {"version": version.version, "folder": name}
    manifest = load_manifest(settings.models_dir / name, plan_hash=PLAN.hash)
    assert (manifest.version, manifest.run_id) == (version.version, version.run_id)


def test_a_second_look_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    version = register_small_model(settings, tmp_path / "a")
    crown(settings, version.version)
    sync_champion(settings)
    before = (settings.models_dir / "champion.json").stat()
    assert sync_champion(settings) == version.version
    after = (settings.models_dir / "champion.json").stat()
    assert (after.st_mtime_ns, after.st_ino) == (before.st_mtime_ns, before.st_ino)


def test_champions_stay_and_candidates_that_nobody_looks_at_go(
    settings: Settings, tmp_path: Path
) -> None:
    """Decisions refer to champions; a candidate is kept for the line-up, or while it is new."""
    for seed in range(7):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    run_experiments(settings, Experiment(name="night", kind="shadow", version="1"))
    for version in ("1", "2"):
        fetch_version(settings, version)
    for version in ("3", "4", "5", "6", "7"):
        crown(settings, version)
        sync_champion(settings)
    name = settings.mlflow.model_name
    kept_folders = [f"{name}-{version}" for version in (1, 3, 4, 5, 6, 7)]
    assert folders(settings) == ["champion.json", *kept_folders, "serving.json"]
    kept = (settings.models_dir / f"{name}-4" / "model.txt").stat()
    crown(settings, "4")
    assert sync_champion(settings) == "4"
    assert (settings.models_dir / f"{name}-4" / "model.txt").stat() == kept


def test_the_follower_fetches_what_is_in_the_line_up_as_its_role_wants_it(
    settings: Settings, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for seed in range(3):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    crown(settings, "1")
    shadow = Experiment(name="night", kind="shadow", version="2")
    challenger = Experiment(name="ab", kind="challenger", version="3", share=0.1)
    run_experiments(settings, challenger, shadow)
    assert sync_champion(settings) == "1"  # no experiment holds up a champion
    assert "experiment ab cannot be fetched. No gate has judged version 3" in caplog.text
    name = settings.mlflow.model_name
    assert not (settings.models_dir / f"{name}-3").exists()
    let_through(settings, "3")
    assert sync_champion(settings) == "1"
    for version in ("2", "3"):
        load_manifest(settings.models_dir / f"{name}-{version}")


def test_a_folder_goes_once_its_model_has_not_served_for_long(
    settings: Settings, tmp_path: Path
) -> None:
    """Days count from the end of its service, not from its beginning."""
    for seed in range(6):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    name = settings.mlflow.model_name
    long_ago = time.time() - (settings.mlflow.keep_days + 1) * 86_400
    for version in ("1", "2", "3", "4", "5", "6"):
        crown(settings, version)
        sync_champion(settings)
        if version in ("1", "5"):  # it serves for very long
            os.utime(settings.models_dir / f"{name}-{version}", (long_ago, long_ago))
        if version == "2":  # it served when another one took over
            gone = settings.models_dir / f"{name}-1"
            assert time.time() - gone.stat().st_mtime < 60
            os.utime(gone, (long_ago, long_ago))
    kept_folders = [f"{name}-{version}" for version in range(2, 7)]
    assert folders(settings) == ["champion.json", *kept_folders, "serving.json"]
    assert fetch_version(settings, "1", into=tmp_path / "past") == tmp_path / "past" / f"{name}-1"
    assert f"{name}-1" not in folders(settings)


def test_a_folder_that_was_tampered_with_is_fetched_again(
    settings: Settings, tmp_path: Path
) -> None:
    version = register_small_model(settings, tmp_path / "a")
    folder = fetch_version(settings, version.version)
    (folder / "model.txt").write_text("tree\nversion=v4\n")
    assert fetch_version(settings, version.version) == folder
    load_manifest(folder)
    assert folders(settings) == [folder.name]


def test_the_same_number_of_another_registry_is_another_model(
    settings: Settings, tmp_path: Path
) -> None:
    version = register_small_model(settings, tmp_path / "a")
    other = settings.model_copy(
        update={"mlflow": settings.mlflow.model_copy(update={"model_name": "elsewhere"})}
    )
    elsewhere = register_small_model(other, tmp_path / "b", seed=1)
    assert version.version == elsewhere.version == "1"
    crown(settings, "1")
    sync_champion(settings)
    folder = settings.models_dir / f"{settings.mlflow.model_name}-1"
    found = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(found | {"run_id": elsewhere.run_id}))
    assert sync_champion(settings) == "1"
    assert load_manifest(folder).run_id == version.run_id


def test_an_unknown_version_says_so(settings: Settings, tmp_path: Path) -> None:
    register_small_model(settings, tmp_path / "a")
    with pytest.raises(NoModel, match="no version '7'"):
        fetch_version(settings, "7")


def test_a_server_that_is_away_is_named(settings: Settings) -> None:
    port = free_port()
    mlflow = settings.mlflow.model_copy(update={"tracking_uri": f"http://127.0.0.1:{port}"})
    away = settings.model_copy(update={"mlflow": mlflow})
    with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}.*sentinel up"):
        sync_champion(away)
    with pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}.*sentinel up"):
        Registry.of(away).versions()


@pytest.mark.parametrize(
    "nonsense",
    [
        "200 OK\r\n\r\nhello",
        "200 OK\r\n\r\n{}",
        "200 OK\r\n\r\n[1, 2]",
        '200 OK\r\n\r\n{"model_version": "three"}',
        "404 Not Found\r\n\r\n<h1>No such page</h1>",
        "200 OK\r\nContent-Length: 9000\r\n\r\n{",
        "500 Oh\r\n\r\nno",
    ],
)
def test_what_is_not_mlflow_changes_nothing(settings: Settings, nonsense: str) -> None:
    def answer(connection: socket.socket) -> None:
        connection.recv(65_536)
        connection.sendall(f"HTTP/1.0 {nonsense}".encode())

    with listening(answer) as port, pytest.raises(Unavailable, match=rf"127\.0\.0\.1:{port}"):
        sync_champion(at(settings, port))
    assert folders(settings) == []


@pytest.mark.parametrize("cut_after", [0, 400, 3_000, 9_000])
def test_an_interrupted_fetch_leaves_no_half_folder(
    settings: Settings, tmp_path: Path, cut_after: int
) -> None:
    register_small_model(settings, tmp_path / "a")
    crown(settings, "1")
    sync_champion(settings)
    register_small_model(settings, tmp_path / "b", seed=1)
    crown(settings, "1", "2")
    before = folders(settings)
    with cutting_relay(settings.mlflow.port, cut_after) as port, pytest.raises(Unavailable):
        sync_champion(at(settings, port))
    assert folders(settings) == before
    champion = champion_of(settings)
    assert champion is not None
    assert champion.version == "1"
    assert sync_champion(settings) == "2"


def test_the_follower_survives_a_server_that_comes_and_goes(
    settings: Settings, tmp_path: Path
) -> None:
    register_small_model(settings, tmp_path / "a")
    crown(settings, "1")
    stop = threading.Event()
    port = free_port()
    follower = threading.Thread(target=follow, args=(at(settings, port), stop))
    follower.start()
    try:
        time.sleep(0.5)
        assert champion_of(settings) is None
        with cutting_relay(settings.mlflow.port, 1 << 30, port=port):
            deadline = time.monotonic() + 300
            while champion_of(settings) is None and time.monotonic() < deadline:
                time.sleep(0.1)
        champion = champion_of(settings)
        assert champion is not None
        assert champion.version == "1"
    finally:
        stop.set()
        follower.join(300)
    assert not follower.is_alive()


def at(settings: Settings, port: int) -> Settings:
    mlflow = settings.mlflow.model_copy(update={"tracking_uri": f"http://127.0.0.1:{port}"})
    return settings.model_copy(update={"mlflow": mlflow})


@contextmanager
def listening(serve, port: int = 0) -> Iterator[int]:
    """A TCP server on a loopback port, a thread a connection."""
    server = socket.create_server(("127.0.0.1", port))

    def accept() -> None:
        while True:
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=handle, args=(connection,), daemon=True).start()

    def handle(connection: socket.socket) -> None:
        with connection:
            serve(connection)

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield server.getsockname()[1]
    finally:
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        accepting.join(300)


@contextmanager
def cutting_relay(to: int, cut_after: int, port: int = 0) -> Iterator[int]:
    """Passes everything on to a server, until it has given back so many bytes in all."""
    budget = [cut_after]

    def serve(connection: socket.socket) -> None:
        with socket.create_connection(("127.0.0.1", to)) as upstream:

            def ask() -> None:
                while data := receive(connection):
                    upstream.sendall(data)

            threading.Thread(target=ask, daemon=True).start()
            while data := receive(upstream):
                connection.sendall(data[: max(0, budget[0])])
                budget[0] -= len(data)
                if budget[0] <= 0:
                    connection.shutdown(socket.SHUT_RDWR)
                    upstream.shutdown(socket.SHUT_RDWR)
                    return

    with listening(serve, port) as own:
        yield own


def receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65_536)
    except OSError:
        return b""


def test_the_follower_tells_how_it_does_and_how_far_it_is_behind(
    settings: Settings, tmp_path: Path
) -> None:
    for seed in range(2):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    crown(settings, "1")
    unjudged = Experiment(name="ab", kind="challenger", version="2", share=0.1)
    run_experiments(settings, unjudged)
    port = free_port()
    settings = settings.model_copy(update={"follower": FollowerSettings(port=port)})
    metrics, stop = FollowerMetrics(), threading.Event()
    server = show_metrics(settings, metrics)
    thread = threading.Thread(target=follow, args=(settings, stop, metrics))

    def figures() -> dict[str, float]:
        text = httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=30).text
        return {
            sample.name + "".join(sample.labels.values()): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait_for(name: str, value: float) -> None:
        deadline = time.monotonic() + 60
        while figures()[name] != value:
            assert time.monotonic() < deadline, figures()
            time.sleep(0.1)

    try:
        assert figures()["sentinel_follower_last_success_timestamp_seconds"] == 0
        thread.start()
        wait_for("sentinel_follower_lag_versions", 1)  # version 2 may not decide yet
        assert figures()["sentinel_follower_lag_seconds"] > 0
        assert time.time() - figures()["sentinel_follower_last_success_timestamp_seconds"] < 60
        let_through(settings, "2")
        wait_for("sentinel_follower_lag_versions", 0)
        assert figures()["sentinel_follower_lag_seconds"] == 0
        assert figures()["sentinel_follower_looks_totalsuccess"] >= 2
        assert httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=30).status_code == 200
    finally:
        stop.set()
        thread.join()
        server.close()
