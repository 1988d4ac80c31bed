"""Where transactions come from: the simulator, public data sets, and any table by mapping.

``open_source`` opens one, ``preview`` shows what it understood, ``log_batches`` reads, checks
and orders it into the log.
"""

from sentinel.sources.base import Chunk, ColumnUse, Description, Finding, Source
from sentinel.sources.labels_file import labels_from_file
from sentinel.sources.log import LogBatches, log_batches
from sentinel.sources.mapping_file import LabelColumns, TimeColumn
from sentinel.sources.preview import Preview, preview
from sentinel.sources.progress import ProgressCallback, no_progress, progress_bar
from sentinel.sources.registry import SOURCE_NAMES, open_source
from sentinel.sources.report import ImportReport
from sentinel.sources.simulator import LiveEvent, SimulatorConfig, SimulatorSource

__all__ = [
    "SOURCE_NAMES",
    "Chunk",
    "ColumnUse",
    "Description",
    "Finding",
    "ImportReport",
    "LabelColumns",
    "LiveEvent",
    "LogBatches",
    "Preview",
    "ProgressCallback",
    "SimulatorConfig",
    "SimulatorSource",
    "Source",
    "TimeColumn",
    "labels_from_file",
    "log_batches",
    "no_progress",
    "open_source",
    "preview",
    "progress_bar",
]
