"""What MLflow holds is believed only where this deployment's training and gate have signed it."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import ModelError, ModelNotSigned
from sentinel.models.champion import champion_of
from sentinel.models.registry import Registry
from sentinel.models.registry_view import RegistryView, read_view, write_view
from sentinel.models.signature import (
    SIGNATURE_FILE,
    SIGNATURE_TAG,
    hashes_of,
    read_signature,
    sign,
    verify,
)
from sentinel.models.signing_keys import (
    KEY_FILE,
    SigningKey,
    forget_key,
    replace_key,
    signing_key_of,
    trusted_keys_of,
)
from sentinel.pipeline.gate import GateReport
from sentinel.pipeline.promotion import rollback
from sentinel.pipeline.registry_fetch import fetch_version
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.pipeline.served import folder_of
from sentinel.pipeline.signing import adopt_what_serves, sign_versions, sign_what_passed
from sentinel.scoring.champions import WarmModels
from sentinel.settings import MlflowSettings, Settings
from testkit.ports import free_port
from testkit.signed_models import let_through, trusting
from testkit.small_models import register_small_model


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """Version 1 is champion and serves; version 2 is registered. The workspace keeps MLflow."""
    folder = tmp_path_factory.mktemp("registered")
    settings = Settings(
        workspace=folder / "workspace",
        mlflow=MlflowSettings(port=free_port(), model_name="signed-models"),
    )
    register_small_model(settings, folder / "a")
    register_small_model(settings, folder / "b", seed=1)
    let_through(settings, "1")
    Registry.of(settings).crown(["1"])
    assert sync_champion(settings) == "1"
    return settings


@pytest.fixture
def serving(registered: Settings, tmp_path: Path) -> Settings:
    """A copy of that workspace."""
    shutil.copytree(registered.workspace, tmp_path / "workspace")
    return registered.model_copy(update={"workspace": tmp_path / "workspace"})


def at_registry(settings: Settings, registry: Settings, folder: Path) -> Settings:
    """Another machine: a workspace of its own, with the registry of the first one."""
    for name in ("mlflow.db", "mlartifacts"):
        folder.mkdir(exist_ok=True)
        (folder / name).symlink_to(registry.workspace / name)
    return settings.model_copy(update={"workspace": folder})


def served(settings: Settings) -> str:
    """The version that a scorer loads now."""
    champion = champion_of(settings)
    assert champion is not None
    return str(WarmModels(settings).load(champion).version)


def signature(settings: Settings, version: str) -> str:
    return Registry.of(settings).version(version).tags[SIGNATURE_TAG]


def refused(settings: Settings, says: str) -> None:
    """The registry's champion does not come in, in one line, and the one before goes on."""
    with pytest.raises(ModelError, match=says) as caught:
        sync_champion(settings)
    assert "\n" not in str(caught.value)
    assert served(settings) == "1"


def test_an_alias_set_by_hand_crowns_nobody(serving: Settings) -> None:
    Registry.of(serving).crown(["1", "2"])
    refused(serving, "No gate has judged version 2.*sentinel promote 2")


def test_a_version_that_was_not_trained_here_is_refused(serving: Settings) -> None:
    registry = Registry.of(serving)
    registry.note("2", SIGNATURE_TAG, "")
    registry.crown(["1", "2"])
    refused(serving, "Version 2 of .* is not signed.*sentinel models sign")
    with pytest.raises(ModelNotSigned, match="Version 2 of"):
        fetch_version(serving, "2")  # the gate asks for no less


def test_another_key_vouches_for_nothing(serving: Settings) -> None:
    registry = Registry.of(serving)
    said = verify(signature(serving, "2"), trusted_keys_of(serving), "it").statement
    passed = msgspec.structs.replace(said, verdict="passed")
    registry.note("2", SIGNATURE_TAG, sign(passed, SigningKey(bytes(32))))
    registry.crown(["1", "2"])
    refused(serving, "signed with key 3b6a27bcceb6a42d, which is not trusted")


