"""Real servers for tests and benchmarks, each in a folder of its own on a free loopback port.

They come from packages (`requirements/debian.txt`, the developers' lock). Each is started, stopped,
killed and started again on the same port with the same data:

    with Redis(folder / "redis") as redis:
        client = redis_client.from_url(redis.url)
        redis.kill()
        redis.start()
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import boto3
import httpx
import psutil
import psycopg
import redis
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Mailbox
from botocore.config import Config

from sentinel.settings import S3Settings
from testkit.ports import free_port

START_SECONDS = 300.0
POSTGRES_BIN = Path("/usr/lib/postgresql/15/bin")


class MissingProgram(RuntimeError):
    """A program that a server needs is not installed; the message says how to get it."""


class LocalServer:
    """A server process with a folder and a port.

    Args:
        folder: Its data and its log; made where there is none.
        port: To listen on; default: a free one. It stays the same over restarts.
    """

    start_seconds = START_SECONDS

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder.resolve()
        self.port = port or free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.folder / "server.log"

    def command(self) -> Sequence[str]:
        raise NotImplementedError

    def environment(self) -> Mapping[str, str]:
        """Variables on top of this process's own."""
        return {}

    def prepare(self) -> None:
        """Make what the first start needs. Runs before each start."""

    def is_ready(self) -> bool:
        """Whether it answers; may raise what a client raises while it does not."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start and wait until it answers.

        Raises:
            RuntimeError: It ended or did not answer in time; the end of its log is in the message.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self.prepare()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                list(self.command()),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=os.environ | dict(self.environment()),
                start_new_session=True,
            )
        deadline = time.monotonic() + self.start_seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            with contextlib.suppress(
                httpx.HTTPError,
                redis.RedisError,
                psycopg.Error,
                OSError,
                subprocess.SubprocessError,
            ):
                if self.is_ready():
                    return self
            time.sleep(0.05)
        self.kill()
        tail = self.log.read_text(errors="replace")[-3000:]
        raise RuntimeError(f"{type(self).__name__} did not start on port {self.port}:\n{tail}")

    def stop(self, seconds: float = 20.0) -> None:
        """Ask it to end and wait; after so many seconds kill it."""
        self._signal(signal.SIGTERM)
        try:
            if self.process is not None:
                self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pass
        self.kill()

    def kill(self) -> None:
        """End it at once, as a crash would, with its children."""
        self._signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()
            self.process = None

    def restart(self) -> Self:
        """Stop, then start on the same port with the same data."""
        self.stop()
        return self.start()

    def _signal(self, number: int) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Redis(LocalServer):
    """A Redis server with an append-only file, so that a restart keeps what was written."""

    def __init__(
        self, folder: Path, port: int | None = None, *, options: Sequence[str] = ()
    ) -> None:
        super().__init__(folder, port)
        self.options = tuple(options)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def command(self) -> Sequence[str]:
        return [
            needed("redis-server", "apt-get install redis-server"),
            *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)),
            *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
            *self.options,
        ]

    def is_ready(self) -> bool:
        with redis.Redis(port=self.port) as client:
            return bool(client.ping())


class Postgres(LocalServer):
    """A PostgreSQL cluster. It refuses to run as root, so root starts it as user ``postgres``."""

    user = "postgres"

    def __init__(
        self, folder: Path, port: int | None = None, *, settings: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(folder, port)
        self.settings = dict(settings or {})
        self._place = self.folder if os.geteuid() else _open_place(self.folder)
        if self._place != self.folder:
            weakref.finalize(self, shutil.rmtree, self._place, ignore_errors=True)

    def url(self, database: str = "postgres", driver: str = "postgresql") -> str:
        """Where a database is; made by `make_database`, except for ``postgres``."""
        return f"{driver}://{self.user}@127.0.0.1:{self.port}/{database}"

    def make_database(self, name: str) -> str:
        """Make a database where there is none; returns its URL."""
        with psycopg.connect(self.url(), autocommit=True) as connection:
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if found.fetchone() is None:
                connection.execute(
                    psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name))
                )
        return self.url(name)

    @property
    def data(self) -> Path:
        return self._place / "data"

    def prepare(self) -> None:
        program("initdb")
        if os.geteuid() == 0:
            shutil.chown(self._place, "postgres")
        if not (self.data / "PG_VERSION").exists():
            command = [program("initdb"), "-D", str(self.data), "-U", self.user, "-A", "trust"]
            subprocess.run(
                [*_as_postgres(), *command, "--no-sync"], check=True, stdout=subprocess.DEVNULL
            )
        # Left behind by a kill; the process it names is gone.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def command(self) -> Sequence[str]:
        settings = {"listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._place)}
        settings |= self.settings
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [
            *_as_postgres(),
            program("postgres"),
            *("-D", str(self.data), "-p", str(self.port)),
            *options,
        ]

    def is_ready(self) -> bool:
        with psycopg.connect(self.url(), connect_timeout=2) as connection:
            return connection.execute("SELECT 1").fetchone() == (1,)

    def kill(self) -> None:
        # Its processes are no group: each begins a session.
        children: list[psutil.Process] = []
        if self.process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                children = psutil.Process(self.process.pid).children(recursive=True)
        super().kill()
        for child in children:
            with contextlib.suppress(psutil.NoSuchProcess):
                child.kill()
        psutil.wait_procs(children, timeout=10)

    def stop(self, seconds: float = 20.0) -> None:
        """A fast shutdown: clients are disconnected, what was committed is on disk."""
        self._signal(signal.SIGINT)
        super().stop(seconds)


class S3(LocalServer):
    """An S3 server (rclone) over a folder; its buckets are the folders in it."""

    access_key = "sentinel-test"
    secret_key = "sentinel-test-secret"
    region = "us-east-1"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def buckets(self) -> Path:
        return self.folder / "buckets"

    def credentials(self) -> dict[str, str]:
        """What the AWS tools read from the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_ENDPOINT_URL_S3": self.url,
            "MLFLOW_S3_ENDPOINT_URL": self.url,
        }

    def settings(self, **more: Any) -> S3Settings:
        """Settings that lead here, with the right keys."""
        right = {
            "endpoint_url": self.url,
            "region": self.region,
            "access_key_id": self.access_key,
            "secret_access_key": self.secret_key,
        }
        return S3Settings.model_validate(right | more)

    def prepare(self) -> None:
        self.buckets.mkdir(exist_ok=True)

    def command(self) -> Sequence[str]:
        return [
            needed("rclone", "make install", Path(sys.prefix) / "bin"),
            *("serve", "s3", str(self.buckets), "--addr", f"127.0.0.1:{self.port}"),
            *("--auth-key", f"{self.access_key},{self.secret_key}"),
            *("--vfs-cache-mode", "full", "--cache-dir", str(self.folder / "cache")),
            # What was acknowledged is in the bucket. By default rclone writes it there 5 s after
            # the last use, and one that is stopped before serves such files empty afterwards where
            # a folder beside them had not been written either.
            *("--vfs-write-back", "0s"),
            *("--config", str(self.folder / "rclone.conf")),
        ]

    def is_ready(self) -> bool:
        try:
            self.client().list_buckets()
        except Exception as error:  # botocore makes its classes when they are raised
            raise OSError(str(error)) from error
        return True

    def client(self) -> Any:
        """A boto3 client with the right keys."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"}),
        )


class Mlflow(LocalServer):
    """`sentinel mlflow` over a database, with its files in a bucket.

    Args:
        folder: Its workspace and its log.
        database: URL; made by the server where it is missing.
        s3: Where its files go.
        bucket: Made by the server where it is missing.
        environment: Further settings, as variables.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        database: str,
        s3: S3Settings,
        bucket: str = "mlflow-artifacts",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(folder, port)
        self._variables = {
            "SENTINEL_WORKSPACE": str(self.folder),
            "SENTINEL_MLFLOW__PORT": str(self.port),
            "SENTINEL_MLFLOW__BACKEND_STORE_URI": database,
            "SENTINEL_S3__ENDPOINT_URL": s3.endpoint_url,
            "SENTINEL_S3__REGION": s3.region,
            "SENTINEL_S3__ACCESS_KEY_ID": s3.access_key_id,
            "SENTINEL_S3__SECRET_ACCESS_KEY": s3.secret_access_key.get_secret_value(),
            "SENTINEL_S3__ARTIFACTS_BUCKET": bucket,
            **(environment or {}),
        }

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def command(self) -> Sequence[str]:
        return [sys.executable, "-m", "sentinel", "mlflow"]

    def environment(self) -> Mapping[str, str]:
        return self._variables

    def is_ready(self) -> bool:
        return httpx.get(f"{self.url}/health", timeout=2).status_code == 200


