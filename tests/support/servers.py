"""A real S3 server for the tests of datasets in a bucket, one in a session, and a proxy in front of it for faults."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

import storage
from benchmarks.proxy import Proxy
from benchmarks.seaweedfs import PACKAGE, SeaweedFS, find_program

BUCKET = "tests"
_numbers = count()


@pytest.fixture(scope="session")
def bucket_server() -> Iterator[SeaweedFS]:
    """Start the server, with an empty bucket."""
    if find_program() is None:
        pytest.skip(f"{PACKAGE} is not installed")
    with SeaweedFS() as server:
        server.create_bucket(BUCKET)
        yield server


@pytest.fixture(scope="session")
def shared_proxy(bucket_server: SeaweedFS) -> Iterator[Proxy]:
    """Start a proxy in front of the server."""
    with Proxy(bucket_server.port) as proxy:
        yield proxy


@pytest.fixture
def own_cache(tmp_path: Path) -> Iterator[None]:
    """Have a cache of this test alone."""
    storage.cache(tmp_path / "cache")
    yield
    storage.cache()


@pytest.fixture
def bucket(bucket_server: SeaweedFS, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let the environment lead to the server, and return the URL of a folder in its bucket that no other test has."""
    pytest.importorskip("obstore", reason="obstore is not installed")
    for name, value in bucket_server.describe_access().items():
        monkeypatch.setenv(name, value)
    return f"s3://{BUCKET}/{next(_numbers)}"


@pytest.fixture
def bucket_proxy(
    bucket: str, bucket_server: SeaweedFS, shared_proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Proxy]:
    """Let the environment lead to the proxy instead; it has no latency and no faults until the test says so."""
    del bucket
    for name, value in bucket_server.describe_access(shared_proxy.port).items():
        monkeypatch.setenv(name, value)
    yield shared_proxy
    shared_proxy.behave(latency=0)