def test_the_signature_of_another_version_does_not_fit(serving: Settings) -> None:
    registry = Registry.of(serving)
    registry.note("2", SIGNATURE_TAG, signature(serving, "1"))
    registry.crown(["1", "2"])
    refused(serving, "signature of another model: its version is '1'")


def test_a_machine_with_the_public_key_serves_and_signs_nothing(
    serving: Settings, tmp_path: Path
) -> None:
    told = serving.model_copy(update={"signing": trusting(serving)})
    elsewhere = at_registry(told, serving, tmp_path / "elsewhere")
    assert sync_champion(elsewhere) == "1"
    assert served(elsewhere) == "1"
    assert not (elsewhere.workspace / KEY_FILE).exists()
    here, there = folder_of(serving, "1"), folder_of(elsewhere, "1")
    assert hashes_of(here) == hashes_of(there)
    assert read_signature(here) == read_signature(there)


def test_a_machine_that_trusts_no_key_says_so(serving: Settings, tmp_path: Path) -> None:
    elsewhere = at_registry(serving, serving, tmp_path / "elsewhere")
    with pytest.raises(ModelNotSigned, match=r"no key is trusted here.*TRUSTED_KEYS"):
        sync_champion(elsewhere)


def test_what_a_scorer_loads_is_checked_again(serving: Settings) -> None:
    (folder_of(serving, "1") / "MLmodel").write_text("flavors: {}\n")
    with pytest.raises(ModelNotSigned, match="MLmodel was changed after signing"):
        served(serving)
    (folder_of(serving, "1") / SIGNATURE_FILE).unlink()
    with pytest.raises(ModelNotSigned, match="is not signed"):
        served(serving)
    assert sync_champion(serving) == "1"  # fetched again
    assert served(serving) == "1"


def report(version: str, low: float, *, provisional: str = "") -> GateReport:
    from sentinel.models.intervals import Estimate

    return GateReport(
        version=version,
        champion=None,
        rows=100,
        frauds=20,
        start_us=0,
        end_us=1,
        candidate_ap=0.5,
        champion_ap=0.2,
        difference=Estimate(low + 0.1, low, low + 0.2),
        provisional=provisional,
    )


def test_what_the_gate_says_is_signed_and_a_refusal_is_not(serving: Settings) -> None:
    folder = fetch_version(serving, "2")
    keys = trusted_keys_of(serving)
    with pytest.raises(ModelError, match="Version 2 is not signed"):
        sign_what_passed(serving, folder, "2", report("2", -0.1))
    with pytest.raises(ModelError, match="Version 2 is not signed"):
        sign_what_passed(serving, folder, "2", report("1", 0.1))
    text = sign_what_passed(serving, folder, "2", report("2", 0.1))
    assert verify(text, keys, "it").statement.verdict == "passed"
    assert "difference +0.200" in verify(text, keys, "it").statement.reason
    text = sign_what_passed(serving, folder, "2", report("2", -0.1, provisional="few frauds"))
    assert verify(text, keys, "it").statement.verdict == "provisional"
    Registry.of(serving).note("2", SIGNATURE_TAG, text)
    Registry.of(serving).crown(["1", "2"])
    assert sync_champion(serving) == served(serving) == "2"
    (folder / "model.txt").write_bytes((folder / "model.txt").read_bytes() + b"\n")
    with pytest.raises(ModelNotSigned, match=r"model\.txt was changed"):
        sign_what_passed(serving, folder, "2", report("2", 0.1))


def test_the_registry_is_seen_with_what_signatures_say(serving: Settings) -> None:
    view = read_view(serving.models_dir)
    assert view is not None
    assert {one.version: one.signed for one in view.versions} == {"1": "passed", "2": "candidate"}
    assert all(SIGNATURE_TAG not in one.tags for one in view.versions)


@pytest.fixture
def away(serving: Settings) -> Settings:
    """Version 2 serves and version 1 did before; MLflow is gone."""
    let_through(serving, "2")
    Registry.of(serving).crown(["1", "2"])
    assert sync_champion(serving) == "2"
    nowhere = MlflowSettings(
        tracking_uri=f"http://127.0.0.1:{free_port()}", model_name=serving.mlflow.model_name
    )
    return serving.model_copy(update={"mlflow": nowhere})


