"""What is said when S3 refuses or is away, against a real server."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable
from sentinel.object_store.errors import translated
from sentinel.object_store.store import ObjectStore
from sentinel.settings import S3Settings, Settings
from testkit.ports import free_port
from testkit.servers import S3
from tests.object_store.relay import cutting_relay


def test_a_missing_bucket_is_made_once(s3: S3) -> None:
    store = ObjectStore(s3.settings())
    assert store.ensure_bucket("made-here") is True
    assert store.ensure_bucket("made-here") is False
    assert (s3.buckets / "made-here").is_dir()


def test_a_missing_bucket_that_may_not_be_made_is_named(s3: S3) -> None:
    store = ObjectStore(s3.settings(create_buckets=False))
    with pytest.raises(ConfigurationError, match=r"no bucket 'not-here'.*CREATE_BUCKETS=true"):
        store.ensure_bucket("not-here")
    assert not (s3.buckets / "not-here").exists()


class ReadOnlyS3(S3):
    """A server whose keys may read, and make nothing."""

    def command(self) -> list[str]:
        return [*super().command(), "--read-only"]


def test_a_server_that_forbids_making_buckets_is_said_to(tmp_path: Path) -> None:
    with ReadOnlyS3(tmp_path / "s3") as server:
        store = ObjectStore(server.settings())
        with pytest.raises(
            ObjectStoreUnavailable, match="fails when making bucket new-bucket: 500"
        ):
            store.ensure_bucket("new-bucket")
        assert not (server.buckets / "new-bucket").exists()


@pytest.mark.parametrize(
    ("code", "status", "kind", "said"),
    [
        ("AccessDenied", 403, ConfigurationError, "Allow them to list, read, write and delete"),
        ("PermanentRedirect", 301, ConfigurationError, "SENTINEL_S3__REGION"),
        ("RequestTimeTooSkewed", 403, ConfigurationError, "clock"),
        ("SlowDown", 503, ObjectStoreUnavailable, "again"),
        ("EntityTooLarge", 400, ConfigurationError, "EntityTooLarge"),
    ],
)
def test_what_other_servers_say_is_understood(
    code: str, status: int, kind: type[Exception], said: str
) -> None:
    answer = {
        "Error": {"Code": code, "Message": "Said so."},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    with pytest.raises(kind, match=said), translated("S3", "bucket", "making bucket bucket"):
        raise ClientError(answer, "CreateBucket")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"access_key_id": "someone"}, r"does not know the key.*SENTINEL_S3__ACCESS_KEY_ID"),
        ({"secret_access_key": "guessed"}, r"does not belong to.*SECRET_ACCESS_KEY"),
    ],
)
def test_wrong_keys_are_one_clear_error(s3: S3, wrong: dict[str, str], said: str) -> None:
    store = ObjectStore(s3.settings(**wrong))
    with pytest.raises(ConfigurationError, match=said) as raised:
        store.ensure_bucket("whatever")
    assert "guessed" not in str(raised.value)
    with pytest.raises(ConfigurationError, match=said):
        store.read("whatever", "key")


def test_a_server_that_is_away_is_named(s3: S3) -> None:
    port = free_port()
    store = ObjectStore(s3.settings(endpoint_url=f"http://127.0.0.1:{port}"))
    with pytest.raises(ObjectStoreUnavailable, match=rf"127\.0\.0\.1:{port} does not answer.*URL"):
        store.ensure_bucket("away")


def test_a_late_server_is_waited_for(tmp_path: Path) -> None:
    server = S3(tmp_path / "s3")
    starting = threading.Timer(1.0, server.start)
    starting.start()
    try:
        assert ObjectStore(server.settings()).ensure_bucket("in-time", wait_seconds=60)
    finally:
        starting.join()
        server.stop()


def test_an_address_that_is_none_is_named(s3: S3) -> None:
    with pytest.raises(ConfigurationError, match=r"\[s3\] settings"):
        ObjectStore(s3.settings(endpoint_url="no address"))
    with pytest.raises(ConfigurationError, match="Invalid bucket name"):
        ObjectStore(s3.settings()).ensure_bucket("no bucket!")


@pytest.mark.parametrize("size", [300_000, 40_000_000], ids=["at once", "in parts"])
def test_a_server_that_goes_away_mid_upload_leaves_nothing(
    s3: S3, tmp_path: Path, size: int
) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"0123456789abcdef" * (size // 16))
    whole = ObjectStore(s3.settings())
    whole.ensure_bucket("uploads")
    key = f"file-{size}"
    with cutting_relay(s3.port, size // 2) as port:
        cut = ObjectStore(s3.settings(endpoint_url=f"http://127.0.0.1:{port}", timeout_seconds=5))
        with pytest.raises(ObjectStoreUnavailable, match="Nothing half-written can be seen"):
            cut.upload("uploads", key, file)
    assert list(whole.objects("uploads", key)) == []
    whole.upload("uploads", key, file)
    assert [(found.key, found.size) for found in whole.objects("uploads", key)] == [(key, size)]
    assert whole.download("uploads", key, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == file.read_bytes()


def test_an_interrupted_download_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("before")
    with S3(tmp_path / "s3") as server:
        store = ObjectStore(server.settings())
        store.ensure_bucket("downloads")
        store.write("downloads", "key", b"x" * 1000)
        assert not store.download("downloads", "another", target)
        server.kill()
        with pytest.raises(ObjectStoreUnavailable):
            store.download("downloads", "key", target)
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_secret_is_never_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    word = "very-secret"
    monkeypatch.setenv("SENTINEL_S3__SECRET_ACCESS_KEY", word)
    monkeypatch.setenv("SENTINEL_MLFLOW__BACKEND_STORE_URI", f"postgresql://u:{word}@db/m")
    settings = Settings()
    assert settings.s3.secret_access_key.get_secret_value() == word
    for shown in (repr(settings), str(settings), settings.model_dump_json()):
        assert word not in shown


def test_buckets_are_addressed_as_the_server_wants_it() -> None:
    asked = []
    for settings in (
        S3Settings(endpoint_url="http://s3.example:8333", access_key_id="a"),
        S3Settings(endpoint_url="http://s3.example:8333", access_key_id="a", addressing="virtual"),
        S3Settings(region="eu-central-1", access_key_id="a"),
    ):
        secret = S3Settings(**settings.model_dump() | {"secret_access_key": "b"})
        client = ObjectStore(secret)._client
        url = client.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "k"})
        asked.append(url.partition("?")[0])
    assert asked == [
        "http://s3.example:8333/bucket/k",
        "http://bucket.s3.example:8333/k",
        "https://bucket.s3.eu-central-1.amazonaws.com/k",
    ]


def test_a_server_that_is_killed_has_every_object_that_it_acknowledged(tmp_path: Path) -> None:
    with S3(tmp_path / "s3") as server:
        store = ObjectStore(server.settings())
        store.ensure_bucket("models")
        keys = ["m-1/manifest.json", "m-1/judged/manifest.json"]
        for key in keys:
            store.write("models", key, key.encode())
        server.kill()
        folder = server.buckets / "models"
        assert {key: (folder / key).read_bytes() for key in keys} == {
            key: key.encode() for key in keys
        }
        server.start()
        assert [store.read("models", key)[0] for key in keys] == [key.encode() for key in keys]  # type: ignore[index]
