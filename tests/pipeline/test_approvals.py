"""A champion that a second person has approved with another key, and nothing else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from sentinel.cli.main import app
from sentinel.domain import GateWaits, ModelError, ModelNotSigned
from sentinel.experiments.lineup import Experiment
from sentinel.models.approval import APPROVAL_TAG, read_approval
from sentinel.models.champion import champion_of
from sentinel.models.registry import Registry
from sentinel.models.signature import APPROVAL_FILE
from sentinel.models.signing_keys import SigningKey, signing_key_of
from sentinel.pipeline.approvals import AWAITING_TAG, approve, request_of
from sentinel.pipeline.approved_promotion import approve_and_promote
from sentinel.pipeline.experiments import line_up_of, share, start
from sentinel.pipeline.promotion import promote_challenger, rollback
from sentinel.pipeline.registered import registry_of
from sentinel.pipeline.registry_sync import sync_champion
from sentinel.pipeline.retirement import retire
from sentinel.pipeline.served import folder_of
from sentinel.scoring.champions import WarmModels
from sentinel.settings import Settings
from testkit.signed_models import let_through
from testkit.small_models import register_small_model

BOB = SigningKey(bytes(range(32)))


@pytest.fixture
def asking(settings: Settings, tmp_path: Path) -> Settings:
    """Versions 1 and 2 passed the gate, 3 is a candidate; a champion needs Bob's approval."""
    for seed in range(3):
        register_small_model(settings, tmp_path / str(seed), seed=seed)
    for version in ("1", "2"):
        let_through(settings, version)
    signing = settings.signing.model_copy(update={"approvers": BOB.public})
    return settings.model_copy(update={"signing": signing})


def approved(settings: Settings, version: str) -> None:
    approve(settings, version, BOB, by="bob", why="I looked at it")


def test_a_champion_that_nobody_approved_is_taken_by_no_follower_and_no_scorer(
    asking: Settings,
) -> None:
    registry = Registry.of(asking)
    registry.crown(["1"])
    with pytest.raises(ModelNotSigned, match=r"Version 1 awaits approval.*models approve 1"):
        sync_champion(asking)
    assert champion_of(asking) is None
    approved(asking, "1")
    assert sync_champion(asking) == "1"
    champion = champion_of(asking)
    assert champion is not None
    assert WarmModels(asking).load(champion).version == "1"
    (folder_of(asking, "1") / APPROVAL_FILE).unlink()
    with pytest.raises(ModelNotSigned, match="awaits approval by a second key"):
        WarmModels(asking).load(champion)
    assert sync_champion(asking) == "1", "the follower brings the approval again"
    assert WarmModels(asking).load(champion).version == "1"


def test_without_approvers_nobody_has_to_approve(asking: Settings) -> None:
    signing = asking.signing.model_copy(update={"approvers": ""})
    free = asking.model_copy(update={"signing": signing})
    Registry.of(free).crown(["1"])
    assert sync_champion(free) == "1"


def test_a_promotion_waits_and_says_who_asked(asking: Settings) -> None:
    registry = Registry.of(asking)
    with pytest.raises(GateWaits, match=r"Version 2 awaits approval.*The champion stays"):
        promote_challenger(asking, "2", by="ann", why="it is better")
    assert registry.champions() == []
    request = request_of(registry.version("2").tags)
    assert request is not None
    assert (request.by, request.why, request.instead_of) == ("ann", "it is better", None)
    with pytest.raises(ModelError, match="cannot be approved by ann"):
        approve(asking, "2", BOB, by="ann", why="I like it")
    with pytest.raises(GateWaits):
        promote_challenger(asking, "2", by="the nightly pipeline", why="settled")
    assert request_of(registry.version("2").tags) == request, "who asked first stays known"
    assert approve(asking, "2", BOB, by="bob", why="so do I") == request
    view, _ = registry_of(asking)
    known = view.find("2")
    assert known is not None
    assert known.approved == "bob: so do I"
    assert APPROVAL_TAG not in known.tags


def test_who_may_not_approve_is_told(asking: Settings) -> None:
    own = signing_key_of(asking)
    with pytest.raises(ModelError, match=rf"Key {own.key_id} is no approver's"):
        approve(asking, "2", own, by="bob", why="x")
    both = asking.signing.model_copy(update={"approvers": f"{BOB.public} {own.public}"})
    with pytest.raises(ModelError, match=rf"by key {own.key_id}, which signed it"):
        approve(asking.model_copy(update={"signing": both}), "2", own, by="bob", why="x")
    with pytest.raises(ModelNotSigned, match="No gate has judged version 3"):
        approved(asking, "3")
    retire(asking, "2", by="ann", why="it learnt from wrong labels")
    with pytest.raises(ModelError, match="Version 2 is retired"):
        approved(asking, "2")
    for version in ("2", "3"):
        assert APPROVAL_TAG not in Registry.of(asking).version(version).tags


def test_an_approval_that_was_changed_is_none(asking: Settings) -> None:
    registry = Registry.of(asking)
    for version in ("1", "2"):
        approved(asking, version)
    own, other = (registry.version(version).tags[APPROVAL_TAG] for version in ("1", "2"))
    registry.crown(["1"])
    for text, said in (
        (own.replace("I looked", "I liked"), "changed after it was signed"),
        (other, "is of another model"),
        (own[:-2], "is damaged"),
        ("yes", "is damaged"),
    ):
        registry.note("1", APPROVAL_TAG, text)
        with pytest.raises(ModelNotSigned, match=said):
            sync_champion(asking)
    assert champion_of(asking) is None


