"""A model folder that is signed is exactly what was signed, by a key that is trusted."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sentinel.domain import ConfigurationError, ModelNotSigned
from sentinel.models.signature import (
    SIGNATURE_FILE,
    Statement,
    check_folder,
    hashes_of,
    read_signature,
    sign,
    verify,
    write_signature,
)
from sentinel.models.signing_keys import (
    KEY_FILE,
    SigningKey,
    TrustedKeys,
    forget_key,
    replace_key,
    signing_key_of,
    trusted_keys_of,
)
from sentinel.settings import Settings, SigningSettings

KEY = SigningKey(bytes(range(32)))
OTHER = SigningKey(bytes(range(1, 33)))
TRUSTED = TrustedKeys([KEY.public], "the test")
FILES = {"manifest.json": b'{"version": "3"}\n', "model.txt": b"tree\n", "sub/plan.json": b"{}"}


def statement(folder: Path, **changes: object) -> Statement:
    said = {
        "name": "fraud",
        "version": "3",
        "run_id": "run",
        "verdict": "passed",
        "reason": "better",
        "files": hashes_of(folder),
        "signed_at_us": 7,
    }
    return Statement(**(said | changes))  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "fraud-3"
    for name, content in FILES.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(content)
    write_signature(made, sign(statement(made), KEY))
    return made


def refused(folder: Path, **how: object) -> str:
    with pytest.raises(ModelNotSigned) as caught:
        check_folder(folder, TRUSTED, **({"version": "3", "to_serve": True} | how))  # type: ignore[arg-type]
    said = str(caught.value)
    assert "\n" not in said
    return said


def test_what_was_signed_may_serve(folder: Path) -> None:
    signed = check_folder(folder, TRUSTED, name="fraud", version="3", run_id="run", to_serve=True)
    assert (signed.key_id, signed.statement.verdict) == (KEY.key_id, "passed")
    assert set(signed.statement.files) == set(FILES)


@pytest.mark.parametrize("name", [*FILES, SIGNATURE_FILE])
def test_no_byte_of_any_file_may_differ(folder: Path, name: str) -> None:
    """Every byte in turn, and of each the lowest and the highest bit and that of letters' case."""
    path = folder / name
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in (0x01, 0x20, 0x80):
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(bytes(changed))
            refused(folder)
    path.write_bytes(content)
    check_folder(folder, TRUSTED, version="3", to_serve=True)


def sign_as(folder: Path, **changes: object) -> None:
    write_signature(folder, sign(statement(folder, **changes), KEY))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda folder: (folder / "extra").write_text("x"), "extra was added after signing"),
        (lambda folder: (folder / "model.txt").unlink(), "model.txt is missing"),
        (lambda folder: cut(folder / "model.txt"), "model.txt was changed after signing"),
        (lambda folder: (folder / "link").symlink_to("/etc/passwd"), "no plain file"),
        (lambda folder: cut(folder / SIGNATURE_FILE), "damaged"),
        (lambda folder: (folder / SIGNATURE_FILE).unlink(), "not signed.*sentinel models sign"),
        (lambda folder: (folder / SIGNATURE_FILE).write_bytes(b"\xff"), "not signed"),
        (
            lambda folder: write_signature(folder, sign(statement(folder), OTHER)),
            rf"key {OTHER.key_id}, which is not trusted.*{KEY.key_id}",
        ),
        (
            lambda folder: sign_as(folder, version="2"),
            "another model: its version is '2'",
        ),
        (
            lambda folder: write_signature(
                folder, sign(statement(folder, verdict="candidate"), KEY)
            ),
            "No gate has judged version 3.*sentinel promote 3",
        ),
    ],
)
def test_a_folder_that_is_not_what_was_signed_is_refused_in_one_line(
    folder: Path, change: Callable[[Path], object], says: str
) -> None:
    change(folder)
    with pytest.raises(ModelNotSigned, match=says):
        check_folder(folder, TRUSTED, version="3", to_serve=True)
    refused(folder)


