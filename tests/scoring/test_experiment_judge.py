"""Judgements and promotions that a scorer asks for, whatever becomes of the jobs."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from sentinel.domain import NotFound, Overloaded, Unavailable
from sentinel.experiments.judgement import ExperimentState
from sentinel.experiments.lineup import Experiment
from sentinel.pipeline.experiment_judging import end_experiment
from sentinel.scoring import experiment_judge
from sentinel.scoring.experiment_judge import ExperimentJudge
from sentinel.settings import Settings
from testkit.experiments import run_experiments


def test_a_judgement_is_not_passed_off_as_that_of_a_later_experiment_of_the_name(
    tmp_path: Path,
) -> None:
    settings = Settings(workspace=tmp_path)
    first = Experiment(name="night", kind="shadow", version="2", started_at_us=5)
    later = msgspec.structs.replace(first, version="3", started_at_us=6)
    run_experiments(settings, first)

    async def ask() -> None:
        judge = ExperimentJudge(settings)
        found = await judge.judged("night", 5, 60.0)
        assert found.status is not None
        assert found.status.experiment.version == "2"
        end_experiment(settings, first, by="ann", why="enough")
        run_experiments(settings, later)
        found = await judge.judged("night", 6, 0.0)
        assert (found.status, found.judged_at_us) == (None, None)

    asyncio.run(ask())


def test_a_promotion_whose_job_cannot_even_begin_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))

    settings = Settings(workspace=tmp_path)
    run_experiments(settings, Experiment(name="ab", kind="challenger", version="2", share=0.1))

    async def ask() -> None:
        judge = ExperimentJudge(settings)
        for _ in range(2):  # the second is not told that one is under way
            with pytest.raises(Unavailable, match="could not be promoted"):
                await judge.promote("ab", by="ann", why="", force=False, wait_seconds=30.0)
        said = judge.promotion("ab")
        assert said is not None
        assert said.state == "failed"

    asyncio.run(ask())


def test_of_promotions_asked_for_at_once_one_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    run_experiments(
        settings,
        Experiment(name="ab", kind="challenger", version="2", share=0.1),
        Experiment(name="cd", kind="challenger", version="3", share=0.1),
    )
    made = b'{"ok": {"version": "2", "replaced": "1"}}'

    async def job(*_: object) -> bytes:
        return made

    monkeypatch.setattr(experiment_judge, "run_job", job)

    async def ask() -> None:
        judge = ExperimentJudge(settings)

        async def promote(name: str) -> object:
            try:
                return await judge.promote(name, by="ann", why="", force=False, wait_seconds=30.0)
            except Overloaded:
                return "refused"

        said = await asyncio.gather(*(promote(name) for name in ("ab", "cd", "ab")))
        assert said[1:] == ["refused", "refused"]
        assert judge.promotion("cd") is None
        with pytest.raises(NotFound):
            await judge.promote("nobody", by="ann", why="", force=False, wait_seconds=30.0)
        assert await promote("cd") != "refused"

    asyncio.run(ask())


def test_a_judgement_that_a_promotion_overtakes_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    runs = Experiment(name="ab", kind="challenger", version="2", share=0.1, started_at_us=5)
    run_experiments(settings, runs)
    judged: list[bool] = []

    async def ask() -> None:
        begun, go_on = asyncio.Event(), asyncio.Event()

        async def job(_: str, request: bytes, *__: object) -> bytes:
            if msgspec.json.decode(request)["do"] == "promote":
                return b'{"ok": {"version": "2", "replaced": "1"}}'
            judged.append(not judged)
            running = judged[-1]
            begun.set()
            await go_on.wait()
            state = ExperimentState(
                experiment=runs,
                running=running,
                share=0.1,
                ended_by="",
                ended_why="",
                judgement=None,
            )
            return msgspec.json.encode({"ok": state})

        monkeypatch.setattr(experiment_judge, "run_job", job)
        judge = ExperimentJudge(settings)
        asked = asyncio.create_task(judge.judged("ab", 5, 30.0))
        await begun.wait()
        await judge.promote("ab", by="ann", why="", force=False, wait_seconds=30.0)
        go_on.set()
        found = await asked
        assert found.status is not None
        assert not found.status.running
        assert judged == [True, False]

    asyncio.run(ask())


def test_a_name_that_no_experiment_ever_had_costs_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(workspace=tmp_path)
    first = Experiment(name="night", kind="shadow", version="2", started_at_us=5)
    run_experiments(settings, first)
    run_experiments(settings)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "gone"))  # a process cannot even begin

    async def ask() -> None:
        judge = ExperimentJudge(settings)
        for name in ("nobody", "../night", "x" * 200, "champion"):
            with pytest.raises(NotFound, match="There were: night"):
                await judge.judged(name, None, 60.0)
            with pytest.raises(NotFound, match="There were: night"):
                await judge.promote(name, by="ann", why="", force=False, wait_seconds=60.0)
            assert judge.promotion(name) is None
        with pytest.raises(Unavailable, match="could not be judged"):
            await judge.judged("night", None, 60.0)  # one that there was is judged

    asyncio.run(ask())


def test_what_a_library_prints_is_no_part_of_a_jobs_answer(tmp_path: Path) -> None:
    program = (
        "import os, sys; from sentinel.pipeline import experiment_job as job\n"
        "def run(settings, wanted):\n"
        "    print('Fetching ...'); os.write(1, b'from below')\n"
        "    return {'version': '2', 'replaced': '1'}\n"
        "job.run = run; sys.exit(job.main())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program],
        input=b'{"do": "promote", "name": "ab"}',
        env={"SENTINEL_WORKSPACE": str(tmp_path), "PATH": ""},
        capture_output=True,
        check=True,
    )
    assert msgspec.json.decode(ran.stdout) == {"ok": {"version": "2", "replaced": "1"}}
    assert b"Fetching" in ran.stderr