def test_a_rollback_needs_an_approved_champion_too(asking: Settings) -> None:
    registry = Registry.of(asking)
    signing = asking.signing.model_copy(update={"approvers": ""})
    registry.crown(["1"])
    sync_champion(asking.model_copy(update={"signing": signing}))  # before approval was asked for
    approved(asking, "2")
    registry.crown(["1", "2"])
    assert sync_champion(asking) == "2"
    with pytest.raises(ModelNotSigned, match="Version 1 awaits approval"):
        rollback(asking)
    approved(asking, "1")
    assert rollback(asking).version == "1"


def test_who_approved_before_anybody_asked_cannot_ask_for_it(asking: Settings) -> None:
    approved(asking, "2")
    with pytest.raises(GateWaits, match="approved by bob, who asks for its promotion, too"):
        promote_challenger(asking, "2", by="bob", why="I looked at it")
    assert Registry.of(asking).champions() == []
    assert request_of(Registry.of(asking).version("2").tags) is not None


def test_an_approval_makes_no_first_champion_where_another_one_serves_by_now(
    asking: Settings,
) -> None:
    with pytest.raises(GateWaits, match="awaits approval"):
        promote_challenger(asking, "2", by="ann", why="there is none yet")
    registry = Registry.of(asking)
    registry.crown(["1"])
    with pytest.raises(GateWaits, match="was to be the first champion, and version 1 has become"):
        approve_and_promote(asking, "2", BOB, by="bob", why="fine")
    assert registry.champions() == ["1"]
    assert registry.version("2").tags[APPROVAL_TAG], "it holds for the next promotion"


@pytest.mark.parametrize("missing", ["approval", "folder"])
def test_a_rollback_takes_the_approval_that_the_registry_has(
    asking: Settings, missing: str
) -> None:
    registry = Registry.of(asking)
    for version in ("1", "2"):
        approved(asking, version)
        registry.crown(["1", "2"][: int(version)])
        assert sync_champion(asking) == version
    folder = folder_of(asking, "1")
    if missing == "folder":
        shutil.rmtree(folder)
    else:
        (folder / APPROVAL_FILE).unlink()
    assert rollback(asking).version == "1"
    champion = champion_of(asking)
    assert champion is not None
    assert WarmModels(asking).load(champion).version == "1"


def test_what_is_changed_in_the_registry_harms_no_approval_that_is_here(asking: Settings) -> None:
    registry = Registry.of(asking)
    approved(asking, "1")
    registry.crown(["1"])
    sync_champion(asking)
    registry.note("1", APPROVAL_TAG, "yes")
    assert sync_champion(asking) == "1"
    champion = champion_of(asking)
    assert champion is not None
    assert WarmModels(asking).load(champion).version == "1"


def test_the_command_approves_with_a_key_in_a_file(
    asking: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SENTINEL_WORKSPACE", str(asking.workspace))
    monkeypatch.setenv("SENTINEL_MLFLOW__MODEL_NAME", asking.mlflow.model_name)
    monkeypatch.setenv("SENTINEL_MLFLOW__TRACKING_URI", asking.tracking_uri)
    monkeypatch.setenv("SENTINEL_SIGNING__APPROVERS", BOB.public)
    monkeypatch.setenv("COLUMNS", "80")
    sync_champion(asking)
    with pytest.raises(GateWaits):
        promote_challenger(asking, "2", by="ann", why="it is better")
    run = CliRunner().invoke
    listed = run(app, ["models", "list"])
    assert "awaiting approval" in " ".join(listed.output.split()), listed.output
    assert max(map(len, listed.output.splitlines())) <= 80
    assert "asked for by ann: it is better" in " ".join(
        run(app, ["models", "show", "2"]).output.split()
    )
    key = tmp_path / "bob.key"
    arguments = ["models", "approve", "1", "--key", str(key), "--by", "bob", "--why", "fine"]
    missing = run(app, arguments)
    assert missing.exit_code == 1
    assert "cannot be read" in " ".join(missing.output.split())
    key.write_text(f"{bytes(range(32)).hex()}\n")
    done = run(app, arguments)
    assert done.exit_code == 0, done.output
    assert "Version 1 is approved." in done.output
    assert Registry.of(asking).version("1").tags[APPROVAL_TAG]
    assert not Registry.of(asking).version("1").tags.get(AWAITING_TAG)
    assert read_approval(folder_of(asking, "1")) == ""


def test_who_decides_on_most_payments_needs_approval_as_a_champion_does(asking: Settings) -> None:
    approved(asking, "1")
    Registry.of(asking).crown(["1"])
    sync_champion(asking)
    half = Experiment(name="ab", kind="challenger", version="2", share=0.5)
    segment = Experiment(
        name="online", kind="segment", version="2", condition="attributes.channel == 'online'"
    )
    start(asking, half, by="ann", why="as many as the champion")
    with pytest.raises(ModelNotSigned, match=r"awaits approval.*models approve 2.*50%"):
        share(asking, "ab", 0.51, by="ann", why="more than the champion")
    with pytest.raises(ModelNotSigned, match="A segment model"):
        start(asking, segment, by="ann", why="it knows the shop")
    assert [one.share for one in line_up_of(asking).experiments] == [0.5]
    approved(asking, "2")
    share(asking, "ab", 0.51, by="ann", why="more than the champion")
    start(asking, segment, by="ann", why="it knows the shop")
    assert [one.name for one in line_up_of(asking).experiments] == ["ab", "online"]
