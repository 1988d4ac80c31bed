"""Imports from the command line: the report is shown, whether or not anything was imported."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from sentinel.cli.console import err, out
from sentinel.cli.reports import import_report
from sentinel.domain import ConfigurationError
from sentinel.sources.log import ImportRefused
from sentinel.sources.progress import ProgressCallback, progress_bar

if TYPE_CHECKING:
    from sentinel.pipeline.importing import ImportResult

ALLOWED_REJECTS: Final = 0.5
"""Largest share of rejected rows that an import takes without a word."""


def import_and_report(job: Callable[[ProgressCallback], ImportResult]) -> None:
    """Run an import and print its report.

    Args:
        job: The import, given where to tell its progress.

    Raises:
        ImportRefused: Too much was rejected; the report is printed all the same.
        ConfigurationError: There was nothing to import.
    """
    try:
        with progress_bar(err) as progress:
            result = job(progress)
    except ImportRefused as refused:
        if refused.report is not None:
            out.print(refused.report.render())
        raise
    import_report(out, result)
    if not result.report.read and not result.report.labels_read:
        raise ConfigurationError("The data has no rows: there was nothing to import.")
