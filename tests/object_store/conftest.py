from __future__ import annotations

from collections.abc import Iterator

import pytest

from testkit.servers import S3


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3]:
    """A real S3 server. A test that stops it has one of its own."""
    with S3(tmp_path_factory.mktemp("s3")) as server:
        yield server
