"""Bytecode of the modules that tests import, compiled once for all their processes.

A run of the suite starts hundreds of Python processes, and some import thousands of modules. Where
Python may not keep bytecode beside its sources, each would compile all of them anew: seconds of a
processor before the first line of a server runs.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / ".pytest_cache" / "bytecode"


def keep_in_a_folder() -> None:
    """Where ``PYTHONDONTWRITEBYTECODE`` is set, keep bytecode in a folder and not beside sources.

    That holds for this process and for those that it starts.
    """
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(FOLDER)
        sys.dont_write_bytecode = False


def forget_temporary_modules() -> None:
    """Drop the bytecode of modules in folders of earlier runs, whose names come no more."""
    folder = Path(tempfile.gettempdir()).resolve()
    shutil.rmtree(FOLDER / folder.relative_to(folder.anchor), ignore_errors=True)
