"""A backup puts files below the workspace, and nothing anywhere else."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path

import pytest

from sentinel.domain import WorkspaceError
from sentinel.object_store.mirror import restore, save
from sentinel.settings import Settings
from testkit.servers import S3


def tar_of(*members: tarfile.TarInfo) -> io.BytesIO:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w|") as archive:
        for member in members:
            member.size = 1 if member.isreg() else 0
            archive.addfile(member, io.BytesIO(b"x"))
    out.seek(0)
    return out


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.mode = kind, link, 0o4777
    return made


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    (tmp_path / "workspace").mkdir()
    return Settings(workspace=tmp_path / "workspace")


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize(
    "bad",
    [
        member("workspace//ABSOLUTE"),
        member("/workspace/a"),
        member("workspace/../a"),
        member("workspace/b/../../a"),
        member("workspace/./a"),
        member("workspace/"),
        member("workspace"),
        member("a"),
        member("elsewhere/a"),
        member("workspace/a", tarfile.SYMTYPE, "/etc/passwd"),
        member("workspace/a", tarfile.LNKTYPE, "workspace/sound"),
        member("workspace/a", tarfile.CHRTYPE),
        member("workspace/a", tarfile.BLKTYPE),
        member("workspace/a", tarfile.FIFOTYPE),
        member("workspace/a", tarfile.DIRTYPE),
        member("buckets/mlflow/a"),
    ],
    ids=lambda m: f"{m.name} {m.type!r}",
)
def test_a_member_that_is_no_plain_file_below_the_workspace_is_refused(
    settings: Settings, tmp_path: Path, bad: tarfile.TarInfo
) -> None:
    bad.name = bad.name.replace("ABSOLUTE", str(tmp_path / "absolute"))
    with pytest.raises(WorkspaceError, match=r"does not belong|holds buckets"):
        restore(settings, tar_of(member("workspace/sound"), bad))
    assert everything(tmp_path) == {"workspace", "workspace/sound"}


def test_a_link_that_is_there_leads_nowhere(settings: Settings, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    (settings.workspace / "folder").symlink_to(outside)
    (settings.workspace / "file").symlink_to(outside / "kept")
    with pytest.raises(WorkspaceError, match="outside of the workspace"):
        restore(settings, tar_of(member("workspace/folder/a")))
    restore(settings, tar_of(member("workspace/file")))
    assert not (settings.workspace / "file").is_symlink()
    assert (outside / "kept").read_text() == "kept"
    assert everything(outside) == {"kept"}


def test_what_comes_back_is_for_its_owner_alone(settings: Settings) -> None:
    previous = os.umask(0o022)
    try:
        restore(settings, tar_of(member("workspace/a/b")))
    finally:
        os.umask(previous)
    assert (settings.workspace / "a").stat().st_mode & 0o7777 == 0o700
    assert (settings.workspace / "a" / "b").stat().st_mode & 0o7777 == 0o600


def test_a_bucket_of_another_deployment_is_named(settings: Settings, s3: S3) -> None:
    told = settings.model_copy(update={"s3": s3.settings(artifacts_bucket="mirrored")})
    with pytest.raises(WorkspaceError, match="of the bucket 'other', and this deployment has"):
        restore(told, tar_of(member("buckets/mirrored/a"), member("buckets/other/a")))
    assert s3.client().get_object(Bucket="mirrored", Key="a")["Body"].read() == b"x"
    names = {bucket["Name"] for bucket in s3.client().list_buckets()["Buckets"]}
    assert "other" not in names


def test_links_are_saved_as_what_they_point_to(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "data").write_text("rows")
    (settings.workspace / "link").symlink_to(tmp_path / "data")
    (settings.workspace / "one").write_text("one")
    (settings.workspace / "two").hardlink_to(settings.workspace / "one")
    out = io.BytesIO()
    assert save(settings, out) == (0, 3)
    out.seek(0)
    other = Settings(workspace=tmp_path / "other")
    assert restore(other, out) == (0, 3)
    texts = {path.name: path.read_text() for path in other.workspace.iterdir()}
    assert texts == {"link": "rows", "one": "one", "two": "one"}


def test_a_workspace_that_goes_on_is_saved_as_it_fits_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path / "w")
    for name in ("alerts.db-journal", "online/learners/2.txt", "online/state.json"):
        path = settings.workspace / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    add = tarfile.TarFile.add

    def without_the_journal(archive: tarfile.TarFile, path: Path, name: str) -> None:
        if path.suffix == ".db-journal":
            path.unlink()  # its transaction has ended
        add(archive, path, name)

    monkeypatch.setattr(tarfile.TarFile, "add", without_the_journal)
    out = io.BytesIO()
    assert save(settings, out) == (0, 2)
    with tarfile.open(fileobj=io.BytesIO(out.getvalue())) as archive:
        names = [f"workspace/online/{name}" for name in ("state.json", "learners/2.txt")]
        assert archive.getnames() == names
