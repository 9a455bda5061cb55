"""The proxy in front of a bucket: latency, faults and counts."""

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.proxy import Proxy

CONTENT = bytes(range(256)) * 4096
ETAG = '"right"'


class Handler(BaseHTTPRequestHandler):
    """Answers with `CONTENT`, or with what it was sent in chunks."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with everything."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.send_header("ETag", ETAG)
        self.end_headers()
        self.wfile.write(CONTENT)

    def do_PUT(self) -> None:
        """Answer with what was sent."""
        sent = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for part in (sent[:10], sent[10:], b""):
            self.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))

    def do_DELETE(self) -> None:
        """Answer without a body."""
        self.send_response(204 if self.path == "/" else 200)
        if self.path != "/":
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    """A server whose clients may leave whenever they want."""

    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def shared() -> Iterator[Proxy]:
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with Proxy(server.server_port) as proxy:
        yield proxy
    server.shutdown()
    server.server_close()


@pytest.fixture
def proxy(shared: Proxy) -> Iterator[Proxy]:
    yield shared
    shared.behave()


def ask(proxy: Proxy, method: str = "GET", body: bytes | None = None, path: str = "/") -> tuple[int, str | None, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=30)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.getheader("ETag"), answer.read()
    finally:
        connection.close()


def test_the_proxy_passes_an_answer_on(proxy: Proxy) -> None:
    assert ask(proxy) == (200, ETAG, CONTENT)


def test_the_proxy_passes_bodies_of_requests_and_chunks_on(proxy: Proxy) -> None:
    assert ask(proxy, "PUT", CONTENT)[2] == CONTENT


def test_the_proxy_counts_requests_and_bytes_of_bodies(proxy: Proxy) -> None:
    before = proxy.count()
    ask(proxy)
    ask(proxy, "PUT", CONTENT[:100])
    counted = proxy.count()
    counted.subtract(before)
    expected = {"requests": 2, "GET": 1, "PUT": 1, "received": len(CONTENT) + 100, "sent": 100}
    assert {name: number for name, number in counted.items() if number} == expected


@pytest.mark.parametrize(
    ("fault", "answer"),
    [
        ("refuse", (503, None, b"<Error><Code>SlowDown</Code></Error>")),
        ("page", (200, None, b"<!DOCTYPE html><html><body>Sign in to this network.</body></html>")),
        ("mislabel", (200, '"0123456789abcdef0123456789abcdef"', CONTENT)),
    ],
)
def test_a_fault_replaces_an_answer(proxy: Proxy, fault: str, answer: tuple[int, str | None, bytes]) -> None:
    proxy.behave(**{fault: 1.0})
    assert ask(proxy) == answer


def test_a_cut_answer_ends_in_the_middle(proxy: Proxy) -> None:
    proxy.behave(cut=1.0)
    with pytest.raises(http.client.IncompleteRead) as caught:
        ask(proxy)
    assert len(caught.value.partial) == len(CONTENT) // 2


@pytest.mark.parametrize("path", ["/", "/empty"])
def test_an_answer_without_a_body_is_cut_before_it_begins(proxy: Proxy, path: str) -> None:
    assert ask(proxy, "DELETE", path=path)[2] == b""
    proxy.behave(cut=1.0)
    with pytest.raises(http.client.RemoteDisconnected):
        ask(proxy, "DELETE", path=path)


def test_faults_hit_their_fraction_of_requests(proxy: Proxy) -> None:
    proxy.behave(refuse=0.5)
    statuses = [ask(proxy)[0] for _ in range(40)]
    assert 5 < statuses.count(503) < 35
