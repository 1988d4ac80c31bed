"""Real servers that watch and stand in front, with the configuration that is deployed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx

from testkit.ports import free_port
from testkit.servers import S3, LocalServer, needed

ROOT = Path(__file__).resolve().parents[1]
COMPOSE = ROOT / "deploy" / "compose"
MONITORING = ROOT / "monitoring"


def adapted(path: Path, changes: Mapping[str, str]) -> str:
    """A deployed file with other names and times; every one of them must be in it."""
    text = path.read_text()
    for old, new in changes.items():
        assert old in text, f"{path.name} does not say {old!r}"
        text = text.replace(old, new)
    return text


def _faster(rules: str, times: float) -> str:
    """Rules whose windows and pauses are so many times shorter."""
    seconds = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}

    def shorter(found: re.Match[str]) -> str:
        whole = int(found[2]) * seconds[found[3]] / times
        return f"{found[1]}{max(round(whole), 1)}s{found[4]}"

    return re.sub(r"(for: |\[)(\d+)([smhd])(\]|$)", shorter, rules, flags=re.MULTILINE)


class Prometheus(LocalServer):
    """Prometheus with the deployed rules, scraping and alerting every second."""

    def __init__(
        self,
        folder: Path,
        *,
        scorers: Sequence[str],
        alertmanager: str,
        key: str = "none",
        monitor: str = "",
        dashboard: str = "",
        follower: str = "",
        faster: float = 1.0,
    ) -> None:
        super().__init__(folder)
        self._faster = faster
        self._beside = {"monitor:8600": monitor, "dashboard:8502": dashboard,
                        "follower:8601": follower}  # fmt: skip
        self._key = key
        self._scorers = scorers
        self._alertmanager = alertmanager

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        shutil.copytree(MONITORING / "prometheus", self.folder, dirs_exist_ok=True)
        found = """dns_sd_configs:
      - names: ["api"]
        type: A
        port: 8001
        refresh_interval: 10s"""
        static = f"static_configs:\n      - targets: {list(self._scorers)!r}"
        changes = {
            found: static,
            "scrape_interval: 5s": "scrape_interval: 1s",
            "evaluation_interval: 15s": "evaluation_interval: 1s",
            "alertmanager:9093": self._alertmanager,
            "localhost:9090": f"127.0.0.1:{self.port}",
            # Nothing listens behind the proxy's name here.
            "/run/secrets/prometheus_key": str(self.folder / "key"),
            '  - job_name: proxy\n    static_configs:\n      - targets: ["proxy:8405"]\n': "",
        }
        config = adapted(MONITORING / "prometheus" / "prometheus.yml", changes)
        for deployed, here in self._beside.items():
            job = deployed.partition(":")[0]
            watched = f'  - job_name: {job}\n    static_configs:\n      - targets: ["{deployed}"]\n'
            assert watched in config
            config = config.replace(watched, watched.replace(deployed, here) if here else "")
        (self.folder / "prometheus.yml").write_text(config)
        (self.folder / "key").write_text(self._key)

        for path in self.folder.glob("*.yml"):
            if self._faster != 1.0 and path.name != "prometheus.yml":
                path.write_text(_faster(path.read_text(), self._faster))

    def command(self) -> Sequence[str]:
        return [
            needed("prometheus", "apt-get install prometheus"),
            f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/-/ready", timeout=30).status_code == 200


class Alertmanager(LocalServer):
    """Alertmanager with the file that setup.sh wrote."""

    def __init__(self, folder: Path, config: str) -> None:
        super().__init__(folder)
        self._config = config

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}"

    def prepare(self) -> None:
        (self.folder / "alertmanager.yml").write_text(self._config)

    def command(self) -> Sequence[str]:
        return [
            needed("prometheus-alertmanager", "apt-get install prometheus-alertmanager"),
            f"--config.file={self.folder / 'alertmanager.yml'}",
            f"--storage.path={self.folder / 'data'}",
            f"--web.listen-address={self.address}",
            "--cluster.listen-address=",
        ]

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/-/ready", timeout=30).status_code == 200


class Proxy(LocalServer):
    """The deployed proxy in front of scorers at given addresses."""

    def __init__(self, folder: Path, scorers: Sequence[str]) -> None:
        super().__init__(folder)
        self.metrics_port = free_port()
        self._scorers = scorers

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        template = (
            "server-template scorer- 16 api:8000 check inter 2s fall 2 rise 1"
            " resolvers containers init-addr none"
        )
        servers = "\n".join(
            f"    server scorer-{number} {address} check inter 200ms fall 2 rise 1"
            for number, address in enumerate(self._scorers, 1)
        )
        changes = {
            f"    {template}": servers,
            "bind :8000": f"bind 127.0.0.1:{self.port}",
            "bind :8405": f"bind 127.0.0.1:{self.metrics_port}",
        }
        text = adapted(COMPOSE / "proxy" / "haproxy.cfg", changes)
        (self.folder / "haproxy.cfg").write_text(text)

    def command(self) -> Sequence[str]:
        return [
            needed("haproxy", "apt-get install haproxy", Path("/usr/sbin")),
            *("-W", "-db", "-f", str(self.folder / "haproxy.cfg")),
        ]

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/readyz", timeout=30).status_code == 200


class Door(LocalServer):
    """The deployed door before an S3 server."""

    def __init__(self, folder: Path, store: S3) -> None:
        super().__init__(folder)
        self._store = store

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def prepare(self) -> None:
        changes = {
            "bind :8333": f"bind 127.0.0.1:{self.port}",
            "seaweedfs:8333 resolvers containers": f"127.0.0.1:{self._store.port}",
        }
        text = adapted(COMPOSE / "s3" / "haproxy.cfg", changes)
        (self.folder / "haproxy.cfg").write_text(text)

    def command(self) -> Sequence[str]:
        return [
            needed("haproxy", "apt-get install haproxy", Path("/usr/sbin")),
            *("-W", "-db", "-f", str(self.folder / "haproxy.cfg")),
        ]

    def is_ready(self) -> bool:
        return httpx.get(self.url, timeout=30).status_code < 500
