"""The DAG as Airflow reads it, and that it does nothing that the command line does not."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
from typing import Any

import pytest

from testkit.airflow_server import DAGS, VENV
from tests.airflow.conftest import ROOT, need_airflow

FILE = DAGS / "sentinel_mlops_pipeline.py"
ORDER = [
    "apply_features",
    "materialize",
    "decide_retraining",
    "build_dataset",
    "train",
    "evaluate",
    "gate",
    "promote",
]
BESIDE = ["refresh_policy", "settle_experiments", "last_retraining", "learn_online"]

READ = """
import json, os, sys, warnings
from airflow.sdk import DAG
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import sentinel_mlops_pipeline as module
heavy = sorted({"feast", "lightgbm", "mlflow", "numba", "pandas", "sklearn"} & sys.modules.keys())
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    dag = module.sentinel_mlops_pipeline()
module.settings_of({"window_days": None, "model": "lightgbm"})
print(json.dumps({
    "run": os.environ["SENTINEL_RUN_ID"],
    "warnings": [str(w.message) for w in caught],
    "heavy": heavy,
    "catchup": dag.catchup,
    "max_active_runs": dag.max_active_runs,
    "schedule": dag.timetable.expression,
    "timezone": str(dag.timezone),
    "params": {
        name: {**param.schema, "description": param.description}
        for name in dag.params
        for param in [dag.params.get_param(name)]
    },
    "defaults": dict(dag.params),
    "tasks": {
        task.task_id: {
            "after": sorted(task.upstream_task_ids),
            "retries": task.retries,
            "pause_seconds": task.retry_delay.total_seconds(),
            "growth": task.retry_exponential_backoff,
            "timeout_seconds": task.execution_timeout.total_seconds(),
            "mails": [callback.__name__ for callback in task.on_failure_callback],
            "doc": task.doc_md or task.doc or "",
        }
        for task in dag.tasks
    },
}))
"""


@pytest.fixture(scope="module")
def dag(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    need_airflow()
    home = tmp_path_factory.mktemp("airflow")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("SENTINEL_")},
        "AIRFLOW_HOME": str(home),
        "AIRFLOW_CTX_DAG_RUN_ID": "manual__2026-11-26T03:00:00+00:00",  # as Airflow sets it
        "PYTHONPATH": str(DAGS),
        "SENTINEL_TRAINING__WINDOW_DAYS": "77",
        "SENTINEL_AIRFLOW__RETRIES": "4",
    }
    ran = subprocess.run(
        [str(VENV / "bin" / "python"), "-c", READ],
        cwd=home,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    return dict(json.loads(ran.stdout.splitlines()[-1]))


def test_it_is_read_without_a_warning_and_without_heavy_imports(dag: dict[str, Any]) -> None:
    assert dag["warnings"] == []
    assert dag["heavy"] == []


def test_a_run_has_airflows_id_in_the_logs_of_what_it_starts(dag: dict[str, Any]) -> None:
    assert dag["run"] == "manual__2026-11-26T03-00-00-00-00"


def test_it_runs_at_midnight_one_run_at_a_time(dag: dict[str, Any]) -> None:
    assert (dag["schedule"], dag["timezone"]) == ("0 0 * * *", "UTC")
    assert (dag["catchup"], dag["max_active_runs"]) == (False, 1)


def test_the_steps_follow_one_another(dag: dict[str, Any]) -> None:
    tasks = dag["tasks"]
    assert list(tasks) == [*ORDER, *BESIDE]
    for beside in BESIDE:
        assert tasks[beside]["after"] == ["materialize"]  # a refused candidate does not stop it
    for before, task in itertools.pairwise(ORDER):
        assert before in tasks[task]["after"]
        assert set(tasks[task]["after"]) <= set(ORDER[: ORDER.index(task)])


def test_every_step_is_retried_with_growing_pauses_ended_in_time_and_told_of(
    dag: dict[str, Any],
) -> None:
    for name, task in dag["tasks"].items():
        assert task["retries"] == 4, name
        assert task["pause_seconds"] == 60
        assert task["growth"] == 2
        assert task["timeout_seconds"] == 2 * 3600
        assert task["mails"] == ["send_mail"]
        assert task["doc"].strip(), f"{name} says nothing of itself in the UI"


def test_the_form_is_typed_explained_and_filled_from_the_settings(dag: dict[str, Any]) -> None:
    params = dag["params"]
    assert {name: schema["type"] for name, schema in params.items()} == {
        "window_days": ["null", "number"],
        "model": "string",
        "retrain_anyway": "boolean",
        "dry_run": "boolean",
    }
    assert all(schema["title"] and schema["description"] for schema in params.values())
    assert params["model"]["enum"] == ["lightgbm", "xgboost", "random_forest", "lightgbm_forest"]
    assert dag["defaults"] == {
        "window_days": 77,
        "model": "lightgbm",
        "retrain_anyway": False,
        "dry_run": False,
    }


def test_a_task_calls_what_the_command_line_calls() -> None:
    """Read from the source: needs no Airflow."""
    command_line: set[tuple[str, str]] = set()
    for path in (ROOT / "src" / "sentinel" / "cli").rglob("*.py"):
        command_line |= pipeline_imports(ast.parse(path.read_text()))
    tree = ast.parse(FILE.read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    called = {
        name: {
            function
            for _, function in pipeline_imports(functions[name])
            if function in names_called(functions[name])
        }
        for name in (*ORDER, *BESIDE)
    }
    assert called == {
        "apply_features": {"apply_definitions"},
        "materialize": {"backfill", "materialize"},
        "decide_retraining": {"retraining_due"},
        "build_dataset": {"build_dataset"},
        "train": {"train"},
        "evaluate": {"evaluate", "report_path"},
        "gate": {"judge"},
        "promote": {"promote"},
        "refresh_policy": {"refresh"},
        "settle_experiments": {"settle"},
        "last_retraining": {"retraining_gain"},
        "learn_online": {"learn", "publish"},
    }
    assert pipeline_imports(tree) - command_line <= {("gate", "GateReport")}


def pipeline_imports(tree: ast.AST) -> set[tuple[str, str]]:
    """(module, name) of what is imported from `sentinel.pipeline`."""
    prefix = "sentinel.pipeline."
    return {
        (node.module.removeprefix(prefix), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix)
        for alias in node.names
        if node.module
    }


def names_called(tree: ast.AST) -> set[str]:
    return {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
