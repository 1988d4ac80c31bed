"""Installing without pip: where uv comes from, and that nothing else can come instead."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import bootstrap
import fetch_uv
import pytest
from pip_settings import PipSettings

WHEEL_NAMES = [
    "uv-1.2.3-py3-none-macosx_10_12_x86_64.whl",
    "uv-1.2.3-py3-none-macosx_11_0_arm64.whl",
    "uv-1.2.3-py3-none-musllinux_1_1_aarch64.manylinux_2_17_aarch64.whl",
    "uv-1.2.3-py3-none-musllinux_1_1_x86_64.whl",
]


def wheel(script: bytes = b"#!/bin/sh\necho the real uv\n") -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w") as archive:
        archive.writestr(zipfile.ZipInfo("uv-1.2.3.data/scripts/uv"), script)
    return held.getvalue()


class Index(ThreadingHTTPServer):
    """A package index that has one project."""

    body = wheel()
    json = True
    user: str | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), IndexPage)
        self.url = f"http://127.0.0.1:{self.server_port}/simple"


class IndexPage(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        expected = base64.b64encode((self.server.user or "").encode()).decode()
        if self.server.user and self.headers["Authorization"] != f"Basic {expected}":
            self.send_error(401)
        elif self.path == "/simple/uv/" and self.server.json:
            files = [{"filename": name, "url": f"../../files/{name}"} for name in WHEEL_NAMES]
            self.answer(
                json.dumps({"files": files}).encode(), "application/vnd.pypi.simple.v1+json"
            )
        elif self.path == "/simple/uv/":
            anchors = [f'<a href="../../files/{n}#sha256=0">{n}</a>' for n in WHEEL_NAMES]
            self.answer("\n".join(anchors).encode(), "text/html")
        elif self.path.startswith("/files/"):
            self.answer(self.server.body, "application/octet-stream")
        else:
            self.send_error(404)

    def answer(self, body: bytes, kind: str) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    pinned = hashlib.sha256(wheel()).hexdigest()
    (tmp_path / "requirements").mkdir()
    text = f"uv==1.2.3 \\\n    --hash=sha256:{pinned}\n    # via -r requirements/bootstrap.in\n"
    (tmp_path / "requirements" / "bootstrap.txt").write_text(text)
    return tmp_path


@pytest.mark.parametrize("speaks_json", [True, False])
def test_uv_comes_from_the_configured_index(
    index: Index, checkout: Path, speaks_json: bool
) -> None:
    index.json = speaks_json
    uv = fetch_uv.install_uv(checkout, PipSettings({"index-url": index.url}, {}))
    assert uv.read_bytes().endswith(b"echo the real uv\n")
    assert uv.stat().st_mode & 0o111


def test_a_second_run_asks_nobody(index: Index, checkout: Path) -> None:
    first = fetch_uv.install_uv(checkout, PipSettings({"index-url": index.url}, {}))
    nowhere = PipSettings({"index-url": "http://127.0.0.1:9/simple"}, {})
    assert fetch_uv.install_uv(checkout, nowhere) == first


def test_a_wheel_that_is_not_pinned_is_refused_and_not_kept(index: Index, checkout: Path) -> None:
    index.body = wheel(b"#!/bin/sh\necho something else\n")
    with pytest.raises(SystemExit, match="not pinned"):
        fetch_uv.install_uv(checkout, PipSettings({"index-url": index.url}, {}))
    assert not list(checkout.glob(".uv/**/uv"))


def test_user_and_password_in_the_index_address_are_used_and_not_shown(
    index: Index, checkout: Path
) -> None:
    index.user = "me:open sesame"
    address = index.url.replace("//", "//me:open%20sesame@")
    assert fetch_uv.install_uv(checkout, PipSettings({"index-url": address}, {})).exists()
    wrong = index.url.replace("//", "//me:wrong@")
    (checkout / ".uv" / "1.2.3" / "uv").unlink()
    with pytest.raises(SystemExit) as refused:
        fetch_uv.install_uv(checkout, PipSettings({"index-url": wrong}, {}))
    assert "401" in str(refused.value)
    assert "wrong" not in str(refused.value)


def test_an_index_without_uv_is_passed_over(index: Index, checkout: Path) -> None:
    settings = PipSettings(
        {"index-url": index.url.replace("simple", "empty"), "extra-index-url": index.url}, {}
    )
    assert fetch_uv.install_uv(checkout, settings).exists()


def test_a_folder_of_wheels_does_where_there_is_no_network(
    checkout: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("wheels")
    for name in WHEEL_NAMES:
        (folder / name).write_bytes(wheel())
    settings = PipSettings({"no-index": "1", "find-links": str(folder)}, {})
    assert fetch_uv.install_uv(checkout, settings).exists()


def test_pips_settings_are_read_from_its_files_and_its_variables_win(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "pip.conf"
    file.write_text(
        "[global]\nindex-url = http://file/simple\nextra-index-url =\n  a://1\n  b://2\n"
    )
    monkeypatch.setenv("PIP_CONFIG_FILE", str(file))
    for name in ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"]:
        monkeypatch.delenv(name, raising=False)
    settings = PipSettings.of_this_machine()
    assert settings.places[:3] == ["http://file/simple", "a://1", "b://2"]
    monkeypatch.setenv("PIP_INDEX_URL", "http://variable/simple")
    handed_on = PipSettings.of_this_machine().for_uv()
    assert handed_on["UV_DEFAULT_INDEX"] == "http://variable/simple"
    assert handed_on["UV_EXTRA_INDEX_URL"] == "a://1 b://2"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://uv/simple")
    settings = PipSettings.of_this_machine()
    assert settings.places[0] == "http://uv/simple"
    assert "UV_DEFAULT_INDEX" not in settings.for_uv()


def test_a_stamped_environment_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirements = tmp_path / "requirements"
    requirements.mkdir()
    for what in ["base", "dev", "airflow"]:
        (requirements / f"{what}.txt").write_text(what)
    (tmp_path / "pyproject.toml").write_text("")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "REQUIREMENTS", requirements)
    installed: list[str] = []

    def install(what: str, settings: PipSettings) -> None:
        installed.append(what)
        bootstrap.environment_of(what).mkdir(exist_ok=True)

    monkeypatch.setattr(bootstrap, "install", install)
    bootstrap.main(["base"])
    bootstrap.main(["base"])
    assert installed == ["base"]
    bootstrap.main(["dev"])
    bootstrap.main(["base"])
    assert installed == ["base", "dev"], "dev holds base"
    (requirements / "dev.txt").write_text("renewed")
    bootstrap.main(["base"])
    assert installed == ["base", "dev", "dev"], "a developer's environment stays one"
    bootstrap.main(["airflow"])
    bootstrap.main(["airflow"])
    assert installed == ["base", "dev", "dev", "airflow"]
    assert (tmp_path / ".venv-airflow" / ".sentinel" / "airflow").exists(), "a folder of its own"
    assert not (tmp_path / ".venv" / ".sentinel" / "airflow").exists()