def test_a_candidate_is_enough_for_the_gate(folder: Path) -> None:
    sign_as(folder, verdict="candidate")
    check_folder(folder, TRUSTED, version="3", to_serve=False)


def test_the_manifest_of_another_version_does_not_fit(folder: Path, tmp_path: Path) -> None:
    """Two signed versions that change places, whole or in part."""
    second = tmp_path / "fraud-4"
    shutil.copytree(folder, second)
    (second / "manifest.json").write_text('{"version": "4"}\n')
    write_signature(second, sign(statement(second, version="4", run_id="other"), KEY))
    shutil.copy(second / "manifest.json", folder)
    assert "manifest.json was changed" in refused(folder)
    shutil.copy(second / SIGNATURE_FILE, folder)
    assert "its version is '4'" in refused(folder)


def test_the_signature_of_other_words_does_not_fit(folder: Path) -> None:
    """The signature of a candidate under the words of one that passed."""
    candidate = sign(statement(folder, verdict="candidate"), KEY).splitlines()
    passed = read_signature(folder).splitlines()
    write_signature(folder, f"{passed[0]}\n{candidate[1]}\n")
    assert "does not fit what it says" in refused(folder)


def test_without_a_trusted_key_nothing_serves(folder: Path) -> None:
    nobody = TrustedKeys([], "the test")
    with pytest.raises(ModelNotSigned, match=r"no key is trusted.*TRUSTED_KEYS"):
        check_folder(folder, nobody, version="3", to_serve=True)


def test_a_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    settings = Settings(workspace=tmp_path / "w")
    assert len(trusted_keys_of(settings)) == 0
    key = signing_key_of(settings)
    assert signing_key_of(settings).public == key.public
    assert trusted_keys_of(settings).public == (key.public,)
    assert (settings.workspace / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert key.public not in (settings.workspace / KEY_FILE).read_text()


def test_a_key_of_the_settings_leaves_no_file(tmp_path: Path) -> None:
    given = SigningSettings(private_key="ab" * 32, trusted_keys="")
    settings = Settings(workspace=tmp_path / "w", signing=given)
    key = signing_key_of(settings)
    assert trusted_keys_of(settings).public == (key.public,)
    assert not settings.workspace.exists()


def test_a_key_is_replaced_while_the_old_one_stays_trusted(tmp_path: Path, folder: Path) -> None:
    settings = Settings(workspace=tmp_path / "w")
    old = signing_key_of(settings)
    signed = sign(statement(folder), old)
    new = replace_key(settings)
    assert new.public != old.public
    assert trusted_keys_of(settings).ids == (old.key_id, new.key_id)
    verify(signed, trusted_keys_of(settings), "it")
    with pytest.raises(ConfigurationError, match="is the one that signs"):
        forget_key(settings, new.key_id)
    forget_key(settings, old.key_id)
    with pytest.raises(ModelNotSigned, match=f"key {old.key_id}, which is not trusted"):
        verify(signed, trusted_keys_of(settings), "it")
    with pytest.raises(ConfigurationError, match="has no key"):
        forget_key(settings, old.key_id)


def test_several_keys_may_be_trusted(folder: Path) -> None:
    both = SigningSettings(trusted_keys=f"{OTHER.public},\n {KEY.public}")
    keys = trusted_keys_of(Settings(signing=both))
    assert keys.ids == (OTHER.key_id, KEY.key_id)
    check_folder(folder, keys, version="3", to_serve=True)


@pytest.mark.parametrize("text", ["ed25519:xyz", "rsa:" + "ab" * 32, "AB" * 32])
def test_what_is_no_key_is_named(text: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"signing\.trusted_keys.*signing-key"):
        trusted_keys_of(Settings(signing=SigningSettings(trusted_keys=text)))
    bad = SigningSettings(private_key=text)
    with pytest.raises(ConfigurationError, match=r"signing\.private_key.*64 hex digits"):
        signing_key_of(Settings(workspace=tmp_path, signing=bad))
