"""A proxy in front of an S3 server on 127.0.0.1, in a process of its own: latency, faults, and counts.

Loopback has no latency, so cells of buckets add some: each request waits before it is passed on. `Proxy` starts the
process; the rest of the module runs in it. It understands HTTP/1.1 without TLS.
"""

import json
import random
import select
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.children import start_child

HOST = "127.0.0.1"
CHUNK = 1 << 18  # bytes
MAX_HEAD = 1 << 16
LINE_END, END = b"\r\n", b"\r\n\r\n"
FAULTS = ("refuse", "cut", "page", "mislabel")
ROOT = Path(__file__).parents[1]


def _make_answer(status: str, kind: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


REFUSAL = _make_answer("503 Service Unavailable", "application/xml", "<Error><Code>SlowDown</Code></Error>")
PAGE = _make_answer("200 OK", "text/html", "<!DOCTYPE html><html><body>Sign in to this network.</body></html>")


@dataclass(frozen=True)
class Behaviour:
    """What happens to a request: how long it waits, and the fraction of requests that each fault hits.

    `refuse` answers with 503, `cut` ends the connection in the middle of the answer's body, or before the answer if
    it has none, `page` answers with an HTML page, and `mislabel` gives the answer another ETag.
    """

    latency: float = 0.0  # seconds
    refuse: float = 0.0
    cut: float = 0.0
    page: float = 0.0
    mislabel: float = 0.0
    seed: float = 0


class Proxy:
    """A proxy for the server on a port of 127.0.0.1, within a ``with`` block; start it in the main thread."""

    def __init__(self, upstream: int, *, latency: float = 0.0) -> None:
        self._upstream, self._behaviour = upstream, Behaviour(latency)

    def __enter__(self) -> Self:
        """Start the process; `port` is its port."""
        self._process = start_child(
            [sys.executable, "-m", "benchmarks.proxy", str(self._upstream), json.dumps(asdict(self._behaviour))],
            folder=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.port = int(self._tell("port"))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.communicate()

    def count(self) -> Counter[str]:
        """Count `requests`, those of each method, bytes of bodies `sent` and `received`, and each fault."""
        return Counter(json.loads(self._tell("count")))

    def behave(self, *, latency: float | None = None, seed: float = 0, **faults: float) -> None:
        """Change what happens to requests from now on: fractions by the name of a fault; those not named end."""
        kept = self._behaviour.latency if latency is None else latency
        self._behaviour = Behaviour(latency=kept, seed=seed, **faults)
        self._tell(json.dumps(asdict(self._behaviour)))

    def _tell(self, line: str) -> str:
        """Send a line to the process, and return the line that it answers."""
        requests, answers = self._process.stdin, self._process.stdout
        if requests is None or answers is None:
            raise ValueError("the proxy has no pipes")
        requests.write(f"{line}\n".encode())
        requests.flush()
        return answers.readline().decode()


@dataclass
class State:
    """What all connections of the process share."""

    upstream: int
    behaviour: Behaviour
    counts: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self, method: str) -> str:
        """Count a request and return the fault that hits it; empty if none does."""
        with self.lock:
            number = self.counts["requests"]
            self.counts.update(("requests", method))
            behaviour = self.behaviour
        weights = [getattr(behaviour, fault) for fault in FAULTS]
        chance = random.Random(f"{behaviour.seed} {number}")  # noqa: S311 - repeatable
        fault = chance.choices(("", *FAULTS), (1 - sum(weights), *weights))[0]
        self.add(fault, int(bool(fault)))
        return fault

    def add(self, name: str, number: int) -> None:
        """Add to a count."""
        if number:
            with self.lock:
                self.counts[name] += number


class Stream:
    """A connection of which heads and bodies of messages are read."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection = connection
        self._buffer = bytearray(CHUNK)
        self._rest = b""

    def read_until(self, end: bytes) -> bytes:
        """Read up to and including `end`; empty if the connection was closed before."""
        while end not in self._rest:
            read = self.connection.recv(MAX_HEAD)
            if not read and not self._rest:
                return b""
            if not read or len(self._rest) > MAX_HEAD:
                raise ConnectionError("no whole head")
            self._rest += read
        found, end, self._rest = self._rest.partition(end)
        return found + end

    def pass_on(self, length: int, target: socket.socket | None) -> None:
        """Read `length` bytes, and send them to a target if there is one."""
        first, self._rest = self._rest[:length], self._rest[length:]
        left = length - len(first)
        if target and first:
            target.sendall(first)
        view = memoryview(self._buffer)
        while left:
            count = self.connection.recv_into(view[:left])
            if not count:
                raise ConnectionError("the body is cut short")
            left -= count
            if target:
                target.sendall(view[:count])


@dataclass
class Head:
    """The first line of a message, and its fields by lower-case name."""

    line: str
    fields: dict[str, str]

    @classmethod
    def parse(cls, content: bytes) -> "Head":
        """Parse the bytes of a head."""
        line, *rest = content.decode("latin-1").rstrip().split("\r\n")
        pairs = [each.partition(":") for each in rest]
        return cls(line, {name.strip().lower(): value.strip() for name, _, value in pairs})

    def format(self) -> bytes:
        """Format it again."""
        lines = [self.line, *(f"{name}: {value}" for name, value in self.fields.items())]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


class Exchange:
    """The requests of one client, one after the other, each answered by the server or by a fault."""

    def __init__(self, client: socket.socket, state: State) -> None:
        self._client, self._state = Stream(client), state
        self._server: Stream | None = None

    def run(self) -> None:
        """Answer requests until one of the three is gone; the client sees a closed connection then."""
        with suppress(OSError), ExitStack() as stack:
            stack.callback(self._client.connection.close)
            stack.callback(self._disconnect)
            while content := self._client.read_until(END):
                if not self._answer(Head.parse(content)):
                    break

    def _answer(self, request: Head) -> bool:
        """Answer a request; return whether the connection can be used again."""
        method = request.line.partition(" ")[0]
        fault = self._state.begin(method)
        time.sleep(self._state.behaviour.latency)
        if fault in {"refuse", "page"}:
            self._pass_body(request, self._client, None, "sent")
            self._client.connection.sendall(REFUSAL if fault == "refuse" else PAGE)
            return True
        server = self._connect()
        server.connection.sendall(request.format())
        self._pass_body(request, self._client, server.connection, "sent")
        answer = Head.parse(server.read_until(END))
        if fault == "mislabel" and "etag" in answer.fields:
            answer.fields["etag"] = '"0123456789abcdef0123456789abcdef"'
        has_none = method == "HEAD" or answer.line.split()[1] in {"204", "304"}
        if fault == "cut" and (has_none or answer.fields.get("content-length") == "0"):
            return False
        self._client.connection.sendall(answer.format())
        if has_none:
            return True
        if fault == "cut":
            server.pass_on(int(answer.fields.get("content-length", 0)) // 2, self._client.connection)
            return False
        self._pass_body(answer, server, self._client.connection, "received")
        return True

    def _connect(self) -> Stream:
        """Connect to the server, unless a connection is open."""
        if self._server is not None and select.select([self._server.connection], [], [], 0)[0]:
            self._disconnect()  # it has closed its side, or was killed
        if self._server is None:
            self._server = Stream(socket.create_connection((HOST, self._state.upstream)))
        return self._server

    def _disconnect(self) -> None:
        if self._server is not None:
            self._server.connection.close()
            self._server = None

    def _pass_body(self, head: Head, source: Stream, target: socket.socket | None, count: str) -> None:
        """Pass the body of a message on, and count its bytes."""
        if head.fields.get("transfer-encoding", "").lower() != "chunked":
            length = int(head.fields.get("content-length", 0))
            source.pass_on(length, target)
            self._state.add(count, length)
            return
        length = 1
        while length:
            line = source.read_until(LINE_END)
            length = int(line.partition(b";")[0], 16)
            if target:
                target.sendall(line)
            source.pass_on(length + len(LINE_END), target)
            self._state.add(count, length)


def serve(upstream: int, behaviour: Behaviour) -> None:
    """Serve clients, and obey the lines of standard input until it ends."""
    state = State(upstream, behaviour)
    listener = socket.create_server((HOST, 0), backlog=1024)
    threading.Thread(target=accept, args=(listener, state), daemon=True).start()
    for line in sys.stdin:
        if line == "port\n":
            answer: object = listener.getsockname()[1]
        elif line == "count\n":
            with state.lock:
                answer = dict(state.counts)
        else:
            state.behaviour = Behaviour(**json.loads(line))
            answer = None
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def accept(listener: socket.socket, state: State) -> None:
    """Give each client a thread."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=Exchange(client, state).run, daemon=True).start()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Behaviour(**json.loads(sys.argv[2])))
