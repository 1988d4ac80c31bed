"""Arrow without pandas, in processes that payments wait for."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType


class _NoPandas:
    """Finds nothing, and ends the search for pandas."""

    @staticmethod
    def find_spec(
        name: str, _path: Sequence[str] | None = None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """See `importlib.abc.MetaPathFinder`.

        Raises:
            ModuleNotFoundError: It is pandas.
        """
        if name == "pandas":
            raise ModuleNotFoundError("pandas is kept out of this process", name=name)
        return None


def keep_pandas_out() -> None:
    """Let Arrow go on without pandas, whether or not it is installed.

    Arrow imports pandas when the first array of a process is made, only to see whether what it was
    given is of pandas. That takes one to two seconds, in which the process does little else: beside
    payments it was the longest stall of all. To be called by a process that uses no pandas, before
    it makes an array.
    """
    if _NoPandas not in sys.meta_path:
        sys.meta_path.insert(0, _NoPandas)
