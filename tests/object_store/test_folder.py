"""A folder in S3 changes as a whole, whatever happens on the way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sentinel.domain import ConfigurationError, ObjectStoreUnavailable, WorkspaceError
from sentinel.object_store.folder import StoredFolder
from sentinel.object_store.store import ObjectStore
from testkit.servers import S3
from tests.object_store.relay import cutting_relay


def write(folder: Path, **files: str) -> list[str]:
    paths = []
    for name, text in files.items():
        path = folder / "table" / f"date={name}" / "part.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path.relative_to(folder).as_posix())
    return paths


def held(folder: StoredFolder, target: Path) -> dict[str, str]:
    """What a reader gets."""
    contents = folder.fetch(target)
    return {file.path: (target / file.path).read_text() for file in contents.files}


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"s3://folders/{tmp_path.name}/offline"


def test_what_is_published_is_what_is_fetched(s3: S3, tmp_path: Path, url: str) -> None:
    folder = StoredFolder(s3.settings(), url)
    paths = write(tmp_path / "a", one="1", two="2")
    done = folder.publish(tmp_path / "a", paths, note={"through": 7})
    assert (done.uploaded, done.kept, done.removed, done.uploaded_bytes) == (2, 0, 0, 2)
    contents = folder.contents()
    assert contents is not None
    assert contents.note == {"through": 7}
    assert held(folder, tmp_path / "b") == dict(zip(paths, "12", strict=True))
    assert len(folder.urls("table/date=one/")) == 1
    again = folder.publish(tmp_path / "a", paths)
    assert (again.uploaded, again.kept, again.removed) == (0, 2, 0)


def test_a_changed_file_replaces_the_old_one_and_a_dropped_one_goes(
    s3: S3, tmp_path: Path, url: str
) -> None:
    folder = StoredFolder(s3.settings(), url)
    folder.publish(tmp_path / "a", write(tmp_path / "a", one="1", two="2"))
    neighbour = f"{folder.prefix}/table/someone-elses.txt"
    folder.store.write(folder.bucket, neighbour, b"precious")
    paths = write(tmp_path / "a", one="changed")
    done = folder.publish(tmp_path / "a", paths)
    assert (done.uploaded, done.removed) == (1, 2)
    assert held(folder, tmp_path / "b") == {paths[0]: "changed"}
    assert folder.store.read(folder.bucket, neighbour) is not None


def test_an_interrupted_publication_changes_nothing_and_is_resumed(
    s3: S3, tmp_path: Path, url: str
) -> None:
    folder = StoredFolder(s3.settings(), url)
    first = write(tmp_path / "a", one="1")
    folder.publish(tmp_path / "a", first)
    many = write(tmp_path / "a", one="2", **{f"d{i:02d}": f"{i}" * 20_000 for i in range(30)})
    with cutting_relay(s3.port, 300_000) as port:
        address = f"http://127.0.0.1:{port}"
        cut = StoredFolder(s3.settings(endpoint_url=address, timeout_seconds=5), url)
        with pytest.raises(ObjectStoreUnavailable, match="do the same again"):
            cut.publish(tmp_path / "a", many)
    assert held(folder, tmp_path / "b") == {first[0]: "1"}
    there = sum(1 for _ in folder.store.objects(folder.bucket, folder.prefix))
    assert there > 2, "some files had gone up"
    done = folder.publish(tmp_path / "a", many)
    assert 0 < done.kept < len(many)
    assert held(folder, tmp_path / "b") == {p: (tmp_path / "a" / p).read_text() for p in many}
    # And what an interrupted publication left is removed, once it is of no use.
    folder.publish(tmp_path / "a", first)
    assert sum(1 for _ in folder.store.objects(folder.bucket, folder.prefix)) == 2


def test_two_publishers_do_not_mix(s3: S3, tmp_path: Path, url: str) -> None:
    folder, other = (StoredFolder(s3.settings(), url) for _ in range(2))
    mine, theirs = write(tmp_path / "a", one="1"), write(tmp_path / "b", one="theirs")

    def meanwhile(_stage: str, done: int, _total: int | None) -> None:
        if done == 0:
            other.publish(tmp_path / "b", theirs)

    with pytest.raises(WorkspaceError, match="one place at a time"):
        folder.publish(tmp_path / "a", mine, progress=meanwhile)
    assert held(folder, tmp_path / "c") == {theirs[0]: "theirs"}


def test_a_flipped_byte_is_found(s3: S3, tmp_path: Path, url: str) -> None:
    folder = StoredFolder(s3.settings(), url)
    folder.publish(tmp_path / "a", write(tmp_path / "a", one="precious"))
    (address,) = folder.urls()
    ObjectStore(s3.settings()).write(
        folder.bucket, address.removeprefix(f"s3://{folder.bucket}/"), b"preciouz"
    )
    with pytest.raises(WorkspaceError, match="is damaged"):
        folder.fetch(tmp_path / "b")
    assert [path for path in (tmp_path / "b").rglob("*") if path.is_file()] == []


def test_nothing_published_says_how_to(s3: S3, tmp_path: Path, url: str) -> None:
    folder = StoredFolder(s3.settings(), url)
    folder.store.ensure_bucket(folder.bucket)
    assert folder.contents() is None
    with pytest.raises(WorkspaceError, match="sentinel export s3://folders/"):
        folder.fetch(tmp_path)


@pytest.mark.parametrize("wrong", ["s3:/bucket", "http://bucket/x", "s3:///x", "folder"])
def test_what_is_no_address_is_refused(s3: S3, wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="s3://bucket/prefix"):
        StoredFolder(s3.settings(), wrong)