def test_a_rollback_checks_the_folder_alone(away: Settings) -> None:
    back = rollback(away)
    assert (back.version, back.replaced, served(away)) == ("1", "2", "1")
    assert back.untold


def test_a_rollback_refuses_a_folder_that_is_not_what_was_signed(away: Settings) -> None:
    (folder_of(away, "1") / "added").write_text("x")
    with pytest.raises(ModelNotSigned, match="added was added after signing"):
        rollback(away)
    assert served(away) == "2"


def older(settings: Settings) -> None:
    """As before models were signed: no signature, no key, what the gate said as a tag."""
    registry = Registry.of(settings)
    for version in registry.versions():
        registry.note(version.version, SIGNATURE_TAG, "")
    for path in settings.models_dir.glob(f"*/{SIGNATURE_FILE}"):
        path.unlink()
    for path in settings.workspace.glob("signing.*"):
        path.unlink()
    registry.note("1", "gate", "passed: better than nothing")
    view = read_view(settings.models_dir)
    assert view is not None
    write_view(settings.models_dir, RegistryView(name=view.name, champions=view.champions))


def test_an_operator_signs_what_was_there_before(serving: Settings, tmp_path: Path) -> None:
    older(serving)
    with pytest.raises(ModelNotSigned, match=r"not signed.*sentinel models sign"):
        served(serving)
    (done,) = sign_versions(serving)
    said = done.signed.statement
    assert (said.version, said.verdict, done.before, done.untold) == (
        "1",
        "adopted",
        "unsigned",
        "",
    )
    assert "passed: better than nothing" in said.reason
    assert served(serving) == "1"
    assert sync_champion(serving) == "1"
    told = serving.model_copy(update={"signing": trusting(serving)})
    elsewhere = at_registry(told, serving, tmp_path / "elsewhere")
    assert sync_champion(elsewhere) == served(elsewhere) == "1"
    # A version that no gate let through becomes a candidate for it, whoever vouches.
    (second,) = sign_versions(serving, "2")
    assert second.signed.statement.verdict == "candidate"
    fetch_version(serving, "2")


def test_the_alias_alone_is_no_reason_to_sign(serving: Settings) -> None:
    older(serving)
    Registry.of(serving).crown(["1", "2"])
    (done,) = sign_versions(serving)
    assert done.signed.statement.version == "1", "what serves here, not what the alias says"
    refused(serving, "Version 2 of .* is not signed")


def test_a_key_is_replaced_without_a_gap(serving: Settings) -> None:
    old = signing_key_of(serving).key_id
    new = replace_key(serving).key_id
    assert sync_champion(serving) == served(serving) == "1"
    (done,) = sign_versions(serving)
    assert (done.before, done.signed.statement.verdict, done.signed.key_id) == (
        "passed", "passed", new,
    )  # fmt: skip
    forget_key(serving, old)
    assert sync_champion(serving) == served(serving) == "1"


def test_a_workspace_of_before_is_trusted_on_first_use(serving: Settings) -> None:
    older(serving)
    champion = folder_of(serving, "1")
    shutil.copytree(champion, folder_of(serving, "7"))
    assert adopt_what_serves(serving) == ["1"]
    assert served(serving) == sync_champion(serving) == "1"
    assert not (folder_of(serving, "7") / SIGNATURE_FILE).exists(), "it never served"
    # Only once: what comes later has to pass the gate.
    (champion / SIGNATURE_FILE).replace(folder_of(serving, "7") / SIGNATURE_FILE)
    assert adopt_what_serves(serving) == []


def test_a_shared_deployment_is_never_trusted_on_first_use(serving: Settings) -> None:
    older(serving)
    shared = serving.model_copy(
        update={"ledger": serving.ledger.model_copy(update={"url": "postgresql://db/ledger"})}
    )
    told = serving.model_copy(
        update={
            "signing": serving.signing.model_copy(update={"trusted_keys": "ed25519:" + "ab" * 32})
        }
    )
    for settings in (shared, told):
        assert adopt_what_serves(settings) == []
    assert not (folder_of(serving, "1") / SIGNATURE_FILE).exists()