class Mail:
    """An SMTP server that keeps what it gets in a mailbox folder.

    Args:
        folder: The mailbox.
        port: Where it listens; default: a free one.
    """

    def __init__(self, folder: Path, port: int = 0) -> None:
        self.port = port or free_port()
        self._handler = Mailbox(folder)
        self._controller = Controller(self._handler, hostname="127.0.0.1", port=self.port)

    def messages(self) -> list[str]:
        """Everything received, as text with headers, in no particular order."""
        return [message.as_string() for message in self._handler.mailbox]

    def __enter__(self) -> Self:
        self._controller.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._controller.stop()


def needed(name: str, remedy: str, beside: Path | None = None) -> str:
    """Path of a program.

    Raises:
        MissingProgram: It is not installed.
    """
    found = shutil.which(name, path=str(beside)) if beside else None
    found = found or shutil.which(name)
    if found is None:
        raise MissingProgram(f"{name} is not installed: {remedy}")
    return found


def program(name: str) -> str:
    """Path of a PostgreSQL program, which Debian keeps off the PATH."""
    beside = POSTGRES_BIN if POSTGRES_BIN.exists() else None
    return needed(name, "apt-get install postgresql-15", beside)


def _open_place(folder: Path) -> Path:
    """A folder, or one outside of it where other users have no way in.

    pytest closes the folder of all its temporary folders to other users whenever a session begins:
    a cluster in there would break down when somebody else on the machine starts a test.
    """
    way = [*reversed(folder.parents), folder]
    for above, place in itertools.pairwise(way):
        if place.exists() and place.stat().st_mode & 0o005 != 0o005:
            return Path(tempfile.mkdtemp(prefix="sentinel-postgres-", dir=above))
    return folder


def _as_postgres() -> list[str]:
    user = ["--reuid=postgres", "--regid=postgres", "--init-groups"]
    return ["setpriv", *user] if os.geteuid() == 0 else []


@contextlib.contextmanager
def all_started(*servers: LocalServer) -> Iterator[None]:
    """Start several at once and stop them in the opposite order."""
    with contextlib.ExitStack() as stack:
        for server in servers:
            stack.enter_context(server)
        yield


def wait_until(test: Callable[[], bool], seconds: float, what: str) -> None:
    """Poll until a test holds.

    Raises:
        TimeoutError: It did not within so many seconds.
    """
    deadline = time.monotonic() + seconds
    while not test():
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:.0f} s for {what}.")
        time.sleep(0.05)
