"""A training keeps what its payments looked like in the model's folder, and its hash with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sentinel.domain import ModelFormatError
from sentinel.drift.bins import SCORE
from sentinel.drift.reference import REFERENCE_FILE, DriftReference
from sentinel.drift.segments import ALL
from sentinel.models.artifact import load_manifest
from sentinel.pipeline.candidate_folder import save_candidate
from sentinel.pipeline.drift_reference import reference_of
from tests.pipeline.test_online_learning import base
from tests.pipeline.test_refitting import SETTINGS


def test_a_candidate_has_the_reference_of_its_own_payments(tmp_path: Path) -> None:
    data, found = base()
    reference = reference_of(SETTINGS, data, found)
    assert reference is not None
    assert reference.bins.names == (*data.plan.feature_names, SCORE)
    assert reference.segments[0].name == ALL
    for column in range(len(reference.bins.columns)):
        cells = slice(reference.bins.starts[column], reference.bins.starts[column + 1])
        events = reference.counts[:, cells].sum(axis=1)
        assert np.array_equal(events, reference.counts[:, : reference.bins.starts[1]].sum(axis=1))
    save_candidate(tmp_path, data, found, None, name="fraud", reference=reference)
    kept = DriftReference.load(tmp_path)
    assert kept is not None
    assert kept.digest == reference.digest
    assert REFERENCE_FILE in load_manifest(tmp_path).files
    (tmp_path / REFERENCE_FILE).write_bytes(b"another one")
    with pytest.raises(ModelFormatError, match="changed after training"):
        load_manifest(tmp_path)


def test_a_model_without_a_reference_is_loaded_as_before(tmp_path: Path) -> None:
    data, found = base()
    save_candidate(tmp_path, data, found, None, name="fraud")
    assert REFERENCE_FILE not in load_manifest(tmp_path).files
    assert DriftReference.load(tmp_path) is None
