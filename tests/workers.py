"""How the suite is divided among processes: `make test` starts one for each core.

Tests that share servers or a prepared deployment stay in one process, so that each is started at
most once where its tests are; a group is a folder, or else a file. The groups that take longest
come first: a long one that starts last would leave the other cores idle.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Any

import psutil
import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

GIB_EACH = 4
# Folders whose tests share servers, and files whose tests share nothing.
TOGETHER = (
    "tests/airflow",
    "tests/api",
    "tests/dashboard",
    "tests/mlops",
    "tests/object_store",
    "tests/pipeline",
)
APART = ("tests/api/test_bad_input.py", "tests/pages/test_commands.py")
FIRST = (
    "tests/airflow",
    "tests/pages/test_commands.py",
    "tests/pipeline",
    "tests/mlops",
    "tests/dashboard",
)


def group_of(nodeid: str) -> str:
    """The group of a test: its folder where that shares servers, itself alone, or its file.

    >>> group_of("tests/airflow/test_dag.py::test_it_imports")
    'tests/airflow'
    >>> group_of("tests/features/test_plan.py::test_a_plan[a::b]")
    'tests/features/test_plan.py'
    """
    file = nodeid.partition("::")[0]
    folder = file.rpartition("/")[0]
    if file in APART:
        return nodeid
    return folder if folder in TOGETHER else file


def order(group: str, slow: Collection[str] = ()) -> tuple[int, bool]:
    """Where a group stands in the queue: those named, those with slow tests, the others.

    >>> sorted(["b", "a", "tests/pipeline"], key=lambda group: order(group, slow={"b"}))
    ['tests/pipeline', 'b', 'a']
    """
    place = group.partition("::")[0]
    return FIRST.index(place) if place in FIRST else len(FIRST), group not in slow


def workers_for(cores: int, memory_gib: float) -> int:
    """One for each core, as far as memory goes.

    >>> workers_for(2, 23.5), workers_for(64, 31.0), workers_for(2, 3.7)
    (2, 7, 1)
    """
    return max(1, min(cores, int(memory_gib // GIB_EACH)))


class Groups(LoadScopeScheduling):
    """Hands out groups of tests, the long ones first."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)


class Plugin:
    """What pytest asks about workers."""

    @staticmethod
    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_auto_num_workers() -> int:
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        return workers_for(cores or 1, psutil.virtual_memory().total / 2**30)

    @staticmethod
    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Groups:
        config.option.loadscopereorder = False
        return Groups(config, log)

    @staticmethod
    def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
        slow = {group_of(item.nodeid) for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: order(group_of(item.nodeid), slow))
