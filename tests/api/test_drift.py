"""Drift over HTTP: what the monitor keeps, read beside the payments."""

from __future__ import annotations

import httpx

from sentinel.drift.store import open_drift
from sentinel.models.serving import model_folder
from testkit.scratch import Server
from tests.drift.test_overview import REFERENCE, filled


def test_drift_is_read_from_what_the_monitor_keeps_and_says_what_is_missing(
    server: Server, client: httpx.Client
) -> None:
    # Whoever asks first sees no monitor; the answer is kept for half a minute.
    before = client.get("/drift").json()
    assert "`sentinel monitor`" in before["missing"]
    assert client.get("/drift/risk").status_code == 404
    folder = model_folder(server.settings, "7")
    folder.mkdir(parents=True)
    REFERENCE.save(folder)
    store = open_drift(server.settings)
    filled(store)
    store.close()
    assert client.get("/drift").json() == before
    found = client.get("/drift/risk")
    assert found.status_code == 200, found.text
    risk = found.json()
    assert risk["overview"]["stability_index"] > 0.2
    assert risk["overview"]["changed"] == ["all payments"]
    assert len(risk["labels"]) == len(risk["was"]) == len(risk["now"])
    assert risk["changes"][0]["change"]["question"] == "risk above 0.7"
    unknown = client.get("/drift/no-such-feature")
    assert unknown.status_code == 404
    assert "`GET /drift` lists those" in unknown.json()["detail"]
