"""The S3 server that cells and tests of buckets use."""

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import seaweedfs
from benchmarks.seaweedfs import SeaweedFS
from tests.support.suite import ROOT

START = """\
from benchmarks.children import start_child
child = start_child([{sleep!r}, "60"])
print(child.pid, flush=True)
input()
"""


def open_store(bucket: str) -> Any:  # noqa: ANN401 - obstore has no types without its extra
    obstore = pytest.importorskip("obstore")
    return obstore.store.from_url(bucket)


def test_a_client_finds_the_server_in_the_environment(bucket: str) -> None:
    obstore = pytest.importorskip("obstore")
    obstore.put(open_store(bucket), "greeting", b"hello")
    assert obstore.get(open_store(bucket), "greeting").bytes() == b"hello"


@pytest.mark.slow
def test_objects_survive_a_killed_server(bucket: str, bucket_server: SeaweedFS) -> None:
    obstore = pytest.importorskip("obstore")
    obstore.put(open_store(bucket), "greeting", b"hello")
    bucket_server.kill()
    bucket_server.start()
    assert obstore.get(open_store(bucket), "greeting").bytes() == b"hello"


def test_without_its_package_the_server_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seaweedfs, "PACKAGE", "no-such-package")
    with pytest.raises(FileNotFoundError, match="pip install no-such-package"):
        SeaweedFS()


def test_a_child_is_killed_with_its_parent() -> None:
    code = START.format(sleep="/bin/sleep")
    parent = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.communicate()
    end = time.monotonic() + 30
    while runs(child) and time.monotonic() < end:
        time.sleep(0.01)
    assert not runs(child), "the child still runs"


def runs(process: int) -> bool:
    """Whether a process is there, and not only waiting to be forgotten."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in {"Z", "X"}
